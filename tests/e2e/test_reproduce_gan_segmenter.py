"""A segmenter from a GAN of one's own with one command, interrupted in each step and resumed."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from faults import ROOT, Result, assert_same_checkpoint, run, saved_iteration

pytestmark = pytest.mark.slow

NAMES = ("01-train", "02-search", "03-sample", "04-segment", "05-test")
SMALL = [
    "experiment=gan-segmenter-trained",
    "chain.pairs=24",
    "chain.num_seeds=2",
    "+steps.train.options={iterations:12,trainer.val_check_interval:6,data.train.count:40,"
    "callbacks.checkpoints.every:2,data.val.count:8,data.batch_size:4,trainer.accelerator:cpu,"
    "method.latent_dim:8,method.style_width:8,method.channel_base:64,method.max_width:8}",
    # So little training draws nothing that could pass a filter.
    "+steps.search.options={iterations:8,trainer.val_check_interval:4,data.batch_size:4,"
    "callbacks.checkpoints.every:2,trainer.accelerator:cpu,method.filters.components:0,"
    "method.filters.area:[0,1],method.filters.histogram_bins:0}",
    "+steps.sample.options={shard_size:4,device:cpu}",
    "+steps.segment.options={iterations:8,trainer.val_check_interval:4,data.val.count:8,"
    "callbacks.checkpoints.every:2,data.batch_size:4,trainer.accelerator:cpu}",
    "+steps.test.options={data.test.count:8,trainer.accelerator:cpu}",
]


def reproduce(folder: Path, *more: str, **options: Any) -> Result:
    command = ["python", ROOT / "src/reproduce.py", *SMALL, f"paths.output_dir={folder}", *more]
    return run(command, cwd=folder.parent, limit=600, **options)


def read_scores(folder: Path, name: str) -> dict[str, float]:
    record = json.loads((folder / name / "step.json").read_text())
    assert record["run"], f"{name} has not finished"
    timed = ("seconds", "throughput")
    return {k: v for k, v in record["scores"].items() if not any(t in k for t in timed)}


def read_directions(folder: Path) -> dict[str, Tensor]:
    path = folder / "02-search/checkpoints/last.ckpt"
    state: dict[str, Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return state


def assert_same_chain(one: Path, two: Path) -> None:
    """Directions, pairs, networks and scores are the same, bit for bit."""
    for name in ("01-train", "04-segment"):
        last = f"{name}/checkpoints/last.ckpt"
        assert_same_checkpoint(one / last, two / last)
    # A search also says in which folder its generator is.
    found, again = (read_directions(folder) for folder in (one, two))
    assert found.keys() == again.keys()
    assert all(torch.equal(found[name], again[name]) for name in found)
    drawn = sorted(path.name for path in (one / "03-sample/pictures").glob("*.safetensors"))
    assert len(drawn) == 6
    for name in drawn:
        first, second = (folder / "03-sample/pictures" / name for folder in (one, two))
        assert first.read_bytes() == second.read_bytes()
    for name in NAMES:
        assert read_scores(one, name) == pytest.approx(read_scores(two, name), nan_ok=True)


def test_run_interrupted_in_each_step_ends_as_the_whole_one(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    done = reproduce(whole)
    assert done.code == 0, done.err
    shards = parts / "03-sample/pictures/pairs-000000.safetensors"
    begun: list[tuple[Callable[[], bool], int]] = [
        (lambda: saved_iteration(parts / "01-train") >= 2, signal.SIGTERM),
        (lambda: saved_iteration(parts / "02-search") >= 2, signal.SIGINT),
        (shards.exists, signal.SIGTERM),
        (lambda: saved_iteration(parts / "04-segment") >= 2, signal.SIGUSR1),
        (lambda: (parts / "05-test/.hydra").exists(), signal.SIGTERM),
    ]
    for number, (condition, signum) in enumerate(begun):
        stopped = reproduce(parts, kill_after=(condition, signum))
        assert stopped.code == 128 + signum, stopped.err
        finished = [name for name in NAMES if (parts / name / "step.json").exists()]
        assert finished == list(NAMES[: number + 1])
        assert not json.loads((parts / NAMES[number] / "step.json").read_text())["run"]
    done = reproduce(parts)
    assert done.code == 0, done.err
    assert "test/iou/img/fixed" in done.out
    assert "pairs/accepted/area_light" in done.out
    assert_same_chain(whole, parts)
    # The generator stays in its own run; the search keeps directions in its styles.
    state = read_directions(parts)
    assert state["directions.light"].ndim == 3
    assert not any(key.startswith("generator.") for key in state)
