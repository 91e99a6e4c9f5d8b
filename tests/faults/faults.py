"""Harness of the fault tests: run a command and kill it, make things fail, compare two runs."""

from __future__ import annotations

import contextlib
import csv
import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback, LightningDataModule
from torch import Tensor

from figureground.core.config import build, flatten
from figureground.core.method import Method

ROOT = Path(__file__).parents[2]


def _find_methods() -> list[str]:
    """Files of conf/method, one for each class: the shortest name, such as `l2ic`."""
    found: dict[str, str] = {}
    for path in (ROOT / "conf" / "method").glob("*.yaml"):
        target = str(OmegaConf.load(path)["_target_"])
        found[target] = min(path.stem, found.get(target, path.stem), key=lambda n: (len(n), n))
    return sorted(found.values())


METHODS = _find_methods()

# Wall-clock measurements, the only things that may differ between equal runs.
_TIMED = ("throughput", "seconds", "images_per_second", "memory", "time")


@dataclass(frozen=True)
class Result:
    """What a command left behind: exit code, output, and the files under its directory."""

    code: int
    out: str
    err: str
    files: tuple[str, ...]


def run(
    args: Sequence[str | Path],
    *,
    cwd: Path,
    kill_after: tuple[Callable[[], bool], int] | None = None,
    env: dict[str, str] | None = None,
    limit: float = 60,
) -> Result:
    """Run `args` in a process group of its own, which is gone when this returns.

    Args:
        args: Command line; `python` stands for the running interpreter.
        cwd: Working directory; its files are listed in the result.
        kill_after: Condition to wait for (poll a progress file) and signal to send then.
        env: Additional environment variables.
        limit: Seconds after which the group is killed and the test fails.
    """
    command = [sys.executable if part == "python" else str(part) for part in args]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", **(env or {})}
    with subprocess.Popen(
        command,
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            if kill_after is not None:
                condition, signum = kill_after
                wait_for(lambda: condition() or process.poll() is not None, limit)
                if process.poll() is None:
                    process.send_signal(signum)
            out, err = process.communicate(timeout=limit)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    files = tuple(sorted(str(p.relative_to(cwd)) for p in cwd.rglob("*") if p.is_file()))
    return Result(process.returncode, out, err, files)


@functools.cache
def compose_tiny(method: str, *overrides: str) -> DictConfig:
    """Configuration of `method` on the toy set, without the callbacks of a whole command."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", [*tiny_overrides(method), "callbacks=stop", *overrides])


def tiny_overrides(method: str) -> list[str]:
    """Options that make a step of `method` on the toy set a matter of milliseconds."""
    options = OmegaConf.load(ROOT / "conf" / "method" / f"{method}.yaml")
    widths = [f"method.{key}=8" for key in options if "width" in str(key)]
    counts = [f"data.{split}.count={count}" for split, count in (("train", 18), ("val", 8))]
    sizes = ["data.batch_size=4", "data.eval_batch_size=4", "data.test.count=8"]
    # Parts that the recipe of `toy` does without are tested too.
    parts = [
        f"method.{key}={json.dumps(part).replace(chr(34), '')}"
        for key, part in OmegaConf.to_container(options, resolve=False).items()
        if isinstance(part, dict) and "_target_" in part and "_partial_" not in part
    ]
    return [f"method={method}", "data=toy", *sizes, *counts, *widths, *parts]


def command(method: str, directory: Path, *overrides: str) -> list[str | Path]:
    """Command line that trains `method` on the toy set in `directory`, a row logged per batch."""
    pace = ["trainer.val_check_interval=4", "trainer.log_every_n_steps=1"]
    pace += ["callbacks.checkpoints.every=2", "trainer.accelerator=cpu", "test=false"]
    tiny = tiny_overrides(method)
    train = ROOT / "src" / "train.py"
    return ["python", train, *tiny, *pace, f"paths.output_dir={directory}", *overrides]


def flat_options(method: str) -> list[str]:
    """Paths of all options of `method`, as on the command line."""
    options = OmegaConf.load(ROOT / "conf" / "method" / f"{method}.yaml")
    return list(flatten({"method": OmegaConf.to_container(options, resolve=False)}))


def saved_iteration(directory: Path) -> int:
    """Iteration of `last.ckpt` in a run directory, -1 while there is none; cheap enough to poll."""
    try:
        manifest = directory / "checkpoints" / "last.ckpt.json"
        return int(json.loads(manifest.read_text("utf-8"))["iteration"])
    except (OSError, ValueError):
        return -1


def build_tiny(method: str, *overrides: str) -> tuple[Method, LightningDataModule]:
    """Objects of `compose_tiny`."""
    config = compose_tiny(method, *overrides)
    built = build(config.method)
    built.origin = {"method": OmegaConf.to_container(config.method, resolve=True)}
    if config.channels_last:
        built = built.to(memory_format=torch.channels_last)
    return built, build(config.data)


@functools.cache
def needs_masks(method: str) -> bool:
    """Whether `method` learns from masks, so that pictures without any are refused."""
    return build_tiny(method)[0].learns_from_masks


def wait_for(condition: Callable[[], bool], limit: float = 30) -> None:
    """Poll until `condition` holds; fail after `limit` seconds."""
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"nothing happened within {limit} s")
        time.sleep(0.01)


class At(Callback):
    """Call `action` once, in `hook`, when `count` training steps have been taken."""

    def __init__(self, hook: str, count: int, action: Callable[[], Any]) -> None:
        self.count, self.action, self.called = count, action, False
        setattr(self, hook, self._hook)

    def _hook(self, trainer: Any, *_: Any, **__: Any) -> None:
        steps = trainer.fit_loop.epoch_loop.batch_progress.total.processed
        if not self.called and self.count == steps:
            self.called = True
            self.action()


def kill(signum: int = signal.SIGTERM) -> Callable[[], None]:
    """Action: send `signum` to this process."""
    return lambda: os.kill(os.getpid(), signum)


def fail(message: str = "injected") -> Callable[[], None]:
    """Action: raise."""

    def action() -> None:
        raise RuntimeError(message)

    return action


def assert_same_checkpoint(a: Path, b: Path) -> None:
    """Compare two checkpoints bit by bit; NaN equals NaN."""
    one = torch.load(a, weights_only=True)
    two = torch.load(b, weights_only=True)
    for key, left, right in _differences(one, two, ""):
        gap = ""
        if isinstance(left, Tensor) and isinstance(right, Tensor) and left.shape == right.shape:
            gap = f" by up to {(left.double() - right.double()).abs().max():g}"
        raise AssertionError(f"{a} and {b} differ{gap} in {key}: {left!r} and {right!r}")


def assert_same_run(a: Path, b: Path) -> None:
    """Compare the last checkpoints and the CSV rows of two run directories."""
    assert_same_checkpoint(a / "checkpoints" / "last.ckpt", b / "checkpoints" / "last.ckpt")
    tables = [sorted(directory.rglob("metrics.csv")) for directory in (a, b)]
    assert [len(t) for t in tables] == [1, 1], f"expected one metrics.csv in each, got {tables}"
    one, two = (read_rows(paths[0]) for paths in tables)
    for index, (left, right) in enumerate(zip(one, two, strict=False)):
        assert left == right, f"row {index} differs: {left} and {right}"
    assert len(one) == len(two)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a metrics file, without empty cells and wall-clock measurements."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [
            {k: v for k, v in row.items() if v and not any(word in k for word in _TIMED)}
            for row in csv.DictReader(file)
        ]
    return [row for row in rows if set(row) - {"step", "epoch"}]


def _differences(a: Any, b: Any, key: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(a, dict) and isinstance(b, dict):
        for name in [*a, *(n for n in b if n not in a)]:
            if any(word in str(name).lower() for word in _TIMED):
                continue
            if name not in a or name not in b:
                yield f"{key}/{name}", a.get(name, "absent"), b.get(name, "absent")
            else:
                yield from _differences(a[name], b[name], f"{key}/{name}")
    elif isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        for index, (left, right) in enumerate(zip(a, b, strict=True)):
            yield from _differences(left, right, f"{key}/{index}")
    elif isinstance(a, Tensor) and isinstance(b, Tensor):
        if not torch.allclose(a, b, rtol=0, atol=0, equal_nan=a.is_floating_point()):
            yield key, a, b
    elif a != b and not (a != a and b != b):
        yield key, a, b
