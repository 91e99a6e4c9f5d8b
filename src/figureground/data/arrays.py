"""Drawn pictures on disk: an array for pictures, one for instances and one for classes.

The DTI-Sprites authors keep such sets as folders of PNGs, which are read, too. But 60,000
Tetrominoes are 180,000 tiny files, which take minutes to write and to delete and twice the room of
three arrays; these are mapped into memory and need no cache.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from rich.progress import track

from figureground.core.errors import DataError, UserError, WriteError
from figureground.core.io import atomic_write, temporary_beside
from figureground.core.presence import SMALL, exists, is_file, read_text, require_file
from figureground.core.signals import watching
from figureground.data.samples import Pixels

Maps = tuple[Pixels, Pixels, Pixels]

#: Pictures (N, H, W, 3), instances and classes (N, H, W), all uint8.
PARTS = ("images", "masks", "sem_masks")
MANIFEST = "generated.json"  # What the pictures are, to know them again.
_CHUNK = 64
_SHOWN = 200  # Characters of what is wrong: anything may stand in a file.


def open_arrays(root: Path) -> Maps | None:
    """Map the arrays below `root` into memory; None if there are none.

    Raises:
        DataError: They are incomplete, damaged, or do not belong together.
    """
    if not is_file(root / MANIFEST):
        return None
    try:
        count = json.loads(read_text(root / MANIFEST, SMALL))["count"]
        files = [require_file(root / f"{part}.npy") for part in PARTS]
        images, masks, classes = (np.load(file, mmap_mode="r") for file in files)
        shapes = [array.shape for array in (images, masks, classes)]
        if any(array.dtype != np.uint8 for array in (images, masks, classes)):
            raise TypeError("its arrays are not uint8")
    except Exception as error:  # On damaged files numpy raises nearly anything.
        reason = " ".join(str(error).split())[:_SHOWN]
        raise DataError(
            f"{root} is not a complete generated set ({type(error).__name__}: {reason}); write it "
            "again with prepare source=generate overwrite=true"
        ) from error
    if shapes != [(count, *shapes[0][1:3], 3), *[(count, *shapes[0][1:3])] * 2]:
        raise DataError(
            f"{root} has arrays of shapes {', '.join(map(str, shapes))} for {count} pictures, "
            "which do not belong together; write it again with prepare source=generate "
            "overwrite=true"
        )
    return images, masks, classes


def write_arrays(
    root: Path,
    maps: Callable[[int], Maps],
    facts: Mapping[str, object],
    count: int,
    *,
    overwrite: bool = False,
) -> bool:
    """Write pictures below `root`, where they appear, complete, in one step, or not at all.

    Args:
        root: Folder.
        maps: Draws picture i with its instances and classes.
        facts: What the pictures are.
        count: How many of them.
        overwrite: Replace another generated set.

    Returns:
        Whether anything was written: the same pictures may be there already.

    Raises:
        UserError: Something else is there.
        WriteError: The disk is full, or the folder cannot be written to.
    """
    facts = {**facts, "count": count}
    if exists(root) and _holds(root, facts, overwrite):
        return False
    temporary, old = temporary_beside(root), temporary_beside(root)
    try:
        temporary.mkdir(parents=True)
        _write_all(temporary, maps, count)
        with atomic_write(temporary / MANIFEST, "w") as file:
            json.dump(facts, file, indent=2)
        if root.exists():
            root.rename(old)
        temporary.rename(root)
    except OSError as error:
        raise WriteError(
            f"cannot write pictures to {root}: {error.strerror or error}; free some space or "
            "choose another data.root=..."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if old.exists() and not root.exists():
            old.rename(root)
        shutil.rmtree(old, ignore_errors=True)
    return True


def _holds(root: Path, facts: dict[str, object], overwrite: bool) -> bool:
    """Whether `root` holds what is to be written; refuse to touch what is not of our making."""
    names = {path.name for path in root.iterdir()} if root.is_dir() else {"a file"}
    if foreign := sorted(names - {MANIFEST, *(f"{part}.npy" for part in PARTS)}):
        raise UserError(
            f"{root} holds {', '.join(foreign[:3])}, which is not of a generated set; choose "
            "another data.root=..."
        )
    if not names or overwrite:
        return False
    try:
        if json.loads(read_text(root / MANIFEST, SMALL)) == facts and open_arrays(root):
            return True
    except (OSError, ValueError, DataError, RecursionError):
        pass  # Damaged: as good as another set.
    raise UserError(
        f"{root} holds other pictures; add overwrite=true to replace them, or choose another "
        "data.root=..."
    )


def _write_all(root: Path, maps: Callable[[int], Maps], count: int) -> None:
    arrays = [
        np.lib.format.open_memmap(root / f"{part}.npy", "w+", np.uint8, (count, *first.shape))
        for part, first in zip(PARTS, maps(0), strict=True)
    ]
    with watching() as stop:
        for first in track(
            range(0, count, _CHUNK), "writing pictures", disable=not sys.stderr.isatty()
        ):
            stop.check()
            for number in range(first, min(first + _CHUNK, count)):
                for array, pixels in zip(arrays, maps(number), strict=True):
                    array[number] = pixels
    for array in arrays:
        array.flush()
