"""Published split lists: where they are looked for, and how the real ones are known.

The lists belong to their authors and are not shipped. They are looked for in the dataset's own
folder, then in the folder named by the environment variable FIGUREGROUND_SPLITS.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from figureground.core.errors import DataError, UnfitFileError
from figureground.core.presence import exists, is_dir, is_file, read_binary, read_text, require_file

logger = logging.getLogger(__name__)

_SHOWN = 5
_MOST_DIGITS = 9  # Of a class.

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
    "l2ic/cub_test.txt": ("13f466bc1849978edf15d8f27830e0b31d11de340e745377b19995b9e7a8bb5d"),
    "l2ic/cub_train.txt": ("6a81314b53e8dbacf2d99169f00804484a9f4dcf73da5e63ccf86333ffa785e6"),
    "l2ic/oxford_flower_test.txt": (
        "8328c9bf68b922ab123ae0e2528a70e6e775344934e926d61eb8ebb711c4ed64"
    ),
    "l2ic/oxford_flower_train.txt": (
        "c99032b6256b2d2ba0df75a462d10095aa94bf1bb12da3114b0014549eb34631"
    ),
    "l2ic/stanford_car_test.txt": (
        "6457f475356ca5f70314fc5317f34591ab54a56c4ec0c62d2dbd52921ca1c34a"
    ),
    "l2ic/stanford_car_train.txt": (
        "f2a5c4286f407b840d14ceb3b3da964e6729320ec55731ee850b03290be0fcb3"
    ),
    "l2ic/stanford_dog_test.txt": (
        "18343ba2b7d8f38ec44b6dea55773a797e9853a4d4730ead68350e3e96659deb"
    ),
    "l2ic/stanford_dog_train.txt": (
        "3c8e78bf53635c870e2d506bf7a7c26cb023ba2f19de926d1f44782483b547e8"
    ),
}
#: Who published the lists of a folder.
_AUTHORS = {
    "redo": "the authors' code (github.com/mickaelChen/ReDO, folder datasplits)",
    "l2ic": "the authors' code of C3-GAN, and with that of L2IC",
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
        f"{' or '.join(map(str, places))}. It comes with {_AUTHORS[published.partition('/')[0]]}; "
        f"or set FIGUREGROUND_SPLITS to a folder that holds {published}"
    )


def look_for_list(root: Path, published: str) -> Path | None:
    """The same as `find_list`, but None where there is no such list."""
    return next((place for place in _places(root, published) if is_file(place)), None)


def read_lines(path: Path) -> list[str]:
    """Read a text line by line.

    Raises:
        DataError: It is none.
    """
    try:
        return read_text(path).splitlines()
    except UnfitFileError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read as text ({type(error).__name__}); put the original there"
        ) from error


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Read a list of two words per line; blank lines are left out.

    Raises:
        DataError: It is not text, is empty, or a line has another form or occurs twice.
    """
    lines = [line.split() for line in read_lines(path) if line.strip()]
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


def read_classes(path: Path) -> dict[str, int]:
    """Read a list of pictures with their classes, from 0 on, in its order.

    Raises:
        DataError: As `read_pairs`; or a class is no number, or a picture has two.
    """
    pairs = read_pairs(path)
    if bad := [n for _, n in pairs if not n.isdecimal() or len(n) > _MOST_DIGITS]:
        raise DataError(
            f"{path}: expected `picture class` with classes from 0 on, found {bad[0][:40]!r}; put "
            "the original there"
        )
    classes = {name: int(number) for name, number in pairs}
    if len(classes) < len(pairs):
        raise DataError(f"{path} gives a picture two classes; put the original there")
    return classes


def require_classes(path: Path, listed: Mapping[str, int], known: Mapping[str, int | None]) -> None:
    """Compare a list of classes with those of the official files.

    Args:
        path: Of the list, for the message.
        listed: Its classes by picture.
        known: Official classes by picture; None where the official file is not there.

    Raises:
        DataError: The list names pictures that are not there, or gives another class.
    """
    if unknown := [name for name in listed if name not in known]:
        raise DataError(
            f"{path} names {len(unknown)} pictures that the official files do not have, such as "
            f"{unknown[0]}; put the original there"
        )
    wrong = [name for name, label in listed.items() if known[name] not in {None, label}]
    if wrong:
        name = wrong[0]
        raise DataError(
            f"{path} gives {len(wrong)} pictures other classes than the official files, such as "
            f"{name} ({listed[name]} instead of {known[name]}); put the original there"
        )


def refuse_overlap(where: str, shared: Iterable[str]) -> None:
    """Raise `DataError` if `shared` names pictures: each belongs to one split only."""
    if names := sorted(shared):
        raise DataError(
            f"{where}: {len(names)} pictures are in more than one split: "
            f"{', '.join(names[:_SHOWN])}; put the original lists there"
        )


def check_published(path: Path, published: str) -> list[str]:
    """Say if the list at `path` is not the published one, as a list of problems."""
    digest = hashlib.sha256(read_binary(path)).hexdigest()
    if digest == PUBLISHED[published]:
        return []
    return [f"{path} is not the published list (SHA-256 {digest}); scores will not compare"]


def check_files(dataset: str, files: list[Path], tree: str, page: str) -> None:
    """Raise `DataError` with the expected tree unless all `files` exist."""
    missing = [file for file in files if not _is_there(file)]
    if missing:
        shown = ", ".join(str(file) for file in missing[:_SHOWN])
        raise DataError(
            f"data={dataset}: {len(missing)} of {len(files)} files are missing, such as {shown}. "
            "Expected:",
            *tree.split("\n"),
            f"Get them from {page} and unpack them there, or point paths.data_dir=... (or "
            "FIGUREGROUND_DATA) at them",
        )


def _is_there(file: Path) -> bool:
    """Whether there is a file or a folder; raises `UnfitFileError` for a pipe or the like."""
    if is_file(file) or is_dir(file):
        return True
    return exists(file) and bool(require_file(file))


def _places(root: Path, published: str) -> list[Path]:
    """Where a list may lie, first choice first."""
    places = [root / Path(published).name]
    if folder := os.environ.get("FIGUREGROUND_SPLITS"):
        places.append(Path(folder) / published)
    return places
