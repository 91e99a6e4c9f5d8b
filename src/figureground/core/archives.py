"""What a ZIP says of itself, looked at before anything in it is unpacked."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path

from figureground.core.presence import open_file

#: Records at the end of a ZIP, as its specification (APPNOTE 4.3.14 to 4.3.16) lays them out.
_END, _END64, _LOCATOR = (struct.Struct(f"<{x}") for x in ("4s4H2LH", "4sQ2H2L4Q", "4sLQL"))
_MOST_TABLE, _MOST_ENTRIES = 2**23, 2**16  # Bytes of the table of contents; entries in it.
_HEADER = 30  # Bytes before the name of an entry, where its content lies.


def require_sound(path: Path) -> list[zipfile.ZipInfo]:
    """Read the table of contents of a ZIP.

    Returns:
        Its entries.

    Raises:
        ValueError: It is damaged, may be read in two ways, has too many entries, or entries that
            share a name or bytes, are encrypted, or are packed in a way PyTorch does not read.
    """
    table = _require_one_table(path)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, struct.error, NotImplementedError) as error:
        raise ValueError(f"its table of contents is damaged ({error})") from error
    if len(entries) > _MOST_ENTRIES:
        raise ValueError(f"it has {len(entries)} entries, expected at most {_MOST_ENTRIES}")
    if len({entry.filename for entry in entries}) < len(entries):
        raise ValueError("it has several entries of one name")
    known = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
    if any(entry.compress_type not in known or entry.flag_bits & 1 for entry in entries):
        raise ValueError("it has entries that are encrypted or packed in an unknown way")
    _require_apart(entries, table)
    return entries


def _require_apart(entries: Sequence[zipfile.ZipInfo], end: int) -> None:
    """Refuse entries that share bytes: a small file could unpack to any size, over and over."""
    for entry in sorted(entries, key=lambda entry: entry.header_offset, reverse=True):
        if entry.header_offset + _HEADER + entry.compress_size > end:
            raise ValueError("it has entries that overlap")
        end = entry.header_offset


def _require_one_table(path: Path) -> int:
    """Refuse a ZIP whose table of contents is not just before its end, without a comment.

    Python looks for the table there, whatever the file says, PyTorch where the file says: a crafted
    one could show each its own.

    Returns:
        Where the table starts.
    """
    with open_file(path) as file:
        most = _END.size + _LOCATOR.size + _END64.size
        place = file.seek(0, io.SEEK_END) - _END.size
        file.seek(max(place + _END.size - most, 0))
        tail = file.read(most)
    signature, *_, length, start, comment = _END.unpack(tail[-_END.size :])
    locator = tail[-_LOCATOR.size - _END.size : -_END.size]
    is_one = signature == b"PK\x05\x06" and not comment
    if locator.startswith(b"PK\x06\x07"):
        place -= _LOCATOR.size + _END64.size
        signature, *_, length, start = _END64.unpack(tail[: _END64.size].ljust(_END64.size))
        is_one &= signature == b"PK\x06\x06" and _LOCATOR.unpack(locator)[2] == place
    if not is_one or start + length != place:
        raise ValueError("its table of contents is not at its end")
    if length > _MOST_TABLE:
        raise ValueError(f"its table of contents has {length} bytes, too many to be looked at")
    return int(start)
