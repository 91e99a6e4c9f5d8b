"""Which mask is whose, where pictures and masks lie in two folders."""

from __future__ import annotations

from pathlib import Path

from figureground.core.errors import DataError
from figureground.data.reading import list_pictures

_SHOWN = 10


def pair_files(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    """Pictures and masks by name; by place in sorted order where no names agree.

    Raises:
        DataError: Some but not all names agree, or their numbers differ; or as `pair_by_stem`.
    """
    names = [set(_list_by_stem(folder)) for folder in (images, masks)]
    return pair_by_stem(images, masks) if names[0] & names[1] else pair_by_position(images, masks)


def stem_of(path: Path, base: Path) -> str:
    """Name of a file: its path below `base` without ending."""
    return path.relative_to(base).with_suffix("").as_posix()


def pair_by_stem(images: Path, masks: Path, advice: str = "") -> list[tuple[Path, Path]]:
    """Pictures and masks of the same relative path apart from the ending, in order.

    Raises:
        DataError: Some have no partner, and `advice` is what else one may do about it; or a folder
            is empty or has two files of one name.
    """
    pictures, truths = (_list_by_stem(folder) for folder in (images, masks))
    if alone := sorted(pictures.keys() ^ truths.keys()):
        raise DataError(
            f"{images} has {len(pictures)} pictures and {masks} {len(truths)} masks, "
            f"{len(alone)} of which have no partner of the same name: {', '.join(alone[:_SHOWN])}; "
            f"complete or rename them{advice}"
        )
    return [(pictures[stem], truths[stem]) for stem in pictures]


def pair_by_position(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    """Pictures and masks at the same place in sorted order.

    Raises:
        DataError: There are more of one than of the other; or as `pair_by_stem`.
    """
    pictures, truths = (list(_list_by_stem(folder).values()) for folder in (images, masks))
    if len(pictures) != len(truths):
        alone = sorted(_list_by_stem(images).keys() ^ _list_by_stem(masks).keys())
        raise DataError(
            f"{images} has {len(pictures)} pictures but {masks} {len(truths)} masks; "
            f"without partner of the same name are {', '.join(alone[:_SHOWN])}"
        )
    return list(zip(pictures, truths, strict=True))


def _list_by_stem(folder: Path) -> dict[str, Path]:
    """Pictures of `folder` by relative path without ending, in order.

    Raises:
        DataError: There are none, or two of one name.
    """
    paths = list_pictures(folder)
    found = {stem_of(path, folder): path for path in paths}
    if not paths or len(found) < len(paths):
        twice = [str(path) for path in paths if path not in found.values()]
        raise DataError(
            f"{folder} holds several pictures of one name, such as {twice[0]}; keep one of each"
            if twice
            else f"{folder} holds no pictures (.jpg, .png, ...); unpack the originals there"
        )
    return found
