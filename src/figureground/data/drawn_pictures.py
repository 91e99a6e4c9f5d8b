"""Pairs of pictures and masks from the folders of PNG files that `generate` writes by default."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from figureground.core.errors import DataError
from figureground.core.presence import read_text
from figureground.core.signals import watching
from figureground.data.listed import require_inside
from figureground.data.reading import open_picture, read_image
from figureground.data.samples import Pixels

LIST = "manifest.csv"
_HEAD = {"index", "image", "mask", "layers"}
_RGBA = 4


class PictureReader:
    """Reads pictures and masks by index from a folder of PNG files.

    Masks are the soft share of everything in front of the backmost layer, as in shards; where the
    folder `layers` was removed, whatever is not black in `masks`.

    Args:
        folder: Where they are.
        verify: Whether to read all files first, some seconds per gigabyte.

    Raises:
        DataError: A file is missing or damaged.
    """

    def __init__(self, folder: Path, verify: bool = True) -> None:
        self.folder = folder
        path = folder / LIST
        try:
            rows = list(csv.DictReader(io.StringIO(read_text(path), newline="")))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{path} cannot be read: {error}") from error
        # Names are made, not taken: a file must not lead out of its folder.
        if any(not row.keys() >= _HEAD or row["index"] != str(n) for n, row in enumerate(rows)):
            raise DataError(f"{path} is damaged or of another version; run generate again")
        self._count = len(rows)
        self.has_layers = (folder / "layers").is_dir()
        entries = ((f"{n}", (self._image(n), self._mask(n))) for n in range(self._count))
        require_inside(path, folder, entries)
        with watching() as stop:
            for index in range(self._count):
                stop.check()
                for path in (self._image(index), self._mask(index)):
                    if not path.is_file():
                        raise DataError(f"{path} is missing; run generate again to write it anew")
                if verify:
                    self.read(index, "image")
                    self.read(index, "mask")

    def __len__(self) -> int:
        return self._count

    def read(self, index: int, part: str) -> Pixels:
        """Return `part` of picture `index`.

        image (H, W, 3); mask (H, W), a share times 255; or layers (L, H, W, 4), colours and share.

        Raises:
            DataError: The file is damaged.
        """
        with _naming_remedy():
            if part == "image":
                return read_image(self._image(index))
            if part == "layers":
                paths = [self._layer(index, 0)]
                while (following := self._layer(index, len(paths))).is_file():
                    paths.append(following)
                return np.stack([_read_layer(path) for path in paths])
            if self.has_layers:
                return 255 - _read_layer(self._mask(index))[:, :, 3]
            mask = np.asarray(open_picture(self._mask(index)).convert("L"))
        return np.where(mask > 0, np.uint8(255), np.uint8(0))

    def _image(self, index: int) -> Path:
        return self.folder / f"images/{index:06d}.png"

    def _mask(self, index: int) -> Path:
        return self._layer(index, 0) if self.has_layers else self.folder / f"masks/{index:06d}.png"

    def _layer(self, index: int, layer: int) -> Path:
        return self.folder / f"layers/{index:06d}_{layer}.png"


def _read_layer(path: Path) -> Pixels:
    values = np.asarray(open_picture(path))
    if values.ndim != 3 or values.shape[2] != _RGBA:
        raise DataError(f"{path} has no transparency")
    return values


@contextmanager
def _naming_remedy() -> Iterator[None]:
    try:
        yield
    except DataError as error:
        reason = str(error).split("; run prepare")[0]
        raise DataError(f"{reason}; remove it and run generate again") from error
