"""Writing files so that nobody, not even after a power cut, ever reads half of one."""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal, Self

from figureground.core.errors import UserError, WriteError

logger = logging.getLogger(__name__)

_DAY = 24 * 3600.0  # seconds
_KEPT = 100  # Bytes of a name that stay in a temporary one, which has to be allowed where it is.
_MOST_OWNER = 500  # Bytes of a lock file that are looked at.


@contextmanager
def atomic_write(path: str | Path, mode: Literal["wb", "w"] = "wb") -> Iterator[IO[Any]]:
    """Open a file that appears under `path`, complete, when the context ends, or not at all.

    The bytes go to a temporary name in the same directory (another file system could not be
    renamed from), reach the disk, and then replace `path` in one step. If the context raises, what
    was at `path` stays and the temporary file is removed. A link at `path` is replaced, not
    followed.

    Args:
        path: Where the file shall be; missing parent directories are created.
        mode: `wb` for bytes, `w` for UTF-8 text.

    Raises:
        WriteError: The disk is full, the directory is not writable, or the path is bad.
    """
    path = Path(path)
    temporary = temporary_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new: Literal["xb", "x"] = "x" if mode == "w" else "xb"  # Never what is there, nor a link.
        with temporary.open(new, encoding="utf-8" if mode == "w" else None) as file:
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


def temporary_beside(path: Path) -> Path:
    """A name in the directory of `path` that nobody else knows; `remove_stale` knows its owner."""
    name = os.fsdecode(os.fsencode(path.name)[:_KEPT])
    return path.with_name(f"{name}.tmp-{secrets.token_hex(8)}-{os.getpid()}")


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
            old = time.time() - path.lstat().st_mtime > age
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
            WriteError: It cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(self._open(), "r+", encoding="utf-8", errors="replace") as file:
            # Held for these lines only, so that forked workers never inherit it.
            fcntl.flock(file, fcntl.LOCK_EX)
            owner, _, host = file.read(_MOST_OWNER).partition(" ")
            if host and host != socket.gethostname():
                logger.warning("%s: taken over from process %s of %s", self.path, owner, host)
            elif owner.isdigit() and int(owner) != os.getpid() and is_alive(int(owner)):
                raise UserError(
                    f"{self.path.parent} is in use by pid {owner}; wait for it, stop it "
                    f"(kill {owner}), or use another run directory"
                )
            file.seek(0)
            file.truncate()
            file.write(f"{os.getpid()} {socket.gethostname()}")

    def _open(self) -> int:
        """Open or create the file, but never one elsewhere that goes by this name, too.

        Raises:
            WriteError: It cannot be.
        """
        try:
            with suppress(FileNotFoundError):
                facts = self.path.lstat()
                if not stat.S_ISREG(facts.st_mode) or facts.st_nlink > 1:
                    logger.warning("%s is a link or no regular file; it is replaced", self.path)
                    self.path.unlink()
            return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            raise WriteError(
                f"cannot write {self.path}: {error.strerror or error}; choose another place with "
                "paths.output_dir=... or output=..."
            ) from error

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
