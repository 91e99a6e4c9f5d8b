"""Scores of clusters against classes: accuracy under a matching, and mutual information."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.clustering import normalized_mutual_info_score

from figureground.core.bounds import PositiveInt


class ClusteringScores(Metric):
    """Accuracy and normalised mutual information of a clustering.

    As many clusters as classes are matched one to one (Hungarian algorithm); otherwise every
    cluster goes to the class it holds most of, the first of equals.

    Args:
        num_clusters: K.
        num_classes: N.
    """

    full_state_update = False
    confusion: Tensor

    def __init__(self, num_clusters: PositiveInt, num_classes: PositiveInt) -> None:
        super().__init__()
        self.num_clusters = num_clusters
        self.add_state(
            "confusion",
            torch.zeros(num_classes, num_clusters, dtype=torch.long),
            dist_reduce_fx="sum",
        )

    def update(self, cluster: Tensor, label: Tensor) -> None:
        """Take in clusters and classes, int64 (B,) each.

        Raises:
            ValueError: A number is out of range.
        """
        num_classes, num_clusters = self.confusion.shape
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
        """`acc`, `acc/class` (mean over classes that occur), `nmi`, and `clusters` in use."""
        confusion = self.confusion
        hits = self._match(confusion)
        totals = confusion.sum(dim=1)
        present = totals > 0
        return {
            "acc": hits.sum() / totals.sum(),
            "acc/class": (hits[present] / totals[present]).mean(),
            "nmi": _mutual_information(confusion),
            "clusters": (confusion.sum(dim=0) > 0).sum().float(),
        }

    def _match(self, confusion: Tensor) -> Tensor:
        """Pictures of each class (N,) that are in clusters of this class."""
        num_classes, num_clusters = confusion.shape
        if num_classes == num_clusters:
            rows, columns = linear_sum_assignment(confusion.cpu().numpy(), maximize=True)
            return confusion[rows, columns]
        owner = confusion.argmax(dim=0)
        best = confusion.gather(0, owner.unsqueeze(0)).squeeze(0)
        return torch.zeros_like(confusion[:, 0]).index_add(0, owner, best)


def _mutual_information(confusion: Tensor) -> Tensor:
    """Normalised mutual information of the labels that a table counts."""
    label, cluster = confusion.nonzero(as_tuple=True)
    counts = confusion[label, cluster]
    labels = (cluster.repeat_interleave(counts), label.repeat_interleave(counts))
    # torch warns where this is left open.
    with torch.sparse.check_sparse_tensor_invariants(enable=False):  # type: ignore[no-untyped-call]
        return normalized_mutual_info_score(*labels, "arithmetic")
