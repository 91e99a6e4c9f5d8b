"""ILSGAN as a LightningModule: two layers from one latent, and one discriminator.

Zou, Yang, Ye, Wang, Zhang, "ILSGAN: Independent Layer Synthesis for Unsupervised
Foreground-Background Segmentation", AAAI 2023. With layers b, f and mask m = G(z), a small random
move (f', m') of the foreground, and augmentation T:

- composite         x' = (1 - m') b + m' f'                          `LayeredPicture.composite`
- G minimises       softplus(-D(T x')) + 2 L_bin(m') + 2 L_size(m')
                    + sigma L_ILS(b, f, m)                           `generator_loss`
                    (+ path length of x, if asked for)               `_regularise_generator`
- D minimises       softplus(D(T x')) + softplus(-D(T x))            `_update_discriminator`
                    + gamma / 2 |grad_x D(T x)|^2, every 16th time   `_regularise_discriminator`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
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
    PathLengthPenalty,
    logistic_discriminator_losses,
    logistic_generator_loss,
    r1_penalty,
    usual_r1_gamma,
)
from figureground.methods.ilsgan.cleaning import GradientCleaner
from figureground.methods.ilsgan.drawing import LayerDrawing
from figureground.methods.ilsgan.independence import (
    Independence,
    independence_loss,
    likelihood_loss,
)
from figureground.methods.ilsgan.losses import mask_binarity, mask_shortage
from figureground.methods.ilsgan.mixing import StyleMixing
from figureground.methods.ilsgan.networks import check_setup, network_builders
from figureground.methods.ilsgan.painting import Painting
from figureground.methods.ilsgan.perturbation import LayeredPicture, Perturbation
from figureground.methods.ilsgan.pictures import TITLES, layer_grids
from figureground.methods.ilsgan.schedules import Sigma
from figureground.methods.ilsgan.statistics import LayerScoring
from figureground.nn.ada import AdaController, AugmentPipe
from figureground.nn.ema import WeightAverage, average_decay
from figureground.nn.judging import Judging
from figureground.nn.optimizers import LazyAdam, OptimizerFactory
from figureground.nn.style_blocks import LowPrecision
from figureground.nn.stylegan2_discriminator import GROUP_SIZE, DiscriminatorArchitecture

_INDEPENDENCE, _SIGMA, _PERTURBATION, _MIXING = (
    Independence(), Sigma(), Perturbation(), StyleMixing()
)  # fmt: skip


class ILSGAN(LayerDrawing, Painting, Judging, LayerScoring):
    """Draw pictures as a masked foreground before a background that know nothing of each other.

    Defaults are the paper's at 64 pixels, but for half precision (4 `low_precision_blocks`, with
    `clean_gradients`), which the recipes of its datasets turn on, and augmentation, which
    `conf/method/ilsgan.yaml` does. It segments no given pictures: train a `segmenter` for that.

    Args:
        resolution: Side S of the pictures.
        batch_size: Real pictures in each step of each process.
        latent_dim: Size of latents.
        style_width: Size of styles.
        mapping_depth: Layers of each mapping network.
        channel_base: Channels at resolution r are `channel_base` / r,
        max_width: and this at most.
        conv_clamp: Bound of activations, or None; float16 needs one.
        low_precision_blocks: Blocks of the highest resolutions computed in half precision,
        low_precision: of this kind; never on a CPU.
        discriminator_architecture: See `StyleDiscriminator`.
        group_size: Pictures that D compares with each other.
        independence: The loss between layers; None leaves it out.
        sigma: Its weight over time.
        density_width: Base width of learned densities; None as published: 64, or 80 for
            `learned_pixelcnn`.
        likelihood_weight: Weight of their loss.
        binarity_weight: Weight of L_bin, against grey masks.
        size_weight: Weight of L_size, against small masks.
        size_floor: Share of the picture that masks should cover,
        ground_floor: and leave uncovered; None asks for that only without a perturbation, as
            published.
        perturbation: How foregrounds move before D looks; None does without.
        style_mixing: Which styles come from a second latent in training, and how often.
        r1_gamma: Weight of the gradient penalty; None is 0.0002 S^2 / pictures in a step.
        r1_every: Iterations between two penalties, 0 does without.
        path_length_weight: Weight of the path length penalty of G; published: 0, as layers did not
            part with StyleGAN2's weight of 2.
        path_length_every: Iterations between two such penalties.
        ema_kimg: Half-life of the average of G in thousands of pictures; None: 10 per 32 in a step.
        ema_ramp: At most this share of the pictures seen; None does without.
        augmentation: What changes pictures before D sees them; None shows them as they are.
        controller: Steers its strength; None leaves that fixed.
        clean_gradients: Replace non-finite entries of gradients, as released, instead of skipping
            the step.
        truncation: Share of styles' distance from the mean that `sample` keeps.
        generator_optimizer: Makes G's optimiser.
        discriminator_optimizer: Makes that of D and learned densities.
        metrics: See `Method`.
    """

    densities: nn.ModuleList
    ema: WeightAverage

    def __init__(
        self,
        *,
        resolution: Resolution = 64,
        batch_size: PositiveInt = 32,
        latent_dim: Width = 512,
        style_width: Width = 512,
        mapping_depth: Depth = 8,
        channel_base: PositiveInt = 16384,
        max_width: Width = 256,
        conv_clamp: PositiveFloat | None = 256.0,
        low_precision_blocks: Count = 0,
        low_precision: LowPrecision = "float16",
        discriminator_architecture: DiscriminatorArchitecture = "resnet",
        group_size: PositiveInt = GROUP_SIZE,
        independence: Independence | None = _INDEPENDENCE,
        sigma: Sigma = _SIGMA,
        density_width: Width | None = None,
        likelihood_weight: NonNegativeFloat = 0.1,
        binarity_weight: NonNegativeFloat = 2.0,
        size_weight: NonNegativeFloat = 2.0,
        size_floor: Fraction = 0.25,
        ground_floor: Fraction | None = None,
        perturbation: Perturbation | None = _PERTURBATION,
        style_mixing: StyleMixing = _MIXING,
        r1_gamma: NonNegativeFloat | None = None,
        r1_every: Count = 16,
        path_length_weight: NonNegativeFloat = 0.0,
        path_length_every: PositiveInt = 4,
        ema_kimg: PositiveFloat | None = None,
        ema_ramp: Fraction | None = 0.05,
        augmentation: AugmentPipe | None = None,
        controller: AdaController | None = None,
        clean_gradients: bool = False,
        truncation: Fraction = 1.0,
        generator_optimizer: OptimizerFactory | None = None,
        discriminator_optimizer: OptimizerFactory | None = None,
        metrics: Mapping[str, Metric | None] | None = None,
    ) -> None:
        super().__init__(resolution, metrics=metrics)
        given = {name: value for name, value in locals().items() if name != "self"}
        if problems := self.check_options(**given):
            raise ValueError("; ".join(problems))
        self.resolution, self.latent_dim, self.num_regions = resolution, latent_dim, 2
        self.truncation, self.r1_every, self.r1_gamma = truncation, r1_every, r1_gamma
        self.ema_kimg, self.ema_ramp = ema_kimg, ema_ramp
        self.likelihood_weight, self.binarity_weight = likelihood_weight, binarity_weight
        self.size_weight, self.size_floor = size_weight, size_floor
        self.independence, self.sigma, self.style_mixing = independence, sigma, style_mixing
        if independence is not None and independence.is_learned:
            self.sigma = sigma.for_learned()
        self.last_sigma = self.sigma.weights[1]
        self.perturbation = perturbation or Perturbation(shift=0)
        # Otherwise nothing else says which layer is the background.
        self.ground_floor = 0.0 if self.perturbation.acts else size_floor
        if ground_floor is not None:
            self.ground_floor = ground_floor
        self._networks = network_builders(**given)
        for name, build in self._networks.items():
            self.add_module(name, build())
        self.ema = WeightAverage(self.generator, 0.0)
        self.group_size = group_size
        self.set_augmentation(augmentation, controller)
        self.path_length = PathLengthPenalty() if path_length_weight else None
        self.path_length_weight, self.path_length_every = path_length_weight, path_length_every
        self._optimizers = (
            generator_optimizer or partial(LazyAdam, every=path_length_every),
            discriminator_optimizer or partial(LazyAdam, every=r1_every),
        )
        self.cleaner = GradientCleaner() if clean_gradients else None

    check_options = staticmethod(check_setup)

    # -- training ----------------------------------------------------------------------------

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Update G, then D, each on latents of its own, and now and then by their penalties."""
        image, iteration = batch.image, self.iteration
        batch_size = len(image) * self.trainer.world_size
        num_seen = (iteration - 1) * batch_size
        self.last_sigma = self.sigma.at(num_seen)
        self.log("train/sigma", self.last_sigma)
        self.origin["sigma"] = self.last_sigma  # Snapshots can be chosen by it.
        self._update_generator(len(image), self.last_sigma)
        if self.path_length is not None and (iteration - 1) % self.path_length_every == 0:
            self._regularise_generator(len(image), self.path_length)
        self._update_discriminator(image)
        if self.r1_every and (iteration - 1) % self.r1_every == 0:
            self._regularise_discriminator(image, batch_size)
        half_life = 1000 * (self.ema_kimg or 10 * batch_size / 32)
        self.ema.decay = average_decay(num_seen, batch_size, half_life, self.ema_ramp)
        self.ema.update()
        if (strength := self.steer_augmentation(iteration, batch_size)) is not None:
            self.log("train/augment", strength)
        if self.cleaner is not None:
            self.log("train/cleaned_gradients", self.cleaner.count)
            self.cleaner.count = torch.zeros(())

    def _update_generator(self, count: int, sigma: float) -> None:
        """Step G by `count` new pictures."""
        judges = (self.discriminator, self.densities)
        for network in judges:  # They only pass gradients on.
            network.requires_grad_(False)
        picture, moved = self._draw_pair(count)
        loss, terms = self.generator_loss(picture, moved, moved.composite, sigma)
        self.log_losses(terms | {"generator": loss})
        self.log_masks(picture.mask.detach())
        self._step(loss, "generator")
        for network in judges:
            network.requires_grad_(True)

    def _regularise_generator(self, count: int, path_length: PathLengthPenalty) -> None:
        """Step G towards equal path lengths, as far as `path_length_every` steps would."""
        latent, _ = self._draw_inputs(path_length.num_pictures(count))
        styles = torch.cat(self._draw_styles(latent), dim=1)
        background, foreground = styles.chunk(2, dim=1)
        image = self.generator.synthesize(background, foreground, twice=True).composite
        penalty = path_length(image, styles)
        self.log("train/path_length_penalty", penalty.detach())
        self.log("train/path_length", path_length.mean_length)
        # Nought times the picture gives every weight a gradient, so Adam's averages all move on.
        weight = self.path_length_every * self.path_length_weight
        self._step(weight * penalty + 0 * image.mean(), "generator")

    def generator_loss(
        self, picture: LayeredPicture, moved: LayeredPicture, composite: Tensor, sigma: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What G minimises, and its terms.

        Args:
            picture: B pictures as drawn.
            moved: The same after the perturbation.
            composite: Theirs, (B, 3, S, S).
            sigma: Weight of the independence.
        """
        terms = {
            "adversarial": logistic_generator_loss(self.judge(composite)),
            "binarity": mask_binarity(moved.mask).mean(),
            "size": mask_shortage(moved.mask, self.size_floor).mean(),
        }
        if self.ground_floor:
            terms["size"] = terms["size"] + mask_shortage(1 - moved.mask, self.ground_floor).mean()
        loss = (
            terms["adversarial"]
            + self.binarity_weight * terms["binarity"]
            + self.size_weight * terms["size"]
        )
        if self.independence is not None:
            terms["independence"] = independence_loss(
                picture, self.independence, list(self.densities)
            )
            loss = loss + sigma * terms["independence"]
        return loss, terms

    def _update_discriminator(self, real: Tensor) -> None:
        """Step D by real and new pictures, and learned densities by the new ones' layers."""
        with torch.no_grad():
            picture, moved = self._draw_pair(len(real))
        score_fake, score_real = self.judge(moved.composite), self.judge(real)
        loss_real, loss_fake = logistic_discriminator_losses(score_real, score_fake)
        terms, loss = {"real": loss_real, "fake": loss_fake}, loss_real + loss_fake
        if self.independence is not None and self.independence.is_learned:
            terms["likelihood"] = likelihood_loss(picture, self.independence, list(self.densities))
            loss = loss + self.likelihood_weight * terms["likelihood"]
        self.log_losses(terms)
        for name, score in {"real": score_real.detach(), "fake": score_fake.detach()}.items():
            self.log(f"train/score/{name}", score.mean())
            self.log(f"train/sign/{name}", score.sign().mean())
        self.observe(score_real)
        self._step(loss, "discriminator")

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
        # Nought times the score gives every weight a gradient, so Adam's averages all move on.
        self._step(self.r1_every * gamma / 2 * penalty + 0 * score.mean(), "discriminator")

    def _step(self, loss: Tensor, player: str) -> None:
        optimizers: list[Optimizer] = self.optimizers()  # type: ignore[assignment]  # two
        self.descend(loss, optimizers[player == "discriminator"], player=player)

    def mend_gradients(self, gradients: Sequence[Tensor]) -> None:
        """Clean them as released, if that is asked for."""
        if self.cleaner is not None:
            self.cleaner(gradients)

    def configure_optimizers(self) -> list[Optimizer]:
        """G's, then the one of D and learned densities."""
        judges = [*self.discriminator.parameters(), *self.densities.parameters()]
        return [self._optimizers[0](self.generator.parameters()), self._optimizers[1](judges)]

    def compile_networks(self, **options: Any) -> None:
        """Compile what is differentiated once a pass; penalties run the same networks as they are.

        The average that predictions come from stays as it is, too.
        """
        generator = self.generator
        generator.synthesis_background.compile(**options)
        generator.synthesis_foreground.compile(**options)
        self.discriminator.compile(**options)
        for density in self.densities:
            density.compile(**options)

    # -- bookkeeping ----------------------------------------------------------

    def reset_parameters(self) -> None:
        """Build all networks anew and take over their weights; forget what was measured."""
        for name, build in self._networks.items():
            getattr(self, name).load_state_dict(build().state_dict())
        self.ema.reset()
        self.reset_augmentation()
        if self.path_length is not None:
            self.path_length.reset_parameters()
        self.statistics.reset_parameters()

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Grids of layers, masks, gradients and paths, see `layer_grids`."""
        return layer_grids(self, len(batch))

    def picture_titles(self) -> Mapping[str, Sequence[str]]:
        """Of the columns of these grids."""
        return TITLES
