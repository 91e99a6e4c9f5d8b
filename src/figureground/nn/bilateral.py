"""Moves soft masks to the edges of their pictures: the bilateral solver (Barron and Poole, 2016).

It minimises  lambda / 2 sum_ij W_ij (x_i - x_j)^2 + sum_i c_i (x_i - t_i)^2  for a mask t with
confidences c, W being bistochastic and large between pixels alike in place and colour. Pixels are
put into cells of a grid over place, luma and chroma (S: from pixels to cells), where W is a blur B:

- n = sqrt(n m / B n), repeated, with m = S 1, makes W bistochastic       `_balance`
- (lambda (M - N B N) + diag(S c)) y = S (c t), by conjugate gradients    `_solve`
- x = S^T y, every pixel taking the value of its cell
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from torch import Tensor

_PLACE, _LUMA, _CHROMA = 8.0, 8.0, 4.0  # Sides of a cell: pixels, and grey levels of 255.
_SMOOTHNESS = 16.0  # lambda.
_LEAST_CONFIDENCE = 0.02
_BALANCING, _STEPS, _TOLERANCE = 10, 50, 1e-5
# Luma and two differences of colour (BT.601).
_COLORS = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
)

Values = npt.NDArray[np.float64]


def refine_shares(image: Tensor, share: Tensor) -> Tensor:
    """Move `share` to the edges of `image`, on the CPU.

    A pixel counts by its confidence |2 t - 1|.

    Args:
        image: (B, 3, H, W) in [-1, 1].
        share: t, (B, H, W) in [0, 1].

    Returns:
        (B, H, W) in [0, 1].
    """
    pixels = (image.detach().double().cpu().clamp(-1, 1) * 127.5 + 127.5).numpy()
    truths = share.detach().double().cpu().numpy()
    found = [_refine(picture, truth) for picture, truth in zip(pixels, truths, strict=True)]
    return torch.from_numpy(np.stack(found)).to(share)


def _refine(picture: Values, truth: Values) -> Values:
    """Solve one picture (3, H, W) in [0, 255] with share (H, W)."""
    cells, blur = _build_grid(picture)
    mass = np.asarray(np.bincount(cells), np.float64)
    scale = _balance(blur, mass)
    confidence = np.maximum(np.abs(2 * truth - 1), _LEAST_CONFIDENCE).ravel()
    pull = _sum_up(cells, confidence, len(mass))
    smooth = sparse.diags(mass) - sparse.diags(scale) @ blur @ sparse.diags(scale)
    target = _sum_up(cells, confidence * truth.ravel(), len(mass))
    values = _solve(_SMOOTHNESS * smooth + sparse.diags(pull), target, target / pull)
    return np.clip(values[cells], 0, 1).reshape(truth.shape)


def _build_grid(picture: Values) -> tuple[npt.NDArray[np.int64], sparse.csr_matrix]:
    """Cell of each pixel, (H W,), and the blur of cells: 2 of itself and 1 of its neighbours."""
    height, width = picture.shape[1:]
    rows, columns = np.indices((height, width))
    colors = np.tensordot(_COLORS, picture, axes=1)
    sides = (_PLACE, _PLACE, _LUMA, _CHROMA, _CHROMA)
    places = np.stack(
        [
            np.floor(each / side).ravel().astype(np.int64)
            for each, side in zip((rows, columns, *colors), sides, strict=True)
        ]
    )
    places -= places.min(axis=1, keepdims=True) - 1  # Leaves room for neighbours.
    strides = np.concatenate([[1], np.cumprod(places.max(axis=1)[:-1] + 2)])
    codes, cells = np.unique(strides @ places, return_inverse=True)
    number = np.arange(len(codes))
    blur = sparse.diags(np.full(len(codes), 2.0 * len(sides)))
    for stride in strides:
        after = np.searchsorted(codes, codes + stride).clip(max=len(codes) - 1)
        is_there = codes[after] == codes + stride
        ones = np.ones(int(is_there.sum()))
        pairs = (number[is_there], after[is_there])
        step = sparse.coo_matrix((ones, pairs), shape=(len(codes), len(codes)))
        blur = blur + step + step.T
    return cells.reshape(-1), sparse.csr_matrix(blur)


def _sum_up(cells: npt.NDArray[np.int64], values: Values, count: int) -> Values:
    return np.asarray(np.bincount(cells, values, count), np.float64)


def _balance(blur: sparse.csr_matrix, mass: Values) -> Values:
    """Diagonal n that gives N B N the row sums `mass`."""
    scale = np.ones_like(mass)
    for _ in range(_BALANCING):
        scale = np.sqrt(scale * mass / (blur @ scale))
    return scale


def _solve(matrix: sparse.csr_matrix, target: Values, first: Values) -> Values:
    """Solve matrix y = target from `first` by conjugate gradients, scaled by the diagonal."""
    diagonal = matrix.diagonal()
    values = first
    rest = target - matrix @ values
    step = rest / diagonal
    direction, power = step, rest @ step
    bound = (_TOLERANCE**2) * (target @ (target / diagonal))
    for _ in range(_STEPS):
        if power <= bound:
            break
        moved = matrix @ direction
        length = power / (direction @ moved)
        values, rest = values + length * direction, rest - length * moved
        step = rest / diagonal
        power, before = rest @ step, power
        direction = step + (power / before) * direction
    return values
