"""What can be measured without labels: of drawn pictures, their masks, and clusters in use."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torchmetrics import Metric

from figureground.methods.l2ic.codes import Codes
from figureground.methods.l2ic.composition import ComposedPicture

_GREY = (0.1, 0.9)  # Mask values between are neither background nor foreground.
_TRIVIAL = (0.02, 0.98)  # Areas beyond are no composition.


class Composer(Protocol):
    """What is measured (`L2IC`)."""

    def draw_codes(self, count: int, *, generator: torch.Generator) -> Codes:
        """Codes of `count` pictures."""
        ...

    def draw(self, codes: Codes) -> ComposedPicture:
        """Their pictures."""
        ...

    def score(self, image: Tensor) -> Tensor:
        """How real pictures look, (B,)."""
        ...

    def cluster(self, image: Tensor) -> Tensor:
        """Categories of pictures, (B,) int64."""
        ...


class CompositionScores(Metric):
    """Means over drawn pictures, and how categories are told apart.

    Args:
        num_categories: K.
        has_codes: Whether pictures are drawn from categories; without, nothing is said of these.
    """

    full_state_update = False
    _means = ("composite", "real", "info", "area", "grey", "trivial")

    def __init__(self, num_categories: int, *, has_codes: bool = True) -> None:
        super().__init__()
        self.has_codes = has_codes
        for name in (*self._means, "count"):
            self.add_state(name, torch.tensor(0.0), dist_reduce_fx="sum")
        for name in ("drawn", "recognised", "used"):
            self.add_state(name, torch.zeros(num_categories), dist_reduce_fx="sum")
        self.count: Tensor
        self.drawn: Tensor
        self.recognised: Tensor
        self.used: Tensor

    def update(self, method: Composer, real: Tensor, seed: int) -> None:
        """Take in as many new pictures as there are in `real` (B, 3, S, S), drawn from `seed`."""
        own = torch.Generator().manual_seed(seed)
        codes = method.draw_codes(len(real), generator=own)
        picture = method.draw(codes)
        image, mask = picture.composite, picture.mask
        area = mask.flatten(1).mean(dim=1)
        is_known = (method.cluster(image) == codes.category).to(area)
        values = {
            "composite": method.score(image),
            "real": method.score(real),
            "info": is_known,
            "area": area,
            "grey": ((mask > _GREY[0]) & (mask < _GREY[1])).to(area).flatten(1).mean(dim=1),
            "trivial": ((area < _TRIVIAL[0]) | (area > _TRIVIAL[1])).to(area),
        }
        for name, value in values.items():
            setattr(self, name, getattr(self, name) + value.sum())
        self.count += len(real)
        counts = {"drawn": codes.category, "used": method.cluster(real)}
        for name, index in counts.items():
            setattr(self, name, getattr(self, name) + self._count(index))
        self.recognised = self.recognised + self._count(codes.category[is_known > 0])

    def compute(self) -> dict[str, Tensor]:
        """What to follow, and to choose settings by, without labels.

        `score/composite` and `score/real`: how real drawn and real pictures look to D.
        `score/info`: share of drawn pictures whose category is found again; `score/recognised`:
        share of categories for which half of them are. `clusters/used`: clusters that real
        pictures fall into; `clusters/effective`: how many equal ones would have their entropy.
        `mask/area`; `mask/grey`: share of pixels neither in nor out; `mask/trivial`: share of
        pictures that are all foreground or all background.
        """
        share = self.used / self.used.sum().clamp(min=1)
        entropy = -(share * share.clamp(min=1e-12).log()).sum()
        was_drawn = self.drawn > 0
        found = self.recognised[was_drawn] >= self.drawn[was_drawn] / 2
        means = {name: getattr(self, name) / self.count for name in self._means}
        of_codes = {
            "score/info": means["info"],
            "score/recognised": found.to(share).mean(),
            "clusters/used": (self.used > 0).sum().to(share),
            "clusters/effective": entropy.exp(),
        }
        return {
            **{f"score/{name}": means[name] for name in ("composite", "real")},
            **(of_codes if self.has_codes else {}),
            **{f"mask/{name}": means[name] for name in ("area", "grey", "trivial")},
        }

    def _count(self, index: Tensor) -> Tensor:
        return torch.bincount(index, minlength=len(self.used)).to(self.used)
