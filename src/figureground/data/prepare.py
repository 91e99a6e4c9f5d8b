"""Check a dataset whole, once: counts, lists, every file, every mask; then build its caches."""

from __future__ import annotations

import hashlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape
from rich.progress import track

from figureground.core.errors import DataError
from figureground.core.escaping import one_line
from figureground.core.presence import open_file
from figureground.core.signals import watching
from figureground.core.types import VOID
from figureground.data.cache import first_writable
from figureground.data.datamodule import ImageDataModule
from figureground.data.index import entry_of, write_index
from figureground.data.reading import open_picture
from figureground.data.samples import ImageDataset, refuse_uniform
from figureground.data.transforms import HALF

_CHUNK = 64
_HEAD = 1 << 16  # Bytes of each file that are summed up.


@dataclass
class SplitReport:
    """What was found in one split.

    Attributes:
        count: Samples.
        masks: Samples with a mask that labels pixels.
        void: Samples with a mask that labels none.
        foreground: Mean share of foreground among labelled pixels, or NaN without any.
        problems: Key -> what is wrong with the sample.
        files: Image file -> what is wrong with its sample.
        remarks: Differences from published counts and lists.
    """

    count: int
    masks: int = 0
    void: int = 0
    foreground: float = float("nan")
    problems: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def prepare(datamodule: ImageDataModule, *, skip_broken: bool = False) -> dict[str, SplitReport]:
    """Check all splits, write the index, and build the caches.

    Args:
        datamodule: What to prepare.
        skip_broken: Write the list of broken samples down, for `data.on_error=skip`, instead of
            refusing the dataset.

    Returns:
        A report for each split.

    Raises:
        DataError: Samples are broken (all are listed) and `skip_broken` is off; or all masks of a
            split are empty or full.
    """
    reports: dict[str, SplitReport] = {}
    files: dict[str, dict[str, Any]] = {}  # By where they come from.
    for split, dataset in datamodule.datasets.items():
        reports[split] = _check_split(dataset, split, files.setdefault(dataset.origin(), {}))
    broken = {key: why for report in reports.values() for key, why in report.problems.items()}
    broken_files = {path: why for report in reports.values() for path, why in report.files.items()}
    if broken and not skip_broken:
        raise DataError(f"{len(broken)} samples of {datamodule.name} are broken:", *broken.values())
    for split, report in reports.items():
        has_ground, has_object = report.foreground < 1, report.foreground > 0
        count = report.masks + report.void
        refuse_uniform(f"{datamodule.name} {split}", count, has_ground, has_object)
    for origin, facts in files.items():
        if datamodule.cache_dirs and (facts or broken_files):
            folder = first_writable(datamodule.cache_dirs)
            write_index(folder, datamodule.name, origin, facts, broken_files)
    with watching() as stop:
        stop.check()
    if skip_broken:
        datamodule.on_error = "skip"
    for split in datamodule.datasets:
        datamodule.store(split)
    return reports


def _check_split(dataset: ImageDataset, split: str, files: dict[str, Any]) -> SplitReport:
    # Some pictures of `train` again, of whose number nothing was published.
    remarks = [] if split == "test_transductive" else dataset.check_counts()
    report = SplitReport(len(dataset), remarks=remarks)
    foreground: list[float] = []

    def complain(index: int, problem: str) -> None:
        report.problems[dataset.keys[index]] = problem
        for path in dataset.files(index)[:1]:
            report.files[entry_of(path)] = problem

    def check(index: int) -> None:
        try:
            sample = dataset[index]
            for path in dataset.files(index):
                files[entry_of(path)] = _describe(path)
        except DataError as error:
            complain(index, str(error))
            return
        if sample.mask is not None:
            if sample.mask.shape != sample.image.shape[:2]:
                height, width = sample.image.shape[:2]
                complain(
                    index,
                    f"the mask of {sample.key} is {sample.mask.shape[1]}x{sample.mask.shape[0]} "
                    f"but its picture is {width}x{height}",
                )
            labelled = sample.mask[sample.is_soft | (sample.mask != VOID)]
            above = labelled > (HALF if sample.is_soft else 0)
            foreground.append(float(above.mean()) if labelled.size else float("nan"))

    threads = min(os.cpu_count() or 1, 8) if len(dataset) and dataset.files(0) else 1
    chunks = range(0, len(dataset), _CHUNK)
    hidden = not sys.stderr.isatty()
    with watching() as stop, ThreadPoolExecutor(threads) as pool:
        for first in track(chunks, escape(f"checking {one_line(split)}"), disable=hidden):
            stop.check()
            list(pool.map(check, range(first, min(first + _CHUNK, len(dataset)))))
    shares = [share for share in foreground if not np.isnan(share)]
    report.masks, report.void = len(shares), len(foreground) - len(shares)
    report.foreground = float(np.mean(shares)) if shares else float("nan")
    return report


def _describe(path: Path) -> dict[str, Any]:
    stat = path.stat()
    picture = open_picture(path)
    with open_file(path) as file:
        digest = hashlib.sha1(file.read(_HEAD), usedforsecurity=False).hexdigest()
    return {
        "size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "width": picture.width,
        "height": picture.height, "mode": picture.mode, "sha1_64k": digest,
    }  # fmt: skip
