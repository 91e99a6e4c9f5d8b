"""What found directions are for: pictures with masks, drawn until enough have passed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from figureground.core.errors import UserError
from figureground.core.passages import Passage, describe
from figureground.core.types import Latent, Layers
from figureground.data.chunks import require_finite
from figureground.generators.base import ImageGenerator
from figureground.methods.gan_segmenter.directions import Directions, Side
from figureground.methods.gan_segmenter.filters import Acceptance, PairFilters, judge
from figureground.methods.gan_segmenter.latents import LatentSource
from figureground.methods.gan_segmenter.masks import (
    Rule,
    clean_together,
    margin_of_grays,
    margin_of_two,
    soften,
)
from figureground.methods.gan_segmenter.objective import gray
from figureground.nn.precision import widen

logger = logging.getLogger(__name__)


class Candidates(NamedTuple):
    """Pictures with masks, before filters.

    Attributes:
        image: G(z), (B, 3, R, R).
        shifted: G(z + eps v) of each direction, the same shape.
        sides: Cleaned mask of each direction alone, (B, R, R) bool.
        mask: The pair's mask, cleaned: of both directions together where there are two.
        margin: Difference of grey values that the pair's mask was cut from, (B, R, R).
        label: Class of each picture, (B,) int64; None without classes.
    """

    image: Tensor
    shifted: Mapping[Side, Tensor]
    sides: Mapping[Side, Tensor]
    mask: Tensor
    margin: Tensor
    label: Tensor | None


class PairDrawing:
    """Draws pairs by a generator and directions in its latent space.

    Attributes:
        generator: G.
        directions: v.
        latents: Where z come from.
        step: eps.
        rule: How one direction's mask is cut.
        margin: Difference of grey values from which on a pixel is sure; 0 for hard masks.
        filters: Of each direction.
        max_rejected: Candidates in a row that may be thrown away before drawing is given up.
        acceptance: What all filters have seen.
    """

    generator: ImageGenerator
    directions: Directions
    latents: LatentSource
    step: float
    rule: Rule
    margin: float
    filters: Mapping[Side, PairFilters]
    max_rejected: int
    acceptance: Acceptance

    @torch.no_grad()
    def sample(self, count: int, *, generator: torch.Generator | None = None) -> Layers:
        """Draw `count` pairs: picture and mask as two layers that both hold the picture.

        Raises:
            UserError: So many candidates in a row were thrown away that there may be no end.
        """
        images, masks, labels, missing = [], [], [], count
        failed = Acceptance()  # Since the last pair that was kept.
        while missing > 0:
            drawn = self.draw_candidates(missing, generator=generator)
            seen = Acceptance()
            keep = judge(drawn.sides, drawn.shifted, self.filters, seen)
            self._count(seen)
            failed.add(seen)
            if seen.passed:
                failed = Acceptance()
            elif failed.seen >= self.max_rejected:
                raise UserError(_explain(failed))
            chosen = keep.to(drawn.image.device)
            images.append(drawn.image[chosen])
            masks.append(soften(drawn.margin[chosen], drawn.mask[chosen], self.margin))
            if drawn.label is not None:
                labels.append(drawn.label[chosen.to(drawn.label.device)])
            missing -= seen.passed
        if not images:
            side = self.generator.resolution
            images, masks = [torch.zeros(0, 3, side, side)], [torch.zeros(0, side, side)]
        return join(torch.cat(images), torch.cat(masks), torch.cat(labels) if labels else None)

    def count_passed(self) -> dict[str, Passage]:
        """How many candidates have passed so far, by filter, and by all of them."""
        return self.acceptance.count()

    @torch.no_grad()
    def draw_candidates(
        self, count: int, *, generator: torch.Generator | None = None
    ) -> Candidates:
        """Draw `count` pictures with cleaned masks, whether or not they would pass."""
        latent = self.latents.draw(self.generator, count, generator=generator)
        sides = self.directions.sides
        steps = [self.step * self.directions.best(side, generator=generator) for side in sides]
        painted = self.paint_along(latent, [torch.zeros_like(steps[0]), *steps])
        require_finite(painted, "candidates")
        shifted = dict(zip(sides, painted[1:], strict=True))
        before, *after = gray(painted)
        margins = [
            margin_of_grays(before, each, side, self.rule)
            for side, each in zip(sides, after, strict=True)
        ]
        thresholds = [self.filters[side].components for side in sides]
        if len(sides) > 1:
            margins.append(margin_of_two(shifted["light"], shifted["dark"]))
            thresholds.append(self.filters["light"].components)
        cleaned = clean_together([margin > 0 for margin in margins], thresholds)
        own = dict(zip(sides, cleaned, strict=False))  # The pair's comes after them.
        return Candidates(painted[0], shifted, own, cleaned[-1], margins[-1], latent.label)

    def paint_along(self, latent: Latent, steps: Sequence[Tensor]) -> Tensor:
        """Paint `latent` (of B) moved by every step (*shape), in one call of the generator.

        Returns:
            (steps, B, 3, R, R).
        """
        vectors = torch.cat([latent.vector + step.to(latent.vector) for step in steps])
        label = None if latent.label is None else latent.label.repeat(len(steps))
        image = widen(self.generator(Latent(vectors, label)))  # Masks are cut from differences.
        return image.view(len(steps), len(latent), *image.shape[1:])

    def _count(self, seen: Acceptance) -> None:
        """Add to what all filters have seen; say how much they keep, ever more rarely."""
        before = self.acceptance.seen
        self.acceptance.add(seen)
        if len(str(self.acceptance.seen)) > max(len(str(before)), 2):
            logger.info("%s", describe(self.count_passed()))


def join(image: Tensor, mask: Tensor, label: Tensor | None = None) -> Layers:
    """Two layers that both hold the picture.

    Args:
        image: (B, 3, H, W).
        mask: Share of the object, (B, H, W).
        label: Class of each, (B,) int64, if there are classes.
    """
    share = mask[:, None].to(image)
    # The picture is in memory once, which tells `composite` that there is nothing to blend.
    color = image[:, None].expand(-1, 2, -1, -1, -1)
    return Layers(color, torch.stack([1 - share, share], dim=1), label=label)


def _explain(failed: Acceptance) -> str:
    name, tally = failed.find_strictest()
    return (
        f"none of {failed.seen} candidates in a row passed the filters: {name} threw away "
        f"{tally.seen - tally.passed} of {tally.seen} (values from {tally.low:.3g} to "
        f"{tally.high:.3g}, expected {tally.expected}). Look at the run's directions.png; search "
        "longer or with more method.num_seeds, or train with looser method.filters"
    )
