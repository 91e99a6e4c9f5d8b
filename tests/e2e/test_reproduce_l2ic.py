"""Both stages of L2IC with one command, interrupted in each step and resumed."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faults import ROOT, Result, assert_same_checkpoint, run, saved_iteration

pytestmark = pytest.mark.slow

NAMES = ("01-train", "02-sample", "03-segment", "04-test")
SMALL = [
    "experiment=l2ic-toy",
    "chain.pairs=300",
    "+steps.train.options={iterations:12,trainer.val_check_interval:6,data.train.count:40,"
    "callbacks.checkpoints.every:2,data.val.count:8,data.test.count:8,data.batch_size:4,"
    "trainer.accelerator:cpu,method.latent_dim:8,method.generator_width:4,"
    "method.discriminator_width:4,callbacks.collapse.min_share:0}",
    "+steps.sample.options={shard_size:5,device:cpu}",
    "+steps.segment.options={iterations:8,trainer.val_check_interval:4,data.val.count:8,"
    "callbacks.checkpoints.every:2,data.batch_size:4,trainer.accelerator:cpu}",
    "+steps.test.options={data.test.count:8,trainer.accelerator:cpu}",
]


def reproduce(folder: Path, *more: str, **options: Any) -> Result:
    command = ["python", ROOT / "src/reproduce.py", *SMALL, f"paths.output_dir={folder}", *more]
    return run(command, cwd=folder.parent, limit=600, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    done = reproduce(folder)
    assert done.code == 0, done.err
    return folder


def scores(folder: Path, name: str) -> dict[str, float]:
    record = json.loads((folder / name / "step.json").read_text())
    assert record["run"], f"{name} has not finished"
    timed = ("seconds", "throughput")
    return {k: v for k, v in record["scores"].items() if not any(t in k for t in timed)}


def test_run_interrupted_in_each_step_ends_as_the_whole_one(tmp_path: Path, whole: Path) -> None:
    parts = tmp_path / "run"
    begun: list[tuple[Callable[[], bool], int]] = [
        (lambda: saved_iteration(parts / "01-train") >= 2, signal.SIGTERM),
        (lambda: (parts / "02-sample/pictures/pairs-000000.safetensors").exists(), signal.SIGTERM),
        (lambda: saved_iteration(parts / "03-segment") >= 2, signal.SIGINT),
        (lambda: (parts / "04-test/.hydra").exists(), signal.SIGTERM),
    ]
    for number, (condition, signum) in enumerate(begun):
        stopped = reproduce(parts, kill_after=(condition, signum))
        assert stopped.code == 128 + signum, stopped.err
        finished = [name for name in NAMES if (parts / name / "step.json").exists()]
        assert finished == list(NAMES[: number + 1])
        assert not json.loads((parts / NAMES[number] / "step.json").read_text())["run"]
        assert not (parts / "table.md").exists()
    done = reproduce(parts)
    assert done.code == 0, done.err
    assert "test/iou/img/fixed" in done.out
    for name in ("01-train/checkpoints/last.ckpt", "03-segment/checkpoints/best.ckpt"):
        assert_same_checkpoint(whole / name, parts / name)
    drawn = sorted(path.name for path in (whole / "02-sample/pictures").glob("*.safetensors"))
    assert len(drawn) == 60
    for name in drawn:
        one, two = (folder / "02-sample/pictures" / name for folder in (whole, parts))
        assert one.read_bytes() == two.read_bytes()
    for name in NAMES:
        assert scores(parts, name) == pytest.approx(scores(whole, name), nan_ok=True)


def test_table_has_clusters_and_masks_of_real_pictures(whole: Path) -> None:
    rows = json.loads((whole / "table.json").read_text())
    assert [row["step"] for row in rows if row["step"]] == ["train", "sample", "segment", "test"]
    assert {"test/acc", "test/nmi", "test/iou/img/fixed"} <= {row["score"] for row in rows}
