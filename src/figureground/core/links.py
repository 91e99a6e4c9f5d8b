"""Folders that are written to hold no links: whoever sent one could have others overwrite a file.

The folder itself may be reached through links, such as `outputs` on a larger disk. Hard links, as
backups make them, are parted: what is written in place becomes a file of its own first.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from figureground.core.errors import UserError
from figureground.core.io import atomic_write

#: What is written in place (by Hydra, Lightning and locks), so that a second name would change too.
_IN_PLACE = frozenset({".yaml", ".log", ".lock"})
#: Links that W&B makes in its folder `wandb`, to what is in there.
_WANDB = re.compile(r"(latest-run|debug\.log|debug-internal\.log)(\.\d+)?")
#: The one that it makes in `wandb/<run>/logs`, to the log of its own process in its cache.
_CORE, _CORE_LOG = "debug-core.log", re.compile(r".*/wandb/logs/core-debug-[\w-]+\.log")
LATEST = Path("outputs") / "latest"  # The link that `train` makes to its run directory.


def refuse_links(folder: str | Path, option: str = "paths.output_dir") -> None:
    """Refuse to write into a folder that holds links at any depth, pipes or devices.

    If it holds none, what is written in place and has a second name gets a file of its own.

    Args:
        folder: What shall be written to; it may be missing yet, and may be a link itself.
        option: By which another one is chosen, for the message.

    Raises:
        UserError: It holds some.
    """
    shared = []
    for entry in _walk(str(folder), option):
        if (problem := _find_problem(entry)) and not _is_ours(Path(entry.path)):
            _refuse(entry.path, problem, option)
        if _has_second_name(entry):
            shared.append(Path(entry.path))
    for path in shared:
        with path.open("rb") as source, atomic_write(path) as own:
            shutil.copyfileobj(source, own)


def refuse_linked_folders(folder: str | Path, inner: Iterable[str | Path], option: str) -> None:
    """Refuse to write into folders below another one if they are links or hold any.

    Unlike `refuse_links` it leaves alone what lies beside them: results may go to any folder.

    Args:
        folder: Where results go.
        inner: Paths below it, of which no part may be a link.
        option: By which `folder` is chosen, for the message.

    Raises:
        UserError: One is a link, or holds links.
    """
    folder = Path(folder)
    parts = {each for path in map(Path, inner) for each in (path, *path.parents)} - {Path()}
    for part in sorted(parts):
        if os.path.islink(folder / part):  # noqa: PTH114 - of any length
            _refuse(str(folder / part), "is a link", option)
    for part in sorted(parts):
        refuse_links(folder / part, option)


def _walk(folder: str, option: str) -> Iterator[os.DirEntry[str]]:
    """Everything below `folder`; links are not followed.

    Raises:
        UserError: A folder cannot be looked into.
    """
    waiting = [folder]
    while waiting:
        try:
            place = waiting.pop()
            with os.scandir(place) as inside:
                entries = list(inside)
        except (FileNotFoundError, NotADirectoryError):  # Missing yet, or gone meanwhile.
            continue
        except OSError as error:  # It may be written to and entered, with links that are not seen.
            _refuse(place, f"cannot be looked into ({error.strerror or error})", option)
        for entry in entries:
            yield entry
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)


def _find_problem(entry: os.DirEntry[str]) -> str | None:
    """Why nothing may be written where `entry` is, or None."""
    if entry.is_symlink():
        return "is a link"
    if entry.is_dir(follow_symlinks=False):
        return None
    if entry.is_file(follow_symlinks=False):
        return None
    try:
        mode = entry.stat(follow_symlinks=False).st_mode
    except OSError:  # Gone meanwhile.
        return None
    return None if stat.S_ISREG(mode) else "is no regular file"


def _has_second_name(entry: os.DirEntry[str]) -> bool:
    """Whether it is written in place, and by another name something elsewhere would change, too."""
    if Path(entry.name).suffix not in _IN_PLACE or not entry.is_file(follow_symlinks=False):
        return False
    try:
        return entry.stat(follow_symlinks=False).st_nlink > 1
    except OSError:  # Gone meanwhile.
        return False


def _is_ours(link: Path) -> bool:
    """Whether it is a link that W&B or `train` makes, and points to where they let it."""
    inside = os.path.realpath(link.parent)
    if link.name == LATEST.name and inside == os.path.realpath(LATEST.parent):
        return True  # In a run directory that holds `outputs`.
    if link.name == _CORE and link.parent.name == "logs" and link.parents[2].name == "wandb":
        return bool(_CORE_LOG.fullmatch(os.path.realpath(link)))
    if link.parent.name != "wandb" or not _WANDB.fullmatch(link.name):
        return False
    return os.path.commonpath([inside, os.path.realpath(link)]) == inside


def _refuse(path: str, problem: str, option: str) -> None:
    raise UserError(
        f"{path} {problem}, through which something elsewhere would be changed, so nothing was "
        f"written; remove it, or put a copy in its place, or choose another {option}=..."
    )
