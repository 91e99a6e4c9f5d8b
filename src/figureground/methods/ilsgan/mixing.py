"""Style mixing: some styles of a picture come from a second latent (StyleGAN2-ADA, layered).

No published setting of ILSGAN turns it on. It keeps neighbouring styles, or layers, from relying
on having come from the same latent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from figureground.core.bounds import Fraction
from figureground.nn.style_mapping import draw_mixing_cutoff, mix_styles

Form = Literal["separate", "joint", "layer"]
#: Styles of background and foreground, each (B, N, W).
Styles = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class StyleMixing:
    """How often styles are mixed in training, and which.

    Attributes:
        probability: Chance that a batch is mixed.
        form: `separate`: each layer's styles change over at a place of their own, or not at all,
            with this chance each; `joint`: the background's styles and then the foreground's are
            one row with one such place; `layer`: the whole background is the other latent's.
    """

    probability: Fraction = 0.0
    form: Form = "separate"

    def draw_cutoffs(self, num_styles: int) -> tuple[int, int]:
        """From where on each layer's `num_styles` styles are replaced; `num_styles` is nowhere."""
        if self.form == "layer":
            return (0 if torch.rand(()).item() < self.probability else num_styles), num_styles
        if self.form == "joint":
            place = draw_mixing_cutoff(2 * num_styles, self.probability)
            return min(place, num_styles), max(place - num_styles, 0)
        background, foreground = (
            draw_mixing_cutoff(num_styles, self.probability) for _ in range(2)
        )
        return background, foreground

    def __call__(self, styles: Styles, others: Styles) -> Styles:
        """Replace some of `styles` by those of `others`, of which layers have equally many."""
        cutoffs = self.draw_cutoffs(styles[0].shape[1])
        background, foreground = (
            mix_styles(own, other, cutoff)
            for own, other, cutoff in zip(styles, others, cutoffs, strict=True)
        )
        return background, foreground
