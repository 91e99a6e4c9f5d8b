"""Pictures and masks as L2IC's loaders prepare them for scoring."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from PIL import Image
from safetensors.numpy import load_file

from figureground.data.crops import cut_box
from figureground.data.datasets.clevr import CLEVR
from figureground.data.datasets.drc import Dogs
from figureground.data.datasets.flowers import mask_of_segmentation
from figureground.data.samples import Pixels, Sample
from figureground.data.transforms import ResizeCrop, Stretch
from records import encode, write_records

Golden = Callable[[str], Path]
SIDE = 32


def as_float(image: Pixels) -> np.ndarray:
    """Pixels (H, W, 3) as (3, H, W) in [-1, 1]."""
    return image.transpose(2, 0, 1) / 127.5 - 1


@pytest.mark.parametrize("number", range(3))
def test_birds_are_cut_around_their_boxes(golden: Golden, number: int) -> None:
    stored = load_file(golden("l2ic") / "data.safetensors")
    left, top, width, height = stored[f"cub.bbox{number}"].tolist()
    box = (left, top, width, height)
    cut = Sample(cut_box(stored["img"], box), "a", cut_box(stored["seg"], box), is_soft=True)
    found = Stretch(SIDE)(cut)
    assert_allclose(as_float(found.image), stored[f"cub.img{number}"], atol=1e-6)
    assert found.mask is not None
    assert_allclose(found.mask, stored[f"cub.seg{number}"][0])


def test_cars_come_in_blue_green_red_with_masks_of_one_bit(golden: Golden, tmp_path: Path) -> None:
    stored = load_file(golden("l2ic") / "data.safetensors")
    folder = tmp_path / "data_mrcnn/test/resized"
    folder.mkdir(parents=True)
    np.save(tmp_path / "data_te_sel.npy", np.array([7]))
    Image.fromarray(stored["img"]).save(folder / "7_resized.png")
    Image.fromarray(stored["seg"]).save(folder / "7_maskresized.png")
    found = Stretch(SIDE)(Dogs(str(tmp_path), "test", colors="bgr")[0])
    assert_allclose(as_float(found.image), stored["car.img"], atol=1e-6)
    assert found.mask is not None
    assert_allclose(found.mask, stored["car.seg"][0])


def test_flowers_lose_a_margin(golden: Golden) -> None:
    stored = load_file(golden("l2ic") / "data.safetensors")
    shorter, side = stored["flower.resize_crop"].tolist()
    mask = 255 * mask_of_segmentation(stored["flower.segmim"])
    found = ResizeCrop(side, "bilinear", shorter)(Sample(stored["img"], "a", mask, is_soft=True))
    assert_allclose(as_float(found.image), stored["flower.img"], atol=1e-6)
    assert found.mask is not None
    assert found.soft is not None
    assert_allclose(found.soft / 255, stored["flower.seg"][0], atol=1e-6)
    assert np.array_equal(found.mask, found.soft >= 128)


def test_scenes_are_cut_out_and_told_from_their_background(golden: Golden, tmp_path: Path) -> None:
    stored = load_file(golden("l2ic") / "data.safetensors")
    image, ground = (
        stored[f"clevr.{name}_60x80"].repeat(4, axis=0).repeat(4, axis=1)
        for name in ("image", "bgmask")
    )
    masks = np.zeros((11, 240, 320), np.uint8)
    masks[0], masks[1] = ground, 255 * (ground == 0)
    codes = bytes([0, 1, *[0] * 9])
    features = {
        "image": image.tobytes(), "mask": masks.tobytes(), "shape": codes, "material": codes,
        "visibility": [1.0, 1.0, 1.0, *[0.0] * 8],
    }  # fmt: skip
    write_records(tmp_path / CLEVR.file_name, [encode(features, one_by_one=False)])
    found = Stretch(SIDE)(CLEVR("test", 1, "tfrecord", str(tmp_path))[0])
    assert found.mask is not None
    whole = Stretch(SIDE)(Sample(image[29:221, 64:256].copy(), "a"))
    assert_allclose(as_float(whole.image), stored["clevr.img"], atol=1e-6)
    # Made smaller in two steps, as the set is kept at 128 pixels.
    assert np.abs(as_float(found.image) - stored["clevr.img"]).mean() < 0.05
    assert (found.mask == stored["clevr.seg"][0]).mean() > 0.97
