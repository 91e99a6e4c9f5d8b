"""Every command: in this process where possible, as a user types it where not."""

from __future__ import annotations

import argparse
import csv
import json
import logging
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from PIL import Image

from archives import picture, write_flowers, write_folder
from faults import ROOT, build_tiny, run, tiny_overrides
from figureground import load_method
from figureground.cli import COMMANDS
from figureground.cli.convert import convert
from figureground.cli.evaluate import evaluate
from figureground.cli.generate import generate
from figureground.cli.inference import choose_device, find_pictures
from figureground.cli.objective import read_objective
from figureground.cli.predict import predict
from figureground.cli.prepare import prepare
from figureground.cli.train import train
from figureground.core.checkpoint import read_checkpoint
from figureground.core.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    StoppedBySignalError,
    UserError,
    exit_code_of,
)
from figureground.core.types import Batch
from figureground.data.datamodule import ImageDataModule
from figureground.methods.redo import ReDO
from figureground.methods.redo.convert import NETWORKS

Compose = Callable[..., DictConfig]
FAST = [
    *tiny_overrides("redo"), "iterations=4", "trainer.val_check_interval=2",
    "trainer.accelerator=cpu", "callbacks.checkpoints.every=2", "trainer.log_every_n_steps=1",
    "callbacks.throughput.every=2", "callbacks.image_grid.every=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run directory of a short training on the toy set."""
    folder = tmp_path_factory.mktemp("trained")
    train_py = ROOT / "src/train.py"
    done = run(["python", train_py, *FAST, "paths.output_dir=run"], cwd=folder, limit=120)
    assert done.code == 0, done.err
    return folder / "run"


def ckpt(trained: Path) -> str:
    return f"ckpt={trained}/checkpoints/last.ckpt"


def test_training_leaves_everything_it_promises(trained: Path) -> None:
    names = {str(p.relative_to(trained)) for p in trained.rglob("*") if p.is_file()}
    assert {
        "config.json", "metrics.json", "card.md", "checkpoints/last.ckpt", "csv/metrics.csv",
        "images/redraw_object.png", "images/redraw_object_000004.png", ".hydra/config.yaml",
    } <= names  # fmt: skip
    metrics = json.loads((trained / "metrics.json").read_text())
    assert 0 <= metrics["test/iou/img/set"] <= 1
    assert metrics["iterations"] == 4
    assert (trained.parent / "outputs/latest").resolve() == trained.resolve()
    rows = list(csv.DictReader((trained / "csv/metrics.csv").open()))
    assert any(row["val/iou/img/set"] for row in rows)
    assert any(row["throughput/images_per_s"] for row in rows)
    card = (trained / "card.md").read_text()
    assert "`iou/img/set`" in card
    assert "No label took part" in card


def test_train_in_process(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = compose(*FAST, "logger=tensorboard", "+extra.note=hello")
    value = train(config)
    assert value is not None
    assert 0 <= value <= 1
    assert list((tmp_path / "run/tensorboard").glob("events*"))
    with pytest.raises(ConfigError, match="already holds a run"):
        train(config)
    longer = compose(*FAST, "logger=tensorboard", "iterations=5", "ckpt=last")
    train(longer)
    assert json.loads((tmp_path / "run/metrics.json").read_text())["iterations"] == 5
    other = compose(*FAST, "logger=tensorboard", "ckpt=last", "method.latent_dim=9")
    with pytest.raises(ConfigError, match=r"method\.latent_dim \(8 -> 9\)"):
        train(other)
    with pytest.raises(ConfigError, match="holds no run to go on with"):
        train(compose(*FAST, "ckpt=last", output=tmp_path / "empty"))


@pytest.mark.parametrize("data", ["toy", "folder"])
def test_overfit_trains_on_one_batch_of_any_dataset(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "mine", 60)
    batches = []
    step = ReDO.training_step

    def watch(self: ReDO, batch: tuple[Batch, Batch], batch_idx: int) -> None:
        batches.append((self.iteration, [part.key for part in batch], batch[0].image.clone()))
        step(self, batch, batch_idx)

    monkeypatch.setattr(ReDO, "training_step", watch)
    own = ["data.root=mine", "data.num_workers=0"] if data == "folder" else ["data.val.count=8"]
    fast = [argument for argument in FAST if not argument.startswith("data")]
    arguments = [
        *fast, f"data={data}", *own, "data.resolution=32", "data.batch_size=4", "debug=overfit",
        "test=false",
    ]  # fmt: skip
    train(compose(*arguments, "iterations=5"))
    assert [number for number, _, _ in batches] == [1, 2, 3, 4, 5]
    assert all(keys == batches[0][1] for _, keys, _ in batches)
    assert all(torch.equal(image, batches[0][2]) for _, _, image in batches)
    rows = list(csv.DictReader((tmp_path / "run/csv/metrics.csv").open()))
    assert [row["step"] for row in rows if row["val/iou/img/set"]] == ["1", "3", "4"]


def test_misspelt_objective_is_reported(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert train(compose(*FAST, "iterations=2", "test=false", "objective=val/iou/img/sets")) is None
    line = "objective=val/iou/img/sets was never logged; did you mean 'val/iou/img/set'?"
    assert [record.getMessage() for record in caplog.records].count(line) == 1
    # Pictures without masks have no scores, and nobody asked for the default objective.
    logged = {"val/images": 4.0, "train/loss/mask": 1.0}
    compose()
    assert read_objective("val/iou/img/set", logged) is None
    assert caplog.text.count("was never logged") == 1
    # Methods that only draw have none either.
    assert read_objective("val/iou/img/set", {"val/score/real": 1.0}) is None
    assert caplog.text.count("was never logged") == 1
    # A recipe that names another one wrongly hears of it.
    assert read_objective("val/score/reel", {"val/score/real": 1.0}) is None
    assert caplog.text.count("objective=val/score/reel was never logged") == 1
    compose("objective=train/loss/masks")
    assert read_objective("train/loss/masks", logged) is None
    assert caplog.text.count("was never logged") == 3
    assert read_objective("train/loss/mask", logged) == 1


@pytest.mark.slow
def test_misspelt_objective_ends_a_sweep(tmp_path: Path) -> None:
    done = run(
        ["python", ROOT / "src/train.py", "-m", *FAST, "iterations=2", "test=false", "seed=0,1",
         "objective=val/iuo", "hydra.sweep.dir=sweep"],
        cwd=tmp_path, limit=60,
    )  # fmt: skip
    assert done.code == 2, done.err
    assert "error: objective=val/iuo was never logged" in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "sweep/1").exists()


def test_monitored_score_selects_the_tested_checkpoint(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monitor = "callbacks.checkpoints.monitor=val/iou/img/oracle"
    train(compose(*FAST, monitor, "logger=none"))
    best = read_checkpoint(tmp_path / "run/checkpoints/best.ckpt")
    card = (tmp_path / "run/card.md").read_text()
    assert "Labels took part" in card
    assert "| score | best: validation | best: test | last: validation | last: test |" in card
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    stored = best["callbacks"]["Checkpoints"]["best_scores"]
    assert metrics["val/iou/img/oracle"] == stored["val/iou/img/oracle"]
    assert metrics["val/iou/img/oracle"] >= metrics["last/val/iou/img/oracle"]
    assert "last/test/iou/img/oracle" in metrics
    other = compose(*FAST, "logger=none", "iterations=5", "ckpt=last")
    with pytest.raises(ConfigError, match=r"callbacks\.checkpoints\.monitor"):
        train(other)


@pytest.mark.slow
def test_forced_resume_takes_the_configured_learning_rate(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    train(compose(*FAST, "test=false"))
    change = ["iterations=5", "ckpt=last", "method.mask_optimizer.lr=0.0123", "test=false"]
    with pytest.raises(ConfigError, match=r"method\.mask_optimizer\.lr"):
        train(compose(*FAST, *change))
    train(compose(*FAST, *change, "resume.force=true"))
    states = read_checkpoint(tmp_path / "run/checkpoints/last.ckpt")["optimizer_states"]
    assert states[0]["param_groups"][0]["lr"] == 0.0123


def test_evaluate_one_and_several(compose: Compose, trained: Path, tmp_path: Path) -> None:
    file = f"{trained}/checkpoints/last.ckpt"
    small = ["data.test.count=8", "trainer.accelerator=cpu"]
    one = evaluate(compose(f"ckpt={file}", *small, config_name="evaluate"))
    stored = json.loads((trained / "metrics.json").read_text())
    assert one["test/iou/img/set"] == pytest.approx(stored["test/iou/img/set"], abs=1e-6)
    evaluate(compose(f"ckpt=[{file},{file}]", *small, config_name="evaluate"))
    found = json.loads((tmp_path / "run/metrics.json").read_text())
    assert found["test/iou/img/set"]["std"] == 0
    with pytest.raises(UserError, match=r"leave it out or use data\.resolution=32"):
        evaluate(compose(f"ckpt={file}", "data.resolution=64", *small, config_name="evaluate"))


def test_evaluate_takes_the_resolution_from_the_checkpoint(
    compose: Compose, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, store = [], ImageDataModule.store

    def watch(self: ImageDataModule, split: str, **options: bool) -> object:
        sizes.append((self.resolution, self.datasets[split].resolution))
        return store(self, split, **options)

    monkeypatch.setattr(ImageDataModule, "store", watch)
    small = ["data=rooms", "data.test.count=4", "trainer.accelerator=cpu"]
    config = compose(ckpt(trained), *small, config_name="evaluate")
    assert config.data.resolution == 64
    assert evaluate(config)["test/images"] == 4
    assert set(sizes) == {(32, 32)}


def test_evaluate_scores_by_other_options_of_the_metrics(compose: Compose, trained: Path) -> None:
    def score(*arguments: str) -> dict[str, float]:
        small = ["data.test.count=4", "trainer.accelerator=cpu"]
        return evaluate(compose(ckpt(trained), *small, *arguments, config_name="evaluate"))

    everything = score("metrics.segmentation.threshold=0")
    # If every pixel is the object, its IoU is its area, and so is the accuracy.
    assert everything["test/iou/img/fixed"] == pytest.approx(everything["test/acc/img/fixed"])
    assert everything["test/iou/img/fixed"] != score()["test/iou/img/fixed"]
    for argument, message in (
        ("metrics.segmentation.average=pixel", "expected one of image, batch"),
        ("metrics.segmentation.threshold=2", "expected a number from 0 to 1"),
        ("+metrics.segmentation.nonsense=0.9", r"segmentation\.nonsense: there is no such option"),
        ("+metrics.clustering.k=1", r"metrics\.clustering: the checkpoint has none"),
    ):
        with pytest.raises(ConfigError, match=message):
            score(argument)


@pytest.mark.parametrize("moment", ["load_state_dict", "on_test_end"])
def test_evaluate_stops_when_asked(
    compose: Compose, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    asked = []

    def ask(self: ReDO, *args: object, **kwargs: object) -> object:
        asked.append(moment)
        os.kill(os.getpid(), signal.SIGTERM)
        return getattr(super(ReDO, self), moment)(*args, **kwargs)

    monkeypatch.setattr(ReDO, moment, ask, raising=False)
    file = f"{trained}/checkpoints/last.ckpt"
    arguments = [f"ckpt=[{file},{file}]", "data.test.count=8", "trainer.accelerator=cpu"]
    with pytest.raises(StoppedBySignalError) as caught:
        evaluate(compose(*arguments, config_name="evaluate"))
    assert exit_code_of(caught.value) == 143
    assert len(asked) == 1
    assert not (tmp_path / "run/metrics.json").exists()


@pytest.mark.slow
def test_evaluate_with_two_processes_reports_once(trained: Path, tmp_path: Path) -> None:
    done = run(
        ["python", ROOT / "src/evaluate.py", ckpt(trained), "data.test.count=8",
         "trainer=ddp_sim", "paths.output_dir=run"],
        cwd=tmp_path, limit=90,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.out.count("1 checkpoint(s)") == 1
    assert json.loads((tmp_path / "run/metrics.json").read_text())["runs"][0]["test/images"] == 8


def test_predict_writes_everything_for_any_picture(
    compose: Compose, trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_folder(tmp_path / "mine", 5, masks=False) / "images"
    picture(7, (300, 90)).save(folder / "wide.png")
    picture(8, (20, 30)).convert("L").save(folder / "wide.jpg")
    out = tmp_path / "out"
    arguments = [ckpt(trained), f"input={folder}", f"output={out}", "batch_size=3"]
    predict(compose(*arguments, config_name="predict"))
    mask = Image.open(out / "wide_png_mask.png")
    assert mask.size == (300, 90)
    assert set(np.unique(np.asarray(mask))) <= {0, 255}
    assert Image.open(out / "wide_jpg_layer1.png").mode == "RGBA"
    assert (out / "a/p001_overlay.png").is_file()
    assert (out / "contact_sheet.png").is_file()
    stamp = (out / "wide_png_mask.png").stat().st_mtime_ns
    with caplog.at_level(logging.INFO):
        predict(compose(*arguments, config_name="predict"))
    assert "0 pictures segmented (7 were there)" in caplog.text
    assert (out / "wide_png_mask.png").stat().st_mtime_ns == stamp


def test_predict_lists_all_broken_pictures_first(
    compose: Compose, trained: Path, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "mine", 3, masks=False) / "images"
    for name in ("x.jpg", "y.png"):
        (folder / name).write_text("no picture")
    arguments = [ckpt(trained), f"input={folder}", f"output={tmp_path / 'out'}"]
    with pytest.raises(DataError, match="2 of 5 pictures cannot be read") as caught:
        predict(compose(*arguments, config_name="predict"))
    assert "x.jpg" in str(caught.value)
    assert "y.png" in str(caught.value)
    assert not (tmp_path / "out").exists()
    predict(compose(*arguments, "on_error=skip", "layers=false", config_name="predict"))
    assert len(list((tmp_path / "out").rglob("*_mask.png"))) == 3


def test_generate_samples_redraws_and_swaps(
    compose: Compose, trained: Path, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "mine", 3, masks=False) / "images"
    files = sorted(folder.rglob("*.jpg"))
    out = tmp_path / "out"
    arguments = [ckpt(trained), f"output={out}", "count=5"]
    generate(
        compose(
            *arguments, f"input={folder}", f"swap=[{files[0]},{files[1]}]", config_name="generate"
        )
    )
    for name in ("samples", "redraw_background", "redraw_object1", "swap_object1"):
        assert (out / f"{name}.png").is_file()
    before = (out / "images/000003.png").read_bytes()
    (out / "images/000003.png").unlink()
    generate(compose(*arguments, config_name="generate"))
    assert (out / "images/000003.png").read_bytes() == before
    assert len((out / "manifest.csv").read_text().splitlines()) == 6
    with pytest.raises(UserError, match="nothing to do"):
        generate(compose(ckpt(trained), config_name="generate"))
    with pytest.raises(UserError, match="swap takes two pictures"):
        generate(compose(ckpt(trained), "swap=[a.jpg]", config_name="generate"))


def test_generate_mixes_no_samples_of_two_seeds_or_checkpoints(
    compose: Compose, trained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"

    def draw(*arguments: str, file: Path | None = None) -> list[bytes]:
        given = [f"ckpt={file}" if file else ckpt(trained), f"output={out}", *arguments]
        generate(compose(*given, config_name="generate"))
        return [path.read_bytes() for path in sorted((out / "images").iterdir())]

    three = draw("count=3", "seed=0")
    with pytest.raises(UserError, match="another seed or checkpoint; add overwrite=true"):
        draw("count=2", "seed=1")
    assert draw("count=3", "seed=0") == three
    two = draw("count=2", "seed=1", "overwrite=true")
    assert len(two) == len(list((out / "masks").iterdir())) == 2
    assert not set(two) & set(three)
    with pytest.raises(UserError, match="another seed or checkpoint"):
        draw("count=2", "seed=1", file=trained / "checkpoints/previous.ckpt")
    (out / "manifest.csv").unlink()
    with pytest.raises(UserError, match="another seed or checkpoint"):
        draw("count=2", "seed=1")


def test_prepare_reports_and_converts(
    compose: Compose, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_flowers(tmp_path / "data/flowers", 6)
    prepare(compose("data=flowers", f"paths.data_dir={tmp_path}/data", config_name="prepare"))
    out = capsys.readouterr().out
    assert "flowers train has 6 pictures, expected 6149" in out.replace("\n", " ")
    assert list((tmp_path / "data/.cache").glob("flowers-train-*"))


def test_convert_makes_a_loadable_checkpoint(compose: Compose, tmp_path: Path) -> None:
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1] / "unit/methods/redo"))
    from test_redo import authors_file, tiny

    sys.path.pop(0)
    method = tiny()
    content = {**authors_file(method), "options": argparse.Namespace(nMasks=2, nz=4)}
    torch.save(content, tmp_path / "nets.pth")
    output = tmp_path / "redo.ckpt"
    options = (
        "data=toy", f"weights={tmp_path / 'nets.pth'}", f"output={output}", "method.ema_decay=null"
    )  # fmt: skip
    convert(compose(*options, config_name="convert"))
    with pytest.raises(UserError, match="redo.ckpt exists; add overwrite=true"):
        convert(compose(*options, config_name="convert"))
    convert(compose(*options, "overwrite=true", config_name="convert"))
    loaded = load_method(output)
    for ours in NETWORKS.values():
        for key, value in getattr(method, ours).state_dict().items():
            assert torch.equal(getattr(loaded, ours).state_dict()[key], value)


def test_convert_refuses_what_it_would_have_to_guess(compose: Compose, tmp_path: Path) -> None:
    method = build_tiny("redo")[0]
    keys = {"cnn.0.mods.7.weight": "stem.6.weight", "out.mods.9.weight": "head.weight"}
    state = {theirs: method.mask_net.state_dict()[ours] for theirs, ours in keys.items()}
    weights = tmp_path / "nets.pth"
    arguments = ("data=toy", f"weights={weights}", f"output={tmp_path / 'redo.ckpt'}")
    torch.save({"netEncM": state}, weights)
    with pytest.raises(CheckpointError, match="has a part of mask_net only"):
        convert(compose(*arguments, config_name="convert"))
    torch.save({"netEncM": state, "options": argparse.Namespace(nz="many")}, weights)
    with pytest.raises(ConfigError, match=r"method\.latent_dim=many: expected a whole number"):
        convert(compose(*arguments, config_name="convert"))
    assert not (tmp_path / "redo.ckpt").exists()


def test_inputs_are_found_and_devices_named(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "mine", 4, masks=False)
    assert len(find_pictures(str(folder))) == 4
    assert len(find_pictures(f"{folder}/images/*.jpg")) == 2
    assert len(find_pictures([str(next(folder.rglob("*.jpg")))])) == 1
    with pytest.raises(DataError, match="matches no picture"):
        find_pictures(str(tmp_path / "nothing*"))
    assert choose_device("cpu").type == "cpu"
    with pytest.raises(UserError, match="is not available"):
        choose_device("cuda:7")


def test_results_of_different_pictures_have_different_names(tmp_path: Path) -> None:
    for name in ("A/x.jpg", "B/x.jpg", "B/y.jpg", "B/y.png", "c/A/x.jpg", "B/sub/x.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        picture(0, (8, 8)).save(tmp_path / name)

    def names(*inputs: str) -> list[str]:
        found = find_pictures([f"{tmp_path}/{each}" for each in inputs])
        return [str(name) for _, name in found]

    assert names("A", "B") == ["A/x", "sub/x", "B/x", "y_jpg", "y_png"]
    assert names("A/x.jpg", "B/x.jpg") == ["A/x", "B/x"]
    assert names("?/x.jpg") == ["A/x", "B/x"]
    assert names("A", "c/A") == ["A/x_jpg", "A/x_jpg_2"]
    assert names("A", "A/*.jpg") == ["x"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "fragment"),
    [
        (["methd=redo"], 2, "did you mean 'method'"),
        (["method=rdo"], 2, "did you mean 'redo'"),
        (["method.mask_widht=3"], 2, "did you mean 'method.mask_width'"),
        (["+typo=1"], 2, "typo: there is no such option"),
        (["recipe=redo-tyo"], 2, "there is no such choice; did you mean 'redo-toy'"),
        (["method=l2ic", "method.metrics.clustering.matching=one_to_one"], 2,
         "at its default; to set it, write +method.metrics.clustering.matching="),
        (["seed=x"], 2, "seed=x: expected a whole number"),
        (["data=flowers", "paths.data_dir=nowhere"], 3, "Expected:"),
        (["data=folder"], 2, "data.root is not set"),
        (["data=folder", "data.root=nowhere"], 3, "is not a folder"),
        (["ckpt=nothing.ckpt"], 2, "nothing.ckpt is not a file"),
        (["hydra.run.dir=/proc/x"], 5, "choose another paths.output_dir"),
    ],
)  # fmt: skip
def test_f46_wrong_options_end_in_one_line(
    tmp_path: Path, arguments: list[str], code: int, fragment: str
) -> None:
    done = run(["python", ROOT / "src/train.py", *arguments], cwd=tmp_path)
    assert done.code == code, done.err
    assert fragment in done.err
    assert "Traceback" not in done.err
    if code == 2 and "ckpt" not in arguments[0]:
        assert not (tmp_path / "outputs").exists()


@pytest.mark.slow
def test_f50_failed_job_of_a_sweep_does_not_stop_the_others(tmp_path: Path) -> None:
    fast = [a for a in FAST if not a.startswith("iterations")]
    done = run(
        ["python", ROOT / "src/train.py", "-m", *fast, "iterations=2", "test=false",
         "method.mask_optimizer.lr=1e-4,fast", "seed=0,1", "hydra.sweep.dir=sweep"],
        cwd=tmp_path, limit=180,
    )  # fmt: skip
    assert done.code == 12, done.err
    assert "2 jobs failed" in done.err
    failed = {Path(f).parts[1] for f in done.files if f.endswith("failed.txt")}
    finished = {Path(f).parts[1] for f in done.files if f.endswith("metrics.json")}
    assert failed == {"2", "3"}
    assert finished == {"0", "1"}


@pytest.mark.slow
def test_sweep_over_datasets_runs_all_jobs(tmp_path: Path) -> None:
    pace = ["iterations=1", "trainer.val_check_interval=1", "trainer.limit_val_batches=1"]
    counts = [f"data.{split}.count=40" for split in ("train", "val", "test")]
    done = run(
        ["python", ROOT / "src/train.py", "-m", "method=redo", "data=toy,rooms", "seed=0,1",
         *pace, *counts, "hydra.sweep.dir=sweep"],
        cwd=tmp_path, limit=240,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert sum(name.endswith("metrics.json") for name in done.files) == 4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["predict", "generate", "prepare"])
def test_f16_stopped_command_is_started_again(trained: Path, tmp_path: Path, name: str) -> None:
    count = 600
    folder = write_folder(tmp_path / "mine", count)
    command, begun = {
        "predict": ([ckpt(trained), f"input={folder}/images", "output=out"], "out/**/*_mask.png"),
        "generate": ([ckpt(trained), f"count={count}", "output=out"], "out/images/*.png"),
        "prepare": (["data=folder", f"data.root={folder}", "paths.cache_dir=cache"], "cache/*"),
    }[name]
    line = ["python", ROOT / f"src/{name}.py", *command]
    done = run(
        line, cwd=tmp_path, limit=120,
        kill_after=(lambda: any(True for _ in tmp_path.glob(begun)), signal.SIGTERM),
    )  # fmt: skip
    assert done.code == 143, done.err
    assert "stopped by SIGTERM" in done.err
    assert not [file for file in done.files if ".tmp-" in file]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("out/**/*_mask.png")}
    done = run(line, cwd=tmp_path, limit=120)
    assert done.code == 0, done.err
    if name != "prepare":
        assert len(list(tmp_path.glob(begun))) == count
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())


@pytest.mark.slow
def test_console_command_lists_and_corrects(tmp_path: Path) -> None:
    base = ["python", "-c", "from figureground.cli import main; main()"]
    done = run([*base, "--help"], cwd=tmp_path)
    assert all(name in done.out for name in COMMANDS)
    done = run([*base, "trian"], cwd=tmp_path)
    assert done.code == 2
    assert "did you mean 'train'" in done.err
    done = run([*base, "train", "--help"], cwd=tmp_path)
    assert re.search(r"method: .*redo", done.out)
    assert "python src/train.py method=redo data=flowers" in done.out


@pytest.mark.slow
def test_user_pictures_train(tmp_path: Path) -> None:
    write_folder(tmp_path / "mine", 60)
    fast = [a for a in FAST if not a.startswith("data")]
    done = run(
        ["python", ROOT / "src/train.py", *fast, "data=folder", "data.root=mine",
         "data.resolution=32", "data.batch_size=4", "data.num_workers=0", "paths.output_dir=run"],
        cwd=tmp_path, limit=90,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "run/metrics.json" in done.files


def test_few_user_pictures_train_without_other_splits(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "mine", 6)
    data = ["data=folder", "data.root=mine", "data.resolution=32", "data.batch_size=2",
            "data.num_workers=0", "data.cache_dir=cache"]  # fmt: skip
    fast = [a for a in FAST if not a.startswith(("data", "iterations"))]
    with pytest.raises(DataError, match=r"set data\.train\.val=0 to go without"):
        train(compose(*fast, *data, "iterations=2", output=tmp_path / "refused"))
    data += ["data.train.val=0", "data.train.test=0"]
    train(compose(*fast, *data, "iterations=2"))
    assert json.loads((tmp_path / "run/metrics.json").read_text())["iterations"] == 2
    for split in ("val", "test"):
        scores = compose(
            *data, f"ckpt={tmp_path}/run/checkpoints/last.ckpt", f"split={split}",
            "trainer.accelerator=cpu", config_name="evaluate",
        )  # fmt: skip
        with pytest.raises(DataError, match=f"has no {split} split"):
            evaluate(scores)
