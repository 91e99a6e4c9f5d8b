"""Files that a list names: whoever wrote the list, they lie below the folder it belongs to."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from figureground.core.errors import DataError
from figureground.core.presence import read_text

_MOST_NAME = 255  # Bytes of a file's name that file systems allow.
_SHOWN = 80  # Characters of an entry in messages.
_ABSOLUTE = re.compile(r"([A-Za-z]:)?[/\\]")


def require_inside(source: Path, root: Path, entries: Iterable[tuple[str, Iterable[Path]]]) -> None:
    """Refuse a list that leads out of a folder, by names or by links.

    The folder itself may be reached through links, and so may the folders directly in it, which
    archives that are unpacked to different disks need.

    Args:
        source: The list, text or not.
        root: The folder.
        entries: What the list says, in its order, each with the files that are made of it.

    Raises:
        DataError: An entry is absolute, has `..`, has a name that no file can have, or one of its
            files is a link to elsewhere, or lies behind one deeper in `root`.
    """
    inside = [os.path.realpath(root), *_linked_folders(root)]
    known: dict[str, str] = {}  # Real paths of folders, of which many files share one.
    for number, (entry, files) in enumerate(entries, start=1):
        if problem := _find_problem(entry):
            _refuse(source, number, entry, problem)
        for file in files:
            parent = os.path.dirname(file)  # noqa: PTH120 - of thousands of files
            if parent not in known:
                known[parent] = os.path.realpath(parent)
            real = os.path.realpath(file) if os.path.islink(file) else known[parent]  # noqa: PTH114
            if all(os.path.commonpath([each, real]) != each for each in inside):
                _refuse(source, number, entry, f"is behind a link that leads out of {root}")


def _linked_folders(root: Path) -> list[str]:
    """Where those folders directly below `root` really are that are links."""
    try:
        with os.scandir(root) as found:
            return [
                os.path.realpath(each.path) for each in found if each.is_symlink() and each.is_dir()
            ]
    except OSError:  # Missing, which others say.
        return []


def _find_problem(entry: str) -> str | None:
    """Why no file below a folder can go by this entry, whatever is on the disk; or None."""
    if "\0" in entry or not entry.strip("./\\ "):
        return "is no name of a file"
    if any(_ABSOLUTE.match(word) for word in entry.split()):
        return "is an absolute path, expected one below the folder of the set"
    parts = re.split(r"[\s/\\]+", entry)
    if ".." in parts:
        return "leads out of the folder of the set"
    if any(len(os.fsencode(part)) > _MOST_NAME for part in parts):
        return "is longer than any name of a file"
    return None


def _refuse(source: Path, number: int, entry: str, problem: str) -> None:
    shown = repr(entry[:_SHOWN]) + ("..." if len(entry) > _SHOWN else "")
    raise DataError(
        f"{source}, {_place(source, entry) or f'entry {number}'}: {shown} {problem}; nothing was "
        "read there: put the original list and the files themselves in place"
    )


def _place(source: Path, entry: str) -> str | None:
    """The line that holds `entry`, if the list is text and one does."""
    try:
        lines = read_text(source).splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    wanted = set(entry.split())
    for number, line in enumerate(lines, start=1):
        if wanted and wanted <= set(line.split()):
            return f"line {number}"
    return None
