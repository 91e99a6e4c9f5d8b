"""Losses, directions, masks and filters against outputs of the authors' code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from figureground.methods.gan_segmenter import filters
from figureground.methods.gan_segmenter.directions import Directions, ShiftLength
from figureground.methods.gan_segmenter.filters import PairFilters, clean, judge
from figureground.methods.gan_segmenter.masks import (
    keep_large_components,
    mask_of_one,
    mask_of_two,
)
from figureground.methods.gan_segmenter.objective import (
    SearchObjective,
    circle_map,
    edge_strength,
    gray,
)

Golden = Callable[[str], Path]


@pytest.fixture
def masks(golden: Golden) -> dict[str, Tensor]:
    return load_file(golden("gan_segmenter") / "masks.safetensors")


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-6)


def test_losses_and_their_gradient(golden: Golden) -> None:
    stored = load_file(golden("gan_segmenter") / "losses.safetensors")
    close(circle_map(32, 32), stored["circle"])
    close(circle_map(128, 128), stored["circle_128"])
    shifted = stored["img_shifted"].requires_grad_()
    terms = SearchObjective().terms(stored["img_original"], shifted[None], torch.ones(1))
    close(terms["center"][0], stored["weighted.outside_circle_loss"])
    close(terms["edges"][0], stored["weighted.sobel_shift_loss"])
    total = sum(terms.values(), torch.zeros(1)).sum()
    close(total, stored["weighted.loss"])
    total.backward()
    torch.testing.assert_close(shifted.grad, stored["grad_img_shifted"], rtol=1e-3, atol=1e-7)
    close(edge_strength(gray(shifted.detach())), stored["sobel_shifted"][0])


@pytest.mark.parametrize("name", ["vec", "wplus"])
def test_directions_are_normalised_over_the_first_axis(golden: Golden, name: str) -> None:
    stored = load_file(golden("gan_segmenter") / "direction.safetensors")
    raw, z = stored[f"{name}.raw"], stored[f"{name}.z"]
    directions = Directions(raw.shape[1:], sides="light")
    with torch.no_grad():
        directions.light.copy_(raw)
    close(directions.best("light").expand_as(z), stored[f"{name}.forward"])
    directions.project()
    close(directions.light, stored[f"{name}.after_train_iter"])


def test_shift_lengths(golden: Golden) -> None:
    stored = load_file(golden("gan_segmenter") / "direction.safetensors")
    close(ShiftLength().limit(stored["r.raw_normal"]), stored["r.clipped"])


@pytest.mark.parametrize("rule", ["lighting", "std"])
def test_masks_of_one_direction(masks: dict[str, Tensor], rule: str) -> None:
    for side, inverted in (("light", False), ("dark", True)):
        found = mask_of_one(masks["img"], masks["img_light"], side, rule)
        assert torch.equal(found.byte(), masks[f"mask.light.{rule}.invert_{inverted}"])


def test_masks_of_two_directions(masks: dict[str, Tensor]) -> None:
    found = mask_of_two(masks["img_light"], masks["img_dark"])
    assert torch.equal(found.byte(), masks["mask.dual.raw"])


def test_small_components_are_dropped(masks: dict[str, Tensor]) -> None:
    raw = masks["mask.light.lighting.invert_False"].bool()
    for threshold in (0.2, 0.5):
        expected = masks[f"mask.light.lighting.cc_{threshold}"]
        assert torch.equal(keep_large_components(raw, threshold).byte(), expected)
    dark = keep_large_components(mask_of_one(masks["img"], masks["img_dark"], "dark"), 0.2)
    assert torch.equal(dark.byte(), masks["mask.dark.cc_0.2"])


def test_filters_one_by_one(masks: dict[str, Tensor]) -> None:
    light = masks["mask.light.lighting.cc_0.2"].bool()
    dark = masks["mask.dark.cc_0.2"].bool()
    for low, high in ((0.0, 0.5), (0.1, 0.4)):
        share = filters.area(light)
        assert torch.equal((share >= low) & (share <= high), masks[f"keep.area_{low}_{high}"])
    for bins in (6, 12):
        peaks = filters.count_peaks(masks["img_light"], bins)
        assert torch.equal(peaks >= 2, masks[f"keep.hist_{bins}"])
    value, fits = filters.roundness(light[:-1])
    for least in (0.06, 0.075, 0.085, 0.1):
        assert torch.equal(fits & (value > least), masks[f"keep.roundness_{least}"])
    for least in (0.9, 0.95, 0.97, 0.98):
        assert torch.equal(filters.agreement(light, dark) >= least, masks[f"keep.overlap_{least}"])


def test_whole_pipeline(masks: dict[str, Tensor]) -> None:
    both = {"light": PairFilters(), "dark": PairFilters()}
    shifted = {"light": masks["img_light"], "dark": masks["img_dark"]}
    raw = {side: mask_of_one(masks["img"], shifted[side], side) for side in both}
    cleaned = clean(raw, both)

    keep = judge({"light": cleaned["light"]}, {"light": shifted["light"]}, both)
    assert torch.equal(keep.nonzero()[:, 0], masks["pipeline.single.kept"])
    assert torch.equal(cleaned["light"][keep].byte(), masks["pipeline.single.mask"])

    keep = judge(cleaned, shifted, both)
    assert torch.equal(keep.nonzero()[:, 0], masks["pipeline.dual.kept"])
    dual = keep_large_components(mask_of_two(*shifted.values()), both["light"].components)
    assert torch.equal(dual[keep].byte(), masks["pipeline.dual.mask"])
