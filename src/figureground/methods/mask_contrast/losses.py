"""MaskContrast's objective: pixels against the mean pixels of objects, and objects against ground.

With z_i the embedding of pixel i, of length one, in the first view of a picture with the object M:

- z_M = normalise(sum of z_j over the pixels j of M in the second view)      `object_keys`
- -log exp(z_i.z_M / T) / (exp(z_i.z_M / T) + sum_k exp(z_i.z_k / T))        `contrast_pixels`
- HED's class-balanced binary cross-entropy of objects against ground        `balanced_entropy`
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from figureground.core.types import VOID
from figureground.nn.precision import widen

#: Who z_i is held against besides its own z_M: those of the queue, or of the batch as well.
Negatives = Literal["queue", "all"]
#: How pixels count: each alike, or those of objects with many of them less.
Weighting = Literal["pixels", "frequency"]

_LEAST_LOG = 1.02  # E-Net's (Paszke et al. 2016): weights stay below 1 / log(1.02) = 50.5.


def object_keys(embedding: Tensor, mask: Tensor) -> Tensor:
    """Mean embedding of each object, of length one.

    Args:
        embedding: (B, D, H, W), each pixel's of length one.
        mask: Objects, (B, H, W), 0, 1 or void, which is no object.

    Returns:
        (B, D); zeros where there is no object.
    """
    summed = (embedding * (mask == 1).unsqueeze(1)).sum(dim=(2, 3))
    return F.normalize(summed, dim=1)


def contrast_pixels(
    query: Tensor,
    owner: Tensor,
    keys: Tensor,
    queue: Tensor,
    *,
    temperature: float,
    negatives: Negatives = "queue",
    weighting: Weighting = "pixels",
) -> Tensor:
    """Mean contrastive loss of the pixels of objects.

    Args:
        query: Embeddings z_i of length one, (N, D).
        owner: Which of `keys` is the z_M of each, (N,) int64.
        keys: (B, D), of length one.
        queue: Those of other pictures, (K, D), of length one.
        temperature: T.
        negatives: Denominators hold z_M and the queue, or the other keys too (`all`).
        weighting: `frequency` weighs pixels by 1 / log(1.02 + p), p the share of all pixels that
            are their object's.

    Returns:
        Scalar; 0 without a pixel.
    """
    if len(query) == 0:
        return query.sum()
    own = query @ keys.T  # (N, B)
    if negatives == "all":
        target = owner
    else:
        own, target = own.gather(1, owner[:, None]), torch.zeros_like(owner)
    logits = torch.cat([own, query @ queue.T], dim=1) / temperature
    each = F.cross_entropy(logits, target, reduction="none")
    if weighting == "pixels":
        return each.mean()
    share = torch.bincount(owner, minlength=len(keys)).to(each) / len(owner)
    weight = 1 / (_LEAST_LOG + share).log()
    return (weight[owner] * each).sum() / weight[owner].sum()


def balanced_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy in which objects and ground weigh alike (Xie and Tu 2015, HED).

    Pixels of objects count by the share of ground in the batch, those of ground by that of objects,
    void ones not at all.

    Args:
        logits: (B, H, W).
        mask: Objects, (B, H, W), 0, 1 or void.

    Returns:
        Scalar; 0 where all is void.
    """
    logits, mask = widen(logits), widen(mask)
    labelled = mask != VOID
    count = labelled.sum().clamp(min=1)
    mask = mask.masked_fill(~labelled, 0)
    ground = 1 - mask.sum() / count
    weight = (ground * mask + (1 - ground) * (1 - mask)) * labelled
    entropy = F.binary_cross_entropy_with_logits(logits, mask, weight=weight, reduction="sum")
    return entropy / count
