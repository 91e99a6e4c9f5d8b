"""Two stages: a generator draws pairs, to files or live, and a segmenter learns from them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from short import short
from tiny import Run, assert_equal_to

from faults import At, build_tiny, fail, tiny_overrides
from figureground.cli.convert import convert
from figureground.cli.generate import generate
from figureground.cli.train import train
from figureground.core.checkpoint import VerifiedCheckpointIO, load_method
from figureground.core.errors import ConfigError, DataError, UserError
from figureground.core.protocols import LayerGenerator
from figureground.data.pairs import LivePairs, open_pairs
from figureground.data.shards import ShardReader
from figureground.methods.segmenter.convert import name_table

Compose = Callable[..., DictConfig]
GENERATORS = ("redo", "dti_sprites")


@pytest.fixture(scope="module")
def drawers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoints of tiny generators."""
    folder, found = tmp_path_factory.mktemp("drawers"), {}
    for name in GENERATORS:
        torch.manual_seed(0)
        method, _ = build_tiny(name)
        assert isinstance(method, LayerGenerator)
        if name == "redo":
            method._remember(torch.rand(4, 3, 32, 32) * 2 - 1)
        checkpoint = {"state_dict": method.state_dict()}
        method.on_save_checkpoint(checkpoint)
        found[name] = folder / f"{name}.ckpt"
        VerifiedCheckpointIO().save_checkpoint(checkpoint, found[name])
    return found


def learn(compose: Compose, run: Path, *overrides: str) -> dict[str, float]:
    options = [
        *tiny_overrides("segmenter"), "iterations=4", "trainer.val_check_interval=2",
        "trainer.accelerator=cpu", "callbacks.checkpoints.every=2", *overrides,
    ]  # fmt: skip
    train(compose(*options, output=run))
    return dict(json.loads((run / "metrics.json").read_text()))


def write(compose: Compose, ckpt: Path, output: Path, *more: str) -> None:
    options = [f"ckpt={ckpt}", "format=shards", f"output={output}", "device=cpu", *more]
    generate(compose(*options, config_name="generate"))


@pytest.mark.parametrize("name", GENERATORS)
def test_generate_then_train_on_saved_pairs(
    compose: Compose, drawers: dict[str, Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, name: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for size in (7, 100):
        write(compose, drawers[name], tmp_path / str(size), "count=20", f"shard_size={size}")
    few, one = (ShardReader(tmp_path / str(size)) for size in (7, 100))
    assert (len(few.files), len(one.files)) == (3, 1)
    for index in range(20):
        for part in ("image", "mask", "layers", "seed"):
            assert few.read(index, part).tobytes() == one.read(index, part).tobytes()
    assert (tmp_path / "7/samples.png").is_file()
    scores = learn(compose, tmp_path / "run", "pairs=saved", f"pairs.root={tmp_path}/7")
    assert scores["val_pairs/images"] == 2
    assert scores["val/images"] == scores["test/images"] == 8
    # The best by pairs is what gets tested; labels of real pictures have no say.
    assert (tmp_path / "run/checkpoints/best.ckpt").is_file()
    assert {"val_pairs/iou/global/fixed", "last/test/iou/img/fixed"} <= scores.keys()
    assert load_method(tmp_path / "run/checkpoints/best.ckpt").learns_from_masks


def test_png_folders_give_the_same_pairs(
    compose: Compose, drawers: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(compose, drawers["redo"], tmp_path / "shards", "count=12")
    write(compose, drawers["redo"], tmp_path / "png", "count=12", "format=png")
    shards, pictures = (open_pairs(tmp_path / name, verify=True) for name in ("shards", "png"))
    assert len(pictures) == len(shards) == 12
    for index in range(12):
        for part in ("image", "mask"):
            one, two = (each.read(index, part).astype(int) for each in (shards, pictures))
            assert abs(one - two).max() <= 1
    shutil.rmtree(tmp_path / "png/layers")
    hard = open_pairs(tmp_path / "png", verify=True)
    assert set(np.unique(hard.read(3, "mask"))) <= {0, 255}
    sure = abs(shards.read(3, "mask").astype(int) - 127.5) > 2
    assert ((hard.read(3, "mask") > 0) == (shards.read(3, "mask") > 127))[sure].all()
    scores = learn(compose, tmp_path / "run", "pairs=saved", f"pairs.root={tmp_path}/png")
    assert scores["val_pairs/images"] == 1


def test_broken_png_folders_are_refused_before_training(
    compose: Compose, drawers: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(compose, drawers["redo"], tmp_path / "png", "count=3", "format=png")
    saved = ["pairs=saved", f"pairs.root={tmp_path}/png"]
    image, listed = tmp_path / "png/images/000001.png", tmp_path / "png/manifest.csv"
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"000001\.png is not a readable picture .*generate again"):
        learn(compose, tmp_path / "run", *saved)
    image.unlink()
    with pytest.raises(DataError, match=r"000001\.png is missing; run generate again"):
        learn(compose, tmp_path / "run", *saved)
    listed.write_text(listed.read_text().replace("\n1,", "\n../1,"))
    with pytest.raises(DataError, match=r"manifest\.csv is damaged"):
        learn(compose, tmp_path / "run", *saved)
    assert not list(tmp_path.glob("run*/checkpoints/*.ckpt"))


def test_train_on_live_pairs(
    compose: Compose, drawers: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["pairs=live", f"pairs.ckpt={drawers['redo']}", "pairs.val_count=40"]
    scores = learn(compose, tmp_path / "run", *options, "pairs.device=cpu")
    assert scores["val_pairs/images"] == 40
    assert scores["test/images"] == 8


def live(folder: Path, ckpt: Path, *callbacks: At) -> Run:
    """A short run of the segmenter on live pairs."""

    def make() -> object:
        method, data = build_tiny("segmenter")
        LivePairs(str(ckpt), seed=5, val_count=8, device="cpu").attach(data)
        return method, data

    return short(folder, "segmenter", *callbacks, make=make)


def test_resumed_run_sees_the_same_live_pairs(tmp_path: Path, drawers: dict[str, Path]) -> None:
    whole = live(tmp_path / "whole", drawers["dti_sprites"]).start()
    first = live(tmp_path, drawers["dti_sprites"], At("on_train_batch_start", 3, fail()))
    with pytest.raises(RuntimeError, match="injected"):
        first.start()
    second = live(tmp_path, drawers["dti_sprites"]).start(first.last)
    assert_equal_to(whole, first, second)


def test_live_batches_do_not_depend_on_what_was_drawn_before(drawers: dict[str, Path]) -> None:
    pairs = LivePairs(str(drawers["redo"]), seed=1, device="cpu")
    _, data = build_tiny("segmenter")
    late = next(iter(pairs.batches(data, lambda: 2, 0)))
    early = iter(pairs.batches(data, int, 0))
    batches = [next(early) for _ in range(3)]
    assert torch.equal(batches[2].image, late.image)
    assert not torch.equal(batches[1].image, late.image)
    assert not torch.equal(next(iter(pairs.batches(data, lambda: 2, 1))).image, late.image)


def test_wrong_pairs_are_refused_before_training(
    compose: Compose, drawers: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(compose, drawers["redo"], tmp_path / "pairs", "count=20", "shard_size=7")
    last = tmp_path / "pairs/pairs-000002.safetensors"
    whole = last.read_bytes()
    last.unlink()
    with pytest.raises(DataError, match=r"pairs-000002\.safetensors is missing; run generate"):
        learn(compose, tmp_path / "run", "pairs=saved", f"pairs.root={tmp_path}/pairs")
    last.write_bytes(whole[:-1])
    saved = ["pairs=saved", f"pairs.root={tmp_path}/pairs"]
    with pytest.raises(DataError, match=r"pairs-000002\.safetensors has \d+ bytes, expected \d+"):
        learn(compose, tmp_path / "run", *saved)
    with pytest.raises(ConfigError, match="methods that learn from masks, which ReDO does not"):
        train(compose(*tiny_overrides("redo"), *saved))
    segmenter, _ = build_tiny("segmenter")
    checkpoint = {"state_dict": segmenter.state_dict()}
    segmenter.on_save_checkpoint(checkpoint)
    VerifiedCheckpointIO().save_checkpoint(checkpoint, tmp_path / "s.ckpt")
    with pytest.raises(ConfigError, match="Segmenter cannot draw pictures"):
        learn(compose, tmp_path / "run2", "pairs=live", f"pairs.ckpt={tmp_path}/s.ckpt")
    with pytest.raises(ConfigError, match="pairs.device=warp is not available; use auto or cpu"):
        LivePairs(str(drawers["redo"]), device="warp")
    with pytest.raises(UserError, match="another shard_size; add overwrite=true"):
        write(compose, drawers["redo"], tmp_path / "pairs", "count=20", "shard_size=8")
    assert not list(tmp_path.glob("run*/checkpoints/*.ckpt"))


def test_authors_network_is_converted_by_the_command(compose: Compose, tmp_path: Path) -> None:
    network = build_tiny("segmenter")[0].network
    state = {k: network.state_dict()[v] for k, v in name_table("ilsgan").items()}
    torch.save({"model": state, "cur_iter": 6000}, tmp_path / "net.pth")
    options = ["method=segmenter", "data=toy", f"weights={tmp_path}/net.pth"]
    output = tmp_path / "unet.ckpt"
    convert(compose(*options, f"output={output}", config_name="convert"))
    image = torch.rand(2, 3, 32, 32)
    found = load_method(output).segment(image)
    torch.testing.assert_close(found, network.eval()(image).softmax(1))
