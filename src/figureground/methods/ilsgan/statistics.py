"""What can be measured of a layered generator without labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torchmetrics import Metric

from figureground.methods.ilsgan.losses import mask_binarity

if TYPE_CHECKING:
    from figureground.methods.ilsgan.module import ILSGAN


class LayerScores(Metric):
    """Means over generated pictures: mask area and greyness, and how real each layer looks.

    A background that looks more and more real on its own, next to the composite, has begun to
    show the object: the layers leak.
    """

    full_state_update = False
    _names = ("foreground", "background", "composite", "real")

    def __init__(self) -> None:
        super().__init__()
        for name in (*self._names, "area", "binarity", "count"):
            self.add_state(name, torch.tensor(0.0), dist_reduce_fx="sum")
        self.count: Tensor

    def update(self, method: ILSGAN, real: Tensor, seed: int) -> None:
        """Take in as many new pictures as there are in `real` (B, 3, S, S), drawn from `seed`."""
        own = torch.Generator().manual_seed(seed)
        picture = method.draw(torch.randn(len(real), method.latent_dim, generator=own))
        values = {
            "foreground": method.score(picture.foreground),
            "background": method.score(picture.background),
            "composite": method.score(picture.composite),
            "real": method.score(real),
            "area": picture.mask.flatten(1).mean(dim=1),
            "binarity": mask_binarity(picture.mask),
        }
        for name, value in values.items():
            setattr(self, name, getattr(self, name) + value.sum())
        self.count += len(real)

    def compute(self) -> dict[str, Tensor]:
        """`score/<layer>`, `mask/area` and `mask/greyness`."""
        values = {f"score/{name}": getattr(self, name) for name in self._names}
        values |= {"mask/area": self.area, "mask/greyness": self.binarity}
        return {name: value / self.count for name, value in values.items()}
