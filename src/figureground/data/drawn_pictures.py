"""Pairs of pictures and masks from the folders of PNG files that `generate` writes by default."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from figureground.core.errors import DataError
from figureground.core.signals import watching
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
            with path.open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{path} cannot be read: {error}") from error
        # Names are made, not taken: a file must not lead out of its folder.
        if any(not row.keys() >= _HEAD or row["index"] != str(n) for n, row in enumerate(rows)):
            raise DataError(f"{path} is damaged or of another version; run generate again")
        self._count = len(rows)
        self.has_layers = (folder / "layers").is_dir()
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
        """Return `part` of picture `index`: image (H, W, 3), or mask (H, W), a share times 255.

        Raises:
            DataError: The file is damaged.
        """
        path = self._image(index) if part == "image" else self._mask(index)
        try:
            if part == "image":
                return read_image(path)
            picture = open_picture(path)
        except DataError as error:
            reason = str(error).split("; run prepare")[0]
            raise DataError(f"{reason}; remove it and run generate again") from error
        if not self.has_layers:
            return np.where(np.asarray(picture.convert("L")) > 0, np.uint8(255), np.uint8(0))
        values = np.asarray(picture)
        if values.ndim != 3 or values.shape[2] != _RGBA:
            raise DataError(f"{path} has no transparency; remove it and run generate again")
        return 255 - values[:, :, 3]

    def _image(self, index: int) -> Path:
        return self.folder / f"images/{index:06d}.png"

    def _mask(self, index: int) -> Path:
        return self.folder / (
            f"layers/{index:06d}_0.png" if self.has_layers else f"masks/{index:06d}.png"
        )
