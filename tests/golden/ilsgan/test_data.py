"""Crops, sizes and mask rules of layered GANs against the authors' code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor

from figureground.data.batching import to_float
from figureground.data.crops import cut_centre
from figureground.data.datasets.cub import CUB
from figureground.data.samples import Sample
from figureground.data.transforms import Stretch


@pytest.fixture
def stored(golden: Callable[[str], Path]) -> dict[str, Tensor]:
    with safe_open(golden("ilsgan") / "data.safetensors", "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no dict


@pytest.fixture
def scalars(golden: Callable[[str], Path]) -> dict[str, list[list[int]]]:
    return json.loads((golden("ilsgan") / "scalars_eval.json").read_text())


@pytest.fixture
def birds(stored: dict[str, Tensor], scalars: dict[str, list[list[int]]], tmp_path: Path) -> Path:
    """One photograph twice, with the two stored boxes."""
    for name in ("images", "segmentations"):
        (tmp_path / name / "001.A").mkdir(parents=True)
    for number in (1, 2):
        for folder, key in (("images", "cub.raw"), ("segmentations", "cub.raw_seg")):
            Image.fromarray(stored[key].numpy()).save(tmp_path / folder / f"001.A/{number}.png")
    (tmp_path / "images.txt").write_text("1 001.A/1.png\n2 001.A/2.png\n")
    (tmp_path / "train_val_test_split.txt").write_text("1 2\n2 2\n")
    rows = (" ".join(map(str, box)) for box in scalars["cub_bboxes_xywh"])
    boxes = "".join(f"{number} {row}\n" for number, row in enumerate(rows, 1))
    (tmp_path / "bounding_boxes.txt").write_text(boxes)
    return tmp_path


@pytest.mark.parametrize("size", ["90x60", "61x97"])
def test_centre_crops_match(stored: dict[str, Tensor], size: str) -> None:
    square = cut_centre(stored[f"gan.raw_{size}"].numpy())
    found = Stretch(64, "bilinear")(Sample(square, "x")).image
    assert np.array_equal(found, stored[f"gan.out64_{size}"].numpy())


def test_centre_crops_begin_where_theirs_do(scalars: dict[str, list[list[int]]]) -> None:
    for width, height, top, left, *side in scalars["center_crop_cases_w_h_top_left_h_w"]:
        rows, columns = np.indices((height, width), np.uint8)
        square = cut_centre(np.dstack([rows, columns]))
        assert square.shape[:2] == tuple(side)
        assert tuple(square[0, 0]) == (top, left)


@pytest.mark.parametrize("index", [0, 1])
def test_boxes_of_birds_match(birds: Path, stored: dict[str, Tensor], index: int) -> None:
    data = CUB(str(birds), "test", crop="box", masks="soft")
    found = Stretch(64, "bilinear")(data[index])
    torch.testing.assert_close(to_float(found.image[None])[0], stored[f"cub.img_bbox{index}"])
    assert np.array_equal(found.mask, stored[f"cub.seg_bbox{index}"].numpy())
