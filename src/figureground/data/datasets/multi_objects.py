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
from figureground.data.arrays import PARTS, open_arrays, write_arrays
from figureground.data.datasets.toy import SPLITS, Split
from figureground.data.reading import open_picture, read_image
from figureground.data.samples import MAX_OBJECTS, ImageDataset, Pixels, Sample
from figureground.data.splits import check_files
from figureground.data.tfrecord import Example, RecordReader

Source = Literal["generate", "files", "tfrecord"]

#: Pictures of `val` and `test`, and how many of the training pictures the authors evaluate on.
HELD_OUT = 320

_FILES = """  {root}/images/0.png ...       (pictures)
  {root}/masks/0.png ...        (grey: 0 background, then one value per object)
  {root}/sem_masks/0.png ...    (grey: 0 background, then one value per class)"""
_FILES_PAGE = (
    "the authors' download (github.com/monniert/dti-sprites, download_data.sh), draw them with "
    "prepare source=generate,"
)
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
        source: `generate` draws, `files` reads what `write` wrote or the authors' folders,
            `tfrecord` DeepMind's file.
        root: Folder with `images/`, `masks/` and `sem_masks/` (or arrays of these names), or with
            the TFRecord file.
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
        self._arrays = open_arrays(self.root) if source == "files" else None
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
        image, instances, classes = self.maps(index)
        table = tabulate_classes(instances, classes)
        return Sample(image, self.keys[index], instances, classes=table)

    def maps(self, index: int) -> tuple[Pixels, Pixels, Pixels]:
        """Picture `index`, uint8 (H, W, 3), its instances and classes, (H, W); 0 is background.

        Raises:
            DataError: Its files are missing or broken, or differ in size.
        """
        if self._arrays is not None:
            return self._read_arrays(self._arrays, self.numbers[index])
        if self.source == "files":
            picture, *masks = self._paths(index)
            image = read_image(picture)
            height, width = image.shape[:2]
            instances, classes = (
                _read_map(mask, (width, height), most)
                for mask, most in zip(masks, (MAX_OBJECTS, self.num_classes), strict=True)
            )
            return image, instances, classes
        scenes, row = self._find(index)
        return scenes.images[row], scenes.instances[row], scenes.classes[row]

    def classes(self, index: int) -> Pixels:
        """Class map of picture `index`, uint8 (H, W)."""
        return self.maps(index)[2]

    def files(self, index: int) -> tuple[Path, ...]:
        """Picture, instance map and class map of the authors' folders; none of other sources."""
        return self._paths(index) if self.source == "files" and self._arrays is None else ()

    def write(self, *, overwrite: bool = False) -> bool:
        """Write the pictures, which must be drawn, below `root`; see `write_arrays`."""
        facts = {"pictures": self.fingerprint()}
        return write_arrays(self.root, self.maps, facts, len(self), overwrite=overwrite)

    def fingerprint(self) -> str:
        """What the pictures depend on."""
        if self.source == "files" and self._arrays is None:
            return super().fingerprint()
        text = f"{self.name}-1-{self.source}-{self._stream}-{self.numbers[0]}-{len(self)}"
        if self.source == "generate":
            return f"{text}-{self.seed}"
        files = self.source == "files"
        stat = (self.root / f"{PARTS[0]}.npy" if files else self._record_file()).stat()
        return f"{text}-{stat.st_size}-{stat.st_mtime_ns}"

    def check_counts(self) -> list[str]:
        """Compare training pictures that were read with the published number."""
        found = len(self)
        # Of pictures that we drew there may be any number.
        if self.split != "train" or self.source == "generate" or self._arrays is not None:
            return []
        expected = self.published
        if self.source == "files" and not self.transductive:
            expected -= 2 * HELD_OUT
        if found == expected:
            return []
        return [f"{self.name} train has {found} pictures, expected {expected}"]

    def __getstate__(self) -> dict[str, object]:
        # Of mapped arrays the content would be sent along.
        return self.__dict__ | {"_reader": None, "_last": None, "_arrays": None}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._arrays = open_arrays(self.root) if self.source == "files" else None

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
        total = self._count_files() if self._arrays is None else len(self._arrays[0])
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

    def _count_files(self) -> int:
        """Pictures of the authors' folders, of which none may be missing."""
        tree = _FILES.format(root=self.root)
        folders = [self.root / part for part in PARTS]
        check_files(self.name, folders, tree, _FILES_PAGE)
        names = [{path.name for path in folder.iterdir()} for folder in folders]
        # Of the fullest folder, so that pictures without masks and masks without are both found.
        stems = {name[:-4] for name in set.union(*names) if name.endswith(".png")}
        # A number far beyond the others shows as well as all between that some are missing.
        most = max((int(stem) for stem in stems if stem.isdecimal()), default=0)
        total = 1 + min(most, len(stems))
        missing = [
            folder / f"{number}.png"
            for number in range(total)
            for folder, found in zip(folders, names, strict=True)
            if f"{number}.png" not in found
        ]
        check_files(self.name, missing, tree, _FILES_PAGE)
        return total

    def _paths(self, index: int) -> tuple[Path, ...]:
        name = f"{self.numbers[index]}.png"
        return tuple(self.root / part / name for part in PARTS)

    def _read_arrays(
        self, arrays: tuple[Pixels, Pixels, Pixels], number: int
    ) -> tuple[Pixels, Pixels, Pixels]:
        image, instances, classes = (np.array(array[number]) for array in arrays)
        for pixels, most in ((instances, MAX_OBJECTS), (classes, self.num_classes)):
            if int(pixels.max()) > most:
                raise DataError(
                    f"{self.root}: picture {number} has a number {pixels.max()}, expected at most "
                    f"{most}; is it another set?"
                )
        return image, instances, classes

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


def _read_map(path: Path, size: tuple[int, int], most: int) -> Pixels:
    """Read a map (H, W) of numbers up to `most` as they are, unlike masks of one object.

    Raises:
        DataError: It is not an 8-bit grey picture, of another size, or has higher numbers.
    """
    image = open_picture(path)
    if image.size != size:
        raise DataError(
            f"mask {path} is {image.width}x{image.height} but its picture is {size[0]}x{size[1]}; "
            "both must have the same size"
        )
    values = np.asarray(image)
    if image.mode not in {"L", "P"} or int(values.max()) > most:
        found = f"values up to {values.max()}" if image.mode in {"L", "P"} else image.mode
        raise DataError(
            f"mask {path} has {found}; expected 8-bit grey values from 0 (background) to {most}: "
            "put the original there"
        )
    return np.asarray(values, np.uint8)


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
