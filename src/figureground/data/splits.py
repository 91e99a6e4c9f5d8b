"""Published split lists: where they are looked for, and how the real ones are known.

The lists belong to their authors and are not shipped. They are looked for in the dataset's own
folder, then in the folder named by the environment variable FIGUREGROUND_SPLITS.
"""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

from figureground.core.errors import DataError

logger = logging.getLogger(__name__)

#: SHA-256 of the lists as the authors published them.
PUBLISHED = {
    "redo/cub/train_val_test_split.txt": (
        "7620961c0d472a9721d9f2e5541a6dba2a6009e21caadb3861c5c7b64270764c"
    ),
    "redo/lfw_funneled/train.txt": (
        "7cd40edcbc0e415b1a25a3e4b3c8e55c54b3b92edc5b784f10c1f8cac901b5c6"
    ),
    "redo/lfw_funneled/val.txt": (
        "ce3e39030a29250b91ea3679a30627f17cd714aa0a5eef9e9cb1bb7cb726fcaf"
    ),
    "redo/lfw_funneled/test.txt": (
        "21f1c06bf543fb7b96cf9c1a7fdc641b97eb19be84f1f889fcda5467be019afb"
    ),
}


def find_list(root: Path, published: str) -> Path:
    """Find a split list beside the data or under FIGUREGROUND_SPLITS.

    Args:
        root: Folder of the dataset.
        published: Name in `PUBLISHED`.

    Raises:
        DataError: It is in neither place.
    """
    places = [root / Path(published).name]
    if folder := os.environ.get("FIGUREGROUND_SPLITS"):
        places.append(Path(folder) / published)
    for place in places:
        if place.is_file():
            return place
    raise DataError(
        f"the split list {Path(published).name} is missing; expected it at "
        f"{' or '.join(map(str, places))}. It comes with the authors' code (github.com/"
        "mickaelChen/ReDO, folder datasplits); or set FIGUREGROUND_SPLITS to a folder that holds "
        f"{published}"
    )


def read_lines(path: Path) -> list[list[str]]:
    """Read a split list into fields; blank lines are left out.

    Raises:
        DataError: A line occurs twice.
    """
    lines = [line.split() for line in path.read_text("utf-8").splitlines() if line.strip()]
    seen: set[tuple[str, ...]] = set()
    twice = [line for line in map(tuple, lines) if line in seen or seen.add(line)]  # type: ignore[func-returns-value]  # add returns None on purpose
    if twice:
        shown = ", ".join(" ".join(line) for line in twice[:5])
        raise DataError(f"{path} holds {len(twice)} lines twice: {shown}")
    return lines


def check_published(path: Path, published: str) -> list[str]:
    """Say if the list at `path` is not the published one, as a list of problems."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest == PUBLISHED[published]:
        return []
    return [f"{path} is not the published list (SHA-256 {digest}); scores will not compare"]


def check_files(dataset: str, files: list[Path], tree: str, page: str) -> None:
    """Raise `DataError` with the expected tree unless all `files` exist."""
    missing = [file for file in files if not file.exists()]
    if missing:
        shown = ", ".join(str(file) for file in missing[:5])
        raise DataError(
            f"data={dataset}: {len(missing)} of {len(files)} files are missing, such as {shown}. "
            f"Expected:\n{tree}\nGet them from {page} and unpack them there, or point "
            "paths.data_dir=... (or FIGUREGROUND_DATA) at them"
        )
