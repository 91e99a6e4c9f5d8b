"""Lists of datasets (text, arrays, MATLAB) with hostile entries, and the sets that read them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from cases import Case
from hostile import ENTRIES, TREES, as_json, lines, listings, spoiled
from hypothesis import strategies as st
from scipy.io import savemat

import archives
from figureground.data.datasets.cub import CUB
from figureground.data.datasets.drc import Cars, Dogs
from figureground.data.datasets.flowers import Flowers
from figureground.data.datasets.lfw import LFW
from figureground.data.datasets.stanford import StanfordCars, StanfordDogs
from figureground.data.datasets.voc import VOC

_Read = Callable[[str], Any]
_LARGEST = 2**63  # Of numbers in arrays.


def _require_inside(read: _Read, root: Path) -> None:
    """Read a set; whatever its lists say, its files lie below its folder."""
    found = read(str(root))
    for number in range(len(found)):
        for file in found.files(number):
            assert file.resolve().is_relative_to(root.resolve()), file


def _text(folder: Path, write: Callable[[Path], Path], name: str, read: _Read) -> Case:
    root = write(folder / "set")
    path = root / name
    honest = path.read_text("utf-8")
    return Case(
        lines(honest), honest.encode(), lambda _: _require_inside(read, root), path.write_bytes
    )


def _array(folder: Path, write: Callable[[Path], Path], name: str, read: _Read) -> Case:
    root = write(folder / "set")
    path = root / name
    honest = [str(each) for each in np.load(path)]

    def put(drawn: list[Any]) -> None:
        is_text = all(isinstance(each, str) for each in drawn)
        np.save(path, np.array(drawn, str if is_text else object), allow_pickle=True)

    return Case(listings(honest), honest, lambda _: _require_inside(read, root), put)


def _matlab(
    folder: Path, write: Callable[[Path], Path], name: str, read: _Read, honest: dict[str, Any]
) -> Case:
    root = write(folder / "set")

    def put(drawn: Any) -> None:
        entries = _as_fields(drawn) if isinstance(drawn, dict) else {next(iter(honest)): drawn}
        savemat(root / name, {key: _as_matrix(value) for key, value in entries.items()})

    hostile = spoiled(honest, st.one_of(TREES, ENTRIES)).map(as_json)
    return Case(hostile, honest, lambda _: _require_inside(read, root), put)


def _as_matrix(value: Any) -> Any:
    """What MATLAB could have in the place of a value of JSON."""
    if isinstance(value, dict):
        return {key: _as_matrix(each) for key, each in _as_fields(value).items()}
    if isinstance(value, list):
        rows = [_as_matrix(each) for each in value]
        if rows and all(isinstance(row, dict) and row.keys() == rows[0].keys() for row in rows):
            fields = [(key, object) for key in rows[0]]
            return np.array([tuple(row.values()) for row in rows], fields) if fields else 0
        cells = np.empty(len(rows), object)
        cells[:] = rows
        is_numeric = rows and all(isinstance(row, int | float) for row in rows)
        return np.array(rows) if is_numeric else cells
    if isinstance(value, int | float) and abs(value) < _LARGEST:
        return value
    return str(value).encode("utf-8", "replace").decode()


def _as_fields(mapping: dict[str, Any]) -> dict[str, Any]:
    """With names that MATLAB takes, of which it takes few."""
    return {_as_field(key, number): each for number, (key, each) in enumerate(mapping.items())}


def _as_field(key: str, number: int) -> str:
    is_taken = key.isidentifier() and key.isascii() and key[0] != "_" and len(key) < 32
    return key if is_taken else f"x{number}"


_CUB, _LFW = partial(archives.write_cub, count=9), partial(archives.write_lfw, per_split=3)
_FLOWERS = partial(archives.write_flowers, per_split=3)
_BREEDS = ("n01-Chihuahua", "n02-Pug", "n03-Beagle")
_NOTES = [
    {
        "relative_im_path": f"car_ims/{number:06d}.jpg", "bbox_x1": 10, "bbox_y1": 5,
        "bbox_x2": 22, "bbox_y2": 20, "class": number, "test": int(number > 2),
    }
    for number in range(1, 4)
]  # fmt: skip
LISTS: dict[str, Callable[[Path], Case]] = {
    "images of cub": partial(
        _text, write=_CUB, name="images.txt", read=partial(CUB, split="train")
    ),
    "split of cub": partial(
        _text, write=_CUB, name="train_val_test_split.txt", read=partial(CUB, split="train")
    ),
    "official split of cub": partial(
        _text, write=_CUB, name="train_test_split.txt",
        read=partial(CUB, split="test", protocol="official"),
    ),
    "boxes of cub": partial(
        _text, write=_CUB, name="bounding_boxes.txt", read=partial(CUB, split="train", crop="box")
    ),
    "lfw": partial(_text, write=_LFW, name="test.txt", read=partial(LFW, split="test")),
    "voc": partial(
        _text, write=partial(archives.write_voc, count=4),
        name="ImageSets/Segmentation/train.txt", read=partial(VOC, split="train"),
    ),
    "dogs of drc": partial(
        _array, write=partial(archives.write_dogs, count=4), name="data_tr_sel.npy",
        read=partial(Dogs, split="train"),
    ),
    "cars of drc": partial(
        _array, write=partial(archives.write_cars, count=4), name="data_mrcnn_test_select.npy",
        read=partial(Cars, split="test"),
    ),
    "split of flowers": partial(
        _matlab, write=_FLOWERS, name="setid.mat", read=partial(Flowers, split="train"),
        honest={"tstid": [1, 2, 3], "valid": [4, 5, 6], "trnid": [7, 8, 9]},
    ),
    "labels of flowers": partial(
        _matlab, write=_FLOWERS, name="imagelabels.mat", read=partial(Flowers, split="train"),
        honest={"labels": list(range(1, 10))},
    ),
    "stanford dogs": partial(
        _matlab, write=partial(archives.write_stanford_dogs, counts=(4, 3)), name="train_list.mat",
        read=partial(StanfordDogs, split="train"),
        honest={
            "file_list": [f"{_BREEDS[i % 3]}/train_{i}.jpg" for i in range(4)],
            "labels": [1, 2, 3, 1],
        },
    ),
    "stanford cars": partial(
        _matlab, write=partial(archives.write_stanford_cars, counts=(4, 3)), name="cars_annos.mat",
        read=partial(StanfordCars, split="train"), honest={"annotations": _NOTES},
    ),
}  # fmt: skip
