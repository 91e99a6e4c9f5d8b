"""Scores of the checkpoints that are done, so that a stopped `evaluate` of many goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from figureground import __version__
from figureground.cli.references import are_numbers
from figureground.core.io import atomic_write
from figureground.core.peers import is_first_process
from figureground.core.presence import read_text

_NAME = "metrics.partial.json"
#: Options that change no score.
_IMMATERIAL = ("ckpt", "extra", "hydra", "name", "overwrite", "paths", "tags", "task")


class PartialScores:
    """What was scored in a run directory with the same options.

    Args:
        folder: The run directory.
        plain: All options.
    """

    def __init__(self, folder: Path, plain: Mapping[str, Any]) -> None:
        self.path = folder / _NAME
        options = {key: value for key, value in plain.items() if key not in _IMMATERIAL}
        text = json.dumps([__version__, options], sort_keys=True, default=str)
        self.options = hashlib.sha256(text.encode()).hexdigest()[:16]
        self._earlier = self._read()
        self.found = dict(self._earlier)

    def get(self, ckpt: str) -> dict[str, float] | None:
        """Scores of a checkpoint, if an earlier run has scored it and it has not changed."""
        return self._earlier.get(_identify(ckpt))

    def put(self, ckpt: str, scores: dict[str, float]) -> None:
        """Keep the scores of a checkpoint."""
        self.found[_identify(ckpt)] = scores
        if is_first_process():
            with atomic_write(self.path, "w") as file:
                json.dump({"options": self.options, "scores": self.found}, file, indent=1)

    def remove(self) -> None:
        """Remove the file: all are scored."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> dict[str, dict[str, float]]:
        try:
            content = json.loads(read_text(self.path))
            if content["options"] == self.options:
                found = content["scores"].items()
                return {key: dict(scores) for key, scores in found if are_numbers(scores)}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            pass  # Scored anew.
        return {}


def _identify(ckpt: str) -> str:
    """Tell files apart without reading them through."""
    try:
        facts = Path(ckpt).stat()
    except OSError:  # Whoever loads it says so.
        return ckpt
    return f"{Path(ckpt).absolute()} {facts.st_size} {facts.st_mtime_ns}"
