"""gan-segmenter's search as a LightningModule: directions in a frozen generator's latent space.

Melas-Kyriazi, Rupprecht, Laina, Vedaldi, "Finding an Unsupervised Image Segmenter in Each of Your
Deep Generative Models", ICLR 2022. With a frozen generator G, latents z and unit directions v:

- x = G(z), x' = G(z + r v), r drawn around 2                      `_search_step`
- v_light minimises 2 mean(g(x') C) + 10 mean((E(x) - E(x'))^2)    `objective.SearchObjective`
- v_dark the same with the first sign turned
- mask = [g(G(z + 5 v_light) - G(z + 5 v_dark)) > 0]               `masks.mask_of_two`
- cleaning and filters                                             `filters.judge`

No picture of a dataset and no label takes part. What comes out draws pairs of pictures and masks,
which a segmenter learns from.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import Metric

from figureground.core.bounds import NonNegativeFloat, PositiveInt, Width
from figureground.core.errors import CheckpointError
from figureground.core.method import Method
from figureground.core.types import Batch, Latent
from figureground.generators.base import ImageGenerator
from figureground.generators.toy import ToyGenerator
from figureground.methods.gan_segmenter.directions import (
    SIGNS,
    Directions,
    Kind,
    Norm,
    ShiftLength,
    Sides,
)
from figureground.methods.gan_segmenter.drawing import PairDrawing
from figureground.methods.gan_segmenter.filters import Acceptance, PairFilters, area, judge
from figureground.methods.gan_segmenter.latents import LatentSource, warn_of_long_step
from figureground.methods.gan_segmenter.masks import Rule
from figureground.methods.gan_segmenter.objective import SearchObjective
from figureground.methods.gan_segmenter.pictures import direction_grids, titles
from figureground.nn.optimizers import OptimizerFactory

logger = logging.getLogger(__name__)


_SHIFT, _OBJECTIVE, _FILTERS = ShiftLength(), SearchObjective(), PairFilters()
_PROBED = 32  # Candidates that acceptance is measured on at each validation.
_GENERATOR, _DIGEST = "generator.", "generator_digest"


class GANSegmenter(PairDrawing, Method):
    """Search directions that make objects lighter or darker than their ground; draw pairs by them.

    Defaults are those of the released code, with both directions, as in the paper's main table.
    It cannot segment given pictures: train a `segmenter` on its samples for that. Training batches
    only say how many latents are drawn. A generator that came from a file is not kept in
    checkpoints, so the file must stay where it is.

    Args:
        generator: Frozen, at its own resolution; None takes the toy generator, to try things out.
        latents: Where latents come from; None: from the generator's own distribution.
        directions: Which are searched, `both` in one run; `opposite` is one and its negative.
        num_seeds: First values of each direction; all are searched side by side, and the one with
            the lowest running loss is used.
        norm: See `Directions`; matters for latents with a vector for each layer.
        kind: `learned`, or `random` for directions drawn anew at each call: a baseline.
        shift: How far a step of the search goes.
        objective: What is minimised.
        step: eps, how far pictures are shifted for masks.
        rule: How the mask of a single direction is cut, see `mask_of_one`.
        margin: Draw soft masks, sure from this difference of grey values on, for a segmenter with
            `target=soft` or `ignore`; 0 for hard ones, as published.
        filters: Cleaning and filters of pairs; of the light direction if `dark_filters` are given.
        dark_filters: Thresholds of the dark direction; None: the same.
        max_rejected: Candidates in a row that may be thrown away before drawing is given up.
        optimizer: Makes the optimiser; Adam with rate 5e-3 if None.
        metrics: None: there is nothing to score.
    """

    def __init__(
        self,
        *,
        generator: ImageGenerator | None = None,
        latents: LatentSource | None = None,
        directions: Sides = "both",
        num_seeds: Width = 1,
        norm: Norm = "per_coordinate",
        kind: Kind = "learned",
        shift: ShiftLength = _SHIFT,
        objective: SearchObjective = _OBJECTIVE,
        step: NonNegativeFloat = 5.0,
        rule: Rule = "lighting",
        margin: NonNegativeFloat = 0.0,
        filters: PairFilters = _FILTERS,
        dark_filters: PairFilters | None = None,
        max_rejected: PositiveInt = 1000,
        optimizer: OptimizerFactory | None = None,
        metrics: Mapping[str, Metric | None] | None = None,
    ) -> None:
        super().__init__(metrics=metrics)
        self.is_example = generator is None
        generator = ToyGenerator() if generator is None else generator
        self.generator = generator.requires_grad_(False).eval()
        self.resolution = generator.resolution
        self.latents = latents or LatentSource()
        self.latents.check_fits(generator)
        if latents is None or latents.file is None:
            warn_of_long_step(generator, step)
        self.directions = Directions(
            generator.latent_shape, sides=directions, num_seeds=num_seeds, norm=norm, kind=kind
        )
        self.shift, self.objective = shift, objective
        self.step, self.rule, self.max_rejected = step, rule, max_rejected
        self.margin = margin
        self.filters = {"light": filters, "dark": dark_filters or filters}
        self.acceptance = Acceptance()
        self._optimizer = optimizer or partial(torch.optim.Adam, lr=5e-3)
        self.has_file = generator.options.get("weights") is not None
        self.register_buffer(_DIGEST, _digest(generator) if self.has_file else torch.tensor(0))
        self.generator_digest: Tensor
        self.register_state_dict_post_hook(_forget_generator)  # type: ignore[no-untyped-call]  # torch's
        self.register_load_state_dict_post_hook(_expect_no_generator)  # type: ignore[no-untyped-call]  # torch's

    @staticmethod
    def check_options(*, step: float, max_rejected: int, **_: Any) -> list[str]:
        """Refuse what cannot draw any pair."""
        if step <= 0:
            return ["step=0 moves nothing, so no mask would show anything; use 5.0"]
        return []

    # -- training ----------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """Say so where nothing but the example is searched; drawing pairs needs no such word."""
        super().on_fit_start()
        if self.is_example:
            logger.warning(
                "no generator was named, so directions are searched in the toy generator, which "
                "only shows how it works; add generator=bigbigan generator.weights=<file>"
            )

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Step all directions once, on as many latents as the batch has pictures."""
        latent = self.latents.draw(self.generator, len(batch))
        loss, terms = self.search_loss(latent, self.shift.draw(latent.vector))
        sides = self.directions.searched if self.directions.is_tied else self.directions.sides
        for row, side in enumerate(self.directions.sides):
            self.log_losses({f"{side}/{name}": term[row].mean() for name, term in terms.items()})
            self.log_losses({side: loss[row].mean()})
            self.log(f"train/spread/{side}", loss[row].detach().std(unbiased=False))
        if self.directions.kind == "random":
            return
        optimizer: Optimizer = self.optimizers()  # type: ignore[assignment]  # there is one
        if self.descend(loss.sum(), optimizer, player="directions"):
            self.directions.project()
            # All processes must come to the same best direction.
            self.directions.observe(self.trainer.strategy.reduce(loss.detach(), reduce_op="mean"))
            for row, side in enumerate(sides):
                self.log(f"train/best/{side}", self.directions.loss[row].min())

    def search_loss(self, latent: Latent, length: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """What every direction minimises, and its weighted terms.

        Args:
            latent: B latents z.
            length: r, of a shape that multiplies with (B, *latent_shape).

        Returns:
            Both (sides, num_seeds); gradients of different directions do not mix.
        """
        sides = self.directions.sides
        units = torch.stack([self.directions.unit(side) for side in sides])
        num_seeds = units.shape[1]
        signs = torch.tensor([SIGNS[side] for side in sides]).repeat_interleave(num_seeds)
        with torch.no_grad():
            original = self.generator(latent)
        moved = latent.vector + length * units.flatten(0, 1)[:, None].to(latent.vector)
        label = None if latent.label is None else latent.label.repeat(len(moved))
        shifted = self.generator(Latent(moved.flatten(0, 1), label))
        shifted = shifted.unflatten(0, moved.shape[:2])  # (sides * seeds, B, 3, R, R)
        terms = {
            name: term.view(len(sides), num_seeds)
            for name, term in self.objective.terms(original, shifted, signs).items()
        }
        return torch.stack(list(terms.values())).sum(dim=0), terms

    def configure_optimizers(self) -> list[Optimizer]:
        """One optimiser for all directions."""
        return [self._optimizer(self.directions.parameters())]

    def on_validation_epoch_end(self) -> None:
        """Measure what the filters let through, on candidates that are always the same."""
        super().on_validation_epoch_end()
        chance = torch.Generator().manual_seed(0)
        drawn = self.draw_candidates(_PROBED, generator=chance)
        seen = Acceptance()
        judge(drawn.sides, drawn.shifted, self.filters, seen)
        self.log("val/pairs/accepted", seen.rate)
        self.log("val/pairs/area", area(drawn.mask).mean())
        for name, tally in seen.tallies.items():
            self.log(f"val/pairs/accepted/{name}", tally.rate)

    # -- bookkeeping -------------------------------------------------------------------------

    def train(self, mode: bool = True) -> GANSegmenter:
        """Leave the generator in evaluation mode, whatever the mode of the rest."""
        super().train(mode)
        self.generator.eval()
        return self

    def reset_parameters(self) -> None:
        """Draw all directions anew; the generator stays."""
        self.directions.reset_parameters()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse directions that were found in another generator."""
        super().on_load_checkpoint(checkpoint)
        stored = checkpoint["state_dict"][_DIGEST]
        if self.has_file and int(stored) not in {0, int(self.generator_digest)}:
            raise CheckpointError(
                f"the directions were found in other weights than those now in "
                f"{self.generator.options['weights']}; give the file they were found in"
            )

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Grids of shifted pictures and masks, see `direction_grids`."""
        return direction_grids(self, len(batch))

    def picture_titles(self) -> Mapping[str, Sequence[str]]:
        """Of the columns of these grids."""
        return titles(self)


def _digest(network: nn.Module) -> Tensor:
    """Tell weights apart: the first 63 bits of their SHA-256, int64."""
    found = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return torch.tensor(int.from_bytes(found.digest()[:8], "big") >> 1)


def _forget_generator(
    module: nn.Module, state: dict[str, Tensor], prefix: str, local_metadata: Any
) -> None:
    """Leave a generator that has a file of its own out of a state dict."""
    if getattr(module, "has_file", False):
        for key in [key for key in state if key.startswith(f"{prefix}{_GENERATOR}")]:
            del state[key]


def _expect_no_generator(module: nn.Module, incompatible: Any) -> None:
    """Do not miss such a generator."""
    if getattr(module, "has_file", False):
        missing = [k for k in incompatible.missing_keys if not k.startswith(_GENERATOR)]
        incompatible.missing_keys[:] = missing
