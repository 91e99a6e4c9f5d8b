"""What `reproduce` writes down about each step, so that a finished one is taken once only."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Self

from figureground.cli.references import are_numbers
from figureground.cli.steps import SNAPSHOT, Step
from figureground.core.errors import UserError
from figureground.core.io import atomic_write
from figureground.core.presence import SMALL, open_file, read_text
from figureground.core.signatures import find_wrong_arguments

RECORD = "step.json"
_SHOWN = 6
#: Options that change where a step runs and what it shows, not what comes out.
_IMMATERIAL = (
    "data.num_workers", "data.cache", "device", "logger", "paths.cache_dir", "paths.data_dir",
    "trainer", "trainer.accelerator", "trainer.devices", "trainer.enable_progress_bar",
)  # fmt: skip


@dataclass
class Record:
    """A step that was begun, in its directory.

    Attributes:
        step: Its name.
        command: What was called.
        options: With which options, references still in them.
        inputs: `run` of each earlier step it refers to, and what tells its snapshot apart.
        run: Tells this result apart from that of another run of the step; empty until finished.
        seconds: Time of all its calls on the clock.
        cpu_seconds: Time that processors spent on them; 0 if it was not measured.
        scores: All numbers of its `metrics.json`; of pairs, what the filters let through.
    """

    step: str
    command: str
    options: list[str]
    inputs: dict[str, str]
    run: str = ""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    scores: dict[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Read the record in `folder`; None if there is none."""
        path = folder / RECORD
        try:
            content = json.loads(read_text(path, SMALL))
            if not isinstance(content, dict):
                raise ValueError("expected a record")
            if problems := find_wrong_arguments("record", cls, content):
                raise ValueError(problems[0])
            if not are_numbers(content.get("scores", {})):
                raise ValueError("scores: expected numbers")
            return cls(**content)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise UserError(
                f"{path} cannot be read ({error}); move {folder} away to take the step again"
            ) from error

    @classmethod
    def begin(cls, step: Step, finished: Mapping[str, Record]) -> Self:
        """Write down that `step` begins, from the results of the steps `finished`."""
        record = cls(step.name, step.command, list(step.options), _identify(step, finished))
        before = cls.read(step.folder)
        if before is None or before.run:
            record.write(step.folder)
        else:  # It was only stopped: the first call's options count, and the time of all.
            record.seconds, record.cpu_seconds = before.seconds, before.cpu_seconds
        return record

    def spend(self, folder: Path, seconds: float, cpu_seconds: float) -> None:
        """Add the time of a call, here and in `folder`."""
        self.seconds = round(self.seconds + seconds, 1)
        self.cpu_seconds = round(self.cpu_seconds + cpu_seconds, 1)
        stored = type(self).read(folder) or self
        replace(stored, seconds=self.seconds, cpu_seconds=self.cpu_seconds).write(folder)

    def finish(self, step: Step) -> None:
        """Write down that the step has finished, with its scores."""
        from figureground.data.shard_manifest import read_rates

        self.run = secrets.token_hex(8)
        self.scores = read_scores(step.folder / "metrics.json")
        self.scores |= read_rates((step.folder / step.result).parent)
        self.write(step.folder)

    def write(self, folder: Path) -> None:
        """Write the record into `folder`, whole or not at all."""
        with atomic_write(folder / RECORD, "w") as file:
            json.dump(asdict(self), file, indent=2)

    def find_changed_options(self, step: Step) -> str | None:
        """Say in what `step` asks for something else than this, or None."""
        before, asked = _by_key(self.command, self.options), _by_key(step.command, step.options)
        differing = [
            f"{key} ({before.get(key, 'unset')} -> {asked.get(key, 'unset')})"
            for key in sorted(before.keys() | asked.keys())
            if before.get(key) != asked.get(key) and key not in _IMMATERIAL
        ]
        if not differing:
            return None
        more = f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
        return f"was taken with other options: {', '.join(differing[:_SHOWN])}{more}"

    def find_changed_input(self, step: Step, finished: Mapping[str, Record]) -> str | None:
        """Say what `step` would now be made from that this was not made from, or None."""
        now = _identify(step, finished)
        for name, before in self.inputs.items():
            if name in now and now[name] != before:
                return f"was made from another {'' if name == SNAPSHOT else 'result of '}{name}"
        return None


def is_finished(step: Step, record: Record | None) -> bool:
    """Whether the step has finished and its result is still there."""
    return record is not None and bool(record.run) and (step.folder / step.result).exists()


def forget(step: Step, *, stopped: bool) -> bool:
    """Remove the directory of a step, if it was taken; return whether it was.

    Args:
        step: Which.
        stopped: Whether one that has not finished goes too. Otherwise it stays, if it was taken
            with the same options, so that the same command line goes on with it.
    """
    record = Record.read(step.folder)
    if record is None:
        return False
    if not (stopped or record.run or record.find_changed_options(step)):
        return False
    shutil.rmtree(step.folder)
    return True


def read_scores(path: Path) -> dict[str, float]:
    """Numbers in a `metrics.json` of `train` or `evaluate`; none if there is no such file."""
    try:
        content: dict[str, Any] = json.loads(read_text(path, SMALL))
    except (OSError, ValueError, RecursionError):
        return {}
    found: dict[str, float] = {}
    for name, value in content.items() if isinstance(content, dict) else ():
        number = value.get("mean") if isinstance(value, dict) else value
        if isinstance(number, int | float) and not isinstance(number, bool):
            with suppress(OverflowError):
                found[name] = float(number)
    return found


def _identify(step: Step, finished: Mapping[str, Record]) -> dict[str, str]:
    """What tells apart each thing that `step` is made from."""
    names = sorted(step.used & finished.keys())
    found = {name: finished[name].run for name in names}
    if step.snapshot is not None and step.snapshot.is_file():
        facts = step.snapshot.stat()
        found[SNAPSHOT] = _digest(step.snapshot, facts.st_size, facts.st_mtime_ns)
    return found


@cache  # Several steps are made from one snapshot.
def _digest(path: Path, size: int, changed: int) -> str:
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _by_key(command: str, options: list[str] | tuple[str, ...]) -> dict[str, str]:
    pairs = (option.lstrip("+").partition("=") for option in options)
    return {"command": command, **{key: value for key, _, value in pairs}}
