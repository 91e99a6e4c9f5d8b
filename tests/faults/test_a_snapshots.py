"""Snapshots kept over training change nothing and are complete, whenever a run was stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import Run, assert_equal_to

from faults import At, fail
from figureground.callbacks.checkpoints import SNAPSHOTS
from figureground.core.checkpoint import read_checkpoint
from figureground.core.manifest import find_damage

pytestmark = pytest.mark.filterwarnings(
    "ignore:The '\\w+' does not have many workers",
    "ignore:.*LeafSpec:FutureWarning",
    "ignore:You have overridden `on_before_batch_transfer`",
)


def keeping(folder: Path, *callbacks: At) -> Run:
    run = Run(folder, *callbacks)
    run.checkpoints.keep_every = 3
    return run


def names(run: Run) -> list[str]:
    return sorted(path.name for path in (run.checkpoints_dir / SNAPSHOTS).glob("*.ckpt"))


def assert_same_weights(one: Path, two: Path) -> None:
    left, right = (read_checkpoint(path)["state_dict"] for path in (one, two))
    assert left.keys() == right.keys()
    assert all(torch.equal(left[key], right[key]) for key in left)


@pytest.mark.parametrize("count", [3, 5])
def test_snapshots_of_a_resumed_run_are_those_of_the_whole_one(tmp_path: Path, count: int) -> None:
    whole = keeping(tmp_path / "whole").start()
    assert names(whole) == ["0000003.ckpt", "0000006.ckpt", "0000009.ckpt", "0000012.ckpt"]
    first = keeping(tmp_path / "parts", At("on_train_batch_start", count, fail()))
    with pytest.raises(RuntimeError, match="injected"):
        first.start()
    second = keeping(tmp_path / "parts").start(first.last)
    assert_equal_to(whole, first, second)
    assert names(second) == names(whole)
    for name in names(whole):
        one, two = (run.checkpoints_dir / SNAPSHOTS / name for run in (whole, second))
        assert find_damage(two) is None
        assert_same_weights(one, two)
    assert_same_weights(two, second.last)
    assert "optimizer_states" not in read_checkpoint(two)


def test_snapshots_do_not_change_training(tmp_path: Path) -> None:
    without = Run(tmp_path / "without").start()
    assert not (without.checkpoints_dir / SNAPSHOTS).exists()
    assert_equal_to(without, keeping(tmp_path / "with").start())
