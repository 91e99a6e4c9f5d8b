"""All steps of ILSGAN with one command, interrupted in each of them and resumed."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from chains import Chain, read_scores
from faults import ROOT, assert_same_checkpoint, run, saved_iteration

pytestmark = pytest.mark.slow

CHAIN = Chain(
    ("01-train", "02-sample", "03-segment", "04-test", "05-information"),
    (
        "experiment=ilsgan-toy",
        "chain.pairs=300",
        "chain.keep_every=6",
        "+steps.train.options={iterations:12,trainer.val_check_interval:6,data.train.count:40,"
        "callbacks.checkpoints.every:2,data.val.count:8,data.test.count:8,data.batch_size:4,"
        "trainer.accelerator:cpu,method.latent_dim:8,method.style_width:8,method.channel_base:64,"
        "method.max_width:8}",
        "+steps.sample.options={shard_size:5,device:cpu}",
        "+steps.segment.options={iterations:8,trainer.val_check_interval:4,data.val.count:8,"
        "callbacks.checkpoints.every:2,data.batch_size:4,trainer.accelerator:cpu}",
        "+steps.test.options={data.test.count:8,trainer.accelerator:cpu}",
        "+steps.information.options={trainer.accelerator:cpu,metrics.information.count:32,"
        "metrics.information.held_out:16,metrics.information.iterations:4,"
        "metrics.information.num_hidden:8,metrics.information.evaluate_every:2}",
    ),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The uninterrupted run."""
    return CHAIN.take_whole(tmp_path_factory.mktemp("whole") / "run")


def test_run_interrupted_in_each_step_ends_as_the_whole_one(tmp_path: Path, whole: Path) -> None:
    parts = tmp_path / "run"
    pictures = "02-sample/pictures"
    stops: dict[str, tuple[Callable[[], bool], int]] = {
        "01-train": (lambda: saved_iteration(parts / "01-train") >= 2, signal.SIGTERM),
        "02-sample": ((parts / pictures / "pairs-000000.safetensors").exists, signal.SIGTERM),
        "03-segment": (lambda: saved_iteration(parts / "03-segment") >= 2, signal.SIGINT),
        "04-test": ((parts / "04-test/.hydra").exists, signal.SIGTERM),
        "05-information": ((parts / "05-information/.hydra").exists, signal.SIGUSR1),
    }
    done = CHAIN.take_in_parts(parts, stops)
    assert "mine/whole" in done.out
    for name in ("01-train/checkpoints/last.ckpt", "03-segment/checkpoints/best.ckpt"):
        assert_same_checkpoint(whole / name, parts / name)
    CHAIN.assert_same(whole, parts, pictures=pictures, count=60)


def test_a_finished_run_does_nothing_and_shows_its_table_again(whole: Path) -> None:
    before = (whole / "table.json").read_text()
    again = CHAIN.take(whole)
    assert again.code == 0, again.err
    assert again.err.count("has finished before") + again.out.count("has finished before") == 5
    assert (whole / "table.json").read_text() == before
    steps = [row["step"] for row in json.loads(before) if row["step"]]
    assert steps == ["train", "sample", "segment", "test", "information"]


def test_scores_over_training_are_drawn(whole: Path) -> None:
    # Distances of drawn pictures need weights of a network that are not at hand here.
    done = CHAIN.take(whole, "analysis=training", "snapshots.every=1", "steps.quality=null")
    assert done.code == 0, done.err
    points = json.loads((whole / "analysis.json").read_text())
    assert [point["iteration"] for point in points] == [6, 12]
    # The last snapshot is what the run itself has scored.
    for step, name in (("test", "04-test"), ("information", "05-information")):
        last = points[1]["scores"][step]
        assert last == pytest.approx({k: read_scores(whole, name)[k] for k in last}, nan_ok=True)
    assert (whole / "analysis.png").is_file()
    assert "| 12 |" in (whole / "analysis.md").read_text()


def test_steps_of_ones_own_are_read_from_a_folder(tmp_path: Path) -> None:
    for name, text in {
        "experiment/mine.yaml": "# @package _global_\nsteps:\n  look:\n    command: prepare\n"
        "    options: { data: mine }\n    result: .hydra/config.yaml\n",
        "data/mine.yaml": "defaults: [toy, _self_]\nname: mine\n",
    }.items():
        (tmp_path / "my_conf" / name).parent.mkdir(parents=True)
        (tmp_path / "my_conf" / name).write_text(text)
    own = ["--config-dir", "my_conf", "experiment=mine"]
    done = run(["python", ROOT / "src/reproduce.py", *own], cwd=tmp_path, limit=120)
    assert done.code == 0, done.err
    folder = tmp_path / "outputs/reproduce/mine"
    assert "name: mine" in (folder / "01-look/.hydra/config.yaml").read_text()
    assert "| look | prepare |" in (folder / "table.md").read_text()
