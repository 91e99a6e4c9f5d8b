"""References of a step's options to what earlier steps have left.

- `{train}/checkpoints/last.ckpt`: a file below the directory of step `train`;
- `{train}/checkpoints/snapshots/*.ckpt`: a list of all that match;
- `{choose:least fid*}`: of the checkpoints that step `choose`, an `evaluate`, has scored, the one
  with the smallest `fid...`;
- `{choose:least fid* up to 3125 with sigma 1}`: the same among those of the first 3125 batches that
  were saved while the weight sigma of the loss between layers was 1; or with one of the two limits.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from figureground.core.command_line import quote
from figureground.core.errors import CheckpointError, UserError
from figureground.core.hints import find_mismatch
from figureground.core.plain import copy_options, summarize
from figureground.core.presence import read_text

SCORED = "scored.json"  # Paths of what `metrics.json`, which is passed on, only names.
_LIMITS = r"(?: up to (\d+))?(?: with sigma (\d[\d.e-]*))?"
_PATTERN = re.compile(rf"\{{([A-Za-z][\w-]*)(?::least ([\w/*]+){_LIMITS})?\}}([^\s,\[\]{{}}']*)")


@dataclass(frozen=True)
class Reference:
    """One reference.

    Attributes:
        name: Of the step.
        least: Pattern of the score that chooses a checkpoint; empty for a file.
        rest: Path below its directory, with wildcards for several.
        up_to: Last iteration of checkpoints to choose from, or None.
        sigma: Their weight of the loss between layers, or None for any.
    """

    name: str
    least: str
    rest: str
    up_to: int | None = None
    sigma: float | None = None

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
            return [_find_least(folder, self)]
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


def _read(found: re.Match[str]) -> Reference:
    name, least, up_to, sigma, rest = found.groups()
    limits = int(up_to) if up_to else None, float(sigma) if sigma else None
    return Reference(name, least or "", rest.lstrip("/"), *limits)


def _find_least(folder: Path, reference: Reference) -> Path:
    """The checkpoint with the smallest score among those that `evaluate` has scored."""
    path = folder / "metrics.json"
    if not path.is_file():
        return path
    scored: list[tuple[float, str]] = []
    for ckpt, scores in _read_scored(path):
        named = [
            value for name, value in sorted(scores.items()) if fnmatchcase(name, reference.least)
        ]
        if named and math.isfinite(named[0]) and _is_within(Path(ckpt), reference):
            scored.append((named[0], ckpt))
    if not scored:
        limits = "" if reference.up_to is None else f" up to iteration {reference.up_to}"
        limits += "" if reference.sigma is None else f" with sigma {reference.sigma:g}"
        raise UserError(
            f"{path} has no finite score {reference.least}{limits} to choose a checkpoint by"
        )
    return Path(min(scored)[1])


def _read_scored(path: Path) -> list[tuple[str, dict[str, float]]]:
    """Checkpoints and their scores in the `metrics.json` of an `evaluate`.

    Raises:
        UserError: It is damaged, or names a checkpoint by what Hydra would resolve.
    """
    try:
        content = json.loads(read_text(path))
        # The command of a step names them, and Hydra reads commands.
        places = path.with_name(SCORED)
        ckpt = json.loads(read_text(places)) if places.is_file() else content["ckpt"]
        names = copy_options(ckpt, "ckpt")
        pairs = list(zip(names, content["runs"], strict=True))
        odd = [pair for pair in pairs if find_mismatch(pair[0], str) or not are_numbers(pair[1])]
        if odd:
            raise ValueError(f"expected a checkpoint and its scores, got {str(odd[0])[:80]}")
    except (OSError, ValueError, KeyError, TypeError, RecursionError, CheckpointError) as error:
        raise UserError(
            f"{path} cannot be read as scores of checkpoints ({summarize(error)}); remove the "
            "folder it is in to take the step again"
        ) from error
    return pairs


def are_numbers(scores: object) -> bool:
    """Whether what stands in a file is a mapping to numbers."""
    return isinstance(scores, dict) and all(
        isinstance(value, float) or find_mismatch(value, float) is None for value in scores.values()
    )


def _is_within(ckpt: Path, reference: Reference) -> bool:
    """Whether a snapshot, named by its iteration, is one of those to choose from."""
    if reference.up_to is not None and not (
        ckpt.stem.isdigit() and int(ckpt.stem) <= reference.up_to
    ):
        return False
    if reference.sigma is None:
        return True
    from figureground.core.checkpoint import read_checkpoint

    sigma = read_checkpoint(ckpt)["figureground"].get("sigma")
    return sigma is not None and math.isclose(sigma, reference.sigma, rel_tol=1e-6)
