"""A segmenter from a GAN of one's own with one command, interrupted in each step and resumed."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from chains import Chain
from faults import assert_same_checkpoint, saved_iteration

pytestmark = pytest.mark.slow

CHAIN = Chain(
    ("01-train", "02-search", "03-sample", "04-segment", "05-test"),
    (
        "experiment=gan-segmenter-trained",
        "chain.pairs=240",
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
    ),
)


def read_directions(folder: Path) -> dict[str, Tensor]:
    path = folder / "02-search/checkpoints/last.ckpt"
    state: dict[str, Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return state


def test_run_interrupted_in_each_step_ends_as_the_whole_one(tmp_path: Path) -> None:
    whole, parts = CHAIN.take_whole(tmp_path / "whole"), tmp_path / "parts"
    pictures = "03-sample/pictures"
    stops: dict[str, tuple[Callable[[], bool], int]] = {
        "01-train": (lambda: saved_iteration(parts / "01-train") >= 2, signal.SIGTERM),
        "02-search": (lambda: saved_iteration(parts / "02-search") >= 2, signal.SIGINT),
        "03-sample": ((parts / pictures / "pairs-000000.safetensors").exists, signal.SIGTERM),
        "04-segment": (lambda: saved_iteration(parts / "04-segment") >= 2, signal.SIGUSR1),
        "05-test": ((parts / "05-test/.hydra").exists, signal.SIGTERM),
    }
    done = CHAIN.take_in_parts(parts, stops)
    assert "test/iou/img/fixed" in done.out
    assert "pairs/accepted/area_light" in done.out
    for name in ("01-train", "04-segment"):
        last = f"{name}/checkpoints/last.ckpt"
        assert_same_checkpoint(whole / last, parts / last)
    CHAIN.assert_same(whole, parts, pictures=pictures, count=60)
    # A search also says in which folder its generator is.
    found, again = (read_directions(folder) for folder in (whole, parts))
    assert found.keys() == again.keys()
    assert all(torch.equal(found[name], again[name]) for name in found)
    # The generator stays in its own run; the search keeps directions in its styles.
    assert again["directions.light"].ndim == 3
    assert not any(key.startswith("generator.") for key in again)
