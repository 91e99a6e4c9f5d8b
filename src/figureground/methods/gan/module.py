"""A plain GAN as a LightningModule: whole pictures from latents, nothing else.

`network=stylegan2` is StyleGAN2-ADA (Karras et al. 2020, "Training GANs with Limited Data"),
`network=sngan` is SNGAN (Miyato et al. 2018) in its convolutional form. With latents z, styles
w = M(z), pictures G(z), augmentation T and a game of `losses.adversarial.GAMES`, for StyleGAN2:

- G minimises       softplus(-D(T G(z)))                               `_update_generator`
                    + weight mean (|J_w^T n| - a)^2, every 4th time    `_regularise_generator`
- D minimises       softplus(D(T G(z))) + softplus(-D(T x))            `_update_discriminator`
                    + gamma / 2 |grad_x D(T x)|^2, every 16th time     `_regularise_discriminator`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import Metric

from figureground.core.bounds import (
    Count,
    Depth,
    Fraction,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Resolution,
    Width,
)
from figureground.core.types import Batch
from figureground.losses.adversarial import (
    GAMES,
    Game,
    PathLengthPenalty,
    r1_penalty,
    usual_r1_gamma,
)
from figureground.methods.gan.drawing import PictureDrawing
from figureground.methods.gan.networks import (
    PUBLISHED,
    Network,
    check_setup,
    network_builders,
    usual_optimizer,
)
from figureground.methods.gan.pictures import TITLES, picture_grids
from figureground.methods.gan.statistics import PictureScoring
from figureground.nn.ada import AdaController, AugmentPipe
from figureground.nn.ema import WeightAverage, average_decay
from figureground.nn.judging import Judging
from figureground.nn.optimizers import OptimizerFactory
from figureground.nn.precision import widen
from figureground.nn.style_blocks import LowPrecision
from figureground.nn.style_mapping import draw_mixing_cutoff, mix_styles
from figureground.nn.stylegan2 import StyleGenerator
from figureground.nn.stylegan2_discriminator import GROUP_SIZE, DiscriminatorArchitecture


class GAN(PictureDrawing, Judging, PictureScoring):
    """Learn to draw pictures like those of a set; it knows neither layers nor masks.

    What is None is as published for the network. Options of the other network are not looked at.

    Args:
        resolution: Side S of the pictures.
        batch_size: Real pictures in each step of each process.
        network: StyleGAN2-ADA, or SNGAN.
        loss: The game; None is logistic for `stylegan2` and hinge for `sngan`.
        latent_dim: Size D of latents; None is 512 and 128.
        style_width: Of `stylegan2`: size of styles.
        mapping_depth: Of `stylegan2`: layers of the mapping network.
        channel_base: Of `stylegan2`: channels at resolution r are `channel_base` / r,
        max_width: and this at most.
        conv_clamp: Of `stylegan2`: bound of activations, or None; float16 needs one.
        low_precision_blocks: Of `stylegan2`: blocks of the highest resolutions computed in half
            precision,
        low_precision: of this kind; never on a CPU.
        discriminator_architecture: Of `stylegan2`: see `StyleDiscriminator`.
        group_size: Of `stylegan2`: pictures that D compares with each other.
        style_mixing: Of `stylegan2`: chance that late styles come from a second latent.
        path_length_weight: Of `stylegan2`: weight of the path length penalty, 0 does without.
        path_length_every: Of `stylegan2`: iterations between two such penalties.
        width: Of `sngan`: the generator's channels at full resolution.
        discriminator_width: Of `sngan`: those of the discriminator.
        spectral_norm: Of `sngan`: whether the discriminator's weights are normalised.
        weight_clip: Bound of the discriminator's weights, kept after each of its steps; None for
            none.
        generator_every: Iterations, that is steps of D, for each step of G.
        r1_gamma: Weight of the gradient penalty; None is 0.0002 S^2 / pictures in a step.
        r1_every: Iterations between two penalties, 0 does without; None is 16 for `stylegan2`, 0
            for `sngan`.
        ema_kimg: Half-life of the average of G in thousands of pictures; None: 10 per 32 in a step.
        ema_ramp: At most this share of the pictures seen; None does without.
        augmentation: What changes pictures before D sees them; None shows them as they are.
        controller: Steers its strength; None leaves that fixed.
        truncation: Share of the distance from the mean picture that `sample` keeps.
        generator_optimizer: Makes G's optimiser; None is Adam as published.
        discriminator_optimizer: Makes D's.
        metrics: See `Method`.
    """

    draws_layers = False
    generator: nn.Module
    discriminator: nn.Module
    ema: WeightAverage

    def __init__(
        self,
        *,
        resolution: Resolution = 64,
        batch_size: PositiveInt = 32,
        network: Network = "stylegan2",
        loss: Game | None = None,
        latent_dim: Width | None = None,
        style_width: Width = 512,
        mapping_depth: Depth = 2,
        channel_base: PositiveInt = 16384,
        max_width: Width = 512,
        conv_clamp: PositiveFloat | None = 256.0,
        low_precision_blocks: Count = 0,
        low_precision: LowPrecision = "float16",
        discriminator_architecture: DiscriminatorArchitecture = "resnet",
        group_size: PositiveInt = GROUP_SIZE,
        style_mixing: Fraction = 0.9,
        path_length_weight: NonNegativeFloat = 2.0,
        path_length_every: PositiveInt = 4,
        width: Width = 64,
        discriminator_width: Width = 64,
        spectral_norm: bool = True,
        weight_clip: PositiveFloat | None = None,
        generator_every: PositiveInt = 1,
        r1_gamma: NonNegativeFloat | None = None,
        r1_every: Count | None = None,
        ema_kimg: PositiveFloat | None = None,
        ema_ramp: Fraction | None = 0.05,
        augmentation: AugmentPipe | None = None,
        controller: AdaController | None = None,
        truncation: Fraction = 1.0,
        generator_optimizer: OptimizerFactory | None = None,
        discriminator_optimizer: OptimizerFactory | None = None,
        metrics: Mapping[str, Metric | None] | None = None,
    ) -> None:
        super().__init__(metrics=metrics)
        given = {name: value for name, value in locals().items() if name != "self"}
        if problems := self.check_options(**given):
            raise ValueError("; ".join(problems))
        published = PUBLISHED[network]
        self.resolution, self.truncation = resolution, truncation
        self.latent_dim = latent_dim or published.latent_dim
        self.game = GAMES[loss or published.loss]
        self.r1_every = published.r1_every if r1_every is None else r1_every
        self.r1_gamma, self.weight_clip, self.generator_every = (
            r1_gamma, weight_clip, generator_every,
        )  # fmt: skip
        self.style_mixing = style_mixing
        self.path_length_weight, self.path_length_every = path_length_weight, path_length_every
        self.ema_kimg, self.ema_ramp = ema_kimg, ema_ramp
        self._networks = network_builders(**(given | {"latent_dim": self.latent_dim}))
        for name, build in self._networks.items():
            self.add_module(name, build())
        self.ema = WeightAverage(self.generator, 0.0)
        has_paths = isinstance(self.generator, StyleGenerator) and path_length_weight > 0
        self.path_length = PathLengthPenalty() if has_paths else None
        self.group_size, self.boundary = group_size, self.game.boundary or 0.0
        self.set_augmentation(augmentation, controller)
        self._optimizers = (
            generator_optimizer or usual_optimizer(network, path_length_every if has_paths else 0),
            discriminator_optimizer or usual_optimizer(network, self.r1_every),
        )

    check_options = staticmethod(check_setup)

    # -- training ----------------------------------------------------------------------------

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Update G, then D, each on latents of its own, and both by their penalties in turn."""
        image, done = batch.image, self.iteration - 1
        batch_size = len(image) * self.trainer.world_size
        if done % self.generator_every == 0:
            self._update_generator(len(image))
            if done // self.generator_every % self.path_length_every == 0:
                self._regularise_generator(len(image))
        self._update_discriminator(image)
        if self.r1_every and done % self.r1_every == 0:
            self._regularise_discriminator(image, batch_size)
        half_life = 1000 * (self.ema_kimg or 10 * batch_size / 32)
        self.ema.decay = average_decay(done * batch_size, batch_size, half_life, self.ema_ramp)
        self.ema.update()
        if (strength := self.steer_augmentation(self.iteration, batch_size)) is not None:
            self.log("train/augment", strength)

    def _update_generator(self, count: int) -> None:
        """Step G by `count` new pictures."""
        self.discriminator.requires_grad_(False)  # It only passes gradients on.
        loss = self.game.generator(self.judge(self._draw_new(count)))
        self.log_losses({"generator": loss})
        self._step(loss, "generator")
        self.discriminator.requires_grad_(True)

    def _regularise_generator(self, count: int) -> None:
        """Step G so that styles change pictures evenly, worth `path_length_every` steps."""
        if self.path_length is None or not isinstance(self.generator, StyleGenerator):
            return
        latent = torch.randn(self.path_length.num_pictures(count), self.latent_dim)
        styles = self._map(self.generator, latent)
        # Past what may be compiled, as this is differentiated twice.
        image = widen(self.generator.synthesis.forward(styles))
        penalty = self.path_length(image, styles)
        self.log("train/path_length_penalty", penalty.detach())
        self.log("train/path_length", self.path_length.mean_length)
        # Nought times the picture gives every weight a gradient, so Adam's averages all move on.
        weight = self.path_length_every * self.path_length_weight
        self._step(weight * penalty + 0 * image.mean(), "generator")

    def _draw_new(self, count: int) -> Tensor:
        """Draw `count` pictures (B, 3, S, S) as in training, with noise of their own."""
        latent = torch.randn(count, self.latent_dim)
        if isinstance(self.generator, StyleGenerator):
            return widen(self.generator.synthesis(self._map(self.generator, latent)))
        return widen(self.generator(self._here(latent)))

    def _map(self, generator: StyleGenerator, latent: Tensor) -> Tensor:
        """Styles (B, N, W) of `latent` (B, D), late ones perhaps those of another latent."""
        latent = self._here(latent)
        styles: Tensor = generator.mapping(latent, update_average=True)
        if self.style_mixing == 0:
            return styles
        cutoff = draw_mixing_cutoff(styles.shape[1], self.style_mixing)
        if cutoff == styles.shape[1]:
            return styles
        others = generator.mapping(self._here(torch.randn(len(latent), self.latent_dim)))
        return mix_styles(styles, others, cutoff)

    def _update_discriminator(self, real: Tensor) -> None:
        """Step D by real and new pictures."""
        with torch.no_grad():
            drawn = self._draw_new(len(real))
        score_drawn, score_real = self.judge(drawn), self.judge(real)
        loss_real, loss_fake = self.game.discriminator(score_real, score_drawn)
        self.log_losses({"real": loss_real, "fake": loss_fake})
        for name, score in {"real": score_real.detach(), "drawn": score_drawn.detach()}.items():
            self.log(f"train/score/{name}", score.mean())
        self.observe(score_real)
        self._step(loss_real + loss_fake, "discriminator")

    def _regularise_discriminator(self, real: Tensor, batch_size: int) -> None:
        """Step D down its gradient at real pictures, as far as `r1_every` steps would."""
        gamma = self.r1_gamma
        if gamma is None:
            gamma = usual_r1_gamma(self.resolution, batch_size)
        real = real.detach().requires_grad_()
        score = self.judge(real, twice=True)
        penalty = r1_penalty(score, real).mean()
        self.log("train/r1_penalty", penalty.detach())
        self.observe(score)
        self._step(self.r1_every * gamma / 2 * penalty + 0 * score.mean(), "discriminator")

    def _step(self, loss: Tensor, player: str) -> None:
        """Step `player` down `loss`, and keep D's weights within their bound."""
        optimizers: list[Optimizer] = self.optimizers()  # type: ignore[assignment]  # two
        self.descend(loss, optimizers[player == "discriminator"], player=player)
        if self.weight_clip is not None and player == "discriminator":
            with torch.no_grad():
                for parameter in self.discriminator.parameters():
                    parameter.clamp_(-self.weight_clip, self.weight_clip)

    def configure_optimizers(self) -> list[Optimizer]:
        """G's, then D's."""
        networks = (self.generator, self.discriminator)
        return [
            make(network.parameters())
            for make, network in zip(self._optimizers, networks, strict=True)
        ]

    def compile_networks(self, **options: Any) -> None:
        """Compile what is differentiated once a pass; penalties run the same networks as they are.

        The average that predictions come from stays as it is, too.
        """
        network = self.generator
        (network.synthesis if isinstance(network, StyleGenerator) else network).compile(**options)
        self.discriminator.compile(**options)

    # -- bookkeeping ----------------------------------------------------------

    def reset_parameters(self) -> None:
        """Build both networks anew and take over their weights; forget what was measured."""
        for name, build in self._networks.items():
            getattr(self, name).load_state_dict(build().state_dict())
        self.ema.reset()
        if self.path_length is not None:
            self.path_length.reset_parameters()
        self.reset_augmentation()

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Grids of drawn pictures, see `picture_grids`."""
        return picture_grids(self, batch.image)

    def picture_titles(self) -> Mapping[str, Sequence[str]]:
        """Of the columns of these grids."""
        return TITLES
