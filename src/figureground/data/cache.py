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
from typing import Literal

import numpy as np
import numpy.typing as npt
from rich.progress import track

from figureground.core.errors import DataError, WriteError
from figureground.core.io import atomic_write
from figureground.core.signals import watching
from figureground.data.samples import ImageDataset, Pixels, Sample

logger = logging.getLogger(__name__)

Transform = Callable[[Sample], Sample]
CacheMode = Literal["auto", "disk", "memory", "off"]

_FORMAT = 2
_NO_LABEL = -1
_NO_MASK = 255  # Value of all pixels where a picture has none; indices never reach it.
_CHUNK = 64  # Pictures decoded between two looks at the signals.


class PixelStore:
    """All pictures of a dataset at one size: `image(indices)`, `mask(indices)`, `label(indices)`.

    Attributes:
        keys: Names in order.
        images: uint8 (N, S, S, 3).
        masks: uint8 (N, S, S), or None if no picture has a mask.
        labels: int64 (N,), -1 where there is none.
    """

    def __init__(
        self,
        keys: Sequence[str],
        images: Pixels,
        masks: Pixels | None,
        labels: npt.NDArray[np.int64],
    ) -> None:
        self.keys, self.images, self.masks, self.labels = keys, images, masks, labels

    def __len__(self) -> int:
        return len(self.keys)

    def load(self, index: int) -> Sample:
        """Return picture `index`."""
        label = int(self.labels[index])
        mask = None if self.masks is None else np.asarray(self.masks[index])
        return Sample(
            np.asarray(self.images[index]),
            self.keys[index],
            None if mask is None or mask.flat[0] == _NO_MASK else mask,
            None if label == _NO_LABEL else label,
        )


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
        images, masks, labels = _allocate(len(dataset), resolution, None)
        has_masks = _fill(dataset, transform, images, masks, labels, name)
        return PixelStore(dataset.keys, images, masks if has_masks else None, labels)
    key = _key(dataset, transform, resolution)
    for directory in directories:
        if (directory / f"{name}-{key}" / "header.json").is_file():
            return _open(directory / f"{name}-{key}", dataset)
    return _build(dataset, transform, resolution, directories, f"{name}-{key}")


def _key(dataset: ImageDataset, transform: Transform | None, resolution: int) -> str:
    fingerprint = getattr(transform, "fingerprint", repr(transform))
    text = f"{_FORMAT} {resolution} {fingerprint} {dataset.fingerprint()}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _open(folder: Path, dataset: ImageDataset) -> PixelStore:
    arrays = [np.load(folder / f"{part}.npy", mmap_mode="r") for part in ("images", "labels")]
    masks = folder / "masks.npy"
    logger.info("using the cache %s", folder)
    return PixelStore(
        dataset.keys,
        arrays[0],
        np.load(masks, mmap_mode="r") if masks.exists() else None,
        arrays[1],
    )


def _build(
    dataset: ImageDataset,
    transform: Transform | None,
    resolution: int,
    directories: Sequence[Path],
    name: str,
) -> PixelStore:
    """Build in a private folder and rename it: two builders at once do not meet."""
    parent = first_writable(directories)
    temporary = parent / f"{name}.tmp-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        images, masks, labels = _allocate(len(dataset), resolution, temporary)
        has_masks = _fill(dataset, transform, images, masks, labels, name.rsplit("-", 1)[0])
        for array in (images, masks, labels):
            if isinstance(array, np.memmap):
                array.flush()
        if not has_masks:
            (temporary / "masks.npy").unlink()
        with atomic_write(temporary / "header.json", "w") as file:
            json.dump({"format": _FORMAT, "count": len(dataset), "resolution": resolution}, file)
        try:
            temporary.rename(parent / name)
        except OSError:  # Somebody else was quicker; theirs is the same.
            shutil.rmtree(temporary)
    except OSError as error:
        raise WriteError(
            f"cannot build the cache in {parent}: {error}; set data.cache=off"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return _open(parent / name, dataset)


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


def _allocate(
    count: int, resolution: int, folder: Path | None
) -> tuple[Pixels, Pixels, npt.NDArray[np.int64]]:
    shape = (count, resolution, resolution)
    if folder is None:
        return np.empty((*shape, 3), np.uint8), np.empty(shape, np.uint8), np.empty(count, np.int64)

    def create(
        part: str, size: tuple[int, ...], dtype: type[np.generic]
    ) -> npt.NDArray[np.generic]:
        return np.lib.format.open_memmap(folder / f"{part}.npy", "w+", dtype, size)

    return (  # type: ignore[return-value]  # open_memmap keeps the dtype, its types do not
        create("images", (*shape, 3), np.uint8),
        create("masks", shape, np.uint8),
        create("labels", (count,), np.int64),
    )


def _fill(
    dataset: ImageDataset,
    transform: Transform | None,
    images: Pixels,
    masks: Pixels,
    labels: npt.NDArray[np.int64],
    name: str,
) -> bool:
    """Read everything in; return whether any picture has a mask."""
    has_masks = False

    def read(index: int) -> None:
        nonlocal has_masks
        sample = _load(dataset, transform, index)
        if sample.image.shape != images.shape[1:]:
            raise DataError(
                f"{sample.key} is {sample.image.shape[:2]} after the transform, expected "
                f"{images.shape[1:3]}; set data.transform or data.resolution"
            )
        images[index], labels[index] = (
            sample.image,
            _NO_LABEL if sample.label is None else sample.label,
        )
        masks[index] = _NO_MASK if sample.mask is None else sample.mask
        has_masks |= sample.mask is not None

    # Pillow decodes outside Python's lock. Pictures drawn in Python gain nothing from threads.
    threads = min(os.cpu_count() or 1, 8) if dataset.files(0) else 1
    chunks = range(0, len(dataset), _CHUNK)
    with watching() as stop, ThreadPoolExecutor(threads) as pool:
        for first in track(
            chunks, f"preparing {name}", disable=not sys.stderr.isatty() or len(chunks) < 4
        ):
            stop.check()
            list(pool.map(read, range(first, min(first + _CHUNK, len(dataset)))))
    return has_masks


def _load(dataset: ImageDataset, transform: Transform | None, index: int) -> Sample:
    sample = dataset[index]
    return sample if transform is None else transform(sample)
