"""Scores of drawn pictures against loops, and networks that give the features."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import inception_v3

from figureground.core.errors import UserError
from figureground.metrics import features
from figureground.metrics.features import (
    EfficientNetFeatures,
    Features,
    InceptionFeatures,
    to_bytes,
)
from figureground.metrics.generation import (
    FrechetDistance,
    GenerationScores,
    InceptionScore,
    KernelDistance,
    PathLength,
    PrecisionRecall,
    squared_distance,
)
from figureground.nn.efficientnet import EfficientNetLite0
from weights import digest_of, write_efficientnet


def clouds(count: int = 40, size: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    drawn, real = torch.randn(2, count, size, generator=generator)
    return 1.3 * drawn + 0.4, real[: count - 7]


def test_frechet_distance_of_one_feature_is_that_of_two_normals() -> None:
    drawn, real = clouds(size=1)
    metric = FrechetDistance(1)
    metric.update(drawn, real=False)
    metric.update(real, real=True)
    a, b = drawn.double(), real.double()
    expected = (a.mean() - b.mean()) ** 2 + (a.std(correction=0) - b.std(correction=0)) ** 2
    assert float(metric.compute()) == pytest.approx(float(expected))


def test_kernel_distance_equals_a_loop() -> None:
    drawn, real = clouds(12, 3)
    metric = KernelDistance(num_subsets=1, subset_size=1000)
    metric.update(drawn, real=False)
    metric.update(real, real=True)
    rng = np.random.RandomState(0)
    x = drawn[rng.choice(12, 5, replace=False)].double()
    y = real[rng.choice(5, 5, replace=False)].double()

    def kernel(a: Tensor, b: Tensor) -> float:
        return float((a @ b / 3 + 1) ** 3)

    pairs = [(i, j) for i in range(5) for j in range(5)]
    expected = -2 * np.mean([kernel(x[i], y[j]) for i, j in pairs])
    for rows in (x, y):
        expected += np.mean([kernel(rows[i], rows[j]) for i, j in pairs if i != j])
    assert float(metric.compute()) == pytest.approx(expected)


def test_precision_and_recall_equal_a_loop() -> None:
    drawn, real = clouds(25, 2)
    metric = PrecisionRecall(num_neighbors=3)
    metric.update(drawn, real=False)
    metric.update(real, real=True)

    def share(probes: Tensor, others: Tensor) -> float:
        inside = 0
        for probe in probes:
            hit = False
            for other in others:
                radius = sorted(float((other - each).norm()) for each in others)[3]
                hit |= float((probe - other).norm()) <= radius
            inside += hit
        return inside / len(probes)

    found = [float(value) for value in metric.compute()]
    assert found == pytest.approx([share(drawn, real), share(real, drawn)])
    assert 0 < found[0] < 1


def test_inception_score_is_one_of_equal_pictures_and_classes_of_a_balanced_set() -> None:
    metric = InceptionScore(num_splits=2)
    metric.update(torch.full((10, 4), 0.25))
    assert [float(value) for value in metric.compute()] == pytest.approx([1, 0])
    metric.reset()
    metric.update(torch.eye(4).repeat(4, 1))
    assert float(metric.compute()[0]) == pytest.approx(4)


def test_path_length_drops_the_tails() -> None:
    metric = PathLength(step=0.1)
    metric.update(torch.cat([torch.full((500,), 0.02), torch.tensor([1e6, 0.0])]))
    metric.update(torch.full((500,), 0.02))
    assert float(metric.compute()) == pytest.approx(2, rel=0.01)


def test_scores_add_up_over_batches_and_processes() -> None:
    drawn, real = clouds()
    logits = drawn @ torch.randn(5, 6)

    def make() -> GenerationScores:
        return GenerationScores("net", 5, num_middle=2, num_splits=2, num_subsets=3)

    whole, parts = make(), make()
    whole.update(Features(drawn, logits, drawn[:, :2]), real=False)
    whole.update(Features(real, None, real[:, :2]), real=True)
    for start in range(0, 40, 9):
        rows = slice(start, start + 9)
        parts.update(Features(real[rows], None, real[rows, :2]), real=True)
        parts.update(Features(drawn[rows], logits[rows], drawn[rows, :2]), real=False)
    expected, found = whole.compute(), parts.compute()
    assert set(found) == {
        *("fid_net", "fid_net_2", "kid_net", "is_net", "is_net/std"),
        *("precision_net", "recall_net"),
    }
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)
    # What several processes exchange: sums, and rows one below the other.
    assert parts.frechet._reductions["sums"].__name__ == "dim_zero_sum"
    assert parts.kernel._reductions["real"].__name__ == "dim_zero_cat"
    parts.reset()
    assert parts.kernel.real == []
    assert float(parts.frechet.counts.sum()) == 0


def test_scores_of_nothing_are_no_numbers() -> None:
    moments = FrechetDistance(3)
    moments.update(torch.zeros(5, 3), real=True)
    assert torch.isnan(moments.compute())
    metric = KernelDistance()
    metric.update(torch.zeros(5, 2), real=True)
    assert torch.isnan(metric.compute())
    few = PrecisionRecall()
    few.update(torch.zeros(3, 2), real=True)
    assert torch.isnan(few.compute()[0])


@pytest.fixture
def efficientnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of the published layout with random weights."""
    path = write_efficientnet(tmp_path / "lite0.pth")
    monkeypatch.setattr(features, "EFFICIENTNET_DIGEST", digest_of(path)[:16])
    return path


def test_efficientnet_describes_pictures(efficientnet: Path) -> None:
    network = EfficientNetFeatures(str(efficientnet))
    image = torch.rand(2, 3, 40, 33) * 2 - 1
    found = network.extract(image)
    assert found.pooled.shape == (2, 1280)
    assert found.logits is not None
    assert found.logits.shape == (2, 1000)
    assert found.middle is not None
    assert found.middle.shape == (2, 112)
    maps = network.extract_maps(image)
    sizes = [tuple(each.shape[1:]) for each in maps]
    assert sizes == [(24, 10, 9), (40, 5, 5), (112, 3, 3), (192, 2, 2)]
    assert float(squared_distance(maps, maps).abs().max()) == 0
    other = network.extract_maps(image.flip(0))
    assert (squared_distance(maps, other) > 0).all()
    assert sum(p.numel() for p in network.parameters()) == 4_652_008


def test_efficientnet_pads_as_tensorflow() -> None:
    network = EfficientNetLite0()
    x = torch.rand(1, 3, 8, 8)
    # Even sides and stride 2: one row and column of zeros, behind.
    expected = F.conv2d(F.pad(x, (0, 1, 0, 1)), network.conv_stem.weight, stride=2)
    torch.testing.assert_close(network.conv_stem(x), expected)


@pytest.fixture(scope="session")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the published layout with random weights."""
    network = inception_v3(weights=None, num_classes=1008, aux_logits=False, init_weights=False)
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(network.state_dict(), path)
    return path


def test_inception_gives_published_ids(inception: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "INCEPTION_DIGEST", digest_of(inception)[:8])
    network = InceptionFeatures(str(inception))
    found = network.extract(torch.rand(2, 3, 32, 32) * 2 - 1)
    assert found.pooled.shape == (2, 2048)
    assert found.logits is not None
    assert found.logits.shape == (2, 1008)
    scores = GenerationScores(network.suffix, network.num_features)
    scores.update(found, real=False)
    scores.update(found, real=True)
    assert {"fid", "kid", "is", "precision_inception"} < set(scores.compute())


def test_borders_do_not_count_in_inceptions_means(
    inception: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "INCEPTION_DIGEST", digest_of(inception)[:8])
    network = InceptionFeatures(str(inception)).network
    flat = torch.ones(1, 192, 5, 5)
    (*_, pooled) = network.Mixed_5b._forward(flat)
    torch.testing.assert_close(pooled, pooled[..., 2:3, 2:3].expand_as(pooled))


def test_other_files_are_refused_in_one_line(inception: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not 6726825d\.\.\., so its scores would not compare"):
        InceptionFeatures(str(inception))
    wrong = tmp_path / "wrong.pth"
    torch.save({"fc.weight": torch.zeros(1000, 2048)}, wrong)
    with pytest.raises(UserError, match="torchvision's ImageNet Inception; expected the PyTorch"):
        InceptionFeatures(str(wrong))
    torch.save({"conv.weight": torch.zeros(3)}, wrong)
    with pytest.raises(UserError, match="is not Inception"):
        InceptionFeatures(str(wrong))
    torch.save({"model": nn.Linear(1, 1).state_dict()}, wrong)
    with pytest.raises(UserError, match="holds more than tensors"):
        InceptionFeatures(str(wrong))
    wrong.write_bytes(b"no weights")
    with pytest.raises(UserError, match="is not a PyTorch file of tensors"):
        InceptionFeatures(str(wrong))
    with pytest.raises(UserError, match="cannot be read"):
        InceptionFeatures(str(tmp_path / "nothing.pth"))
    with pytest.raises(UserError, match="so its scores would not compare"):
        EfficientNetFeatures(str(wrong))


def test_programs_are_not_run(tmp_path: Path) -> None:
    path = tmp_path / "inception.pt"
    with zipfile.ZipFile(path, "w") as archive:  # As torch.jit.save lays it out.
        archive.writestr("inception/code/__torch__.py", "raise SystemExit")
    with pytest.raises(UserError, match="is a TorchScript program, which is not run"):
        InceptionFeatures(str(path))


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "_PACKAGE", "no_such_package")
    with pytest.raises(UserError, match=r"figureground\[generation\]"):
        EfficientNetFeatures()


def test_pictures_are_rounded_as_files_are() -> None:
    values = torch.arange(256.0)
    assert torch.equal(to_bytes(values / 127.5 - 1), values)
    assert to_bytes(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]


def test_resizing_is_that_of_tensorflow() -> None:
    row = torch.tensor([[[[0.0, 3.0, 6.0]]]])
    found = features._resize_by_corner(row.expand(1, 1, 3, 3), 9)[0, 0, 4]
    torch.testing.assert_close(found, torch.tensor([0.0, 1, 2, 3, 4, 5, 6, 6, 6]))
