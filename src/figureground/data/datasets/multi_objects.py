"""What Tetrominoes, Multi-dSprites and CLEVR6 have in common: three sources and four splits.

Pictures come from our own generator, from the folders of the DTI-Sprites authors, or from the
TFRecord files that DeepMind published (github.com/google-deepmind/multi_object_datasets). Every
picture has an instance map (its `mask`) and a class map (`classes`).
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from figureground.core.bounds import Count, PositiveInt
from figureground.core.errors import DataError
from figureground.data.datasets.toy import SPLITS, Split
from figureground.data.reading import read_image, read_mask
from figureground.data.samples import MAX_OBJECTS, ImageDataset, Pixels, Sample
from figureground.data.splits import check_files
from figureground.data.tfrecord import Example, RecordReader

Source = Literal["generate", "files", "tfrecord"]

#: Pictures of `val` and `test`, and how many of the training pictures the authors evaluate on.
HELD_OUT = 320

_PARTS = ("images", "masks", "sem_masks")
_FILES = """  {root}/images/0.png ...       (pictures)
  {root}/masks/0.png ...        (grey: 0 background, then one value per object)
  {root}/sem_masks/0.png ...    (grey: 0 background, then one value per class)"""
_FILES_PAGE = "the authors' download (github.com/monniert/dti-sprites, download_data.sh)"
_RECORDS_PAGE = (
    "DeepMind's bucket multi-object-datasets (github.com/google-deepmind/multi_object_datasets)"
)


class Scenes(NamedTuple):
    """Pictures with their truth.

    Attributes:
        images: uint8 (N, H, W, 3).
        instances: uint8 (N, H, W); 0 is background, other values are objects of the picture.
        classes: uint8 (N, H, W); 0 is background, other values are classes of the dataset.
    """

    images: Pixels
    instances: Pixels
    classes: Pixels


class MultiObjects(ImageDataset):
    """Base of the multi-object sets: a subclass draws chunks of pictures and decodes records.

    Drawn picture i is a function of (seed, split, i): chunks of `chunk` pictures are drawn at once,
    whatever the count. In order they are fast; at random each costs a chunk.

    The splits `val` and `test` hold 320 pictures that `train` lacks. Drawn ones are made from
    another stream. Of the authors' folders they are the last but one and the last 320 (a tenth
    each of small sets). Of the records they follow the training pictures, `test` first. Records
    can be read in order only: keep the data module's cache on, best on disk (`data.cache=disk`).

    Args:
        split: Which part.
        count: Pictures from the beginning of the part; all if None (of drawn ones, as many as
            published).
        source: `generate` draws, `files` reads the authors' folders, `tfrecord` DeepMind's file.
        root: Folder with `images/`, `masks/` and `sem_masks/`, or with the TFRecord file.
        seed: Another seed draws other pictures.
        transductive: Train on all pictures, and let `val` and `test` be the first 320 of them, as
            the authors do.

    Raises:
        DataError: Files are missing.

    Attributes:
        name: Name of the set in keys and messages.
        file_name: Name of the published TFRecord file.
        published: Number of training pictures in the paper.
        side: Height and width in pixels.
        num_classes: Classes without background; class maps hold 0..num_classes.
        chunk: Pictures drawn at once.
    """

    name: ClassVar[str]
    file_name: ClassVar[str]
    published: ClassVar[int]
    side: ClassVar[int]
    num_classes: ClassVar[int]
    chunk: ClassVar[int]

    def __init__(
        self,
        split: Split,
        count: PositiveInt | None = None,
        source: Source = "generate",
        root: str = "data",
        seed: Count = 0,
        transductive: bool = False,
    ) -> None:
        self.split, self.source, self.seed, self.transductive = split, source, seed, transductive
        self.root = Path(root)
        self._stream: Split = "train" if transductive else split
        self.numbers = self._number(count)
        self.keys = [self._key(number) for number in self.numbers]
        self._last: tuple[int, Scenes] | None = None  # Chunk or record number and its pictures.
        self._reader: RecordReader | None = None
        self._process = 0  # That opened the reader.
        self._place = 0  # Picture that the reader stands at.
        self._broken: tuple[int, DataError] | None = None  # From which picture on, and why.

    @abstractmethod
    def draw(self, rng: np.random.Generator, count: int) -> Scenes:
        """Draw `count` pictures."""

    @classmethod
    @abstractmethod
    def decode(cls, example: Example) -> Scenes:
        """Turn a record into one picture, N = 1.

        Raises:
            ValueError: It is not a record of this set.
        """

    @classmethod
    def belongs(cls, example: Example) -> bool:
        """Whether a record belongs to the set."""
        return True

    def __getitem__(self, index: int) -> Sample:
        if self.source == "files":
            picture, mask, _ = self._paths(index)
            image = read_image(picture)
            height, width = image.shape[:2]
            instances = read_mask(mask, (width, height))
            table = tabulate_classes(instances, self.classes(index))
            return Sample(image, self.keys[index], instances, classes=table)
        scenes, row = self._find(index)
        instances = scenes.instances[row]
        table = tabulate_classes(instances, scenes.classes[row])
        return Sample(scenes.images[row], self.keys[index], instances, classes=table)

    def classes(self, index: int) -> Pixels:
        """Class map of picture `index`, uint8 (H, W); 0 is background.

        Raises:
            DataError: Its files are missing or broken.
        """
        if self.source == "files":
            return read_mask(self._paths(index)[2])
        scenes, row = self._find(index)
        classes: Pixels = scenes.classes[row]
        return classes

    def files(self, index: int) -> tuple[Path, ...]:
        """Picture, instance map and class map of the authors' folders; none of other sources."""
        return self._paths(index) if self.source == "files" else ()

    def fingerprint(self) -> str:
        """What the pictures depend on."""
        if self.source == "files":
            return super().fingerprint()
        text = f"{self.name}-1-{self.source}-{self._stream}-{self.numbers[0]}-{len(self)}"
        if self.source == "generate":
            return f"{text}-{self.seed}"
        stat = self._record_file().stat()
        return f"{text}-{stat.st_size}-{stat.st_mtime_ns}"

    def check_counts(self) -> list[str]:
        """Compare training pictures that were read with the published number."""
        found = len(self)
        if self.split != "train" or self.source == "generate":
            return []
        expected = self.published
        if self.source == "files" and not self.transductive:
            expected -= 2 * HELD_OUT
        if found == expected:
            return []
        return [f"{self.name} train has {found} pictures, expected {expected}"]

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_reader": None, "_last": None}

    def _key(self, number: int) -> str:
        part = "" if self.source == "files" else f"{self._stream}-"
        return f"{self.name}-{part}{number:05d}"

    def _number(self, count: int | None) -> Sequence[int]:
        """Numbers of the pictures within their source."""
        if self.source == "files":
            numbers = self._list_files()
            return numbers if count is None else numbers[:count]
        size = self.published if self.split == "train" else HELD_OUT
        if self.source == "generate":
            return range(count or size)
        self._record_file()
        starts = {"train": 0, "test": self.published, "val": self.published + HELD_OUT}
        start = starts[self._stream]
        # Beyond the size are the records of another split.
        return range(start, start + min(count or size, size))

    def _list_files(self) -> Sequence[int]:
        tree = _FILES.format(root=self.root)
        folders = [self.root / part for part in _PARTS]
        check_files(self.name, folders, tree, _FILES_PAGE)
        names = [{path.name for path in folder.iterdir()} for folder in folders]
        stems = {name[:-4] for name in names[0] if name.endswith(".png")}
        total = 1 + max((int(stem) for stem in stems if stem.isdecimal()), default=0)
        missing = [
            folder / f"{number}.png"
            for number in range(total)
            for folder, found in zip(folders, names, strict=True)
            if f"{number}.png" not in found
        ]
        check_files(self.name, missing, tree, _FILES_PAGE)
        if self.transductive:
            return range(total if self.split == "train" else min(HELD_OUT, total))
        held_out = min(HELD_OUT, total // 10)
        if held_out == 0:
            raise DataError(
                f"{self.root} has {total} pictures, too few to hold some out; expected at least "
                "10, or set transductive=true to evaluate on training pictures"
            )
        ends = {"train": total - 2 * held_out, "val": total - held_out, "test": total}
        end = ends[self.split]
        return range(0 if self.split == "train" else end - held_out, end)

    def _paths(self, index: int) -> tuple[Path, ...]:
        name = f"{self.numbers[index]}.png"
        return tuple(self.root / part / name for part in _PARTS)

    def _record_file(self) -> Path:
        path = self.root / self.file_name
        check_files(self.name, [path], f"  {path}", _RECORDS_PAGE)
        return path

    def _find(self, index: int) -> tuple[Scenes, int]:
        """Pictures that hold picture `index`, and its place among them."""
        number, row = self.numbers[index], 0
        if self.source == "generate":
            number, row = divmod(number, self.chunk)
        if self._last is None or self._last[0] != number:
            make = self._draw if self.source == "generate" else self._read
            self._last = number, make(number)
        return self._last[1], row

    def _draw(self, chunk: int) -> Scenes:
        rng = np.random.default_rng([self.seed, SPLITS[self._stream], chunk])
        return self.draw(rng, self.chunk)

    def _read(self, number: int) -> Scenes:
        """Read on, or from the beginning, to the record that is picture `number`."""
        if self._broken is not None and number >= self._broken[0]:
            raise self._broken[1]
        reader = self._open(number)
        try:
            example = self._advance(reader, number)
        except DataError as error:
            # Where the reader stands is unknown now, and nothing behind can be told apart.
            self._reader, self._broken = None, (self._place, error)
            raise
        try:
            return self.decode(example)
        except ValueError as error:
            raise reader.error(str(error)) from error

    def _open(self, number: int) -> RecordReader:
        """A reader that stands at picture `number` or before."""
        # A process forked from ours shares its place in the file, so it opens its own.
        is_ours = self._process == os.getpid()
        if self._reader is None or not is_ours or number < self._place:
            if self._reader is not None and is_ours:
                self._reader.close()
            self._reader = RecordReader(self._record_file(), f"get it again from {_RECORDS_PAGE}")
            self._process, self._place = os.getpid(), 0
        return self._reader

    def _advance(self, reader: RecordReader, number: int) -> Example:
        """Read up to picture `number` and return its record."""
        has_all = type(self).belongs == MultiObjects.belongs
        while has_all and self._place < number and reader.skip():
            self._place += 1
        while (data := reader.read()) is not None:
            try:
                example = Example(data)
                if self.belongs(example):
                    self._place += 1
                    if self._place > number:
                        return example
            except ValueError as error:
                raise reader.error(str(error)) from error
        raise DataError(
            f"{reader.path} ends after {reader.number} records with {self._place} pictures, before "
            f"number {number}; {reader.advice}, or lower count"
        )


def index_masks(masks: Pixels) -> Pixels:
    """Turn one mask per entity, uint8 (E, H, W) with the background first, into indices (H, W)."""
    return np.asarray((masks > 0).argmax(axis=0), np.uint8)


def shape_bytes(example: Example, name: str, shape: tuple[int, ...]) -> Pixels:
    """Bytes of feature `name` in `shape`.

    Raises:
        ValueError: Their number is another.
    """
    values = example.read_bytes(name)
    if len(values) != np.prod(shape):
        size = "x".join(map(str, shape))
        raise ValueError(f"has {len(values)} bytes of {name} instead of {size}")
    return values.reshape(shape)


def tabulate_classes(instances: Pixels, classes: Pixels) -> tuple[int, ...]:
    """Class of each object 1, 2, ... of a map (H, W), 0 for numbers that do not occur."""
    table = np.zeros(MAX_OBJECTS + 1, np.uint8)
    table[instances.ravel()] = classes.ravel()  # All pixels of an object say the same.
    return tuple(table[1 : int(instances.max()) + 1].tolist())
