"""References of a step's options to what earlier steps have left.

- `{train}/checkpoints/last.ckpt`: a file below the directory of step `train`;
- `{train}/checkpoints/snapshots/*.ckpt`: a list of all that match;
- `{choose:least fid*}`: of the checkpoints that step `choose`, an `evaluate`, has scored, the one
  with the smallest `fid...`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from figureground.core.errors import UserError

_PATTERN = re.compile(r"\{([A-Za-z][\w-]*)(?::least ([\w/*]+))?\}([^\s,\[\]{}']*)")


@dataclass(frozen=True)
class Reference:
    """One reference.

    Attributes:
        name: Of the step.
        least: Pattern of the score that chooses a checkpoint; empty for a file.
        rest: Path below its directory, with wildcards for several.
    """

    name: str
    least: str
    rest: str

    @property
    def is_list(self) -> bool:
        """Whether it stands for several files."""
        return "*" in self.rest

    def find(self, folders: Mapping[str, Path]) -> list[Path]:
        """The files it stands for; one that does not exist where there is none yet.

        Args:
            folders: Directories of steps by name.

        Raises:
            UserError: No checkpoint has the score.
        """
        folder = folders[self.name]
        if self.least:
            return [_find_least(folder, self.least)]
        if self.is_list and (found := sorted(folder.glob(self.rest))):
            return found
        return [folder / self.rest if self.rest else folder]


def find_references(text: str) -> list[Reference]:
    """All references in `text`, in order."""
    return [_read(found) for found in _PATTERN.finditer(text)]


def fill(text: str, folders: Mapping[str, Path]) -> str:
    """Put the files in the place of references, quoted as Hydra needs it."""

    def replace(match: re.Match[str]) -> str:
        reference = _read(match)
        paths = [quote(str(path)) for path in reference.find(folders)]
        return f"[{','.join(paths)}]" if reference.is_list else paths[0]

    return _PATTERN.sub(replace, text)


def fill_plain(text: str, folders: Mapping[str, Path]) -> str:
    """Put the file in the place of a reference, as it is."""
    return _PATTERN.sub(lambda match: str(_read(match).find(folders)[0]), text)


def quote(text: str) -> str:
    """Quote a value so that Hydra takes it as it is."""
    if re.fullmatch(r"[\w./-]+", text, re.ASCII):
        return text
    return "'" + text.replace("'", "\\'") + "'"


def _read(found: re.Match[str]) -> Reference:
    return Reference(found[1], found[2] or "", found[3].lstrip("/"))


def _find_least(folder: Path, pattern: str) -> Path:
    """The checkpoint with the smallest score among those that `evaluate` has scored."""
    path = folder / "metrics.json"
    if not path.is_file():
        return path
    content = json.loads(path.read_text("utf-8"))
    scored: list[tuple[float, str]] = []
    for ckpt, scores in zip(content["ckpt"], content["runs"], strict=True):
        named = [value for name, value in sorted(scores.items()) if fnmatchcase(name, pattern)]
        if named and math.isfinite(named[0]):
            scored.append((named[0], ckpt))
    if not scored:
        raise UserError(f"{path} has no finite score {pattern} to choose a checkpoint by")
    return Path(min(scored)[1])
