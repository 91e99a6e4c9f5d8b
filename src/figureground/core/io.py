"""Writing files so that nobody, not even after a power cut, ever reads half of one."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal

from figureground.core.errors import WriteError

logger = logging.getLogger(__name__)

_DAY = 24 * 3600.0  # seconds


@contextmanager
def atomic_write(path: str | Path, mode: Literal["wb", "w"] = "wb") -> Iterator[IO[Any]]:
    """Open a file that appears under `path`, complete, when the context ends, or not at all.

    The bytes go to a temporary name in the same directory (another file system could not be
    renamed from), reach the disk, and then replace `path` in one step. If the context raises, what
    was at `path` stays and the temporary file is removed.

    Args:
        path: Where the file shall be; missing parent directories are created.
        mode: `wb` for bytes, `w` for UTF-8 text.

    Raises:
        WriteError: The disk is full, the directory is not writable, or the path is bad.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open(mode, encoding="utf-8" if mode == "w" else None) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)  # noqa: PTH105 - the call tests watch
        _sync_directory(path.parent)
    except OSError as error:
        raise WriteError(
            f"cannot write {path}: {error.strerror or error}; free some space or choose another "
            "place with paths.output_dir=..."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_stale(directory: str | Path, age: float = _DAY) -> list[Path]:
    """Remove temporary files that killed processes left in `directory`.

    Args:
        directory: Where to look, not below it.
        age: Younger files stay, in seconds: their owner may live on another machine.

    Returns:
        The files removed.
    """
    removed = []
    for path in sorted(Path(directory).glob("*.tmp-*")):
        pid = path.name.rpartition("-")[2]
        with suppress(OSError):
            if pid.isdigit() and not is_alive(int(pid)):
                if time.time() - path.stat().st_mtime > age:
                    path.unlink()
                    removed.append(path)
    if removed:
        logger.info("removed %d unfinished files of killed runs in %s", len(removed), directory)
    return removed


def is_alive(pid: int) -> bool:
    """Whether a process with this number runs on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _sync_directory(directory: Path) -> None:
    """Make a rename outlast a power cut; file systems that cannot are left alone."""
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
