"""Scores of clusters against classes: accuracy under a matching, and mutual information."""

from __future__ import annotations

from typing import Any, Literal

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.clustering import normalized_mutual_info_score

from figureground.core.bounds import PositiveInt

Matching = Literal["auto", "one_to_one", "majority", "equal_share"]

_EPSILON = 1e-6  # In the logarithms of `nmi/max`, as published.


class ClusteringScores(Metric):
    """Accuracy, normalised mutual information and purity of a clustering.

    Clusters are matched to classes by one of these rules:

    - `one_to_one`: Hungarian algorithm; clusters that are left over belong to no class.
    - `equal_share`: the same where each class gets K / N clusters, C3-GAN's and L2IC's rule for
      over-clustering.
    - `majority`: every cluster goes to the class it holds most of, the first of equals.
    - `auto`: `one_to_one` for as many clusters as classes, otherwise `majority`.

    Args:
        num_clusters: K.
        num_classes: N.
        matching: Rule by which `acc` is counted.
        ignore_beyond: Leave out pictures of classes from N on instead of refusing them. L2IC's
            scores of dogs, whose labels begin at 1 there, lose the last breed so.
    """

    full_state_update = False
    confusion: Tensor

    def __init__(
        self,
        num_clusters: PositiveInt,
        num_classes: PositiveInt,
        matching: Matching = "auto",
        ignore_beyond: bool = False,
    ) -> None:
        super().__init__()
        if problems := self.check_options(num_clusters, num_classes, matching):
            raise ValueError("; ".join(problems))
        self.num_clusters, self.matching = num_clusters, matching
        self.ignore_beyond = ignore_beyond
        self.add_state(
            "confusion",
            torch.zeros(num_classes, num_clusters, dtype=torch.long),
            dist_reduce_fx="sum",
        )

    @staticmethod
    def check_options(
        num_clusters: int, num_classes: int, matching: str, **others: Any
    ) -> list[str]:
        """Problems of options that are fine one by one but not together."""
        if matching == "equal_share" and num_clusters % num_classes:
            return [
                f"matching=equal_share gives each of num_classes={num_classes} as many clusters, "
                f"but num_clusters={num_clusters} is no multiple of it; use one_to_one or majority"
            ]
        return []

    def update(self, cluster: Tensor, label: Tensor) -> None:
        """Take in clusters and classes, int64 (B,) each.

        Raises:
            ValueError: A number is out of range.
        """
        num_classes, num_clusters = self.confusion.shape
        if self.ignore_beyond:
            cluster, label = cluster[label < num_classes], label[label < num_classes]
        for name, values, count in (
            ("clusters", cluster, num_clusters),
            ("classes", label, num_classes),
        ):
            if len(values) and not 0 <= int(values.min()) <= int(values.max()) < count:
                raise ValueError(
                    f"{name} go up to {int(values.max())}, expected at most {count - 1}; set "
                    f"method.metrics.clustering.num_{name}"
                )
        codes = label.long() * num_clusters + cluster.long()
        counts = torch.bincount(codes, minlength=self.confusion.numel())
        self.confusion += counts.view_as(self.confusion)

    def compute(self) -> dict[str, Tensor]:
        """Scores of everything taken in.

        `acc`, `acc/class` (mean over classes that occur), `acc/one_to_one`, `purity` (`acc` by
        majority), `nmi` (by the mean of both entropies), `nmi/max` (by the larger one, with
        logarithms as L2IC's authors have them), and `clusters` in use.
        """
        confusion = self.confusion
        hits = self._match(confusion)
        totals = confusion.sum(dim=1)
        present = totals > 0
        return {
            "acc": hits.sum() / totals.sum(),
            "acc/class": (hits[present] / totals[present]).mean(),
            "acc/one_to_one": _match_equally(confusion, 1).sum() / totals.sum(),
            "purity": _match_by_majority(confusion).sum() / totals.sum(),
            "nmi": _mutual_information(confusion),
            "nmi/max": _information_over_larger(confusion),
            "clusters": (confusion.sum(dim=0) > 0).sum().float(),
        }

    def _match(self, confusion: Tensor) -> Tensor:
        """Pictures of each class (N,) that are in clusters of this class."""
        num_classes, num_clusters = confusion.shape
        if self.matching == "equal_share":
            return _match_equally(confusion, num_clusters // num_classes)
        is_square = num_classes == num_clusters
        if self.matching == "one_to_one" or (self.matching == "auto" and is_square):
            return _match_equally(confusion, 1)
        return _match_by_majority(confusion)


def _match_equally(confusion: Tensor, share: int) -> Tensor:
    """Hits (N,) of the best matching that gives each class `share` clusters at most."""
    repeated = confusion.repeat_interleave(share, dim=0)
    rows, columns = linear_sum_assignment(repeated.cpu().numpy(), maximize=True)
    rows, columns = (torch.from_numpy(index).to(confusion.device) for index in (rows, columns))
    hits = repeated[rows, columns]
    return torch.zeros_like(confusion[:, 0]).index_add(0, rows // share, hits)


def _match_by_majority(confusion: Tensor) -> Tensor:
    """Hits (N,) where each cluster belongs to the class it holds most of."""
    best, owner = confusion.max(dim=0).values, confusion.argmax(dim=0)
    return torch.zeros_like(confusion[:, 0]).index_add(0, owner, best)


def _information_over_larger(confusion: Tensor) -> Tensor:
    """Mutual information in bits over the larger entropy, with 1e-6 within each logarithm."""
    # Apple's devices have no float64.
    p = confusion.to(torch.float64 if confusion.device.type != "mps" else torch.float32)
    p = p / p.sum().clamp(min=1)
    classes, clusters = p.sum(dim=1, keepdim=True), p.sum(dim=0, keepdim=True)
    information = (p * (p / (classes * clusters + _EPSILON) + _EPSILON).log2()).sum()
    larger = max(-(q * (q + _EPSILON).log2()).sum() for q in (classes, clusters))
    return (information / larger.clamp(min=_EPSILON)).float()


def _mutual_information(confusion: Tensor) -> Tensor:
    """Normalised mutual information of the labels that a table counts."""
    label, cluster = confusion.nonzero(as_tuple=True)
    counts = confusion[label, cluster]
    labels = (cluster.repeat_interleave(counts), label.repeat_interleave(counts))
    # torch warns where this is left open.
    with torch.sparse.check_sparse_tensor_invariants(enable=False):  # type: ignore[no-untyped-call]
        return normalized_mutual_info_score(*labels, "arithmetic")
