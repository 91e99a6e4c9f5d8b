"""Soft masks move to the edges of their pictures."""

from __future__ import annotations

import torch

from figureground.nn.bilateral import refine_shares


def test_blurred_mask_comes_back_to_the_edge() -> None:
    truth = torch.zeros(1, 48, 64)
    truth[:, 10:40, 16:48] = 1
    image = (1.2 * truth - 0.6).unsqueeze(1).expand(-1, 3, -1, -1)
    blurred = torch.nn.functional.avg_pool2d(truth, 13, 1, 6)
    shifted = blurred.roll((3, 4), dims=(1, 2))
    found = refine_shares(image, shifted)
    assert found.shape == truth.shape
    assert 0 <= found.min() <= found.max() <= 1

    def iou(share: torch.Tensor) -> float:
        mask = share > 0.5
        return float((mask & (truth > 0)).sum() / (mask | (truth > 0)).sum())

    assert iou(found) > 0.97 > iou(shifted)


def test_nothing_moves_without_doubt_or_edges() -> None:
    image = torch.zeros(2, 3, 9, 7)
    for value in (0.0, 1.0):
        share = torch.full((2, 9, 7), value)
        torch.testing.assert_close(refine_shares(image, share), share, rtol=0, atol=1e-4)


def test_solution_minimises_the_objective() -> None:
    """The quadratic form of the cells, against its gradient at the solution."""
    import numpy as np

    from figureground.nn import bilateral

    picture = np.random.default_rng(0).uniform(0, 60, (3, 12, 12))
    cells, blur = bilateral._build_grid(picture)
    mass = np.bincount(cells).astype(float)
    scale = bilateral._balance(blur, mass)
    # Weights between all cells, N B N, have the masses as row sums.
    np.testing.assert_allclose(scale * (blur @ scale), mass, rtol=0.05)
    dense = blur.toarray()
    assert (dense == dense.T).all()
    assert (dense.diagonal() == 10).all()
    matrix = bilateral.sparse.csr_matrix(np.diag(mass) + np.eye(len(mass)))
    target = np.arange(len(mass), dtype=float)
    found = bilateral._solve(matrix, target, target)
    np.testing.assert_allclose(matrix @ found, target, atol=1e-3)
