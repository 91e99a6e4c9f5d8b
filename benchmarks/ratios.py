"""What the benchmarks share: two sides timed in turn, their ratios, the table and the JSON file.

Rounds are interleaved, so that ratios hold when the machine's speed drifts.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader

#: Iterations before timing; they also pay for memory, kernels and the states of the optimisers.
WARM_UP = 2


def read_clock(device: str = "cpu") -> float:
    """Wall-clock time in seconds, once the device's work is done."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds(function: Callable[[], object], device: str = "cpu") -> float:
    """Wall-clock seconds of one call, the device's work included."""
    begin = read_clock(device)
    function()
    return read_clock(device) - begin


def describe_load() -> dict[str, Any]:
    """How many cores the machine has, and how busy it is."""
    return {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}


def describe_software() -> dict[str, Any]:
    """Threads and versions."""
    return {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def spread(slow: Sequence[float], fast: Sequence[float]) -> dict[str, float]:
    """Least, middle and largest ratio of two sides, round by round."""
    ratios = [a / b for a, b in zip(slow, fast, strict=True)]
    return {
        "ratio_min": min(ratios),
        "ratio_median": statistics.median(ratios),
        "ratio_max": max(ratios),
    }


def summarize(plain: Sequence[float], ours: Sequence[float]) -> dict[str, float]:
    """Medians of both sides, and the ratios."""
    return {
        "seconds_plain": statistics.median(plain),
        "seconds_ours": statistics.median(ours),
        **spread(plain, ours),
    }


def show(row: Mapping[str, float]) -> str:
    """Ratios as a cell of a table."""
    return " / ".join(f"{row[f'ratio_{name}']:.2f}" for name in ("min", "median", "max"))


def print_steps(steps: Mapping[str, Mapping[str, Any]], digits: int) -> None:
    """Print the table of training steps, seconds with `digits` decimals."""
    print("| step | batch | plain, s | ours, s | ratio: min / median / max |")
    print("|---|---|---|---|---|")
    for name, row in steps.items():
        times = f"{row['seconds_plain']:.{digits}f} | {row['seconds_ours']:.{digits}f}"
        print(f"| {name} | {row['batch']} | {times} | {show(row)} |")


def save(path: Path, result: Mapping[str, Any]) -> None:
    """Write the JSON file."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")


def measure_alone(
    script: str, *arguments: str, env: Mapping[str, str] | None = None
) -> dict[str, int]:
    """What a script prints last with `--memory` and a side, for each side in a process of its own.

    Args:
        script: Path.
        arguments: Further ones.
        env: Environment of the processes; None for this one's.
    """
    found = {}
    for side in ("plain", "ours"):
        command = [sys.executable, script, *arguments, "--memory", side]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env)
        found[side] = round(float(done.stdout.split()[-1]))
    return found


class Interleave(Callback):
    """Times our iterations inside a running trainer, and the plain ones in between.

    Args:
        has_plain: Whether there is a plain side.
        device: That the work is done on.

    Attributes:
        seconds: Of each iteration, by side.
    """

    def __init__(self, *, has_plain: bool = True, device: str = "cpu") -> None:
        self.has_plain, self.device = has_plain, device
        self.seconds: dict[str, list[float]] = {"plain": [], "ours": []}
        self._begin = 0.0

    @abstractmethod
    def prepare(self, number: int) -> None:
        """Get ready what either side needs for iteration `number`; not timed."""

    @abstractmethod
    def step_plain(self, number: int, method: Any) -> None:
        """Run the plain iteration `number`; timed."""

    @abstractmethod
    def check(self, number: int, method: Any) -> None:
        """Compare what both sides made of iteration `number`; not timed."""

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Get ready and start the clock."""
        self.prepare(batch_idx)
        self._begin = read_clock(self.device)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop the clock, run and time the plain iteration, compare."""
        self.seconds["ours"].append(read_clock(self.device) - self._begin)
        if not self.has_plain:
            return
        self.prepare(batch_idx)
        taken = seconds(lambda: self.step_plain(batch_idx, pl_module), self.device)
        self.seconds["plain"].append(taken)
        self.check(batch_idx, pl_module)

    def summarize(self) -> dict[str, float]:
        """See the function of this name; without the first rounds."""
        return summarize(self.seconds["plain"][WARM_UP:], self.seconds["ours"][WARM_UP:])


def train(method: LightningModule, batches: list[Any], sides: Interleave, **options: Any) -> None:
    """Train `method` by `batches` and nothing else; `options` are those of the trainer."""
    settings = {"accelerator": "cpu", "max_epochs": 1} | options
    with warnings.catch_warnings(action="ignore"):
        trainer = Trainer(
            **settings,
            logger=False,
            callbacks=[sides],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(method, DataLoader(batches, batch_size=None, collate_fn=lambda x: x))
