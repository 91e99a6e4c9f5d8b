"""Pictures at their training size as uint8 arrays, kept in memory or in memory-mapped files.

A cache is keyed by what its content depends on: names, sizes and times of the files, the transform
and the format here. Anything else is simply another key, so there is nothing to invalidate.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from rich.markup import escape
from rich.progress import track

from figureground.core.errors import DataError, WriteError
from figureground.core.escaping import one_line
from figureground.core.io import atomic_write, temporary_beside
from figureground.core.presence import SMALL, read_text, require_file
from figureground.core.signals import watching
from figureground.data.samples import MAX_OBJECTS, ImageDataset, Pixels, Sample

logger = logging.getLogger(__name__)

Transform = Callable[[Sample], Sample]
CacheMode = Literal["auto", "disk", "memory", "off"]
_Arrays = dict[str, npt.NDArray[Any]]  # By part, as in `_layout`.

_FORMAT = 6  # From here on 255 in a mask is void.
_NO_LABEL = -1
#: Parts that not all pictures have, and no dataset needs to, and the part that says which have it.
_HAS = {"masks": "has_mask", "shares": "has_share"}
_CHUNK = 64  # Pictures decoded between two looks at the signals.


class PixelStore:
    """All pictures of a dataset at one size, `load`ed by number.

    Args:
        keys: Names in order.
        arrays: What `_layout` lists; `masks` and `shares` may be absent where no picture has any.

    Attributes:
        keys: Names in order.
        images: uint8 (N, S, S, 3).
    """

    def __init__(self, keys: Sequence[str], arrays: _Arrays) -> None:
        self.keys = keys
        self._arrays = {  # What no picture has would be pickled for each worker.
            part: array
            for part, array in arrays.items()
            if part not in _HAS or arrays[_HAS[part]].any()
        }
        self.images: Pixels = arrays["images"]
        self._has_classes = bool(arrays["classes"].any())

    def __len__(self) -> int:
        return len(self.keys)

    def load(self, index: int) -> Sample:
        """Return picture `index`."""
        label = int(self._arrays["labels"][index])
        return Sample(
            np.asarray(self.images[index]),
            self.keys[index],
            self._find("masks", index),
            None if label == _NO_LABEL else label,
            tuple(self._arrays["classes"][index].tolist()) if self._has_classes else None,
            soft=self._find("shares", index),
        )

    def _find(self, part: str, index: int) -> Pixels | None:
        """Mask or shares of picture `index`, (S, S), if it has any."""
        return np.asarray(self._arrays[part][index]) if self._arrays[_HAS[part]][index] else None


class LazyStore:
    """The same interface without a cache: each picture is read and transformed when asked for."""

    def __init__(self, dataset: ImageDataset, transform: Transform | None) -> None:
        self.dataset, self.transform, self.keys = dataset, transform, dataset.keys

    def __len__(self) -> int:
        return len(self.dataset)

    def load(self, index: int) -> Sample:
        """Return picture `index`."""
        return _load(self.dataset, self.transform, index)


def open_store(
    dataset: ImageDataset,
    transform: Transform | None,
    resolution: int,
    mode: CacheMode,
    directories: Sequence[Path],
    name: str,
) -> PixelStore | LazyStore:
    """Open the cache of `dataset`, building it on first use.

    Args:
        dataset: What to cache.
        transform: Fixed transform to side `resolution`, or None if samples have that size.
        resolution: Side of the cached pictures.
        mode: `auto` keeps drawn pictures in memory and files on disk; `off` caches nothing.
        directories: Where a disk cache may lie; the first writable one is built in.
        name: For messages and file names.
    """
    in_memory = len(dataset) > 0 and not dataset.files(0)
    if mode == "off":
        return LazyStore(dataset, transform)
    if mode == "memory" or (mode == "auto" and in_memory):
        arrays = _allocate(len(dataset), resolution, None)
        _fill(dataset, transform, arrays, name)
        return PixelStore(dataset.keys, arrays)
    key = _key(dataset, transform, resolution)
    for directory in directories:
        folder = directory / f"{name}-{key}"
        if folder.is_dir() and (store := _open(folder, dataset, resolution)):
            return store
    return _build(dataset, transform, resolution, directories, f"{name}-{key}")


def _key(dataset: ImageDataset, transform: Transform | None, resolution: int) -> str:
    fingerprint = getattr(transform, "fingerprint", repr(transform))
    text = f"{_FORMAT} {resolution} {fingerprint} {dataset.fingerprint()}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _open(folder: Path, dataset: ImageDataset, resolution: int) -> PixelStore | None:
    """Open a cache, or warn and return None if it is damaged."""
    try:
        store = _read(folder, dataset, resolution)
    except Exception as error:  # On damaged files numpy raises nearly anything.
        logger.warning("the cache %s is damaged (%s); it is built again", folder, error)
        return None
    logger.info("using the cache %s", folder)
    return store


def _read(folder: Path, dataset: ImageDataset, resolution: int) -> PixelStore:
    """Open a cache, of which all that the header, types and sizes tell is checked."""
    header = json.loads(read_text(folder / "header.json", SMALL))
    if header != _header(len(dataset), resolution):
        raise ValueError(f"its header says {header}")
    arrays: _Arrays = {}
    for part, (dtype, shape) in _layout(len(dataset), resolution).items():
        if part in _HAS and not arrays[_HAS[part]].any():
            continue
        # Fails if the file is too short, of which reading past the end would kill the process.
        arrays[part] = array = np.load(require_file(folder / f"{part}.npy"), mmap_mode="r")
        if array.dtype != dtype or array.shape != shape:
            raise ValueError(f"{part} are {array.dtype} {array.shape}")
    return PixelStore(dataset.keys, arrays)


def _header(count: int, resolution: int) -> dict[str, int]:
    return {"format": _FORMAT, "count": count, "resolution": resolution}


def _build(
    dataset: ImageDataset,
    transform: Transform | None,
    resolution: int,
    directories: Sequence[Path],
    name: str,
) -> PixelStore:
    """Build in a private folder and rename it: two builders at once do not meet."""
    parent = first_writable(directories)
    temporary = temporary_beside(parent / name)
    temporary.mkdir()
    try:
        arrays = _allocate(len(dataset), resolution, temporary)
        _fill(dataset, transform, arrays, name.rsplit("-", 1)[0])
        for array in arrays.values():
            if isinstance(array, np.memmap):
                array.flush()
        for part, has in _HAS.items():
            if not arrays[has].any():
                (temporary / f"{part}.npy").unlink()
        with atomic_write(temporary / "header.json", "w") as file:
            json.dump(_header(len(dataset), resolution), file)
        _put_in_place(temporary, parent / name, dataset, resolution)
    except OSError as error:
        raise WriteError(
            f"cannot build the cache in {parent}: {error}; set data.cache=off"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    store = _open(parent / name, dataset, resolution)
    if store is None:
        raise WriteError(
            f"the cache {parent / name} cannot be read back; remove it, or set data.cache=off"
        )
    return store


def _put_in_place(temporary: Path, folder: Path, dataset: ImageDataset, resolution: int) -> None:
    """Move a new cache to its place, replacing a damaged one but not a sound one."""
    try:
        temporary.rename(folder)
    except OSError:
        try:
            _read(folder, dataset, resolution)  # Somebody else was quicker; theirs is the same.
        except Exception:  # As in `_open`.
            if folder.is_symlink():
                folder.unlink()
            else:
                shutil.rmtree(folder)
            temporary.rename(folder)


def first_writable(directories: Sequence[Path]) -> Path:
    """Make and return the first of `directories` that can be written to.

    Raises:
        WriteError: None can.
    """
    for directory in directories:
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(directory, os.W_OK):
            return directory
        logger.info("%s cannot be written to", directory)
    names = ", ".join(map(str, directories))
    raise WriteError(f"no cache can be written to any of {names}; set data.cache=off")


def _layout(count: int, resolution: int) -> dict[str, tuple[type[np.generic], tuple[int, ...]]]:
    """Type and shape of each array, by name."""
    shape = (count, resolution, resolution)
    return {
        "images": (np.uint8, (*shape, 3)),
        "labels": (np.int64, (count,)),
        "has_mask": (np.bool_, (count,)),
        "has_share": (np.bool_, (count,)),
        "classes": (np.uint8, (count, MAX_OBJECTS)),
        "masks": (np.uint8, shape),  # No file if no picture has one.
        "shares": (np.uint8, shape),  # The same.
    }


def _allocate(count: int, resolution: int, folder: Path | None) -> _Arrays:
    layout = _layout(count, resolution)
    if folder is None:
        return {part: np.zeros(shape, dtype) for part, (dtype, shape) in layout.items()}
    return {
        part: np.lib.format.open_memmap(folder / f"{part}.npy", "w+", dtype, shape)
        for part, (dtype, shape) in layout.items()
    }


def _fill(dataset: ImageDataset, transform: Transform | None, arrays: _Arrays, name: str) -> None:
    """Read everything in."""
    images = arrays["images"]

    def read(index: int) -> None:
        sample = _load(dataset, transform, index)
        if sample.image.shape != images.shape[1:]:
            raise DataError(
                f"{sample.key} is {sample.image.shape[:2]} after the transform, expected "
                f"{images.shape[1:3]}; set data.transform or data.resolution"
            )
        images[index] = sample.image
        arrays["labels"][index] = _NO_LABEL if sample.label is None else sample.label
        if sample.mask is not None:
            arrays["masks"][index], arrays["has_mask"][index] = sample.mask, True
        if sample.soft is not None:
            arrays["shares"][index], arrays["has_share"][index] = sample.soft, True
        if sample.classes is not None:
            arrays["classes"][index, : len(sample.classes)] = sample.classes

    # Pillow decodes outside Python's lock. Pictures drawn in Python gain nothing from threads.
    threads = min(os.cpu_count() or 1, 8) if dataset.files(0) else 1
    chunks = range(0, len(dataset), _CHUNK)
    with watching() as stop, ThreadPoolExecutor(threads) as pool:
        told = escape(f"preparing {one_line(name)}")
        for first in track(chunks, told, disable=not sys.stderr.isatty() or len(chunks) < 4):
            stop.check()
            list(pool.map(read, range(first, min(first + _CHUNK, len(dataset)))))


def _load(dataset: ImageDataset, transform: Transform | None, index: int) -> Sample:
    sample = dataset[index]
    return sample if transform is None else transform(sample)
