"""Short runs of the real methods, and the one finished run of each that many tests start from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytorch_lightning import Callback
from tiny import Run, break_off

from faults import build_tiny

#: Four batches are one epoch of the toy set of `build_tiny`.
ITERATIONS, EVERY = 4, 2


def settings(method: str, **changed: Any) -> dict[str, Any]:
    """Arguments of `Run` for `ITERATIONS` batches of `method`, saved and validated by pairs."""
    usual = {"iterations": ITERATIONS, "every": EVERY, "validate_every": EVERY}
    return {**usual, "make": lambda: build_tiny(method), **changed}


def short(directory: Path, method: str, *callbacks: Callback, **changed: Any) -> Run:
    """A run of `method` that is ready to start."""
    return Run(directory, *callbacks, **settings(method, **changed))


def break_off_short(directory: Path, method: str, hook: str, count: int) -> Run:
    """A run of `method` that an exception in `hook` has ended after `count` steps."""
    return break_off(directory, hook, count, **settings(method))
