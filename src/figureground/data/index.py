"""The index that `prepare` leaves: which files there were, and which of them were broken."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from figureground.core.command_line import option
from figureground.core.errors import DataError
from figureground.core.io import atomic_write
from figureground.core.presence import exists, read_text
from figureground.data.samples import ImageDataset, Sample

logger = logging.getLogger(__name__)

_SHOWN = 5


def index_path(folder: Path, name: str, origin: str) -> Path:
    """Where the index of dataset `name` lies, if its files come from `origin`."""
    digest = hashlib.sha256(origin.encode()).hexdigest()[:8]
    return folder / f"{name}-index-{digest}.json"


def entry_of(path: Path) -> str:
    """Name of a file in the index: the same from whatever directory it is referred to."""
    # The file itself may be a link: one that points elsewhere has changed.
    return str(path.parent.resolve() / path.name)


def write_index(
    folder: Path, name: str, origin: str, files: dict[str, Any], broken: dict[str, str]
) -> Path:
    """Write the index of dataset `name`: facts by file, problems by file of broken samples."""
    path = index_path(folder, name, origin)
    with atomic_write(path, "w") as file:
        json.dump({"files": files, "broken": broken}, file, indent=1)
    return path


def read_index(folders: Sequence[Path], name: str, origin: str) -> dict[str, Any] | None:
    """Read the index of dataset `name`, or None where `prepare` did not run."""
    for folder in folders:
        path = index_path(folder, name, origin)
        if exists(path):
            return _parse(path, name)
    return None


def _parse(path: Path, name: str) -> dict[str, Any]:
    """Read the index at `path`, which may have come with the data from anybody.

    Raises:
        DataError: It is none.
    """
    try:
        content = json.loads(read_text(path))
        broken = {str(file): str(why) for file, why in content["broken"].items()}
        files = {
            str(file): {key: int(facts[key]) for key in ("size", "mtime_ns")}
            for file, facts in content["files"].items()
        }
    except (
        *(OSError, OverflowError, ValueError, KeyError, TypeError),
        *(AttributeError, RecursionError),
    ) as error:
        raise DataError(
            f"{path} is not an index that prepare wrote ({type(error).__name__}); remove it and "
            f"run prepare data={name} again"
        ) from error
    return {"files": files, "broken": broken}


def verify_unchanged(dataset: ImageDataset, folders: Sequence[Path], name: str) -> None:
    """Compare size and time of all files with the index.

    Raises:
        DataError: A file has changed or gone since `prepare`.
    """
    index = read_index(folders, name, dataset.origin())
    if index is None:
        return
    changed = []
    for number in range(len(dataset)):
        for path in dataset.files(number):
            known = index["files"].get(entry_of(path))
            if known is None:
                continue
            try:
                stat = path.stat()
            except OSError:
                changed.append(f"{path} (gone)")
                continue
            if (stat.st_size, stat.st_mtime_ns) != (known["size"], known["mtime_ns"]):
                changed.append(str(path))
    if changed:
        raise DataError(
            f"{len(changed)} files changed since prepare: {', '.join(changed[:_SHOWN])}; run "
            f"python src/prepare.py {option('data', name)} again"
        )


def exclude_unreadable(dataset: ImageDataset, folders: Sequence[Path], name: str) -> ImageDataset:
    """Leave out exactly the samples that `prepare` found broken.

    Raises:
        DataError: `prepare` did not run, so it is not known which they are.
    """
    index = read_index(folders, name, dataset.origin())
    if index is None:
        raise DataError(
            f"data.on_error=skip leaves out what prepare found broken, but it did not run; type: "
            f"python src/prepare.py {option('data', name)} on_error=skip"
        )
    broken = index["broken"]
    kept = [
        number
        for number in range(len(dataset))
        if not any(entry_of(path) in broken for path in dataset.files(number))
    ]
    if len(kept) < len(dataset):
        logger.warning("%d broken samples of %s are left out", len(dataset) - len(kept), name)
    return Subset(dataset, kept)


def require_annotated(dataset: ImageDataset, what: str, allow_missing: bool) -> ImageDataset:
    """Return `dataset` for a method that learns from its masks.

    Args:
        dataset: Training pictures.
        what: What they are, for messages.
        allow_missing: Leave out pictures without a mask instead of refusing.

    Raises:
        DataError: Pictures have no mask.
    """
    count = len(dataset)
    missing = set(dataset.unannotated() if dataset.annotated else range(count))
    if not missing:
        return dataset
    if allow_missing and len(missing) < count:
        logger.warning("%d of %d %s have no mask and are left out", len(missing), count, what)
        return Subset(dataset, [number for number in range(count) if number not in missing])
    names = ", ".join(dataset.keys[number] for number in sorted(missing)[:_SHOWN])
    raise DataError(
        f"{len(missing)} of {count} {what} have no mask to learn from: {names}; add masks, or "
        "learn from drawn pairs (pairs=saved pairs.root=..., pairs=live pairs.ckpt=...)"
    )


def find_seen(
    wanted: ImageDataset | None, train: ImageDataset | None, test: ImageDataset | None
) -> ImageDataset | None:
    """What of `wanted` is in `train`; None without `test`, or if it is the same pictures."""
    if wanted is None or train is None or test is None or list(wanted.keys) == list(test.keys):
        return None
    known = set(train.keys)
    kept = [number for number, key in enumerate(wanted.keys) if key in known]
    return wanted if len(kept) == len(wanted) else Subset(wanted, kept)


class Subset(ImageDataset):
    """Some samples of another dataset, in its order."""

    def __init__(self, dataset: ImageDataset, indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, list(indices)
        self.keys = [dataset.keys[index] for index in self.indices]
        self.annotated = dataset.annotated

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[self.indices[index]]

    def origin(self) -> str:
        """Where the files of the other dataset come from."""
        return self.dataset.origin()

    def files(self, index: int) -> tuple[Path, ...]:
        """Files of the sample in the other dataset."""
        return self.dataset.files(self.indices[index])

    def without_masks(self) -> Subset:
        """The same samples of the other dataset without its masks."""
        return Subset(self.dataset.without_masks(), self.indices)

    def fingerprint(self) -> str:
        """Hash of the files that are left; of drawn samples, of what they depend on."""
        if not len(self) or self.files(0):
            return super().fingerprint()
        text = f"{self.dataset.fingerprint()} {self.indices}"
        return hashlib.sha256(text.encode()).hexdigest()

    def unannotated(self) -> list[int]:
        """Those samples without a mask that are left."""
        missing = set(self.dataset.unannotated())
        return [number for number, index in enumerate(self.indices) if index in missing]
