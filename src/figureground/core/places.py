"""Files that the options of a method name: told apart in checkpoints without where they lie.

A checkpoint is passed on, so it keeps a path relative to the working directory or a mere name.
Whoever builds the method from it finds the file where the run directory of the checkpoint, which
stays, says that it was, else in the working directory, else beside the checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from figureground.core.presence import SMALL, read_text
from figureground.core.publishing import is_place, shorten

_RESOLVED = "config.json"  # All options of a run, in its directory.
_LEVELS = 3  # Of folders between a checkpoint and the directory of its run, and that.


def shorten_places(node: Any) -> Any:
    """Options without absolute paths.

    Args:
        node: Plain values.
    """
    if isinstance(node, Mapping):
        return {key: shorten_places(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [shorten_places(value) for value in node]
    return shorten(node) if isinstance(node, str) and is_place(node) else node


def find_places(node: Any, checkpoint: Path) -> Any:
    """Options with the files in them that can be found, see above; all others as they are.

    Args:
        node: What `shorten_places` returned, from `checkpoint`.
        checkpoint: The file.
    """
    return _find(node, _read_options(checkpoint), checkpoint.parent)


def _find(node: Any, known: Any, folder: Path) -> Any:
    if isinstance(node, Mapping):
        known = known if isinstance(known, Mapping) else {}
        return {key: _find(value, known.get(key), folder) for key, value in node.items()}
    if not isinstance(node, str) or not node or Path(node).is_absolute():
        return node
    with suppress(OSError, ValueError):  # Of names that no file can have.
        is_of_run = isinstance(known, str) and "${" not in known and Path(known).is_absolute()
        # A working directory may have another file of this name, and a run may have moved.
        if is_of_run and Path(known).name == Path(node).name and Path(known).exists():
            return known
        if Path(node).exists():
            return node
        if Path(node).suffix and (folder / Path(node).name).is_file():
            return str(folder / Path(node).name)
    return node


def _read_options(checkpoint: Path) -> Any:
    """Options of the method in the run directory that `checkpoint` lies in, or None."""
    for folder in checkpoint.absolute().parents[:_LEVELS]:
        path = folder / _RESOLVED
        with suppress(OSError, ValueError, RecursionError, AttributeError):
            return json.loads(read_text(path, SMALL)).get("method")
    return None
