"""Writing files so that nobody, not even after a power cut, ever reads half of one."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal, Self

from figureground.core.errors import UserError, WriteError

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


def require_room(directory: str | Path, needed: float, purpose: str, option: str) -> int:
    """Raise `WriteError` unless a disk has room.

    Args:
        directory: Where something shall be written; it may be missing yet.
        needed: Bytes.
        purpose: What needs them, in the plural.
        option: By which another place is chosen.

    Returns:
        Free bytes.
    """
    place = Path(directory).absolute()
    try:
        free = shutil.disk_usage(next(p for p in (place, *place.parents) if p.exists())).free
    except OSError as error:
        raise WriteError(
            f"cannot write to {directory}: {error.strerror}; choose another place with {option}=..."
        ) from error
    if free < needed:
        raise WriteError(
            f"{directory} has {free / 1e6:,.0f} MB free but {purpose} need {needed / 1e6:,.0f} MB; "
            f"free some space or choose another {option}=..."
        )
    return free


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
            old = time.time() - path.stat().st_mtime > age
            if old and pid.isdigit() and not is_alive(int(pid)):
                path.unlink()
                removed.append(path)
    if removed:
        logger.info("removed %d unfinished files of killed runs in %s", len(removed), directory)
    return removed


class RunLock:
    """Lets one process at a time write into a directory: the file `run.lock` names its owner.

    The lock of a process that is gone, or that ran on another machine (whose processes cannot be
    seen from here), is taken over.

    Args:
        directory: What to guard; created if missing.
    """

    def __init__(self, directory: str | Path) -> None:
        self.path = Path(directory) / "run.lock"

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            UserError: Another living process of this machine has it.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+", encoding="utf-8") as file:
            # Held for these lines only, so that forked workers never inherit it.
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            owner, _, host = file.read().partition(" ")
            if host and host != socket.gethostname():
                logger.warning("%s: taken over from process %s of %s", self.path, owner, host)
            elif owner.isdigit() and int(owner) != os.getpid() and is_alive(int(owner)):
                raise UserError(
                    f"{self.path.parent} is in use by pid {owner}; wait for it, stop it "
                    f"(kill {owner}), or use another run directory"
                )
            file.truncate(0)
            file.write(f"{os.getpid()} {socket.gethostname()}")

    def release(self) -> None:
        """Give the lock back, if this process has it."""
        with suppress(OSError):
            if self.path.read_text("utf-8").partition(" ")[0] == str(os.getpid()):
                self.path.unlink()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


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
