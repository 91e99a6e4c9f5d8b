"""Pictures over time as GIFs, and pages of clusters."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny import Run

from faults import At, build_tiny, kill, read_rows
from figureground.callbacks.clusters import ClusterPages
from figureground.callbacks.image_grid import ImageGrid
from figureground.core.errors import StoppedBySignalError


def sprites() -> Any:
    return build_tiny(
        "dti_sprites",
        "method.num_layers=2",
        "method.selection=greedy",
        "method.greedy_sweeps=2",
        "method.metrics.segmentation.num_regions=3",
    )


def one_layer() -> Any:
    return build_tiny("dti_sprites", "method.num_sprites=2")


def start(folder: Path, *callbacks: Any, make: Any = sprites, **options: Any) -> Run:
    grid = ImageGrid(str(folder / "images"), every=2, num_images=2)
    return Run(folder, *callbacks, grid, iterations=6, validate_every=2, make=make, **options)


def frames(path: Path) -> list[Any]:
    with Image.open(path) as gif:
        found = []
        for number in range(getattr(gif, "n_frames", 1)):
            gif.seek(number)
            found.append((np.asarray(gif.convert("RGB")), gif.info["duration"]))
        assert gif.info["loop"] == 0
    return found


def test_every_grid_becomes_a_gif_of_ten_seconds(tmp_path: Path) -> None:
    part = start(tmp_path).start()
    assert {path.name for path in (tmp_path / "images").glob("*.gif")} == {
        "scenes.gif", "sprites.gif", "usage.gif"
    }  # fmt: skip
    shown = frames(tmp_path / "images/scenes.gif")
    assert sum(duration for _, duration in shown) == pytest.approx(10_000, rel=0.02)
    with Image.open(tmp_path / "images/scenes_000002.png") as first:
        small = np.asarray(first.resize(shown[0][0].shape[1::-1]))
    assert np.abs(shown[0][0].astype(int) - small).mean() < 10
    rows = read_rows(tmp_path / "csv/metrics.csv")
    assert any("train/selection_change/sweep2" in row for row in rows)
    assert not any("train/selection_change/sweep1" in row for row in rows)
    assert part.method.picture_titles()["scenes"][-1] == "layer 2"


def test_gif_of_a_resumed_run_is_that_of_an_uninterrupted_one(tmp_path: Path) -> None:
    start(tmp_path / "whole").start()
    broken = start(tmp_path / "parts", At("on_train_batch_end", 3, kill()))
    with pytest.raises(StoppedBySignalError):
        broken.start()
    assert (tmp_path / "parts/images/scenes_000002.png").is_file()
    start(tmp_path / "parts").start(broken.last)
    one, two = (tmp_path / name / "images/scenes.gif" for name in ("whole", "parts"))
    assert one.read_bytes() == two.read_bytes()


def test_gif_of_one_drawing_is_passed_over_in_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    grid = ImageGrid(str(tmp_path / "images"), every=100, num_images=2)
    with caplog.at_level(logging.INFO):
        Run(tmp_path, grid, iterations=2, make=sprites).start()
    assert not list((tmp_path / "images").glob("*.gif"))
    (line,) = [line for line in caplog.text.splitlines() if "there is one" in line]
    assert "not written, as each needs two drawings" in line
    assert "sprites.gif" in line


def test_gif_takes_no_drawing_from_later_than_the_run(tmp_path: Path) -> None:
    for number in (10, 20, 1_000_000):
        Image.new("RGB", (4, 4), (number % 255, 0, 0)).save(tmp_path / f"a_{number:06d}.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    assert ImageGrid(str(tmp_path)).write_animations(until=15) == []
    assert ImageGrid(str(tmp_path)).write_animations(until=20) == [tmp_path / "a.gif"]
    assert len(frames(tmp_path / "a.gif")) == 2
    ImageGrid(str(tmp_path)).write_animations(until=2_000_000)
    assert len(frames(tmp_path / "a.gif")) == 3


def test_no_gif_if_not_wanted(tmp_path: Path) -> None:
    grid = ImageGrid(str(tmp_path / "images"), every=1, num_images=2, animate=False)
    Run(tmp_path, grid, iterations=2, validate_every=1, make=sprites).start()
    assert not list((tmp_path / "images").glob("*.gif"))


@pytest.mark.parametrize("stage", ["test", "validate"])
def test_each_cluster_has_a_page(tmp_path: Path, stage: str) -> None:
    pages = ClusterPages(str(tmp_path / "clusters"), num_members=2)
    part = start(tmp_path, pages, make=one_layer).start()
    assert not (tmp_path / "clusters").exists()
    (tmp_path / "clusters").mkdir()
    for name in ("cluster12.png", "clustered.jpg"):  # A page of an earlier test, and no page.
        (tmp_path / "clusters" / name).write_text("old")
    getattr(part.trainer, stage)(part.method, part.data, verbose=False)
    numbers = json.loads((tmp_path / "clusters/clusters.json").read_text())
    assert sum(each["count"] for each in numbers.values()) == 8
    assert sum(each["share"] for each in numbers.values()) == pytest.approx(1)
    assert {path.stem for path in (tmp_path / "clusters").glob("*.png")} == {
        f"cluster{number}" for number in numbers
    }
    assert (tmp_path / "clusters/clustered.jpg").is_file()


def test_no_pages_for_scenes_and_for_what_sorts_nothing(tmp_path: Path) -> None:
    for make in (sprites, lambda: build_tiny("redo")):
        pages = ClusterPages(str(tmp_path / "clusters"))
        part = start(tmp_path / str(id(make)), pages, make=make)
        part.trainer.test(part.method, part.data, verbose=False)
    assert not (tmp_path / "clusters").exists()


def test_methods_that_only_sort_get_one_sheet(tmp_path: Path) -> None:
    pages = ClusterPages(str(tmp_path / "clusters"))
    part = Run(tmp_path, pages, iterations=1, make=lambda: build_tiny("l2ic")).start()
    part.trainer.test(part.method, part.data, verbose=False)
    numbers = json.loads((tmp_path / "clusters/clusters.json").read_text())
    assert sum(each["count"] for each in numbers.values()) == 8
    assert [path.name for path in (tmp_path / "clusters").glob("*.png")] == ["members.png"]


def test_frames_tell_classes_apart_and_all_members_have_a_chance() -> None:
    import torch

    from figureground.callbacks.member_sheet import MemberSheet
    from figureground.core.types import Batch

    sheet = MemberSheet(num_rows=2, num_members=4)
    for number in range(40):
        image = torch.full((2, 3, 64, 64), number / 20 - 1)
        label = torch.tensor([0, number])  # One class in cluster 7, as many as pictures in 3.
        batch = Batch(image, ("a", "b"), label=label)
        sheet.add(batch, torch.tensor([7, 3]))
    assert {key: value["count"] for key, value in sheet.counts().items()} == {4: 40, 8: 40}
    drawn = sheet.draw()
    colors = {tuple(color) for color in drawn.reshape(-1, 3).tolist()}
    assert (0, 160, 0) in colors
    assert (200, 0, 0) in colors
    shown = [int(member.pixels[0, 0, 0]) for member in sheet._clusters[7].shown]
    assert max(shown) > 60  # Later pictures, not the first four.


def test_small_members_are_enlarged_within_their_frames() -> None:
    import torch

    from figureground.callbacks.member_sheet import MemberSheet
    from figureground.core.types import Batch

    sheet = MemberSheet()
    image = -torch.ones(2, 3, 16, 16)
    sheet.add(Batch(image, ("a", "b"), label=torch.tensor([0, 1])), torch.tensor([0, 0]))
    drawn = sheet.draw()
    assert (drawn[40, 3:67] == 0).all()  # 64 pixels, between frames of 3.
    assert (drawn[40, :3] == (0, 160, 0)).all()
    assert (drawn[40, 67:70] == (0, 160, 0)).all()
    assert drawn.shape[1] > 2 * 74  # As wide as the words about frames.
    assert (drawn[:14, 2 * 74 :] < 128).any()


def test_page_shows_the_members_of_least_error_and_any_of_all(tmp_path: Path) -> None:
    import torch

    from figureground.callbacks.clusters import _Cluster

    pages = ClusterPages(str(tmp_path), num_members=3)
    cluster = _Cluster()
    for number in range(200):
        picture = torch.full((3, 4, 4), number / 100 - 1)
        pages._add(cluster, float((number - 50) ** 2), (picture, picture))
    assert [member.error for member in cluster.best] == [0, 1, 1]
    assert len(cluster.drawn) == 3
    assert max(member.error for member in cluster.drawn) > 100
    assert float((cluster.sums[0] / cluster.count).mean()) == pytest.approx(-0.005, abs=1e-4)
