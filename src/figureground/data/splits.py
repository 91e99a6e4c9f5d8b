"""Published split lists: where they are looked for, and how the real ones are known.

The lists belong to their authors and are not shipped. They are looked for in the dataset's own
folder, then in the folder named by the environment variable FIGUREGROUND_SPLITS.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from figureground.core.errors import DataError

logger = logging.getLogger(__name__)

_SHOWN = 5

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
    if found := look_for_list(root, published):
        return found
    places = _places(root, published)
    raise DataError(
        f"the split list {Path(published).name} is missing; expected it at "
        f"{' or '.join(map(str, places))}. It comes with the authors' code (github.com/"
        "mickaelChen/ReDO, folder datasplits); or set FIGUREGROUND_SPLITS to a folder that holds "
        f"{published}"
    )


def look_for_list(root: Path, published: str) -> Path | None:
    """The same as `find_list`, but None where there is no such list."""
    return next((place for place in _places(root, published) if place.is_file()), None)


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Read a list of two words per line; blank lines are left out.

    Raises:
        DataError: It is not text, is empty, or a line has another form or occurs twice.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read as text ({type(error).__name__}); put the original there"
        ) from error
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if not lines:
        raise DataError(f"{path} is empty; expected two words per line: put the original there")
    if bad := [" ".join(line) for line in lines if len(line) != 2]:
        raise DataError(
            f"{path}: expected two words per line, but {len(bad)} lines are not so: "
            f"{', '.join(bad[:_SHOWN])}"
        )
    pairs = [(first, second) for first, second in lines]
    if twice := [" ".join(pair) for pair, number in Counter(pairs).items() if number > 1]:
        raise DataError(f"{path} holds {len(twice)} lines twice: {', '.join(twice[:_SHOWN])}")
    return pairs


def refuse_overlap(where: str, shared: Iterable[str]) -> None:
    """Raise `DataError` if `shared` names pictures: each belongs to one split only."""
    if names := sorted(shared):
        raise DataError(
            f"{where}: {len(names)} pictures are in more than one split: "
            f"{', '.join(names[:_SHOWN])}; put the original lists there"
        )


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
        shown = ", ".join(str(file) for file in missing[:_SHOWN])
        raise DataError(
            f"data={dataset}: {len(missing)} of {len(files)} files are missing, such as {shown}. "
            f"Expected:\n{tree}\nGet them from {page} and unpack them there, or point "
            "paths.data_dir=... (or FIGUREGROUND_DATA) at them"
        )


def _places(root: Path, published: str) -> list[Path]:
    """Where a list may lie, first choice first."""
    places = [root / Path(published).name]
    if folder := os.environ.get("FIGUREGROUND_SPLITS"):
        places.append(Path(folder) / published)
    return places
