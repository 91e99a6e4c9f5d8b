"""A picture as L2IC and its ancestors put it together: x = m F + (1 - m) B."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from figureground.core.types import TensorRecord
from figureground.methods.l2ic.codes import Codes


@dataclass(slots=True)
class ComposedPicture(TensorRecord):
    """A mask and what it shows and hides.

    Attributes:
        mask: Opacity m of the foreground, (B, 1, S, S), in [0, 1].
        foreground: F, whole, (B, 3, S, S), in [-1, 1].
        background: B, whole, (B, 3, S, S), in [-1, 1].
        other_background: The same before the backgrounds of other codes, without gradients, where
            these were asked for, (B, 3, S, S).
        sketch: The picture that DS-ComGAN decodes from the features of all layers, (B, 3, S, S).
    """

    mask: Tensor
    foreground: Tensor
    background: Tensor
    other_background: Tensor | None = None
    sketch: Tensor | None = None

    @property
    def composite(self) -> Tensor:
        """Picture x, (B, 3, S, S), in [-1, 1]."""
        return self.mask * self.foreground + (1 - self.mask) * self.background

    @property
    def swapped(self) -> Tensor | None:
        """Picture x' with the other backgrounds and no gradient, (B, 3, S, S), or None."""
        if self.other_background is None:
            return None
        mask = self.mask.detach()
        return mask * self.foreground.detach() + (1 - mask) * self.other_background

    @property
    def cutout(self) -> Tensor:
        """Part m x: what the mask leaves of the picture, grey elsewhere, (B, 3, S, S)."""
        return self.mask * self.composite


def exchange_backgrounds(picture: ComposedPicture, codes: Codes) -> tuple[ComposedPicture, Codes]:
    """Put before the background of each picture of a batch the foreground of the one before it.

    A background and a foreground of one z fit together, whatever the background holds where the
    mask covers it. Before another foreground that can be seen.

    Returns:
        The pictures, and their codes, in which b goes with its background; z and c are those of
        the foregrounds.
    """
    background, code = picture.background.roll(1, dims=0), codes.background.roll(1)
    return replace(picture, background=background), replace(codes, background=code)
