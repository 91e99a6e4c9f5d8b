"""What can be measured of a layered generator without labels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor
from torchmetrics import Metric

from figureground.core.method import Method
from figureground.core.types import Batch
from figureground.methods.ilsgan.losses import mask_binarity
from figureground.methods.ilsgan.perturbation import LayeredPicture
from figureground.nn.regions import RegionStatistics


class LayerScores(Metric):
    """Means over generated pictures: mask area and greyness, and how real each layer looks.

    A background that looks more and more real on its own, next to the composite, has begun to
    show the object: the layers leak. So does a foreground that comes to do without a background.
    """

    full_state_update = False
    _names = ("foreground", "background", "composite", "real")

    def __init__(self) -> None:
        super().__init__()
        for name in (*self._names, "area", "binarity", "count"):
            self.add_state(name, torch.tensor(0.0), dist_reduce_fx="sum")
        self.count: Tensor

    def update(self, method: LayerScoring, real: Tensor, seed: int) -> None:
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
        """`score/<layer>`, `leakage/<layer>`, `mask/area` and `mask/greyness`.

        Leakage is how much more real a layer looks alone than the composite: below 0 while the
        discriminator misses the other layer.
        """
        values = {f"score/{name}": getattr(self, name) for name in self._names}
        for name in ("background", "foreground"):
            values[f"leakage/{name}"] = values[f"score/{name}"] - values["score/composite"]
        values |= {"mask/area": self.area, "mask/greyness": self.binarity}
        return {name: value / self.count for name, value in values.items()}


class LayerScoring(Method):
    """A method that follows `LayerScores` in validation and tests.

    Args:
        resolution: Side S of the pictures.
        metrics: See `Method`.
    """

    latent_dim: int

    def __init__(self, resolution: int, *, metrics: Mapping[str, Metric | None] | None) -> None:
        super().__init__(metrics=metrics)
        self.statistics = RegionStatistics(2, resolution)
        self.layer_scores = LayerScores()

    @abstractmethod
    def draw(self, latent: Tensor, truncation: float = 1.0) -> LayeredPicture:
        """Layers of `latent` (B, D)."""

    @abstractmethod
    def score(self, image: Tensor) -> Tensor:
        """How real pictures (B, 3, S, S) look: (B,), larger for more real."""

    def log_masks(self, masks: Tensor) -> None:
        """Follow and log areas under `masks` (B, 1, S, S) of a training batch."""
        self.statistics.update(torch.cat([1 - masks, masks], dim=1))
        self.log("train/area/foreground", masks.mean())

    def _update_scores(self, stage: str, batch: Batch) -> None:
        super()._update_scores(stage, batch)
        # The same latents at each validation, and others for each batch and process.
        seed = self._num_scored[stage] * self.trainer.world_size + self.global_rank
        self.layer_scores.update(self, batch.image, seed)

    def _log_scores(self, stage: str) -> None:
        super()._log_scores(stage)
        decide = self.trainer.strategy.reduce_boolean_decision
        if decide(self.layer_scores.update_called, all=False):
            values = self.layer_scores.compute()
            self.log_dict({f"{stage}/{name}": value for name, value in values.items()})
            self.layer_scores.reset()
