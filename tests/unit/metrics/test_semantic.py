"""Objects, clusters and classes, and the networks that describe pixels."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest
import torch
import torchvision

from figureground.core.errors import UserError
from figureground.metrics.pixel_features import PixelFeatures
from figureground.metrics.semantic import (
    cluster,
    describe_object,
    match_regions,
    score_regions,
    whiten,
)
from figureground.nn.encoders import dilate
from weights import write_resnet


def test_object_is_described_by_the_cells_it_covers() -> None:
    features = torch.zeros(2, 4, 4)
    features[0, :, :2], features[1, :, 2:] = 3.0, 4.0
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[:, :4] = True
    found = describe_object(features, mask)
    assert found is not None
    assert found[0] > 0.95
    torch.testing.assert_close(found.norm(), torch.tensor(1.0))
    assert describe_object(features, torch.zeros_like(mask)) is None


def test_whitened_components_have_variance_one() -> None:
    vectors = torch.randn(50, 6) * torch.tensor([1.0, 2, 3, 4, 5, 6])
    found = whiten(vectors, 4)
    torch.testing.assert_close(found.T.cov(), torch.eye(4), rtol=1e-4, atol=1e-4)
    assert whiten(vectors, 0) is vectors
    assert whiten(torch.ones(3, 2), 2).shape == (3, 0)


def test_clusters_are_found_and_repeat_under_a_seed() -> None:
    centres = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    truth = torch.arange(30) % 3
    points = centres[truth] + 0.1 * torch.randn(30, 2)
    found = cluster(points, 3, seed=1)
    assert torch.equal(found, cluster(points, 3, seed=1))
    assert len({(int(a), int(b)) for a, b in zip(found, truth, strict=True)}) == 3
    assert cluster(points[:2], 3, seed=0).max() < 2


def test_matching_has_the_largest_sum_of_iou() -> None:
    confusion = torch.randint(0, 50, (4, 4))
    iou = [
        [
            confusion[r, c] / (confusion[r].sum() + confusion[:, c].sum() - confusion[r, c])
            for c in range(4)
        ]
        for r in range(4)
    ]
    orders = permutations(range(4))
    best = max(orders, key=lambda order: sum(iou[r][c] for r, c in enumerate(order)))
    assert match_regions(confusion).tolist() == list(best)


def test_scores_are_those_of_relabelled_pixels() -> None:
    confusion = torch.tensor([[90, 5, 5], [0, 2, 18], [10, 20, 0]])
    found = score_regions(confusion, ("cat", "dog"))
    assert found["iou/cat"] == pytest.approx(20 / (30 + 27 - 20))
    assert found["iou/dog"] == pytest.approx(18 / (20 + 23 - 18))
    assert found["miou"] == pytest.approx((found["iou/cat"] + found["iou/dog"]) / 2)
    assert found["miou/ground"] == pytest.approx((90 / 110 + 2 * found["miou"]) / 3)
    assert found["acc"] == pytest.approx(128 / 150)
    more = score_regions(torch.cat([confusion, torch.tensor([[0, 4, 0]])]), ("cat", "dog"))
    assert more["iou/cat"] == pytest.approx(20 / (30 + 31 - 20))  # Left over: nobody's, but missed.


@pytest.mark.parametrize("style", ["torchvision", "moco", "maskcontrast"])
def test_files_of_all_kinds_describe_an_eighth_of_the_pixels(tmp_path: Path, style: str) -> None:
    network = PixelFeatures(str(write_resnet(tmp_path / "net.pth", style)))
    assert (network.name, network.has_head) == ("resnet18", style == "maskcontrast")
    found = network(torch.rand(1, 3, 64, 48) * 2 - 1)
    assert found.shape == (1, 4 if style == "maskcontrast" else 512, 8, 6)


def test_dilation_is_that_of_torchvision() -> None:
    with torch.device("meta"):
        plain = torchvision.models.resnet50(weights=None)
        expected = torchvision.models.resnet50(
            weights=None, replace_stride_with_dilation=[False, True, True]
        )
    dilate(plain)
    for one, other in zip(plain.modules(), expected.modules(), strict=True):
        if isinstance(one, torch.nn.Conv2d):
            assert (one.stride, one.dilation, one.padding) == (
                other.stride, other.dilation, other.padding,
            )  # fmt: skip


def test_other_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "net.pth"
    torch.save({"a": torch.zeros(2)}, file)
    with pytest.raises(UserError, match=r"holds no ResNet.*expected MaskContrast's"):
        PixelFeatures(str(file))
    file.write_text("words")
    with pytest.raises(UserError, match=r"cannot be read as weights.*moco_v2_800ep"):
        PixelFeatures(str(file))
    state = torchvision.models.resnet18(weights=None).state_dict()
    state["layer1.0.conv1.weight"] = torch.zeros(2, 2, 3, 3)
    torch.save(state, file)
    with pytest.raises(UserError, match="does not fit the network"):
        PixelFeatures(str(file))
