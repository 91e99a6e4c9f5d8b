"""Several datasets as one, for mixtures such as LFW with Flowers."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

from figureground.data.samples import ImageDataset, Sample


class Concat(ImageDataset):
    """The samples of all parts, one after the other, without labels (they would not agree).

    Args:
        parts: Name -> dataset; names become prefixes of the keys.
    """

    def __init__(self, parts: Mapping[str, ImageDataset]) -> None:
        self.parts = list(parts.values())
        self.keys = [f"{name}/{key}" for name, part in parts.items() for key in part.keys]
        self.annotated = all(part.annotated for part in self.parts)
        self._ends = list(accumulate(len(part) for part in self.parts))

    def __getitem__(self, index: int) -> Sample:
        part, place = self._find(index)
        sample = replace(part[place], key=self.keys[index], label=None, classes=None)
        return sample if self.annotated else replace(sample, mask=None, soft=None, is_soft=False)

    def files(self, index: int) -> tuple[Path, ...]:
        """Files of the sample in its own dataset."""
        part, place = self._find(index)
        return part.files(place)

    def origin(self) -> str:
        """Where the files of all parts come from."""
        return "\n".join(part.origin() for part in self.parts)

    def fingerprint(self) -> str:
        """Hash of what the parts depend on, drawn ones too."""
        text = "|".join([*self.keys[:1], *(part.fingerprint() for part in self.parts)])
        return hashlib.sha256(f"{self.annotated} {text}".encode()).hexdigest()

    def unannotated(self) -> list[int]:
        """Samples of all parts without a mask."""
        begins = [0, *self._ends]
        return [
            begin + number
            for begin, part in zip(begins, self.parts, strict=False)
            for number in part.unannotated()
        ]

    def check_counts(self) -> list[str]:
        """Problems of all parts."""
        return [problem for part in self.parts for problem in part.check_counts()]

    def _find(self, index: int) -> tuple[ImageDataset, int]:
        number = bisect_right(self._ends, index)
        return self.parts[number], index - (self._ends[number - 1] if number else 0)
