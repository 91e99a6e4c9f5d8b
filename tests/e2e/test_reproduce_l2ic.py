"""Both stages of L2IC with one command, interrupted in each step and resumed."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from chains import Chain
from faults import assert_same_checkpoint, saved_iteration

pytestmark = pytest.mark.slow

CHAIN = Chain(
    ("01-train", "02-sample", "03-segment", "04-test"),
    (
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
    }
    done = CHAIN.take_in_parts(parts, stops)
    assert "test/iou/img/fixed" in done.out
    for name in ("01-train/checkpoints/last.ckpt", "03-segment/checkpoints/best.ckpt"):
        assert_same_checkpoint(whole / name, parts / name)
    CHAIN.assert_same(whole, parts, pictures=pictures, count=60)


def test_table_has_clusters_and_masks_of_real_pictures(whole: Path) -> None:
    rows = json.loads((whole / "table.json").read_text())
    assert [row["step"] for row in rows if row["step"]] == ["train", "sample", "segment", "test"]
    assert {"test/acc", "test/nmi", "test/iou/img/fixed"} <= {row["score"] for row in rows}
