"""No picture is in two splits, and damaged lists are refused with one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from archives import write_cub, write_flowers, write_folder, write_lfw
from figureground.core.config import build
from figureground.core.errors import DataError
from figureground.data.datasets.cub import CUB
from figureground.data.datasets.flowers import Flowers
from figureground.data.datasets.lfw import LFW
from figureground.data.splits import PUBLISHED, read_pairs, refuse_overlap


@pytest.mark.parametrize(
    ("data", "write", "option"),
    [
        ("folder", write_folder, "data.train.test=0.4"),
        ("folder", write_folder, "data.train.val=0.3"),
        ("cub", write_cub, "data.train.protocol=official"),
    ],
)
def test_one_option_moves_the_border_of_all_splits(
    compose: Callable[..., DictConfig],
    tmp_path: Path,
    data: str,
    write: Callable[[Path, int], Path],
    option: str,
) -> None:
    root = write(tmp_path / data, 60)
    config = compose(f"data={data}", f"data.root={root}", option)
    keys = {split: set(part.keys) for split, part in build(config.data).datasets.items()}
    assert not keys["train"] & (keys["val"] | keys["test"])
    assert len(set.union(*keys.values())) == 60


def test_digits_follow_one_option_and_any_resolution(compose: Callable[..., DictConfig]) -> None:
    config = compose("data=toy_digits", "data.train.digits=mnist", "data.resolution=32")
    assert config.data.val.digits == config.data.test.digits == "mnist"
    config.data.train.digits = "drawn"
    assert build(config.data).batch("val", [0, 1]).image.shape == (2, 3, 32, 32)


def test_published_lists_are_disjoint(splits: Path) -> None:
    pairs = {name: read_pairs(splits / name) for name in PUBLISHED if "redo" in name}
    cub = [number for number, _ in pairs.pop("redo/cub/train_val_test_split.txt")]
    assert len(set(cub)) == len(cub) == 11788
    names = [name for part in pairs.values() for _, name in part]
    assert len(set(names)) == len(names) == 13233


def test_f35_overlap_is_refused(tmp_path: Path) -> None:
    cub = write_cub(tmp_path / "cub", 12)
    with (cub / "train_val_test_split.txt").open("a") as file:
        file.write("1 2\n")
    with pytest.raises(DataError, match="1 pictures are in more than one split: 1;"):
        CUB(str(cub), "train")
    lfw = write_lfw(tmp_path / "lfw", 4)
    (lfw / "test.txt").write_text((lfw / "val.txt").read_text())
    with pytest.raises(DataError, match="4 pictures are in more than one split: Some_val_0_0001"):
        LFW(str(lfw), "val")
    refuse_overlap("nothing shared", [])


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (b"1 0\njunk\n", "1 lines are not so: junk"),
        (b"", "is empty"),
        (b"\xff\xfe\x00", "cannot be read as text"),
    ],
)
def test_f35_damaged_list_is_refused(tmp_path: Path, content: bytes, fragment: str) -> None:
    cub = write_cub(tmp_path / "cub", 12)
    (cub / "train_val_test_split.txt").write_bytes(content)
    with pytest.raises(DataError, match=fragment):
        CUB(str(cub), "train")


def test_damaged_matlab_files_are_refused(tmp_path: Path) -> None:
    root = write_flowers(tmp_path / "flowers", 4)
    ids, labels = root / "setid.mat", root / "imagelabels.mat"
    labels.write_bytes(ids.read_bytes())
    with pytest.raises(DataError, match=r"imagelabels\.mat is not a MATLAB file with a list"):
        Flowers(str(root), "train")
    for content in (b"garbage" * 50, b""):
        ids.write_bytes(content)
        with pytest.raises(DataError, match=r"setid\.mat is not a MATLAB file with a list `tstid`"):
            Flowers(str(root), "train")
