"""Scores of pictures taken apart into objects: adjusted Rand index, and classes of pixels.

ARI compares two partitions of pixels and asks for no names: rows of its table are true objects,
columns found ones. It is averaged over pictures. `ari/fg` looks at pixels of true objects only.
Void pixels of the truth are in no table; pictures that are all void are in no mean.
"""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchmetrics import Metric

from figureground.core.bounds import PositiveInt
from figureground.metrics.void import cut_void


class ObjectScores(Metric):
    """ARI, ARI of the foreground, and IoU of instances.

    Labels are index maps of any values below `num_labels`, 0 = background; true ones may be void.

    Args:
        num_labels: More than any object number.
    """

    full_state_update = False
    ari: Tensor
    ari_foreground: Tensor
    iou: Tensor
    count: Tensor

    def __init__(self, num_labels: PositiveInt = 16) -> None:
        super().__init__()
        self.num_labels = num_labels
        for name in ("ari", "ari_foreground", "iou", "count"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, found: Tensor, filled: Tensor, truth: Tensor) -> None:
        """Take in a batch of maps, int64 (B, H, W) each.

        Args:
            found: Objects found, 0 where none is.
            filled: The same with every pixel given to some object, for `ari/fg`.
            truth: True objects.
        """
        for own_found, own_filled, own_truth in cut_void(truth, found, filled, truth):
            table = count_pairs(own_truth, own_found, self.num_labels)
            self.ari += adjusted_rand_index(table).sum()
            inside = count_pairs(own_truth, own_filled, self.num_labels)
            inside[:, 0] = 0  # pixels of the true background
            self.ari_foreground += adjusted_rand_index(inside).sum()
            self.iou += _instance_iou(table).sum()
            self.count += len(table)

    def compute(self) -> dict[str, Tensor]:
        """`ari`, `ari/fg`, `miou/instance`; nothing where all was void."""
        if not self.count:
            return {}
        return {
            "ari": self.ari / self.count,
            "ari/fg": self.ari_foreground / self.count,
            "miou/instance": self.iou / self.count,
        }


class PartitionScores(Metric):
    """ARI and segmentation covering (MSC) as DRC and ILSGAN count them: by batches.

    The covering of a picture is the mean over true segments, background included, of the IoU with
    the found segment that overlaps it best (Arbelaez et al. 2011; `msc/scaled` weighs segments by
    their sizes). `/batch` depends on the batch size: it is there to compare with published figures.

    Args:
        num_labels: More than any segment's number; true objects from there on count as the last.
    """

    full_state_update = False
    ari: Tensor
    covering: Tensor
    covering_of_batches: Tensor
    scaled: Tensor
    count: Tensor
    batches: Tensor

    def __init__(self, num_labels: PositiveInt = 2) -> None:
        super().__init__()
        self.num_labels = num_labels
        for name in ("ari", "covering", "covering_of_batches", "scaled", "count", "batches"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, found: Tensor, truth: Tensor) -> None:
        """Take in a batch of maps, int64 (B, H, W) each; true ones may be void."""
        last = truth.clamp(max=self.num_labels - 1)
        tables = [count_pairs(t, f, self.num_labels) for t, f in cut_void(truth, last, found)]
        if not tables:
            return
        table = torch.cat(tables)
        # All pixels of the batch are one table, as if it were one picture.
        self.ari += adjusted_rand_index(table.sum(dim=0, keepdim=True)).sum()
        covering, scaled = segmentation_covering(table)
        self.covering += covering.sum()
        self.covering_of_batches += covering.mean()
        self.scaled += scaled.sum()
        self.count += len(table)
        self.batches += 1

    def compute(self) -> dict[str, Tensor]:
        """`ari/batch`, `msc/batch`, and per picture `msc` and `msc/scaled`; nothing of void."""
        if not self.count:
            return {}
        return {
            "ari/batch": self.ari / self.batches,
            "msc/batch": self.covering_of_batches / self.batches,
            "msc": self.covering / self.count,
            "msc/scaled": self.scaled / self.count,
        }


class PixelClassScores(Metric):
    """Accuracy and IoU of classes of pixels, over the whole set, under the best matching.

    Found classes are matched to true ones one to one such that most pixels agree.

    Args:
        num_classes: Classes, the background included.
    """

    full_state_update = False
    confusion: Tensor

    def __init__(self, num_classes: PositiveInt) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.add_state(
            "confusion",
            torch.zeros(num_classes, num_classes, dtype=torch.float64),
            dist_reduce_fx="sum",
        )

    def update(self, found: Tensor, truth: Tensor) -> None:
        """Take in maps of classes, int64 (B, H, W) each, 0 = background; true ones may be void."""
        for own_truth, own_found in cut_void(truth, truth, found):
            self.confusion += count_pairs(own_truth, own_found, self.num_classes).sum(dim=0)

    def compute(self) -> dict[str, Tensor]:
        """`acc`, `macc`, `miou`, and the same under `/fg` without background row and column.

        Nothing where all was void.
        """
        if not self.confusion.any():
            return {}
        scores = _score_classes(self.confusion)
        inner = _score_classes(self.confusion[1:, 1:])
        return scores | {f"{name}/fg": value for name, value in inner.items()}


def count_pairs(truth: Tensor, found: Tensor, num_labels: int) -> Tensor:
    """Pixels of each (true, found) pair of labels in each picture, (B, N, N) float64."""
    highest = int(torch.maximum(truth.max(), found.max()))
    if highest >= num_labels:
        raise ValueError(f"label {highest} is out of range, expected less than {num_labels}")
    offset = torch.arange(len(truth), device=truth.device).view(-1, 1) * num_labels**2
    codes = (truth * num_labels + found).flatten(1) + offset
    counts = torch.bincount(codes.flatten(), minlength=len(truth) * num_labels**2)
    return counts.view(len(truth), num_labels, num_labels).double()


def adjusted_rand_index(table: Tensor) -> Tensor:
    """ARI (B,) of tables (B, N, M) (Hubert and Arabie 1985); 1 if both partitions are trivial."""
    pairs = _pairs(table).sum(dim=(1, 2))
    rows, columns = _pairs(table.sum(dim=2)).sum(dim=1), _pairs(table.sum(dim=1)).sum(dim=1)
    expected = rows * columns / _pairs(table.sum(dim=(1, 2))).clamp(min=1)
    spread = (rows + columns) / 2 - expected
    score = (pairs - expected) / torch.where(spread == 0, 1, spread)
    return torch.where(spread == 0, torch.ones_like(score), score)


def segmentation_covering(table: Tensor) -> tuple[Tensor, Tensor]:
    """Best IoU of true segments in tables (B, N, M): mean, and weighed by size; (B,) each."""
    size = table.sum(dim=2)
    union = size.unsqueeze(2) + table.sum(dim=1, keepdim=True) - table
    best = (table / union.clamp(min=1)).amax(dim=2)
    return best.sum(dim=1) / (size > 0).sum(dim=1), (best * size).sum(dim=1) / size.sum(dim=1)


def _pairs(count: Tensor) -> Tensor:
    return count * (count - 1) / 2


def _instance_iou(table: Tensor) -> Tensor:
    """Mean IoU (B,) over true objects, each matched to one found object; 1 without any."""
    union = table.sum(dim=2, keepdim=True) + table.sum(dim=1, keepdim=True) - table
    iou = (table / union.clamp(min=1))[:, 1:, 1:]
    present = table.sum(dim=2)[:, 1:] > 0
    scores = torch.ones(len(table), dtype=table.dtype, device=table.device)
    for number, (scored, exists) in enumerate(zip(iou, present, strict=True)):
        if exists.any():
            rows, columns = linear_sum_assignment(scored[exists].cpu().numpy(), maximize=True)
            scores[number] = scored[exists][rows, columns].sum() / exists.sum()
    return scores


def _score_classes(confusion: Tensor) -> dict[str, Tensor]:
    _, columns = linear_sum_assignment(confusion.cpu().numpy(), maximize=True)
    matched = confusion[:, torch.as_tensor(columns, device=confusion.device)]
    hits, rows = matched.diagonal(), matched.sum(dim=1)
    union = rows + matched.sum(dim=0) - hits
    return {
        "acc": hits.sum() / matched.sum(),
        "macc": (hits / rows).nanmean(),  # Of the classes that occur.
        "miou": torch.nan_to_num(hits / union).mean(),
    }
