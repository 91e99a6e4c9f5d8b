"""CLEVR scenes that DRC learns from, and that L2IC's masks are scored on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from figureground.core.bounds import Count, PositiveInt
from figureground.core.errors import DataError
from figureground.data.datasets.clevr6 import CLEVR6
from figureground.data.datasets.toy import Split
from figureground.data.npz_records import NpzRecord
from figureground.data.samples import Pixels, Sample
from figureground.data.splits import check_files
from figureground.data.tfrecord import Example

_COUNT = 1000
#: Visible entities, of which the background is one: two to five objects.
_FEWEST, _MOST = 3, 6
_LOOKED_AT = 70_000  # The first of DRC's files.
_PAGE = (
    "clevr_with_masks_train.tfrecords, unpacked by the script of DRC's authors (project "
    "`deep-region-competition`, load_clevr_with_masks.py),"
)


class CLEVR(CLEVR6):
    """Objects against background, in the first 1000 records of two to five objects.

    Cut out of the record and made smaller as in `CLEVR6`, see there for the options; whatever the
    split, the pictures are the same. Drawn scenes (`source=generate`) have three to six objects.

    With `source=npz` records are `meta/0.npz`, `meta/1.npz`, ..., as DRC's authors keep them. Its
    `train` are all of two to five objects among the first 70000, the 1000 of the test too, as DRC
    has it; to know them each file is looked into at the start.

    Raises:
        DataError: Files are missing or not such records.
    """

    name = "clevr"
    published = _COUNT

    def __init__(
        self,
        split: Split,
        count: PositiveInt | None = None,
        source: Literal["generate", "files", "tfrecord", "npz"] = "generate",
        root: str = "data",
        seed: Count = 0,
        transductive: bool = False,
    ) -> None:
        self._is_npz = source == "npz"
        # To the base they are records like others.
        kind = "tfrecord" if source == "npz" else source
        super().__init__(split, count, kind, root, seed, transductive)

    def __getitem__(self, index: int) -> Sample:
        image, instances, _ = self.maps(index)
        return Sample(image, self.keys[index], (instances > 0).astype("uint8"))

    def maps(self, index: int) -> tuple[Pixels, Pixels, Pixels]:
        """See `MultiObjects.maps`."""
        if not self._is_npz:
            return super().maps(index)
        path = self._record(self.numbers[index])
        try:
            scenes = self.decode(NpzRecord(path))
        except ValueError as error:
            raise _broken(path, error) from error
        return scenes.images[0], scenes.instances[0], scenes.classes[0]

    def fingerprint(self) -> str:
        """What the pictures depend on."""
        if not self._is_npz:
            return super().fingerprint()
        digest = hashlib.sha256()
        for number in self.numbers:
            stat = self._record(number).stat()
            digest.update(f"{number} {stat.st_size} {stat.st_mtime_ns} ".encode())
        return f"{self.name}-1-npz-{digest.hexdigest()}"

    @classmethod
    def belongs(cls, example: Example) -> bool:
        """Whether a record has three to six visible entities."""
        return bool(_FEWEST <= example.read_floats("visibility").sum() <= _MOST)

    def check_counts(self) -> list[str]:
        """Compare with DRC's number; of others as many are read as are asked for."""
        if not self._is_npz or len(self) >= _COUNT:
            return []
        return [f"clevr {self.split} has {len(self)} scenes, expected {_COUNT} at least"]

    def _record(self, number: int) -> Path:
        return self.root / "meta" / f"{number}.npz"

    def _number(self, count: int | None) -> Sequence[int]:
        if self._is_npz:
            return self._choose(count or (_LOOKED_AT if self.split == "train" else _COUNT))
        if self.source == "tfrecord":
            self._record_file()
            return range(count or _COUNT)
        return super()._number(count)

    def _choose(self, count: int) -> list[int]:
        """Numbers of the first `count` files that belong to the set."""
        folder = self.root / "meta"
        check_files(self.name, [folder], f"  {folder}/0.npz, 1.npz, ...", _PAGE)
        there = sorted(int(p.stem) for p in folder.glob("*.npz") if p.stem.isdecimal())
        found: list[int] = []
        for number in there:
            if number >= _LOOKED_AT or len(found) == count:
                break
            try:
                belongs = self.belongs(NpzRecord(self._record(number)))
            except ValueError as error:
                raise _broken(self._record(number), error) from error
            if belongs:
                found.append(number)
        if not found:
            raise DataError(
                f"{folder} has no scene of two to five objects among {len(there)} files (0.npz, "
                f"1.npz, ...); get them from {_PAGE.rstrip(',')}"
            )
        return found


def _broken(path: Path, error: ValueError) -> DataError:
    return DataError(f"{path} {error}; expected a record of CLEVR with masks: unpack it again")
