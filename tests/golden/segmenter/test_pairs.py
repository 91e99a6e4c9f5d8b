"""Augmentation, quantisation, reading and scoring of pairs, against the authors' outputs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from figureground.core.types import Batch
from figureground.data.batching import to_float
from figureground.data.fitting import fit_pair
from figureground.data.samples import Sample
from figureground.data.shard_content import quantize, quantize_share
from figureground.data.transforms import ShorterSide
from figureground.methods.segmenter import Segmenter
from figureground.methods.segmenter.augment import change_colors, warp, warp_mask
from figureground.metrics.segmentation import SegmentationScores

Golden = Callable[[str], Path]


def test_augmentation_matches(golden: Golden) -> None:
    tensors = load_file(golden("ilsgan") / "seg_augment.safetensors")
    image, mask = tensors["in.img"], tensors["in.mask"]
    assert_close(change_colors(image, tensors["color.C"]), tensors["color.out"])
    matrix = tensors["gc.G_inv"]
    both = change_colors(warp(image, matrix), tensors["gc.C"])
    assert_close(both, tensors["gc.img_out"])
    assert torch.equal(warp_mask(mask, matrix), tensors["gc.mask_out"])


def test_ilsgans_quantisation_matches(golden: Golden) -> None:
    scalars = json.loads((golden("ilsgan") / "scalars_eval.json").read_text())
    colors, masks = scalars["save_rgb"], scalars["save_mask"]
    assert quantize(torch.tensor(colors["in"]), "nearest").tolist() == colors["out"]
    assert quantize_share(torch.tensor(masks["in"])).tolist() == masks["out"]


def test_gan_segmenters_saved_pair_matches(golden: Golden) -> None:
    tensors = load_file(golden("gan_segmenter") / "saved_pairs.safetensors")
    stored = quantize(tensors["img"], "down").permute(1, 2, 0)
    assert torch.equal(stored, tensors["image_uint8"])
    assert torch.equal(quantize_share(tensors["mask"].float()), tensors["mask_uint8"])
    share = tensors["mask_uint8"][None].float() / 255
    image, share = fit_pair(stored.permute(2, 0, 1)[None].float(), share, 32)
    loaded = (tensors["loaded_image"] + 1) * 127.5
    # Their resize works in whole numbers.
    assert (image[0].round() - loaded).abs().max() <= 1.01
    assert torch.equal((share[0] >= 0.5).to(torch.uint8), tensors["loaded_mask"])


@pytest.mark.parametrize("crop", [False, True])
def test_gan_segmenters_test_pictures_match(golden: Golden, crop: bool) -> None:
    tensors = load_file(golden("gan_segmenter") / "real_dataset.safetensors")
    for number in range(3):
        image, mask = (tensors[f"{number}.{part}_uint8"].numpy() for part in ("image", "mask"))
        given = Sample(image, "a", (mask > 127).astype("uint8"))
        found = ShorterSide(24, crop)(given)
        expected = tensors[f"{number}.crop_{crop}.image"]
        assert_close(to_float(found.image[None])[0], expected, rtol=0, atol=1e-6)
        whole = tensors[f"{number}.crop_{crop}.resize_mask_False.mask"]
        assert torch.equal(torch.from_numpy(found.mask), whole)
        soft = Sample(image, "a", mask, is_soft=True)  # Theirs are cut after they are resized.
        found = ShorterSide(24, crop, resize_mask=True)(soft)
        assert_close(to_float(found.image[None])[0], expected, rtol=0, atol=1e-6)
        shrunk = tensors[f"{number}.crop_{crop}.resize_mask_True.mask"]
        assert torch.equal(torch.from_numpy(found.mask), shrunk)
        assert not found.is_soft


@pytest.mark.parametrize("protocol", ["calc_metrics", "calc_metrics_eval128"])
def test_ilsgans_scores_match(golden: Golden, protocol: str) -> None:
    tensors = load_file(golden("ilsgan") / "metrics.safetensors")
    expected = json.loads((golden("ilsgan") / "scalars_eval.json").read_text())[protocol]
    mask = tensors["in.gt2x" if "128" in protocol else "in.gt"]
    side = mask.shape[-1]
    method = Segmenter(resolution=side, input_resolution=16, width=1, depth=1)
    method._shrink = lambda image: tensors["in.logits"]  # type: ignore[method-assign]
    method.network = torch.nn.Identity()
    scores = SegmentationScores(2, truth="binary")
    batch = Batch(torch.zeros(9, 3, side, side), tuple("abcdefghi"), mask)
    scores.update(method._segment_to_score(batch), mask)
    found = scores.compute()
    names = {"iou/img/fixed": "DRC_IoU", "dice/img/fixed": "DRC_DICE", "acc/img/fixed": "pACC"}
    names |= {"iou/global/fixed": "IoU", "miou/global": "mIoU"}
    for ours, theirs in names.items():
        assert float(found[ours]) == pytest.approx(expected[theirs], rel=1e-6), ours
