"""What the segmenter learns from, at which size and rate, and what its augmentation draws."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor
from torch.testing import assert_close

from figureground.core.errors import CheckpointError, DataError
from figureground.core.types import Batch
from figureground.methods.segmenter import Segmenter
from figureground.methods.segmenter.augment import augment_pairs, draw_colors, draw_geometry
from figureground.methods.segmenter.convert import convert_checkpoint, name_table
from figureground.methods.segmenter.losses import binary_entropy
from figureground.nn.unet import UNet, unet_widths


def tiny(**options: Any) -> Segmenter:
    return Segmenter(**{"resolution": 16, "width": 2, "depth": 2, **options})


def make_batch(side: int = 16) -> Batch:
    image = torch.rand(3, 3, side, side) * 2 - 1
    soft = torch.rand(3, side, side)
    return Batch(image, ("a", "b", "c"), (soft >= 0.5).long(), soft_mask=soft)


def test_widths_are_the_published_ones() -> None:
    assert unet_widths(64, 4, "bilinear_aligned") == [64, 128, 256, 512, 512]
    assert unet_widths(64, 4, "nearest_conv") == [64, 128, 256, 512, 1024]


@pytest.mark.parametrize("upsampling", ["bilinear_aligned", "bilinear", "nearest_conv"])
@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
def test_any_size_keeps_its_size(upsampling: Any, norm: Any) -> None:
    network = UNet(num_inputs=5, num_outputs=3, widths=(2, 4, 6), upsampling=upsampling, norm=norm)
    for size in ((8, 8), (13, 9), (4, 31)):
        assert network(torch.randn(2, 5, *size)).shape == (2, 3, *size)


def test_without_a_level_below_there_is_one_block() -> None:
    assert UNet(num_outputs=0, widths=(7,), bias=False)(torch.randn(1, 3, 5, 5)).shape[1] == 7
    with pytest.raises(ValueError, match="one level"):
        UNet(widths=())


def test_hard_and_soft_targets() -> None:
    batch = make_batch()
    assert torch.equal(tiny()._truth(batch), batch.mask)
    soft = tiny(loss="binary_entropy", target="soft")
    assert torch.equal(soft._truth(batch), batch.soft_mask)
    # Pictures that nobody drew have hard masks only; more than one object is an object.
    hard = soft._truth(replace(batch, mask=2 * batch.mask, soft_mask=None))
    assert torch.equal(hard, batch.mask.float())
    with pytest.raises(DataError, match="a and others have no mask"):
        tiny()._truth(replace(batch, mask=None))


def test_small_input_is_enlarged_to_the_picture() -> None:
    method = tiny(resolution=32, input_resolution=16).eval()
    sizes = []
    method.network.register_forward_pre_hook(lambda _, given: sizes.append(given[0].shape[2:]))
    found = method.segment(make_batch(32).image)
    assert sizes == [(16, 16)]
    assert found.shape == (3, 2, 32, 32)
    assert method._truth(make_batch(32)).shape == (3, 16, 16)


def test_logits_are_enlarged_to_the_masks() -> None:
    method = tiny().eval()
    batch = replace(make_batch(), mask=torch.zeros(3, 40, 50, dtype=torch.long))
    found = method._segment_to_score(batch)
    logits = torch.nn.functional.interpolate(method.network(batch.image), (40, 50), mode="bilinear")
    assert_close(found, logits.softmax(1))


def test_binary_entropy_is_that_of_a_loop() -> None:
    logits, share = torch.randn(1, 2, 2), torch.rand(1, 2, 2)
    total = 0.0
    for x, m in zip(logits.flatten().tolist(), share.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-x))
        total -= m * math.log2(p + 1e-6) + (1 - m) * math.log2(1 - p + 1e-6)
    assert float(binary_entropy(logits, share)) == pytest.approx(total / 4, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "factors"),
    [
        ({}, [1, 1, 1, 1]),
        ({"schedule": "step", "step_every": 2, "step_factor": 0.5}, [1, 1, 0.5, 0.5]),
        ({"schedule": "cosine", "cosine_iterations": 2}, [1, 0.5, 0, 0]),
    ],
)
def test_rates_follow_the_schedule(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], factors: list[float]
) -> None:
    method = tiny(**options)
    for number, factor in enumerate(factors):
        loop = SimpleNamespace(total_batch_idx=number)
        monkeypatch.setattr(method, "_trainer", SimpleNamespace(fit_loop=loop))
        assert method._rate_factor() == pytest.approx(factor)


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"depth": 5}, "needs 32 pixels at least, got 16"),
        ({"input_resolution": 32}, "pictures are only shrunk"),
        ({"target": "soft"}, "target=soft needs loss=binary_entropy"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], fragment: str) -> None:
    with pytest.raises(ValueError, match=fragment):
        tiny(**options)


def test_augmentation_moves_mask_and_picture_alike() -> None:
    mask = torch.zeros(64, 16, 16, dtype=torch.long)
    mask[:, 5:12, 4:9] = 1
    image = mask[:, None].float().expand(-1, 3, -1, -1)
    moved, moved_mask = augment_pairs("geom", image, mask)
    assert not torch.equal(moved_mask, mask)
    assert ((moved[:, 0] > 0.5) != moved_mask.bool()).float().mean() < 1e-3
    same, same_mask = augment_pairs("color", image, mask)
    assert torch.equal(same_mask, mask)
    assert not torch.equal(same, image)
    assert augment_pairs("none", image, mask)[0] is image


def test_soft_masks_stay_in_range_and_both_kinds_are_drawn_by_gc() -> None:
    soft = torch.rand(8, 16, 16)
    _, moved = augment_pairs("gc", torch.rand(8, 3, 16, 16), soft)
    assert moved.min() >= 0
    assert moved.max() <= 1


def test_half_of_the_operations_are_left_out() -> None:
    identity = (draw_geometry(4000) - torch.eye(3)).abs().amax(dim=(1, 2)) == 0
    # A flip needs two coins, scale, rotation and shift one each.
    assert float(identity.float().mean()) == pytest.approx(0.75 * 0.5**3, abs=0.02)
    colors = (draw_colors(4000)[:, :3] - torch.eye(4)[:3]).abs().amax(dim=(1, 2)) == 0
    assert float(colors.float().mean()) == pytest.approx(0.75 * 0.5**4, abs=0.02)


def test_hue_keeps_grey_and_geometry_keeps_shape() -> None:
    matrix = draw_geometry(200)[:, :2, :2]
    product = matrix @ matrix.mT
    assert_close(product, product[:, :1, :1] * torch.eye(2), rtol=1e-4, atol=1e-5)
    grey = torch.ones(200, 3, 1)
    turned = draw_colors(200)
    result = turned[:, :3, :3] @ grey + turned[:, :3, 3:]
    assert float(result.std(dim=1).max()) < 1e-5


@pytest.mark.parametrize("style", ["ilsgan", "gan_segmenter", "l2ic"])
def test_authors_files_are_converted(tmp_path: Path, style: Any) -> None:
    l2ic = style == "l2ic"
    options: dict[str, Any] = {"depth": 4, "width": 2}
    if l2ic:
        options |= {"upsampling": "nearest_conv", "loss": "binary_entropy"}
    method = tiny(**options)
    table = name_table(style)
    state: dict[str, Tensor] = {k: method.network.state_dict()[v] for k, v in table.items()}
    content: dict[str, Any] = {
        "ilsgan": {"model": state, "opt": {}, "cur_iter": 6000},
        # Lightning keyed callbacks by class then, and kept NumPy's numbers.
        "gan_segmenter": {
            "state_dict": {f"net.{k}": v for k, v in state.items()},
            "callbacks": {ModelCheckpoint: {"best_model_score": np.float64(0.5)}},
        },
        "l2ic": {f"module.{k}": v for k, v in state.items()},
    }[style]
    torch.save(content, tmp_path / "net.pth")
    found = convert_checkpoint(tmp_path / "net.pth")
    assert found.options["width"] == 2
    rebuilt = Segmenter(resolution=16, **found.options)
    rebuilt.load_state_dict(found.state_dict)
    for key, value in method.network.state_dict().items():
        assert torch.equal(rebuilt.network.state_dict()[key], value)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    for content, fragment in (
        ({"a.weight": torch.ones(1)}, "not a U-Net"),
        ({"inc.conv1.weight": torch.ones(1), "up0.conv1.weight": torch.ones(1)}, "unknown key up0"),
        ([1], "holds a list"),
    ):
        torch.save(content, path)
        with pytest.raises(CheckpointError, match=fragment):
            convert_checkpoint(path)
    path.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="nothing in it was run"):
        convert_checkpoint(path)
    with pytest.raises(CheckpointError, match="not a file"):
        convert_checkpoint(tmp_path / "absent.pth")
