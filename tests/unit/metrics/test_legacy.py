"""Scores with the slips of L2IC's released code."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.linalg import sqrtm
from torch import Tensor, nn
from torch.testing import assert_close

from figureground.core.errors import UserError
from figureground.metrics.legacy import (
    DoubleScaledFeatures,
    LegacyScores,
    StretchedClassifier,
    find_wrong_legacy,
    stretch_range,
)


class Means(nn.Module):
    """In the place of Inception: means of quarters."""

    def forward(self, image: Tensor) -> Tensor:
        assert image.shape[2:] == (299, 299)
        return F.adaptive_avg_pool2d(image[:, :1], 2).flatten(1)


def test_pictures_are_scaled_twice_and_covariances_unbiased() -> None:
    inception: Any = SimpleNamespace(network=Means(), num_features=4, checksum="x")
    features = DoubleScaledFeatures(inception)
    assert features.checksum != inception.checksum
    real, drawn = (torch.rand(9, 3, 8, 8) * 2 - 1 for _ in "ab")
    scores = LegacyScores(features, None)
    scores.take_real(features.extract(real).pooled)
    for part in drawn.split(4):
        scores.take_drawn(part)
    rows = [
        Means()(2 * F.interpolate(x, (299, 299), mode="bilinear") - 1).double().numpy()
        for x in (drawn, real)
    ]
    assert min(each.min() for each in rows) < -1.2  # Out of the range that networks see.
    covariances = [np.cov(each, rowvar=False) for each in rows]
    root = np.real(sqrtm(covariances[0] @ covariances[1]))
    expected = np.square(rows[0].mean(0) - rows[1].mean(0)).sum()
    expected += np.trace(covariances[0] + covariances[1] - 2 * root)
    found = scores.compute()
    assert set(found) == {"fid/double_scaled"}
    assert found["fid/double_scaled"] == pytest.approx(expected, rel=1e-4)


def test_each_picture_is_stretched_to_its_own_range() -> None:
    image = torch.rand(3, 3, 4, 4) * torch.tensor([0.1, 1.0, 2.0]).view(3, 1, 1, 1) - 1
    found = stretch_range(image)
    assert found.amin(dim=(1, 2, 3)).tolist() == [0, 0, 0]
    assert found.amax(dim=(1, 2, 3)).tolist() == [1, 1, 1]
    assert_close(found * 255, (found * 255).round())
    assert stretch_range(torch.ones(1, 3, 2, 2)).isfinite().all()


def test_the_second_inception_score_is_of_its_own_classifier() -> None:
    class Classifier(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return F.one_hot((image[:, 0, 0, 0] > 0).long(), 2).float()

    scores = LegacyScores(None, Classifier(), num_splits=1)
    scores.take_drawn(torch.tensor([1.0, -1.0, 1.0, -1.0]).view(4, 1, 1, 1).expand(-1, 3, 2, 2))
    found = scores.compute()
    assert found["is/minmax"] == pytest.approx(2)
    assert found["is/minmax/std"] == pytest.approx(0)
    scores.take_real(torch.zeros(1, 4))  # Nobody asks for these.


def test_what_is_missing_is_said_before(tmp_path: Path) -> None:
    assert find_wrong_legacy(None, False, None) == []
    (problem,) = find_wrong_legacy(None, True, None)
    assert "metrics.generation.inception=..." in problem
    (problem,) = find_wrong_legacy("x", True, "nowhere.pth")
    assert "nowhere.pth is not a file" in problem
    path = tmp_path / "other.pth"
    torch.save({"fc.weight": torch.zeros(8, 4)}, path)
    with pytest.raises(UserError, match="not torchvision's Inception for ImageNet"):
        StretchedClassifier(str(path))


@pytest.mark.slow
def test_torchvisions_file_is_read(tmp_path: Path) -> None:
    from torchvision.models import inception_v3

    network = inception_v3(weights=None, init_weights=False)
    torch.save(network.state_dict(), tmp_path / "inception.pth")
    found = StretchedClassifier(str(tmp_path / "inception.pth"))(torch.rand(2, 3, 16, 16))
    assert found.shape == (2, 1000)
    assert_close(found.sum(dim=1), torch.ones(2))
