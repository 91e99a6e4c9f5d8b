"""Scores of drawn pictures against real ones, all from the features of one pass.

Every part takes features, not pictures, so one pass of a network (`metrics/features.py`) feeds all:

- `FrechetDistance`: FID (Heusel et al. 2017), covariances divided by n as StyleGAN2-ADA does.
- `KernelDistance`: KID (Binkowski et al. 2018), the mean over seeded subsets.
- `InceptionScore`: IS (Salimans et al. 2016).
- `PrecisionRecall`: Kynkaanniemi et al. 2019.
- `PathLength`: PPL (Karras et al. 2019), from distances between near pictures.

torchmetrics has the first three with other covariances, subsets and splits, so other numbers.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from figureground.core.bounds import Bounds, Count, PositiveFloat, PositiveInt
from figureground.metrics.features import Features

SubsetSize = Annotated[int, Bounds(2, 10**6)]

_CHUNK = 1024  # Rows of a table of distances that are in memory at once.
_TAIL = 0.01  # Share of path lengths that is dropped at either end.


class FrechetDistance(Metric):
    """Distance of two Gaussians fitted to features: |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)).

    Args:
        num_features: D.
        correction: Covariances are divided by n less this.
    """

    full_state_update = False
    counts: Tensor
    sums: Tensor
    products: Tensor

    def __init__(self, num_features: PositiveInt, correction: Count = 0) -> None:
        super().__init__()
        self.correction = correction
        # First row: drawn, second row: real.
        for name, size in (("counts", ()), ("sums", (num_features,))):
            zeros = torch.zeros((2, *size), dtype=torch.float64)
            self.add_state(name, zeros, dist_reduce_fx="sum")
        zeros = torch.zeros(2, num_features, num_features, dtype=torch.float64)
        self.add_state("products", zeros, dist_reduce_fx="sum")

    def update(self, features: Tensor, real: bool) -> None:
        """Take in features (B, D) of drawn or real pictures."""
        rows = features.double()
        self.counts[int(real)] += len(rows)
        self.sums[int(real)] += rows.sum(dim=0)
        self.products[int(real)] += rows.T @ rows

    def compute(self) -> Tensor:
        """The distance; NaN while one of the sets is too small."""
        if bool((self.counts <= self.correction).any()):
            return self.sums.new_full((), float("nan"))
        means = self.sums / self.counts.unsqueeze(1)
        covariances = self.products / self.counts.view(2, 1, 1)
        covariances = covariances - means.unsqueeze(2) * means.unsqueeze(1)
        covariances *= (self.counts / (self.counts - self.correction)).view(2, 1, 1)
        # tr (C C')^(1/2) is that of the symmetric (R C' R)^(1/2) with R R = C: no complex numbers.
        values, vectors = torch.linalg.eigh(covariances[0])
        root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
        mixed = torch.linalg.eigvalsh(root @ covariances[1] @ root).clamp(min=0).sqrt().sum()
        traces = covariances.diagonal(dim1=1, dim2=2).sum()
        distance: Tensor = (means[0] - means[1]).square().sum() + traces - 2 * mixed
        return distance


class KernelDistance(Metric):
    """Unbiased squared MMD of features under the kernel (x.y / D + 1)^3.

    Args:
        num_subsets: Subsets that are averaged over.
        subset_size: Pictures of each kind in a subset, at most.
        seed: Of the choice of subsets.
    """

    full_state_update = False
    drawn: list[Tensor]
    real: list[Tensor]

    def __init__(
        self, num_subsets: PositiveInt = 20, subset_size: SubsetSize = 1000, seed: Count = 0
    ) -> None:
        super().__init__()
        self.num_subsets, self.subset_size, self.seed = num_subsets, subset_size, seed
        _add_rows(self, "drawn", "real")

    def update(self, features: Tensor, real: bool) -> None:
        """Take in features (B, D) of drawn or real pictures."""
        (self.real if real else self.drawn).append(features)

    def compute(self) -> Tensor:
        """The distance; NaN while one of the sets has less than two pictures."""
        drawn, real = (_stack(rows, self.device) for rows in (self.drawn, self.real))
        size = min(len(drawn), len(real), self.subset_size)
        if size < 2:
            return torch.full((), float("nan"), device=self.device)
        # Of the old kind, and drawn pictures first: the subsets of StyleGAN2-ADA under this seed.
        rng = np.random.RandomState(self.seed)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for _ in range(self.num_subsets):
            x, y = (_pick(rng, rows, size) for rows in (drawn, real))
            inner = _kernel(x, x) + _kernel(y, y)
            total += (inner.sum() - inner.trace()) / (size - 1) - 2 * _kernel(x, y).sum() / size
        return total / self.num_subsets / size


class InceptionScore(Metric):
    """exp of the mean KL divergence of class probabilities from their mean, in parts of the set.

    Args:
        num_splits: Parts, cut in the order of drawing.
    """

    full_state_update = False
    probabilities: list[Tensor]

    def __init__(self, num_splits: PositiveInt = 10) -> None:
        super().__init__()
        self.num_splits = num_splits
        _add_rows(self, "probabilities")

    def update(self, probabilities: Tensor) -> None:
        """Take in class probabilities (B, N) of drawn pictures."""
        self.probabilities.append(probabilities)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (dividing by the number of parts) over the parts."""
        rows = _stack(self.probabilities, self.device).double()
        borders = [number * len(rows) // self.num_splits for number in range(self.num_splits + 1)]
        scores = []
        for first, last in pairwise(borders):
            part = rows[first:last]
            divergence = torch.xlogy(part, part) - torch.xlogy(part, part.mean(dim=0))
            scores.append(divergence.sum(dim=1).mean().exp())
        found = torch.stack(scores)
        return found.mean(), found.std(correction=0)


class PrecisionRecall(Metric):
    """Share of drawn pictures among the real ones (precision) and the reverse (recall).

    A picture is among others if it is no further from one of them than that one's k-th neighbour.

    Args:
        num_neighbors: k.
    """

    full_state_update = False
    drawn: list[Tensor]
    real: list[Tensor]

    def __init__(self, num_neighbors: PositiveInt = 3) -> None:
        super().__init__()
        self.num_neighbors = num_neighbors
        _add_rows(self, "drawn", "real")

    def update(self, features: Tensor, real: bool) -> None:
        """Take in features (B, D) of drawn or real pictures."""
        (self.real if real else self.drawn).append(features)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Precision and recall; NaN while a set has no more than k pictures."""
        drawn, real = (_stack(rows, self.device) for rows in (self.drawn, self.real))
        if min(len(drawn), len(real)) <= self.num_neighbors:
            nothing = torch.full((), float("nan"), device=self.device)
            return nothing, nothing
        return self._share(drawn, real), self._share(real, drawn)

    def _share(self, probes: Tensor, others: Tensor) -> Tensor:
        """Share of `probes` that lie among `others`."""
        nearest = [
            # The first neighbour of each is itself.
            torch.cdist(part, others).kthvalue(self.num_neighbors + 1, dim=1).values
            for part in torch.split(others, _CHUNK)
        ]
        radii = torch.cat(nearest)
        inside = [
            (torch.cdist(part, others) <= radii).any(dim=1) for part in torch.split(probes, _CHUNK)
        ]
        return torch.cat(inside).float().mean()


class PathLength(Metric):
    """Mean squared rate at which pictures change along paths between latents, without its tails.

    Args:
        step: Length epsilon of the steps, as a share of a path.
    """

    full_state_update = False
    lengths: list[Tensor]

    def __init__(self, step: PositiveFloat = 1e-4) -> None:
        super().__init__()
        self.step = step
        _add_rows(self, "lengths")

    def update(self, distance: Tensor) -> None:
        """Take in perceptual distances (B,) between pictures one step apart."""
        self.lengths.append(distance / self.step**2)

    def compute(self) -> Tensor:
        """Mean of the lengths from the first to the last percentile."""
        lengths = _stack(self.lengths, self.device).double()
        low = lengths.quantile(_TAIL, interpolation="lower")
        high = lengths.quantile(1 - _TAIL, interpolation="higher")
        return lengths[(lengths >= low) & (lengths <= high)].mean()


class GenerationScores(Metric):
    """All of the above but the path length, named by the network that gave the features.

    With Inception's features the ids are the published `fid`, `kid` and `is`; with any others the
    network's name is part of them. Precision and recall are always named so, because the published
    ones are of another network (VGG).

    Args:
        suffix: Name of the network; empty for Inception.
        num_features: D of `Features.pooled`.
        num_middle: E of `Features.middle`, for a second Frechet distance; 0 if there is none.
        num_subsets: Of the kernel distance.
        subset_size: Of the kernel distance.
        num_splits: Of the Inception score.
        num_neighbors: Of precision and recall.
        seed: Of the kernel distance.
    """

    full_state_update = False

    def __init__(
        self,
        suffix: str,
        num_features: PositiveInt,
        num_middle: Count = 0,
        num_subsets: PositiveInt = 20,
        subset_size: SubsetSize = 1000,
        num_splits: PositiveInt = 10,
        num_neighbors: PositiveInt = 3,
        seed: Count = 0,
    ) -> None:
        super().__init__()
        self.suffix = f"_{suffix}" if suffix else ""
        self.network = suffix or "inception"
        self.num_middle = num_middle
        self.frechet = FrechetDistance(num_features)
        self.frechet_middle = FrechetDistance(num_middle) if num_middle else None
        self.kernel = KernelDistance(num_subsets, subset_size, seed)
        self.inception = InceptionScore(num_splits)
        self.neighbors = PrecisionRecall(num_neighbors)

    def update(self, features: Features, real: bool) -> None:
        """Take in the features of drawn or real pictures; the latter need no `logits`."""
        for part in (self.frechet, self.kernel, self.neighbors):
            part.update(features.pooled, real)
        if self.frechet_middle is not None and features.middle is not None:
            self.frechet_middle.update(features.middle, real)
        if not real and features.logits is not None:
            self.inception.update(features.logits.softmax(dim=1))

    def compute(self) -> dict[str, Tensor]:
        """All scores by id."""
        mean, spread = self.inception.compute()
        precision, recall = self.neighbors.compute()
        scores = {
            f"fid{self.suffix}": self.frechet.compute(),
            f"kid{self.suffix}": self.kernel.compute(),
            f"is{self.suffix}": mean,
            f"is{self.suffix}/std": spread,
            f"precision_{self.network}": precision,
            f"recall_{self.network}": recall,
        }
        if self.frechet_middle is not None:
            scores[f"fid{self.suffix}_{self.num_middle}"] = self.frechet_middle.compute()
        return {name: value.float() for name, value in scores.items()}

    def reset(self) -> None:
        """Forget all pictures."""
        super().reset()
        for part in self.children():
            if isinstance(part, Metric):
                part.reset()


def _add_rows(metric: Metric, *names: str) -> None:
    for name in names:
        metric.add_state(name, [], dist_reduce_fx="cat")


def _stack(rows: list[Tensor] | Tensor, device: torch.device) -> Tensor:
    """All rows (N, ...); what has been gathered from several processes is one tensor already."""
    is_empty = isinstance(rows, list) and not rows
    return torch.zeros(0, device=device) if is_empty else dim_zero_cat(rows)


def _pick(rng: np.random.RandomState, rows: Tensor, size: int) -> Tensor:
    chosen = rng.choice(len(rows), size, replace=False)
    return rows[torch.from_numpy(chosen).to(rows.device)].double()


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


def squared_distance(maps: list[Tensor], others: list[Tensor]) -> Tensor:
    """Distance (B,) of two pictures by feature maps (B, C, H, W) of several depths.

    Channels are scaled to unit length at each place, as in LPIPS (Zhang et al. 2018), but not
    weighted by judgements of people.
    """
    total = []
    for one, other in zip(maps, others, strict=True):
        one, other = (nn.functional.normalize(each, dim=1, eps=1e-10) for each in (one, other))
        total.append((one - other).square().sum(dim=1).mean(dim=(1, 2)))
    return torch.stack(total).mean(dim=0)
