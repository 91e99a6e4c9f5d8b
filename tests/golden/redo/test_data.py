"""Preprocessing, mask rules, toy composition and metrics against the authors' code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor
from torch.testing import assert_close

from figureground.data.datasets.cub import CUB
from figureground.data.datasets.digits import compose
from figureground.data.datasets.flowers import mask_of_segmentation
from figureground.data.datasets.lfw import LFW
from figureground.data.samples import Sample
from figureground.data.transforms import ResizeCrop
from figureground.metrics.segmentation import SegmentationScores


def read(golden: Callable[[str], Path], name: str) -> dict[str, Tensor]:
    with safe_open(golden("redo") / f"{name}.safetensors", "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no dict


def hwc(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.permute(1, 2, 0).numpy())


@pytest.fixture
def transform() -> ResizeCrop:
    return ResizeCrop(128, "nearest")


def check(sample: Sample, tensors: dict[str, Tensor], name: str) -> None:
    assert np.array_equal(sample.image, hwc(tensors[f"{name}/image_u8"]))
    assert np.array_equal(sample.mask, tensors[f"{name}/mask"][0].numpy())


def test_flowers_match(golden: Callable[[str], Path], transform: ResizeCrop) -> None:
    tensors = read(golden, "preprocess")
    mask = mask_of_segmentation(hwc(tensors["flowers/raw_segmim"]))
    check(transform(Sample(hwc(tensors["flowers/raw_image"]), "x", mask)), tensors, "flowers")


def test_cub_matches(golden: Callable[[str], Path], transform: ResizeCrop, tmp_path: Path) -> None:
    tensors = read(golden, "preprocess")
    for folder, key in (("images", "cub/raw_image_gray"), ("segmentations", "cub/raw_mask")):
        (tmp_path / folder / "001.A").mkdir(parents=True)
        Image.fromarray(tensors[key].numpy()).save(tmp_path / folder / "001.A/b.png")
    (tmp_path / "images.txt").write_text("1 001.A/b.png\n")
    (tmp_path / "train_val_test_split.txt").write_text("1 0\n")
    check(transform(CUB(str(tmp_path), "train")[0]), tensors, "cub")


def test_lfw_matches(golden: Callable[[str], Path], transform: ResizeCrop, tmp_path: Path) -> None:
    tensors = read(golden, "preprocess")
    colors = np.eye(3, dtype=np.uint8) * 255
    parts = colors[tensors["lfw/raw_part_labels"].numpy()]
    (tmp_path / "lfw_funneled/A").mkdir(parents=True)
    (tmp_path / "parts_lfw_funneled_gt_images").mkdir()
    image = Image.fromarray(hwc(tensors["lfw/raw_image"]))
    # JPEG would change pixels; the reader goes by content, not by ending.
    with (tmp_path / "lfw_funneled/A/A_0001.jpg").open("wb") as file:
        image.save(file, "PNG")
    Image.fromarray(parts).save(tmp_path / "parts_lfw_funneled_gt_images/A_0001.ppm")
    (tmp_path / "test.txt").write_text("A A_0001\n")
    check(transform(LFW(str(tmp_path), "test")[0]), tensors, "lfw")


@pytest.mark.parametrize("number", ["0", "1"])
def test_two_digits_match(golden: Callable[[str], Path], number: str) -> None:
    tensors = {
        k.partition("/")[2]: v for k, v in read(golden, "toy_digits").items() if k[0] == number
    }
    image, mask = compose(
        tensors["background_rgb"].numpy(),
        (tensors["even_digit56"][0].numpy() > 0.5, tensors["odd_digit56"][0].numpy() > 0.5),
        (tensors["even_rgb"].numpy(), tensors["odd_rgb"].numpy()),
        tensors["row_col_even_then_odd"].numpy(),
        bool(tensors["odd_on_top"]),
    )
    found = torch.from_numpy(image).permute(2, 0, 1) * 2 - 1
    assert_close(found, tensors["image"], rtol=1e-6, atol=1e-6)
    truth = torch.stack([torch.from_numpy(mask == k) for k in (1, 2, 0)])
    assert torch.equal(truth.to(torch.uint8), tensors["truth"])


def to_regions(mask: Tensor) -> Tensor:
    return torch.cat([1 - mask, mask], dim=1)


def test_metrics_match(golden: Callable[[str], Path]) -> None:
    tensors = read(golden, "metrics")
    whole = SegmentationScores(average="batch", empty="nan")
    for number in range(3):
        mask, truth = (tensors[f"batch{number}/{name}"] for name in ("mask0", "truth"))
        whole.update(to_regions(mask), truth[:, 0].long())
        for index, expected in enumerate(tensors[f"batch{number}/expected_per_image_acc_iou"]):
            one = SegmentationScores(empty="nan")
            one.update(to_regions(mask[index : index + 1]), truth[index : index + 1, 0].long())
            scores = one.compute()
            found = torch.stack([scores["acc/img/oracle"], scores["iou/img/oracle"]])
            assert_close(found, expected.float(), rtol=0, atol=1e-6, equal_nan=True)
    scores = whole.compute()
    found = torch.stack([scores["acc/img/oracle"], scores["iou/img/oracle"]])
    assert_close(found, tensors["expected_acc_iou_minregion"][:2].float(), rtol=0, atol=1e-6)


def test_metrics_of_several_regions_match(golden: Callable[[str], Path]) -> None:
    tensors = read(golden, "metrics")
    truth = tensors["multi/truth_onehot"].argmax(dim=1)
    for index, masks in enumerate(tensors["multi/masks"]):
        scores = SegmentationScores(num_regions=3, assign="threshold")
        scores.update(masks[None], truth[index : index + 1])
        found = scores.compute()
        assert_close(found["acc/img/oracle"], tensors["multi/expected_acc"][index].float())
        iou_sum = tensors["multi/expected_iou_sum_over_regions"][index].float()
        assert_close(3 * found["iou/img/oracle"], iou_sum)
