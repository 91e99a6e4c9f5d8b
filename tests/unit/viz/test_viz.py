"""Tensors and masks in, uint8 arrays out."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from figureground.core.types import VOID
from figureground.viz.animation import save_gif
from figureground.viz.charts import bar_chart, curve_chart
from figureground.viz.grids import (
    contact_sheet,
    from_uint8,
    picture_grid,
    save_labels,
    save_png,
    to_uint8,
)
from figureground.viz.overlays import COLORS, label_colors, mask_to_gray, on_checkerboard, overlay
from figureground.viz.truth import gray_truth


def test_colors_are_rounded_and_cut_off() -> None:
    image = torch.tensor([-1.0, 0, 1]).view(3, 1, 1)
    assert to_uint8(image).tolist() == [[[0, 128, 255]]]
    assert to_uint8(3 * image.bfloat16().requires_grad_()).tolist() == [[[0, 128, 255]]]


def test_every_eight_bit_color_survives_the_way_to_a_tensor_and_back() -> None:
    levels = torch.arange(256, dtype=torch.float32).view(1, 16, 16).expand(3, -1, -1)
    assert np.array_equal(to_uint8(levels / 127.5 - 1)[..., 0].ravel(), np.arange(256))


@pytest.mark.parametrize(("side", "cell"), [(32, 96), (128, 128), (200, 200)])
def test_grid_enlarges_small_pictures_by_whole_factors(side: int, cell: int) -> None:
    pictures = torch.full((5, 3, side, side), -1.0)
    pictures[4] = 1
    grid = picture_grid(pictures, columns=3)
    assert grid.shape == (2 * (cell + 2) + 2, 3 * (cell + 2) + 2, 3)
    assert grid.dtype == np.uint8
    assert (grid[2 : 2 + cell, 2 : 2 + cell] == 0).all()
    assert (grid[cell + 4 :, cell + 4 :] == np.uint8(255))[:cell, :cell].all()


def test_overlay_tints_regions_and_outlines_them() -> None:
    image = np.full((20, 30, 3), 100, np.uint8)
    mask = np.zeros((20, 30), np.uint8)
    mask[5:15, 5:15], mask[5:15, 20:25] = 1, 2
    tinted = overlay(image, mask, strength=0.25)
    assert (tinted[mask == 0] == 100).all()
    assert (tinted[6:14, 6:14] == np.round(75 + 0.25 * COLORS[0])).all()
    assert (tinted[10, 22] == np.round(75 + 0.25 * COLORS[1])).all()
    outline = (tinted == 255).all(axis=2)
    assert outline[5, 5:15].all()
    assert outline.sum() == 36 + 26
    assert (image == 100).all()


def test_overlay_shows_void_as_grey_without_outline() -> None:
    image, mask = np.full((6, 9, 3), 100, np.uint8), np.zeros((6, 9), np.uint8)
    mask[:, :3], mask[:, 6:] = VOID, 1
    tinted = overlay(image, mask)
    assert (tinted[:, :3] == 114).all()
    assert (tinted[:, 6] == 255).all()
    assert (tinted[:, 7:] == np.round(50 + 0.5 * COLORS[0])).all()


def test_overlay_draws_no_outline_at_the_edge_of_the_picture() -> None:
    image, mask = np.zeros((8, 8, 3), np.uint8), np.ones((8, 8), np.uint8)
    assert not (overlay(image, mask) == 255).all(axis=2).any()


def test_transparent_pixels_show_a_checkerboard() -> None:
    rgba = np.zeros((20, 20, 4), np.uint8)
    rgba[10:, :, :3], rgba[10:, :, 3] = (10, 20, 30), 255
    shown = on_checkerboard(rgba)
    assert sorted(np.unique(shown[:10])) == [180, 230]
    assert (shown[0, 0] != shown[0, 8]).all()
    assert (shown[10:] == (10, 20, 30)).all()


def test_regions_spread_from_black_to_white() -> None:
    mask = np.arange(4, dtype=np.uint8).reshape(2, 2)
    assert mask_to_gray(mask, 4).ravel().tolist() == [0, 85, 170, 255]
    assert mask_to_gray(mask[:1], 2).ravel().tolist() == [0, 255]
    assert mask_to_gray(mask * 0, 1).max() == 0
    assert mask_to_gray(np.array([[0, 1, VOID]], np.uint8), 2).tolist() == [[0, 255, 128]]
    truth = torch.tensor([[[0, 1, 2, 5, VOID]]])
    assert gray_truth(truth).tolist() == [[[[0, 1, 1, 1, 0.5]]]]
    assert gray_truth(truth, 3).tolist() == [[[[0, 0.5, 1, 1, 0.5]]]]


def test_contact_sheet_has_a_caption_per_row_and_a_title_per_column() -> None:
    red = np.zeros((50, 300, 3), np.uint8)
    red[..., 0] = 200
    sheet = contact_sheet([[red, red], [red]], ["first", "secönd"], ["a", "b"], cell=64)
    assert sheet.shape == (14 + 2 * (64 + 14 + 4), 2 * 68, 3)
    captions = sheet[14:28], sheet[14 + 82 : 28 + 82]
    assert all(strip.min() < 100 and strip.max() == 255 for strip in captions)
    assert (sheet[28:38, 68 : 68 + 64] == (200, 0, 0)).all()
    assert (sheet[110:, 68:] == 255).all()


@pytest.mark.parametrize("channels", [None, 3, 4])
def test_png_is_written_without_loss(channels: int | None) -> None:
    shape = (6, 5) if channels is None else (6, 5, channels)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    file = io.BytesIO()
    save_png(pixels, file)
    assert np.array_equal(np.asarray(Image.open(file)), pixels)


def test_labels_are_written_as_they_are_and_shown_in_color() -> None:
    labels = np.array([[0, 1, 30]], np.uint8)
    file = io.BytesIO()
    save_labels(labels, label_colors(), file)
    picture = Image.open(file)
    assert np.array_equal(np.asarray(picture), labels)
    shown = np.asarray(picture.convert("RGB"))
    assert shown[0].tolist() == label_colors(31)[[0, 1, 30]].tolist()


def test_colors_of_labels_differ_and_do_not_depend_on_their_number() -> None:
    colors = label_colors(40)
    assert len(np.unique(colors, axis=0)) == 40
    assert np.array_equal(colors[:5], label_colors(5))
    assert (colors[0] == 0).all()
    assert (colors[1 : len(COLORS) + 1] == COLORS).all()


def test_contact_sheet_enlarges_small_pictures_by_whole_factors() -> None:
    red = np.full((10, 20, 3), (200, 0, 0), np.uint8)
    sheet = contact_sheet([[red]], ["a"], ["b"], cell=64)
    assert (sheet[28 : 28 + 30, :60] == (200, 0, 0)).all()
    assert (sheet[28 + 30 :] == 255).all()


def test_gif_is_bounded_and_refuses_one_frame(tmp_path: Path) -> None:
    paths = []
    for number in range(150):
        paths.append(tmp_path / f"{number:03d}.png")
        picture = Image.new("RGB", (1000, 10), (number, 255 - number, 0))
        picture.paste((255, 255, 255), (6 * number + 100, 0, 6 * number + 110, 10))
        picture.save(paths[-1])
    with pytest.raises(ValueError, match="at least two frames, got 1"):
        save_gif(paths[:1], io.BytesIO())
    file = io.BytesIO()
    save_gif(paths, file)
    with Image.open(file) as gif:
        assert gif.n_frames == 50  # type: ignore[attr-defined]
        assert gif.size == (512, 5)
        assert gif.info["duration"] == 200
        last = gif.n_frames - 1  # type: ignore[attr-defined]
        gif.seek(last)
        assert np.abs(np.asarray(gif.convert("RGB"))[0, 0].astype(int) - (149, 106, 0)).max() < 8


def test_colours_of_a_gif_stay_as_they_are(tmp_path: Path) -> None:
    paths = []
    rng = np.random.default_rng(0)
    for number in range(4):
        pixels = rng.integers(0, 255, (40, 40, 3), np.uint8)
        pixels[:10, :10], pixels[:10, 30:] = (191, 191, 0), (128, 0, 128)
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(pixels).save(paths[-1])
    file = io.BytesIO()
    save_gif(paths, file)
    corners = []
    with Image.open(file) as gif:
        for number in range(4):
            gif.seek(number)
            frame = np.asarray(gif.convert("RGB")).astype(int)
            corners.append(np.stack([frame[5, 5], frame[5, 35]]))
    assert all((corner == corners[0]).all() for corner in corners)
    assert np.abs(corners[0] - [(191, 191, 0), (128, 0, 128)]).max() <= 16


def test_highest_bar_fills_the_chart_and_others_follow() -> None:
    colors = np.array([[255, 0, 0], [0, 0, 255], [0, 255, 0]], np.uint8)
    chart = bar_chart([0.5, 0.25, 0.0], colors, ["a", "b", "c"])
    heights = [(chart[:, 36 * n + 4 + 2] == colors[n]).all(axis=1).sum() for n in range(3)]
    assert heights == [121, 61, 1]
    assert bar_chart([0.0], colors[:1], ["a"]).shape[2] == 3


def test_titles_stand_above_their_columns() -> None:
    pictures = torch.full((4, 3, 96, 96), -1.0)
    plain, titled = (picture_grid(pictures, 2, titles=t) for t in ((), ("one", "two")))
    assert np.array_equal(titled[14:], plain)
    assert titled[:14, :98].min() < 100
    assert titled[:14, 98:].min() < 100


def test_pixels_become_a_tensor_and_come_back() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
    assert np.array_equal(to_uint8(from_uint8(pixels)), pixels)


def test_curves_have_axes_of_their_own_and_gaps() -> None:
    def count(values: list[float]) -> int:
        """Pixels of the curve's colour."""
        chart = curve_chart([0, 10, 20], {"a": values}, "iteration").astype(int)
        return int((chart == [31, 119, 180]).all(2).sum())

    assert count([0.0, 0.5, 1.0]) > count([0.0, np.nan, 1.0]) > 0
    assert count([np.nan] * 3) == 0
    # Positions and values that are all the same still have an axis.
    assert curve_chart([5], {"a": [0.0], "b": [3.0]}, "x").shape[2] == 3
    one, two = (curve_chart([0, 1], {key: [0.0, 1.0] for key in "ab"[:n]}, "x") for n in (1, 2))
    assert two.shape[0] > one.shape[0]
    assert two.shape[1] == one.shape[1]
