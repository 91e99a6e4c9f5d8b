"""What is followed of a GAN in validation, without labels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor
from torchmetrics import Metric

from figureground.core.method import Method
from figureground.core.types import Batch


class DrawnScores(Metric):
    """How real drawn and real pictures look to the discriminator, and how much each kind varies.

    Variety is the variance of a pixel's colour over pictures, averaged over the picture: where that
    of drawn pictures falls far below that of real ones, the generator has collapsed.
    """

    full_state_update = False
    _kinds = ("drawn", "real")

    def __init__(self) -> None:
        super().__init__()
        for kind in self._kinds:
            self.add_state(f"score_{kind}", torch.tensor(0.0), dist_reduce_fx="sum")
            for moment in ("sum", "square"):
                self.add_state(f"{moment}_{kind}", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0.0), dist_reduce_fx="sum")
        self.count: Tensor

    def update(self, method: PictureScoring, real: Tensor, seed: int) -> None:
        """Take in as many new pictures as there are in `real` (B, 3, S, S), drawn from `seed`."""
        own = torch.Generator().manual_seed(seed)
        drawn = method.draw(torch.randn(len(real), method.latent_dim, generator=own))
        for kind, image in zip(self._kinds, (drawn, real), strict=True):
            self._add(f"score_{kind}", method.score(image).sum())
            self._add(f"sum_{kind}", image.sum(dim=0))
            self._add(f"square_{kind}", image.square().sum(dim=0))
        self.count += len(real)

    def compute(self) -> dict[str, Tensor]:
        """`score/drawn`, `score/real`, and `variety`: that of drawn over that of real pictures."""
        found = {f"score/{k}": getattr(self, f"score_{k}") / self.count for k in self._kinds}
        drawn, real = (self._variance(kind).mean() for kind in self._kinds)
        return {**found, "variety": drawn / real.clamp(min=1e-12)}

    def _add(self, name: str, value: Tensor) -> None:
        setattr(self, name, getattr(self, name) + value.to(self.count))

    def _variance(self, kind: str) -> Tensor:
        mean: Tensor = getattr(self, f"sum_{kind}") / self.count
        square: Tensor = getattr(self, f"square_{kind}") / self.count
        return (square - mean.square()).clamp(min=0)


class PictureScoring(Method):
    """A method that follows `DrawnScores` in validation and tests.

    Args:
        metrics: See `Method`.
    """

    latent_dim: int

    def __init__(self, *, metrics: Mapping[str, Metric | None] | None) -> None:
        super().__init__(metrics=metrics)
        self.drawn_scores = DrawnScores()

    @abstractmethod
    def draw(self, latent: Tensor, truncation: float = 1.0) -> Tensor:
        """Pictures (B, 3, S, S) of `latent` (B, D)."""

    @abstractmethod
    def score(self, image: Tensor) -> Tensor:
        """How real pictures (B, 3, S, S) look: (B,), larger for more real."""

    def _update_scores(self, stage: str, batch: Batch) -> None:
        super()._update_scores(stage, batch)
        # The same latents at each validation, and others for each batch and process.
        seed = self._num_scored[stage] * self.trainer.world_size + self.global_rank
        self.drawn_scores.update(self, batch.image, seed)

    def _log_scores(self, stage: str) -> None:
        super()._log_scores(stage)
        decide = self.trainer.strategy.reduce_boolean_decision
        if decide(self.drawn_scores.update_called, all=False):
            values = self.drawn_scores.compute()
            self.log_dict({f"{stage}/{name}": value for name, value in values.items()})
            self.drawn_scores.reset()
