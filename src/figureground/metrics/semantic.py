"""Clusters of objects against classes of pixels: K-means, Hungarian matching, mean IoU.

The protocol of MaskContrast (Van Gansbeke et al., "Unsupervised Semantic Segmentation by
Contrasting Object Mask Proposals", ICCV 2021), which gan-segmenter's table of PASCAL VOC follows:

- e = normalise(sum of m_u f_u), of an object with mask m and features f   `describe_object`
- PCA with whitening, then K-means of all e                               `whiten`, `cluster`
- each cluster, and the background, belongs to one class: the matching
  with the largest sum of IoU over the pixels of all pictures             `match_regions`
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy.cluster.vq import kmeans2
from scipy.optimize import linear_sum_assignment
from torch import Tensor

_SMALLEST = 1e-12  # Of variances and of counts that are divided by.


def describe_object(features: Tensor, mask: Tensor) -> Tensor | None:
    """Mean feature of an object, of length one.

    Args:
        features: (D, h, w).
        mask: Object, (H, W) bool; cells of features count by their share of it.

    Returns:
        (D,), or None of an empty mask.
    """
    if not mask.any():
        return None
    size = (int(features.shape[1]), int(features.shape[2]))
    share = F.interpolate(mask[None, None].to(features), size, mode="bilinear", antialias=True)
    summed = (features * share[0]).sum(dim=(1, 2))
    return F.normalize(summed, dim=0)


def whiten(vectors: Tensor, components: int) -> Tensor:
    """Principal components of (N, D), each with variance one; as many as there are of `components`.

    Args:
        vectors: (N, D).
        components: Largest number of them; 0 leaves the vectors as they are.
    """
    if not components or len(vectors) < 2:
        return vectors
    centred = vectors.double() - vectors.double().mean(dim=0)
    left, values, _ = torch.linalg.svd(centred, full_matrices=False)
    kept = values[:components] > _SMALLEST * values[0].clamp(min=_SMALLEST)
    scaled = left[:, :components][:, kept] * (len(vectors) - 1) ** 0.5
    return torch.as_tensor(scaled, dtype=vectors.dtype)


def cluster(vectors: Tensor, num_clusters: int, seed: int, tries: int = 10) -> Tensor:
    """K-means of (N, D) from several first centres, drawn as in K-means++; the tightest one.

    Args:
        vectors: (N, D).
        num_clusters: K; at most N are used.
        seed: Of the first centres.
        tries: How many.

    Returns:
        Clusters (N,) int64.
    """
    points = vectors.double().cpu().numpy()
    chance, best, least = np.random.default_rng(seed), None, np.inf
    for _ in range(tries):
        with warnings.catch_warnings():
            # A cluster that loses its points stays where it was.
            warnings.filterwarnings("ignore", message=".*clusters is empty")
            centres, found = kmeans2(
                points, min(num_clusters, len(points)), iter=50, minit="++", seed=chance
            )
        spread = float(((points - centres[found]) ** 2).sum())
        if best is None or spread < least:
            best, least = found, spread
    return torch.from_numpy(np.asarray(best, np.int64))


def match_regions(confusion: Tensor) -> npt.NDArray[np.int64]:
    """Class of each region, by the largest sum of IoU; -1 of regions that are left over.

    Args:
        confusion: Pixels of each region and class, (R, C).

    Returns:
        (R,).
    """
    iou = _overlap(confusion.double())
    rows, columns = linear_sum_assignment(iou.cpu().numpy(), maximize=True)
    classes = np.full(len(confusion), -1, np.int64)
    classes[rows] = columns
    return classes


def score_regions(confusion: Tensor, names: Sequence[str]) -> dict[str, float]:
    """Scores of regions under `match_regions`.

    Args:
        confusion: Pixels of each region (background, then clusters) and class (background, then
            those of `names`), (R, 1 + C).
        names: Of the classes.

    Returns:
        `miou`, the mean over classes; `miou/ground`, with background as one of them, which
        MaskContrast reports; `acc` of pixels; and `iou/<name>`. Classes without a pixel count 0.
    """
    confusion = confusion.double()
    owners = match_regions(confusion)
    found = torch.zeros(confusion.shape[1], confusion.shape[1], dtype=torch.float64)
    left_over = torch.zeros(confusion.shape[1], dtype=torch.float64)
    for region, owner in enumerate(owners):
        if owner >= 0:
            found[owner] += confusion[region]
        else:
            left_over += confusion[region]
    hits = found.diag()
    union = found.sum(dim=1) + found.sum(dim=0) + left_over - hits
    iou = hits / union.clamp(min=1)
    scores = {
        "miou": float(iou[1:].mean()),
        "miou/ground": float(iou.mean()),
        "acc": float(hits.sum() / confusion.sum().clamp(min=1)),
    }
    return scores | {
        f"iou/{name}": float(value) for name, value in zip(names, iou[1:], strict=True)
    }


def _overlap(confusion: Tensor) -> Tensor:
    """IoU of each region with each class, (R, C)."""
    union = confusion.sum(dim=1, keepdim=True) + confusion.sum(dim=0, keepdim=True) - confusion
    return confusion / union.clamp(min=1)
