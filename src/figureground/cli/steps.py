"""Steps of `reproduce` as the configuration describes them: read, references filled in.

A step is a command with its options, which may refer to what earlier steps have left. `{snapshot}`
stands for one checkpoint kept over training: the step, and every step that refers to it, is taken
once for each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from figureground.cli.references import Reference, fill, find_references
from figureground.core.command_line import as_value, quote
from figureground.core.config import flatten

SNAPSHOT = "snapshot"


@dataclass(frozen=True)
class Step:
    """One call of a command.

    Attributes:
        name: By which later steps refer to it.
        command: What is called.
        options: As on the command line, references still in them.
        result: File below `folder` that is there once the step has finished.
        scores: Patterns of the scores that tables show.
        folder: Run directory of the call.
        snapshot: Checkpoint that `{snapshot}` stands for, or None.
    """

    name: str
    command: str
    options: tuple[str, ...]
    result: str
    scores: tuple[str, ...]
    folder: Path
    snapshot: Path | None = None

    @property
    def references(self) -> list[Reference]:
        """What its options refer to."""
        return [each for option in self.options for each in find_references(option)]

    @property
    def used(self) -> set[str]:
        """Names of the steps that its options refer to."""
        return {reference.name for reference in self.references}

    def find_inputs(self, folders: Mapping[str, Path]) -> list[tuple[str, Path]]:
        """Files that its options refer to, each with the name of its step.

        Args:
            folders: Directories of earlier steps by name.
        """
        known = self._add_snapshot(folders)
        return [(each.name, path) for each in self.references for path in each.find(known)]

    def arguments(self, folders: Mapping[str, Path]) -> list[str]:
        """Command line of the call, references filled in and quoted as Hydra needs it."""
        known = self._add_snapshot(folders)
        filled = [fill(option, known) for option in self.options]
        return [*filled, f"paths.output_dir={quote(str(self.folder))}"]

    def _add_snapshot(self, folders: Mapping[str, Path]) -> dict[str, Path]:
        return {**folders, **({SNAPSHOT: self.snapshot} if self.snapshot else {})}

    def shown(self, scores: Mapping[str, float]) -> dict[str, float]:
        """Those of `scores` that tables show, in the order asked for."""
        return {
            name: scores[name]
            for pattern in self.scores
            for name in sorted(scores)
            if fnmatchcase(name, pattern)
        }

    def at(self, output: Path, snapshot: Path) -> Step:
        """The same step for one checkpoint kept over training."""
        folder = output / "snapshots" / snapshot.stem / self.folder.name
        return replace(self, folder=folder, snapshot=snapshot)


def read_steps(steps: Mapping[str, Mapping[str, Any] | None], output: Path) -> list[Step]:
    """Read the node `steps`; steps set to null are left out, the others keep their numbers."""
    found = []
    for number, (name, node) in enumerate(steps.items(), start=1):
        if node is None:
            continue
        found.append(
            Step(
                name,
                str(node["command"]),
                tuple(
                    f"{key}={as_value(value, _as_text)}"
                    for key, value in flatten(node.get("options") or {}).items()
                ),
                str(node["result"]),
                tuple(["test/*"] if node.get("scores") is None else node["scores"]),
                output / f"{number:02d}-{name}",
            )
        )
    return found


def split_steps(steps: Sequence[Step], needed: str = "") -> tuple[list[Step], list[Step]]:
    """Part the steps taken once from those taken for each snapshot.

    Args:
        steps: All, in order.
        needed: Text whose references are needed once, too.

    Returns:
        Both kinds, in order. If there are steps of the second kind, the first has only those that
        they or `needed` refer to.
    """
    repeated: set[str] = set()
    for step in steps:
        if step.used & (repeated | {SNAPSHOT}):
            repeated.add(step.name)
    if not repeated:
        return list(steps), []
    wanted = {each.name for each in find_references(needed)}
    for step in reversed(steps):
        if step.name in repeated or step.name in wanted:
            wanted |= step.used
    once = [step for step in steps if step.name in wanted - repeated]
    return once, [step for step in steps if step.name in repeated]


def followers(steps: Sequence[Step], name: str, source: str = "") -> list[Step]:
    """The step `name` and all that are made from its results, in order.

    Args:
        steps: All, in order.
        name: Of one of them.
        source: Where snapshots come from, with references.
    """
    names = {name}
    makers = {each.name for each in find_references(source)}
    for step in steps:
        if names & (step.used | (makers if SNAPSHOT in step.used else set())):
            names.add(step.name)
    return [step for step in steps if step.name in names]


def _as_text(text: str) -> str:
    """Write a text as on the command line; references are left for `Step.arguments`."""
    return text if find_references(text) else quote(text)
