"""L2IC as a LightningModule, and with other options its ancestors C3-GAN, ComGAN and DS-ComGAN.

Learning image composition, stage of disentanglement and clustering: a generator composes pictures
x^ = m F + (1 - m) B of codes z, c, b, and a discriminator also embeds pictures among the centroids
of c, so that a real picture's cluster is the nearest centroid by cosine.

In each iteration D steps down, then G through the new D, on the same made pictures:

- codes z = 4 N(0, I), c uniform, b = c; b' for x^' of the same m F     `L2IC._draw_inputs`
- both objectives                                                        `objective.Objective`
- cluster of x: arg max_k cos(info(x), E_k)                              `L2IC.cluster`

L2IC's authors released no step: the objective is a reconstruction, see `weights.Weights`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import Metric

from figureground.core.bounds import (
    Blocks,
    Decay,
    PositiveFloat,
    PositiveInt,
    Quantity,
    Resolution,
    Width,
)
from figureground.core.checkpoint import require_network
from figureground.core.method import Method
from figureground.core.types import Batch, check_image
from figureground.methods.l2ic.codes import (
    BackgroundDrawing,
    BackgroundLatent,
    Codes,
    Drawing,
    draw_categories,
)
from figureground.methods.l2ic.composition import ComposedPicture, exchange_backgrounds
from figureground.methods.l2ic.discriminator import ClusterDiscriminator, Judge
from figureground.methods.l2ic.drawing import CompositionDrawing
from figureground.methods.l2ic.networks import Architecture, check_setup, network_builders
from figureground.methods.l2ic.objective import Game, Objective
from figureground.methods.l2ic.perturbation import Strength, draw_moves, move
from figureground.methods.l2ic.pictures import TITLES, code_grids
from figureground.methods.l2ic.scores import CompositionScores
from figureground.methods.l2ic.weights import Weights
from figureground.nn.ema import WeightAverage
from figureground.nn.optimizers import OptimizerFactory
from figureground.nn.regions import RegionStatistics

logger = logging.getLogger(__name__)

_WEIGHTS = Weights()


class L2IC(CompositionDrawing, Method):
    """Draw pictures as foreground before background, by category, and sort real ones by these.

    Defaults are L2IC's at 128 pixels. It cannot segment given pictures: train a `segmenter` on its
    samples for that.

    Args:
        resolution: Side S of the pictures.
        batch_size: Real pictures in each step of each process.
        architecture: Whose networks: `l2ic`, `c3gan`, `ds_comgan`, or `comgan`, which has no codes.
        num_categories: K, the length of c; with over-clustering a multiple of the true classes.
        num_backgrounds: Length of b; None is K. Each goes with as many categories if `tied`.
        latent_dim: Size D of z.
        latent_scale: Standard deviation of z.
        variation_dim: Size V of C3-GAN's noise within a category; others have none.
        generator_width: Channels of the generator where layers begin, a multiple of 4.
        discriminator_width: Channels of the discriminator after its first convolution.
        reader_width: The same of DS-ComGAN's networks that read codes off layers.
        num_blocks: Residual blocks of foreground, mask and background.
        weights: Of the terms of both objectives.
        game: Adversarial terms: `logistic` or `hinge`.
        temperature: tau, of similarities and contrasts.
        category_drawing: How categories of a batch are drawn: `uniform`, `distinct`, `balanced`.
        background_drawing: `tied` gives each category its background, as published; with
            `independent` ones backgrounds say nothing of categories, so objects have to.
        background_latent: What stands behind a foreground in training: `shared`, as published, the
            background of the same z, `exchanged`, that of another z and b of the batch, so that
            what a background holds behind its own object is seen.
        fresh_codes: Whether G steps on pictures of its own instead of those that D saw.
        perturbation: How far foregrounds are moved in training, as C3-GAN does.
        ema_decay: Of the average of G that draws; None draws by G itself.
        generator_optimizer: Makes the optimiser of G and of networks that read codes.
        discriminator_optimizer: Makes that of D and its centroids.
        metrics: See `Method`.
    """

    ema: WeightAverage | None
    generator: nn.Module
    discriminator: ClusterDiscriminator | Judge
    readers: nn.ModuleDict

    def __init__(
        self,
        *,
        resolution: Resolution = 128,
        batch_size: PositiveInt = 64,
        architecture: Architecture = "l2ic",
        num_categories: PositiveInt = 600,
        num_backgrounds: PositiveInt | None = None,
        latent_dim: Width = 100,
        latent_scale: PositiveFloat = 4.0,
        variation_dim: Quantity = 0,
        generator_width: Width = 64,
        discriminator_width: Width = 64,
        reader_width: Width = 64,
        num_blocks: Sequence[Blocks] = (3, 1, 1),
        weights: Weights = _WEIGHTS,
        game: Game = "logistic",
        temperature: PositiveFloat = 0.1,
        category_drawing: Drawing = "uniform",
        background_drawing: BackgroundDrawing = "tied",
        background_latent: BackgroundLatent = "shared",
        fresh_codes: bool = False,
        perturbation: Strength = "none",
        ema_decay: Decay | None = None,
        generator_optimizer: OptimizerFactory | None = None,
        discriminator_optimizer: OptimizerFactory | None = None,
        metrics: Mapping[str, Metric | None] | None = None,
    ) -> None:
        # What has no categories would seem to have clusters no better than chance.
        has_codes = architecture != "comgan"
        super().__init__(metrics=metrics if has_codes else {**(metrics or {}), "clustering": None})
        given = {name: value for name, value in locals().items() if name != "self"}
        if problems := self.check_options(**given):
            raise ValueError("; ".join(problems))
        self.resolution, self.num_regions, self.batch_size = resolution, 2, batch_size
        self.num_categories, self.num_backgrounds = (
            num_categories,
            num_backgrounds or num_categories,
        )
        self.latent_dim, self.latent_scale = latent_dim, latent_scale
        self.variation_dim = variation_dim
        self.category_drawing, self.fresh_codes = category_drawing, fresh_codes
        self.background_drawing, self.perturbation = background_drawing, perturbation
        self.background_latent = background_latent
        self.objective = Objective(weights, game, temperature)
        self._networks = network_builders(
            architecture,
            resolution,
            latent_dim=latent_dim,
            generator_width=generator_width,
            discriminator_width=discriminator_width,
            reader_width=reader_width,
            num_categories=num_categories,
            num_backgrounds=self.num_backgrounds,
            num_blocks=num_blocks,
            variation_dim=variation_dim,
        )
        for name, build in self._networks.items():
            self.add_module(name, build())
        self.ema = None if ema_decay is None else WeightAverage(self.generator, ema_decay)
        adam = partial(torch.optim.Adam, lr=2e-4, betas=(0.5, 0.999))
        self._optimizers = (generator_optimizer or adam, discriminator_optimizer or adam)
        self.statistics = RegionStatistics(2, resolution)
        self.composition_scores = CompositionScores(num_categories, has_codes=has_codes)
        if not has_codes and (metrics or {}).get("clustering") is not None:
            why = "ComGAN has no categories to sort pictures into"
            self.absent |= {f"{stage}/clustering": why for stage in ("val", "test")}

    check_options = staticmethod(check_setup)

    # -- capabilities ------------------------------------------------------------------------

    def cluster(self, image: Tensor) -> Tensor:
        """Category (B,) int64 of each of `image` (B, 3, S, S).

        The nearest centroid; for DS-ComGAN the code that is read off the whole picture; for ComGAN,
        which has no categories, 0.

        Raises:
            CheckpointError: The weights were converted without those that sort.
        """
        check_image(image)
        require_network(self, "discriminator", "this checkpoint")
        if isinstance(self.discriminator, ClusterDiscriminator):
            return self.discriminator.find_clusters(self.discriminator(image).info)
        if "foreground" in self.readers:
            logits: Tensor = self.readers["foreground"](image).info
            return logits.argmax(dim=1)
        return torch.zeros(len(image), dtype=torch.long, device=image.device)

    def score(self, image: Tensor) -> Tensor:
        """How real D finds pictures (B, 3, S, S): (B,), larger for more real."""
        score: Tensor = self.discriminator(image).score
        return score

    # -- training ----------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """Say where batches are larger than the numbers of distinct codes that they ask for."""
        is_distinct = {
            "num_categories": self.category_drawing == "distinct",
            "num_backgrounds": self.objective.weights.swap > 0,
        }
        for name in (name for name, is_asked in is_distinct.items() if is_asked):
            if (count := getattr(self, name)) < self.batch_size:
                logger.warning(
                    "method.%s=%d is below data.batch_size=%d: no batch has distinct ones, those "
                    "beyond are drawn at random; lower data.batch_size if that is not meant",
                    name, count, self.batch_size,
                )  # fmt: skip

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Update D on real and made pictures, then G on the latter or, if fresh, on others."""
        image = batch.image
        with torch.set_grad_enabled(not self.fresh_codes):
            codes, picture = self._make(len(image), swaps=True)
        self._update_discriminator(image, picture, codes)
        if self.fresh_codes:
            codes, picture = self._make(len(image), swaps=False)
        self._update_generator(picture, codes)
        if self.ema is not None:
            self.ema.update()
        mask = picture.mask.detach()
        self.statistics.update(torch.cat([1 - mask, mask], dim=1))
        self.log("train/area/foreground", mask.mean())
        self.log("train/mask/grey", ((mask > 0.1) & (mask < 0.9)).to(mask).mean())

    def _make(self, count: int, *, swaps: bool) -> tuple[Codes, ComposedPicture]:
        """Draw codes and pictures of a step."""
        codes, other, moves = self._draw_inputs(count, swaps)
        picture = move(self.generator(codes, other), moves)
        if self.background_latent == "exchanged":
            picture, codes = exchange_backgrounds(picture, codes)
        return codes, picture

    def _draw_inputs(self, count: int, swaps: bool) -> tuple[Codes, Tensor | None, Tensor | None]:
        """Codes, other backgrounds (B,) for `swap`, and moves (B, 2, 3) of foregrounds."""
        codes, other = self.draw_codes(count, self.category_drawing), None
        if swaps and self.objective.weights.swap > 0:
            drawn = draw_categories(count, self.num_backgrounds, "distinct")
            other = drawn.to(codes.background.device)
        return codes, other, draw_moves(count, self.perturbation)

    def _update_discriminator(self, real: Tensor, picture: ComposedPicture, codes: Codes) -> None:
        terms, info = self.objective.of_discriminator(self.discriminator, real, picture, codes)
        self.log_losses({f"discriminator/{name}": x for name, x in terms.items()})
        if isinstance(self.discriminator, ClusterDiscriminator):
            found = self.discriminator.find_clusters(info)
            self.log("train/score/info", (found == codes.category).to(info).mean())
        optimizers: list[Optimizer] = self.optimizers()  # type: ignore[assignment]  # two
        self.descend(self.objective.total(terms), optimizers[1], player="discriminator")

    def _update_generator(self, picture: ComposedPicture, codes: Codes) -> None:
        self.discriminator.requires_grad_(False)  # It only passes gradients on.
        terms = self.objective.of_generator(self.discriminator, self.readers, picture, codes)
        self.log_losses({f"generator/{name}": x for name, x in terms.items()})
        optimizers: list[Optimizer] = self.optimizers()  # type: ignore[assignment]  # two
        self.descend(self.objective.total(terms), optimizers[0], player="generator")
        self.discriminator.requires_grad_(True)

    def configure_optimizers(self) -> list[Optimizer]:
        """That of G and of networks that read codes, then D's."""
        makers = [*self.generator.parameters(), *self.readers.parameters()]
        judges = self.discriminator.parameters()
        return [self._optimizers[0](makers), self._optimizers[1](judges)]

    # -- evaluation and bookkeeping ----------------------------------------------------------

    def _update_scores(self, stage: str, batch: Batch) -> None:
        super()._update_scores(stage, batch)
        # The same codes at each validation, and others for each batch and process.
        seed = self._num_scored[stage] * self.trainer.world_size + self.global_rank
        self.composition_scores.update(self, batch.image, seed)

    def _log_scores(self, stage: str) -> None:
        super()._log_scores(stage)
        decide = self.trainer.strategy.reduce_boolean_decision
        if decide(self.composition_scores.update_called, all=False):
            values = self.composition_scores.compute()
            self.log_dict({f"{stage}/{name}": value for name, value in values.items()})
            self.composition_scores.reset()

    def reset_parameters(self) -> None:
        """Build all networks anew and take over their weights; forget what was measured."""
        for name, build in self._networks.items():
            getattr(self, name).load_state_dict(build().state_dict())
        if self.ema is not None:
            self.ema.reset()
        self.statistics.reset_parameters()

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Grids in which one code changes and others stay, see `code_grids`."""
        return code_grids(self, batch.image)

    def picture_titles(self) -> Mapping[str, Sequence[str]]:
        """Of the columns of these grids."""
        return TITLES
