"""What is at a path, whatever its name: unlike `Path`'s methods these take names of any length.

A path that somebody sent may lead to a pipe, for which a reader would wait without end, or to a
device that never ends. Whoever reads such a file does so with `open_file`, `read_binary` or
`read_text`, or calls `require_file` before a library opens it by its name.
"""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

from figureground.core.errors import UnfitFileError

#: Bytes of a small file: options, scores, a header.
SMALL = 2**24
_MOST = 2**28  # Bytes of a list; those of the largest datasets have some ten millions.
_KINDS = {
    stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFBLK: "device",
}  # fmt: skip


def exists(path: str | Path) -> bool:
    """Whether anything is there."""
    return os.path.exists(path)  # noqa: PTH110


def is_file(path: str | Path) -> bool:
    """Whether a file is there."""
    return os.path.isfile(path)  # noqa: PTH113


def is_dir(path: str | Path) -> bool:
    """Whether a folder is there."""
    return os.path.isdir(path)  # noqa: PTH112


def require_file(path: str | Path) -> Path:
    """Return `path` if a regular file is there, maybe behind links.

    Raises:
        UnfitFileError: There is a pipe, a socket or a device.
        OSError: There is nothing, or a folder.
    """
    _require_regular(os.stat(path), path)  # noqa: PTH116
    return Path(path)


def open_file(path: str | Path) -> BufferedReader:
    """Open a regular file for reading, never anything that could be waited for.

    Raises:
        UnfitFileError: There is a pipe, a socket or a device.
        OSError: It cannot be opened.
    """
    require_file(path)  # To open a device may do something already.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _require_regular(os.fstat(descriptor), path)  # Another one may be there by now.
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_binary(path: str | Path, most: int = _MOST) -> bytes:
    """Content of a regular file.

    Args:
        path: The file.
        most: Bytes that it may have: a file with holes takes no room on a disk.

    Raises:
        UnfitFileError: It is larger, or there is a pipe, a socket or a device.
        OSError: It cannot be read.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise UnfitFileError(f"{path} is larger than {most} bytes; put the original there")
        content = file.read(size + 1) or b""
    if len(content) > size:  # Such as what systems show as files, some without an end.
        raise UnfitFileError(f"{path} goes on beyond its size; expected a file on a disk")
    return content


def read_text(path: str | Path, most: int = _MOST, errors: str = "strict") -> str:
    """Content of a text file in UTF-8, ends of lines as they are; see `read_binary`.

    Raises:
        UnicodeDecodeError: It is no text, unless `errors` says what to do then.
    """
    return read_binary(path, most).decode("utf-8", errors)


def _require_regular(facts: os.stat_result, path: str | Path) -> None:
    if stat.S_ISDIR(facts.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(facts.st_mode):
        kind = _KINDS.get(stat.S_IFMT(facts.st_mode), "device")
        raise UnfitFileError(f"{path} is a {kind}; expected a file: put the original there")
