"""Manifests of checkpoints: what tells a whole file from a damaged one.

Beside `last.ckpt` lies `last.ckpt.json`: size, SHA-256, iteration and format of what the file
holds. It is replaced just before the file, so it also keeps the records of the files before:
whichever of the two a power cut leaves behind is recognised.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import zipfile
import zlib
from pathlib import Path
from typing import Any

from figureground.core.io import atomic_write, temporary_beside
from figureground.core.presence import SMALL, read_text
from figureground.core.released import require_no_bomb

_RECORDS = 8  # Kept in a manifest: the file's own, and those of files it may still find in place.


def find_damage(path: Path) -> str | None:
    """Say what is wrong with the bytes of a checkpoint, or None.

    Files with a manifest must match it; others must at least be intact archives.
    """
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        return "is no file"
    if (size := facts.st_size) == 0:
        return "is empty"
    if records := _read_manifest(path):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if any(record["size"] == size and record["sha256"] == digest for record in records):
            return None
        return f"is damaged (it does not match {manifest_of(path).name})"
    if not zipfile.is_zipfile(path):
        return "is damaged or no checkpoint"
    try:
        require_no_bomb(path)
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()  # torch.load itself checks no sums.
    except ValueError as error:
        return f"is damaged or no checkpoint ({error})"
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, zlib.error):
        return "is damaged"
    return f"is damaged in {broken}" if broken else None


def keep(path: Path, other: Path) -> None:
    """Make `other` a second name of what is at `path`, in one step, with its records."""
    temporary = temporary_beside(other)
    add_records(other, _read_manifest(path))
    try:
        try:
            os.link(path, temporary)
        except OSError:  # A file system without hard links.
            with path.open("rb") as source, temporary.open("xb") as copy:
                shutil.copyfileobj(source, copy)
        os.replace(temporary, other)  # noqa: PTH105 - as in core.io
    finally:
        temporary.unlink(missing_ok=True)


def manifest_of(path: Path) -> Path:
    """Where the manifest of the file at `path` is, or would be."""
    return path.with_name(f"{path.name}.json")


def _read_manifest(path: Path) -> list[dict[str, Any]]:
    """Read the records kept for `path`, newest first; none if the manifest is missing or broken."""
    try:
        content = json.loads(read_text(manifest_of(path), SMALL))
        records = [
            {key: record[key] for key in ("size", "sha256", "iteration", "format")}
            for record in [content, *content["replaces"]]
        ]
        is_whole = all(isinstance(record["iteration"], int) for record in records)
        return records if is_whole else []
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []


def add_records(path: Path, records: list[dict[str, Any]]) -> None:
    """Put `records` first in the manifest of `path`."""
    kept = (records + [r for r in _read_manifest(path) if r not in records])[:_RECORDS]
    if kept:
        with atomic_write(manifest_of(path), "w") as file:
            json.dump({**kept[0], "replaces": kept[1:]}, file, indent=2)


def claimed_iteration(path: Path) -> int:
    """Iteration of the file at `path` by its manifest; -1 without one."""
    records = _read_manifest(path)
    return int(records[0]["iteration"]) if records else -1
