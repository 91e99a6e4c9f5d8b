"""Sprites that are hardly used become near-copies of the most used one (paper, section 3.3)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

from torch import Tensor
from torch.optim import Optimizer

from figureground.methods.dti_sprites.networks import SceneModel
from figureground.methods.dti_sprites.transforms import StackedPerceptrons


@dataclass(frozen=True)
class Reassignment:
    """When sprites are replaced, and which.

    Attributes:
        every: Iterations between two checks; 0 turns them off.
        threshold: Usage below which a sprite is replaced.
        layers: Usage in one `random` layer or the `mean` over layers.
    """

    every: int
    threshold: float
    layers: str

    def is_due(self, iteration: int) -> bool:
        """Whether to check after `iteration`."""
        return self.every > 0 and iteration % self.every == 0

    def find_unused(self, shares: Tensor, has_empty: bool) -> tuple[list[int], int]:
        """Sprites below the threshold, and the most used one.

        Args:
            shares: Usage (K,).
            has_empty: Whether the last is the empty sprite, which is left alone; the others are
                then measured by the most used one.
        """
        if has_empty:
            shares = shares[:-1] / shares[:-1].max().clamp(min=1e-12)
        unused = (shares < self.threshold).nonzero().flatten().tolist()
        return unused, int(shares.argmax())


def replace_sprites(
    model: SceneModel,
    unused: Sequence[int],
    winner: int,
    noise: Tensor | None = None,
    optimizers: Iterable[Optimizer] = (),
) -> None:
    """Make `unused` near-copies of `winner`: pictures, predictors and their moments.

    Args:
        model: Changed in place.
        unused: Sprites to replace.
        winner: Sprite to copy.
        noise: What copies differ by, see `SpriteBank.draw_noise`; drawn if None.
        optimizers: Whose moments are copied too.
    """
    copied = model.sprites.duplicate(unused, winner, noise)
    changed = [(parameter, list(unused), winner) for parameter in copied]
    for layer in range(model.num_layers):
        first = layer * model.num_choices
        rows = [first + k for k in unused]
        for stack in model.sprite_group.regressors.values():
            copied = cast(StackedPerceptrons, stack).copy_rows(rows, first + winner)
            changed += [(parameter, rows, first + winner) for parameter in copied]
    for optimizer in optimizers:
        for parameter, rows, source in changed:
            for moment in optimizer.state.get(parameter, {}).values():
                if isinstance(moment, Tensor) and moment.shape == parameter.shape:
                    moment[rows] = moment[source].clone()
