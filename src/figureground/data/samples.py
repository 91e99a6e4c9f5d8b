"""What a dataset returns, and what it must be able to say about itself."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from figureground.core.errors import DataError
from figureground.core.types import VOID

Pixels = npt.NDArray[np.uint8]
MAX_OBJECTS = 16  # Objects of one picture whose classes can be kept.


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture at its own size.

    Attributes:
        image: uint8 (H, W, 3).
        key: Name that stays the same between runs.
        mask: uint8 (H, W), 0 = background, `core.types.VOID` (255) = unlabelled, or None.
        label: Class or None.
        classes: Class of each object 1, 2, ... of the mask, from 1 on (0: no such object), where
            the mask tells apart objects; or None.
        is_soft: Whether the mask holds shares of 255 instead, none of them void, which transforms
            resize bilinearly and cut at the half; they keep the shares as `soft`.
        soft: uint8 (H, W), share of the object times 255, where the mask was soft or a generator
            drew the picture; the mask is 1 from 128 on, or void. Or None.
    """

    image: Pixels
    key: str
    mask: Pixels | None = None
    label: int | None = None
    classes: tuple[int, ...] | None = None
    is_soft: bool = False
    soft: Pixels | None = None


class ImageDataset(Dataset[Sample]):
    """Base of all datasets: an ordered set of named pictures.

    Attributes:
        keys: Names of all samples, unique, in order.
        annotated: Whether samples carry masks.
        why_empty: What is missing, where there are no samples.
    """

    keys: Sequence[str]
    annotated: bool = True
    why_empty: str = ""

    def __len__(self) -> int:
        return len(self.keys)

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:
        """Return sample `index` at its own size.

        Raises:
            DataError: Its files are missing or broken.
        """

    def files(self, index: int) -> tuple[Path, ...]:
        """Files behind sample `index`, the image first; none if it is made in memory."""
        return ()

    def origin(self) -> str:
        """Where the files come from: tells apart two folders that are used under one name."""
        return str(Path(root).resolve()) if (root := getattr(self, "root", None)) else ""

    def fingerprint(self) -> str:
        """Hash of what the samples depend on: names, sizes and times of all files."""
        digest = hashlib.sha256(f"{type(self).__qualname__} {self.annotated}".encode())
        for index, key in enumerate(self.keys):
            digest.update(key.encode())
            for file in self.files(index):
                stat = file.stat()
                digest.update(f"{file.name} {stat.st_size} {stat.st_mtime_ns}".encode())
        return digest.hexdigest()

    def unannotated(self) -> list[int]:
        """Numbers of the samples without a mask in a set that has masks otherwise."""
        return []

    def without_masks(self) -> ImageDataset:
        """The same pictures for training, where a broken mask must do no harm.

        Itself unless masks are files of the user's own, which may not fit their pictures.
        """
        return self

    def check_counts(self) -> list[str]:
        """Problems with the number of samples or the split list, for `prepare`."""
        return []


def refuse_uniform(what: str, count: int, has_ground: bool, has_object: bool) -> None:
    """Refuse `count` masks of `what` that are all empty, full or void: scores would mean nothing.

    Raises:
        DataError: There are masks, but not both pixels of objects and of background.
    """
    if count and not (has_ground and has_object):
        state = "full" if has_object else "empty" if has_ground else "unlabelled"
        raise DataError(
            f"all {count} masks of {what} are {state}; expected 0 = background, {VOID} = "
            "unlabelled and other values = objects; mend them or move them away"
        )
