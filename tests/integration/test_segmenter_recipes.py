"""The segmenter's recipes hold the settings of the papers, and full-size tests run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from archives import write_folder
from faults import tiny_overrides
from figureground.cli.settings import TrainSettings
from figureground.cli.train import train
from figureground.core.config import build, check, to_plain

Compose = Callable[..., DictConfig]
SAVED = ["pairs=saved", "pairs.root=pairs"]


def load(compose: Compose, *overrides: str) -> dict[str, Any]:
    config = compose(*overrides)
    assert check(config, TrainSettings) == []
    return to_plain(config)


def test_ilsgan_at_64(compose: Compose) -> None:
    plain = load(compose, "method=segmenter", "data=cub", *SAVED)
    method, data = plain["method"], plain["data"]
    assert (data["resolution"], data["batch_size"], plain["iterations"]) == (64, 64, 6000)
    assert (method["augment"], method["schedule"], method["loss"]) == (
        "color", "constant", "cross_entropy",
    )  # fmt: skip
    assert (method["optimizer"]["lr"], method["optimizer"]["betas"]) == (1e-3, [0.9, 0.999])
    assert plain["pairs"]["val_share"] == 0.1
    assert plain["callbacks"]["checkpoints"]["monitor"] == "val_pairs/iou/global/fixed"
    built = build(compose("method=segmenter", "data=cub", *SAVED).method)
    assert sum(p.numel() for p in built.parameters()) == 13_395_394


def test_without_pairs_no_score_selects(compose: Compose) -> None:
    plain = load(compose, "method=segmenter", "data=cub")
    assert plain["callbacks"]["checkpoints"]["monitor"] is None


def test_ilsgan_at_128(compose: Compose) -> None:
    plain = load(compose, "experiment=segmenter-cub-ilsgan128", "pairs.root=pairs")
    assert (plain["method"]["input_resolution"], plain["data"]["resolution"]) == (64, 128)
    assert (plain["method"]["augment"], plain["iterations"]) == ("color", 6000)


def test_gan_segmenter(compose: Compose) -> None:
    plain = load(compose, "experiment=segmenter-cub-gan_segmenter", "pairs.root=pairs")
    assert (plain["data"]["batch_size"], plain["iterations"]) == (128, 18000)
    assert (plain["seed"], plain["pairs"]["val_share"]) == (4321, 0.01)
    assert plain["method"]["augment"] == "none"
    assert plain["callbacks"]["checkpoints"]["monitor"] is None
    assert plain["data"]["test_transform"]["crop"]


def test_l2ic(compose: Compose) -> None:
    plain = load(compose, "experiment=segmenter-cub-l2ic", "pairs.ckpt=x.ckpt")
    method = plain["method"]
    assert (method["loss"], method["target"]) == ("binary_entropy", "soft")
    assert (method["optimizer"]["lr"], method["optimizer"]["betas"]) == (2e-4, [0.5, 0.999])
    assert [plain["data"][split]["crop"] for split in ("train", "val", "test")] == [
        "none", "box", "box"
    ]  # fmt: skip
    built = build(compose("experiment=segmenter-cub-l2ic", "pairs.ckpt=x.ckpt").method)
    assert sum(p.numel() for p in built.parameters()) == 34_527_041


@pytest.mark.parametrize("data", ["flowers", "cars", "dogs", "clevr"])
def test_l2ic_on_other_sets(compose: Compose, data: str) -> None:
    plain = load(compose, f"experiment=segmenter-{data}-l2ic", "pairs.ckpt=x.ckpt")
    assert plain["method"]["loss"] == "binary_entropy"
    assert (plain["data"]["name"], plain["data"]["resolution"]) == (data, 128)
    assert plain["data"]["transform"].get("shorter") == (152 if data == "flowers" else None)
    assert plain["callbacks"]["checkpoints"]["monitor"] is None
    if data == "flowers":
        masks = [plain["data"][split]["masks"] for split in ("train", "val", "test")]
        assert masks == ["hard", "soft", "soft"]


def test_pictures_are_tested_at_their_own_size(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "mine", 40)
    tiny = [option for option in tiny_overrides("segmenter") if not option.startswith("data")]
    target = "figureground.data.transforms.ShorterSide"
    options = [
        *tiny, "data=folder", "data.root=mine", "data.resolution=16", "data.batch_size=4",
        "data.num_workers=0", f"+data.test_transform={{_target_:{target},resolution:16}}",
        "iterations=2", "trainer.val_check_interval=2", "trainer.accelerator=cpu",
    ]  # fmt: skip
    config = compose(*options)
    data = build(config.data)
    data.setup("test")
    sizes = {data.store("test").load(i).image.shape for i in range(len(data.store("test")))}
    assert len(sizes) > 1
    train(config)
    scores = json.loads((tmp_path / "run/metrics.json").read_text())
    assert scores["test/images"] == len(data.store("test"))
    assert 0 <= scores["test/iou/img/fixed"] <= 1
