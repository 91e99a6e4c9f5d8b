"""Chains of commands at tiny size: taken whole, and interrupted in each of their steps."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from faults import ROOT, Result, run


@dataclass(frozen=True)
class Chain:
    """Options of `reproduce` that make an experiment tiny, and the folders of its steps."""

    names: tuple[str, ...]
    options: tuple[str, ...]

    def take(
        self, folder: Path, *more: str, kill_after: tuple[Callable[[], bool], int] | None = None
    ) -> Result:
        """Call the command; `kill_after` as in `faults.run`."""
        output = f"paths.output_dir={folder}"
        command = ["python", ROOT / "src/reproduce.py", *self.options, output, *more]
        return run(command, cwd=folder.parent, limit=600, kill_after=kill_after)

    def take_whole(self, folder: Path) -> Path:
        """Take all steps without a stop; return `folder`."""
        done = self.take(folder)
        assert done.code == 0, done.err
        return folder

    def take_in_parts(
        self, folder: Path, stops: Mapping[str, tuple[Callable[[], bool], int]]
    ) -> Result:
        """Stop each step of `stops` by its signal when its condition holds, then take the rest.

        A signal may come when the step is as good as done, which then counts as finished. That is
        right, but of all steps it may happen to one at most, or nothing would be tested.
        """
        assert tuple(stops) == self.names
        slipped = []
        for number, (name, (condition, signum)) in enumerate(stops.items()):
            stopped = self.take(folder, kill_after=(condition, signum))
            last = number == len(stops) - 1
            if last and stopped.code == 0 and not slipped:
                return stopped
            assert stopped.code == 128 + signum, stopped.err
            # Everything before has finished, nothing after has begun.
            begun = [each for each in self.names if (folder / each / "step.json").exists()]
            assert begun == list(self.names[: number + 1])
            if read_record(folder, name)["run"]:
                slipped.append(name)
            assert not (folder / "table.md").exists()
        assert len(slipped) <= 1, f"not stopped: {slipped}"
        done = self.take(folder)
        assert done.code == 0, done.err
        return done

    def assert_same(self, one: Path, two: Path, *, pictures: str, count: int) -> None:
        """Drawn pairs are the same bit for bit, and so is every score but those of time."""
        drawn = sorted(path.name for path in (one / pictures).glob("*.safetensors"))
        assert len(drawn) == count
        for name in drawn:
            first, second = (folder / pictures / name for folder in (one, two))
            assert first.read_bytes() == second.read_bytes()
        for name in self.names:
            assert read_scores(one, name) == pytest.approx(read_scores(two, name), nan_ok=True)


def read_record(folder: Path, name: str) -> dict[str, object]:
    """What step `name` has left."""
    record: dict[str, object] = json.loads((folder / name / "step.json").read_text())
    return record


def read_scores(folder: Path, name: str) -> dict[str, float]:
    """Scores of the finished step `name`, without those of time."""
    record = read_record(folder, name)
    assert record["run"], f"{name} has not finished"
    timed = ("seconds", "throughput")
    scores = record["scores"]
    assert isinstance(scores, dict)
    return {k: v for k, v in scores.items() if not any(t in k for t in timed)}
