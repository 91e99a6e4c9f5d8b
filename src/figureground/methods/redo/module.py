"""ReDO as a LightningModule: M cuts, X repaints, D judges, Z recovers the latents.

Chen, Artieres, Denoyer, "Unsupervised Object Segmentation by Redrawing", NeurIPS 2019. With masks
m = M(x), latents z and region paints r_k = X_k(m_k, z_k) (masked by m_k inside X):

- redrawn picture   x~_k = r_k + (1 - m_k) x                     `redraw`
- fully drawn       x^   = sum_k r_k                             `_update_generator`
- M, X, Z minimise  -mean D(x~) + w mean (z - Z(x^))^2           `_update_generator`
- D minimises       the hinge loss on x and x~                   `_update_discriminator`
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import Metric

from figureground.core.bounds import (
    Blocks,
    Decay,
    Depth,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Resolution,
    Width,
)
from figureground.core.method import Method
from figureground.core.types import Batch, Layers, check_image
from figureground.data.pictures import accepts_pictures, segment_stretched, stretches_pictures
from figureground.losses.adversarial import hinge_fake, hinge_generator, hinge_real
from figureground.methods.redo.building import check_options, network_builders
from figureground.methods.redo.networks import (
    Discriminator,
    LatentEncoder,
    MaskNetwork,
    RegionGenerators,
)
from figureground.methods.redo.pictures import redraw_grids
from figureground.nn.attention import PooledSelfAttention
from figureground.nn.ema import WeightAverage
from figureground.nn.init import orthogonal_
from figureground.nn.normalization import SpectralNormOrder
from figureground.nn.optimizers import OptimizerFactory
from figureground.nn.precision import widen
from figureground.nn.regions import RegionStatistics


class ReDO(Method):
    """Cut a picture into regions such that each can be redrawn without looking at the rest.

    Defaults are those behind the published figures. All options of the authors' script have a
    counterpart here or in a callback; README.md lists them side by side.

    Args:
        resolution: Image side S.
        num_regions: K regions; 2 means object and background.
        latent_dim: Size D of each region's latent.
        mask_width: Base width of M.
        mask_blocks: Residual blocks of M.
        temperature: Divides M's logits.
        generator_width: Base width of each region generator X_k.
        generator_attention: Whether the X_k attend to themselves.
        discriminator_width: Base width of D.
        discriminator_attention: Whether D attends to itself.
        encoder_width: Base width of Z.
        init_gain: Gain of the orthogonal initialisation of all networks.
        spectral_norm: Order of the power iteration; `right_first` is the authors'.
        latent_weight: Weight w of the latent recovery; 0 leaves Z out.
        redraw: Redraw `all` regions in each step (released code) or one `sampled` region (paper).
        latent_from: Recover latents from the fully drawn `composite` (released code) or from each
            `redrawn` picture (paper).
        generator_every: Update M, X and Z every so many iterations.
        discriminator_every: Update D every so many iterations.
        reuse_fakes: Judge the pictures of the generator step again instead of drawing new ones
            with the just-updated M and X: cheaper, but not the published update.
        ema_decay: Decay of a running average of M that serves predictions, or None.
        num_references: Training pictures kept in the checkpoint for `sample` to redraw.
        mask_optimizer: Makes M's optimiser.
        generator_optimizer: Makes X's optimiser.
        discriminator_optimizer: Makes D's optimiser.
        encoder_optimizer: Makes Z's optimiser.
        metrics: See `Method`.
    """

    num_streams = 2
    mask_net: MaskNetwork
    generators: RegionGenerators
    discriminator: Discriminator
    encoder: LatentEncoder

    def __init__(
        self,
        *,
        resolution: Resolution = 128,
        num_regions: Depth = 2,
        latent_dim: Width = 32,
        mask_width: Width = 64,
        mask_blocks: Blocks = 3,
        temperature: PositiveFloat = 1.0,
        generator_width: Width = 64,
        generator_attention: bool = False,
        discriminator_width: Width = 64,
        discriminator_attention: bool = False,
        encoder_width: Width = 64,
        init_gain: PositiveFloat = 0.8,
        spectral_norm: SpectralNormOrder = "right_first",
        latent_weight: NonNegativeFloat = 5.0,
        redraw: Literal["all", "sampled"] = "all",
        latent_from: Literal["composite", "redrawn"] = "composite",
        generator_every: PositiveInt = 1,
        discriminator_every: PositiveInt = 1,
        reuse_fakes: bool = False,
        ema_decay: Decay | None = None,
        num_references: PositiveInt = 16,
        mask_optimizer: OptimizerFactory | None = None,
        generator_optimizer: OptimizerFactory | None = None,
        discriminator_optimizer: OptimizerFactory | None = None,
        encoder_optimizer: OptimizerFactory | None = None,
        metrics: Mapping[str, Metric | None] | None = None,
    ) -> None:
        super().__init__(metrics=metrics)
        self.resolution, self.num_regions, self.latent_dim = resolution, num_regions, latent_dim
        self.init_gain, self.latent_weight = init_gain, latent_weight
        self.redraws, self.latent_from, self.reuse_fakes = redraw, latent_from, reuse_fakes
        self.generator_every, self.discriminator_every = generator_every, discriminator_every
        self._networks = network_builders(
            resolution=resolution,
            num_regions=num_regions,
            latent_dim=latent_dim,
            mask_width=mask_width,
            mask_blocks=mask_blocks,
            temperature=temperature,
            generator_width=generator_width,
            generator_attention=generator_attention,
            discriminator_width=discriminator_width,
            discriminator_attention=discriminator_attention,
            encoder_width=encoder_width if latent_weight > 0 else None,
            spectral_norm=spectral_norm,
        )
        self._optimizers = {
            "mask_net": mask_optimizer or _adam(1e-5, weight_decay=1e-4),
            "generators": generator_optimizer or _adam(1e-4),
            "discriminator": discriminator_optimizer or _adam(1e-4),
            "encoder": encoder_optimizer or _adam(1e-4),
        }
        for name, network in self._fresh_networks():
            self.add_module(name, network)
        if ema_decay is not None:
            self.ema = WeightAverage(self.mask_net, ema_decay)
        self.statistics = RegionStatistics(num_regions, resolution)
        self.register_buffer(
            "references", torch.zeros(num_references, 3, resolution, resolution, dtype=torch.uint8)
        )
        self.references: Tensor

    check_options = staticmethod(check_options)

    # -- capabilities ------------------------------------------------------------------------

    def masks(self, image: Tensor) -> Tensor:
        """Masks (B, K, S, S) of `image` in the network's own, arbitrary order of regions."""
        masks: Tensor = (self.mask_net if self.ema is None else self.ema)(image)
        return masks

    @accepts_pictures
    def segment(self, image: Tensor) -> Tensor:
        """Region probabilities of `image` (B, 3, S, S), background first: (B, K, S, S).

        Also takes one picture of any size (file, Pillow image, array), see `accepts_pictures`.
        """
        check_image(image, self.resolution)
        return self.masks(image)[:, self.statistics.order]

    def _segment_to_score(self, batch: Batch) -> Tensor:
        return segment_stretched(self.segment, self.resolution, batch)

    @stretches_pictures
    def decompose(self, image: Tensor) -> Layers:
        """Cut `image` (B, 3, S, S) into K layers that show the picture itself."""
        masks = self.segment(image)
        color = image.unsqueeze(1).expand(-1, self.num_regions, -1, -1, -1)
        return Layers(color, masks.unsqueeze(2))

    @torch.no_grad()
    def sample(self, count: int, *, generator: torch.Generator | None = None) -> Layers:
        """Redraw the objects of `count` remembered training pictures, keeping their backgrounds."""
        chosen = torch.randint(len(self.references), (count,), generator=generator)
        image = self.references[chosen.to(self.references.device)].float() / 127.5 - 1
        latent = torch.randn(count, self.num_regions, self.latent_dim, generator=generator)
        masks, order = self.masks(image), self.statistics.order
        color = self.generators(masks, latent.to(image))[:, order]
        color = torch.cat([image.unsqueeze(1), color[:, 1:]], dim=1)
        return Layers(color, masks[:, order].unsqueeze(2))

    def redraw(self, image: Tensor, latent: Tensor) -> Tensor:
        """Redraw each region in turn, x~_k = r_k + (1 - m_k) x.

        Args:
            image: (B, 3, S, S).
            latent: (B, K, D), regions in the order of `segment`.

        Returns:
            Pictures with region k redrawn, (B, K, 3, S, S), in the order of `segment`.
        """
        order = self.statistics.order
        masks = self.masks(image)
        own_order = torch.empty_like(latent)
        own_order[:, order] = latent
        return _compose(image, masks, self.generators(masks, own_order))[:, order]

    def recover_latent(self, image: Tensor) -> Tensor:
        """Estimate Z(x) of the latents (B, K, D) behind `image`, in the order of `segment`."""
        if self.latent_weight == 0:
            raise ValueError("trained with latent_weight=0, so there is no encoder of latents")
        latent: Tensor = self.encoder(image)
        return latent[:, self.statistics.order]

    # -- training ----------------------------------------------------------------------------

    def training_step(self, batch: tuple[Batch, Batch], batch_idx: int) -> None:
        """Update M, X, Z on the first batch, then D on both."""
        image, real = batch[0].image, batch[1].image
        latent = torch.randn(len(image), self.num_regions, self.latent_dim).to(image)
        iteration = self.iteration
        if iteration == 1:
            self._remember(image)
        fakes = None
        if iteration % self.generator_every == 0:
            fakes = self._update_generator(image, latent)
        if iteration % self.discriminator_every == 0:
            if fakes is None or not self.reuse_fakes:
                # No gradients, but train mode: the power iterations of X run once more.
                with torch.no_grad():
                    fakes = self._draw(image, latent)[2]
            self._update_discriminator(real, fakes)

    def _draw(self, image: Tensor, latent: Tensor) -> tuple[Tensor, Tensor, Tensor, int | None]:
        """Return masks (B, K, S, S), paints (B, K, 3, S, S), redrawn (N, 3, S, S), k if sampled."""
        masks = self.mask_net(image)
        paints = self.generators(masks, latent)
        redrawn = _compose(image, masks, paints)
        if self.redraws == "all":
            return masks, paints, redrawn.flatten(0, 1), None
        region = int(torch.randint(self.num_regions, ()))
        return masks, paints, redrawn[:, region], region

    def _update_generator(self, image: Tensor, latent: Tensor) -> Tensor:
        """Step M, X and Z; return the redrawn pictures (N, 3, S, S), detached."""
        # D only passes gradients on here: not computing its own saves a tenth of the step.
        self.discriminator.requires_grad_(False)
        masks, paints, redrawn, region = self._draw(image, latent)
        adversarial = hinge_generator(widen(self.discriminator(redrawn)))
        losses = {"adversarial": adversarial}
        total = adversarial
        if self.latent_weight > 0:
            losses["latent"] = self._latent_error(paints, redrawn, latent, region)
            total = total + self.latent_weight * losses["latent"]
        self.log_losses(losses | {"generator": total})
        self._log_masks(masks.detach())
        players = [name for name in self._networks if name != "discriminator"]
        self.descend(total, *self._select_optimizers(players), player="generator")
        self.discriminator.requires_grad_(True)
        if self.ema is not None:
            self.ema.update()
        return redrawn.detach()

    def _latent_error(
        self, paints: Tensor, redrawn: Tensor, latent: Tensor, region: int | None
    ) -> Tensor:
        """Mean squared error of the latents that Z recovers."""
        if self.latent_from == "composite":
            return F.mse_loss(widen(self.encoder(paints.sum(dim=1))), latent)
        estimate = widen(self.encoder(redrawn))
        if region is not None:
            return F.mse_loss(estimate[:, region], latent[:, region])
        estimate = estimate.view(*latent.shape[:2], *estimate.shape[1:])  # (B, redrawn, K, D)
        return F.mse_loss(estimate.diagonal(dim1=1, dim2=2).mT, latent)

    def _update_discriminator(self, real: Tensor, fakes: Tensor) -> None:
        """Step D on real and redrawn pictures, one forward (and power iteration) each."""
        score_real = widen(self.discriminator(real))
        score_fake = widen(self.discriminator(fakes))
        losses = {"real": hinge_real(score_real), "fake": hinge_fake(score_fake)}
        self.log_losses(losses)
        self.log("train/score/real", score_real.detach().mean())
        self.log("train/score/fake", score_fake.detach().mean())
        self.descend(
            losses["real"] + losses["fake"],
            *self._select_optimizers(["discriminator"]),
            player="discriminator",
        )

    def configure_optimizers(self) -> list[Optimizer]:
        """One optimiser per network, in the order M, X, D, Z (no Z if `latent_weight` is 0)."""
        return [self._optimizers[name](getattr(self, name).parameters()) for name in self._networks]

    def _select_optimizers(self, names: list[str]) -> list[Optimizer]:
        optimizers: list[Optimizer] = self.optimizers()  # type: ignore[assignment]  # more than one
        return [o for name, o in zip(self._networks, optimizers, strict=True) if name in names]

    # -- collapse and bookkeeping ------------------------------------------------------------

    def reset_parameters(self) -> None:
        """Build all networks anew and take over their weights; forget what was measured."""
        for name, network in self._fresh_networks():
            getattr(self, name).load_state_dict(network.state_dict())
        if self.ema is not None:
            self.ema.reset()
        self.statistics.reset_parameters()

    def _fresh_networks(self) -> Iterable[tuple[str, nn.Module]]:
        for name, build in self._networks.items():
            network = build()
            orthogonal_(network, self.init_gain)
            yield name, network

    def _log_masks(self, masks: Tensor) -> None:
        """Follow and log areas, entropy and attention gates under `masks` (B, K, S, S)."""
        self.statistics.update(masks)
        for k, area in enumerate(masks.mean(dim=(0, 2, 3))):
            self.log(f"train/area/region{k}", area)
        self.log("train/entropy", -torch.xlogy(masks, masks).sum(dim=1).mean())
        for name in ("generators", "discriminator"):
            modules = getattr(self, name).modules()
            gates = [m.gate.detach().abs() for m in modules if isinstance(m, PooledSelfAttention)]
            if gates:
                self.log(f"train/attention_gate/{name}", torch.cat(gates).mean())

    def _remember(self, image: Tensor) -> None:
        """Keep the first training pictures for `sample`."""
        count = len(self.references)
        repeated = image.repeat(-(-count // len(image)), 1, 1, 1)[:count]
        self.references.copy_(((repeated + 1) * 127.5).round())

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Grids of inputs, masks and redraws, see `redraw_grids`."""
        return redraw_grids(self, batch)


def _compose(image: Tensor, masks: Tensor, paints: Tensor) -> Tensor:
    """Put each region's paint over the picture: (B, K, 3, S, S) of x~_k = r_k + (1 - m_k) x."""
    return paints + (1 - masks).unsqueeze(2) * image.unsqueeze(1)


def _adam(lr: float, weight_decay: float = 0.0) -> OptimizerFactory:
    return partial(torch.optim.Adam, lr=lr, betas=(0.0, 0.9), weight_decay=weight_decay, fused=True)
