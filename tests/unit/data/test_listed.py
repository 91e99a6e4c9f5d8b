"""What lists of datasets name is read below their folder, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

import archives
from figureground.core.errors import DataError
from figureground.data.datasets.cub import CUB
from figureground.data.datasets.drc import Cars, Dogs
from figureground.data.datasets.flowers import Flowers
from figureground.data.datasets.lfw import LFW
from figureground.data.datasets.stanford import StanfordCars, StanfordDogs
from figureground.data.datasets.voc import VOC
from figureground.data.drawn_pictures import PictureReader
from figureground.data.listed import require_inside
from figureground.data.samples import ImageDataset

Open = Callable[[Path], ImageDataset]

#: Of each set: writes it, opens it, its list, and one of its files.
SETS: dict[str, tuple[Callable[[Path], object], Open, str, str]] = {
    "cub": (
        archives.write_cub, lambda root: CUB(str(root), "train"), "images.txt",
        "images/001.Bird_0/Bird_0000.jpg",
    ),
    "lfw": (
        archives.write_lfw, lambda root: LFW(str(root), "val"), "val.txt",
        "lfw_funneled/Some_val_0/Some_val_0_0001.jpg",
    ),
    "voc": (
        archives.write_voc, lambda root: VOC(str(root), "train"),
        "ImageSets/Segmentation/train.txt", "SegmentationClass/2007_000001.png",
    ),
    "stanford_dogs": (
        archives.write_stanford_dogs, lambda root: StanfordDogs(str(root), "train"),
        "train_list.mat", "Images/n01-Chihuahua/train_0.jpg",
    ),
    "stanford_cars": (
        archives.write_stanford_cars, lambda root: StanfordCars(str(root), "train"),
        "cars_annos.mat", "car_ims/000001.jpg",
    ),
    "dogs": (
        archives.write_dogs, lambda root: Dogs(str(root), "train"), "data_tr_sel.npy",
        "train_orig/orig/0_orig.png",
    ),
    "cars": (
        archives.write_cars, lambda root: Cars(str(root), "test"), "data_mrcnn_test_select.npy",
        "data_mrcnn/test/resized/00001_maskresized.png",
    ),
    "flowers": (
        archives.write_flowers, lambda root: Flowers(str(root), "train"), "setid.mat",
        "segmim/segmim_00001.jpg",
    ),
}  # fmt: skip


def refusal(action: Callable[[], object]) -> str:
    """The one line that `action` ends with."""
    with pytest.raises(DataError) as caught:
        action()
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3
    return str(caught.value)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_links_out_of_a_set_are_refused_by_list_and_entry(
    tmp_path: Path, name: str, kind: str
) -> None:
    write, open_set, list_name, file_name = SETS[name]
    root = tmp_path / "set"
    write(root)
    file = root / file_name
    moved = {"file": file, "folder": file.parent}
    target = tmp_path / "secret"
    moved[kind].rename(target)
    moved[kind].symlink_to(target, target_is_directory=target.is_dir())
    if moved[kind].is_dir() and moved[kind].parent == root:
        assert open_set(root)[0].image.ndim == 3  # As archives on several disks are put together.
        return
    said = refusal(lambda: open_set(root))
    assert said.startswith(f"{root / list_name}, ")
    assert "is behind a link that leads out of" in said
    assert ("line " in said) == (list_name.endswith(".txt"))


@pytest.mark.parametrize("name", SETS)
def test_a_set_may_itself_be_reached_through_a_link(tmp_path: Path, name: str) -> None:
    write, open_set, _, file_name = SETS[name]
    write(tmp_path / "disk")
    (tmp_path / "set").symlink_to("disk", target_is_directory=True)
    file = tmp_path / "disk" / file_name
    file.rename(file.with_name("kept"))
    file.symlink_to("kept")  # Within the set.
    assert open_set(tmp_path / "set")[0].image.ndim == 3


BAD = ["../../secret", "/etc/secret", "..", "C:/x", "a/../../b", "\\\\host\\x", "n" * 5000]


@pytest.mark.parametrize("bad", BAD)
def test_text_lists_that_lead_out_are_refused_by_line(tmp_path: Path, bad: str) -> None:
    root = archives.write_cub(tmp_path / "cub", 9)
    path = root / "images.txt"
    lines = path.read_text().splitlines()
    lines[7] = f"8 {bad}"  # Of another split than that which is opened.
    path.write_text("\n".join(lines))
    assert refusal(lambda: CUB(str(root), "train")).startswith(f"{path}, line 8: {bad[:80]!r}")
    root = archives.write_voc(tmp_path / "voc")
    path = root / "ImageSets/Segmentation/val.txt"
    path.write_text(f"2007_000004\n\n{bad}\n")
    assert refusal(lambda: VOC(str(root), "val")).startswith(f"{path}, line 3: ")
    root = archives.write_lfw(tmp_path / "lfw")
    path = root / "val.txt"
    path.write_text(f"Some_val_0 {bad}\n")
    assert refusal(lambda: LFW(str(root), "val")).startswith(f"{path}, line 1: 'Some_val_0 ")


@pytest.mark.parametrize("bad", [*BAD, "", ".", "a\0b"])
def test_arrays_that_lead_out_are_refused_by_entry(tmp_path: Path, bad: str) -> None:
    secret = tmp_path / "secret_orig.png"
    archives.picture(0).save(secret)
    root = tmp_path / "cars"
    archives.write_cars(root)
    path = root / "data_mrcnn_train_select.npy"
    # At the end of an array's text NULs are not kept.
    np.save(path, np.array(["00000", bad]))
    assert refusal(lambda: Cars(str(root), "train")).startswith(f"{path}, entry 2: ")
    root = tmp_path / "dogs"
    archives.write_stanford_dogs(root, (2, 2))
    cells = np.empty((2, 1), object)
    cells[:, 0] = ["n01-Chihuahua/train_0.jpg", bad.replace("\0", "/../") or "/"]
    savemat(root / "train_list.mat", {"file_list": cells, "labels": np.array([[1], [2]])})
    said = refusal(lambda: StanfordDogs(str(root), "train"))
    assert said.startswith(f"{root / 'train_list.mat'}, entry 2: ")


def test_pictures_elsewhere_are_not_read_even_if_they_are_there(tmp_path: Path) -> None:
    root = archives.write_stanford_cars(tmp_path / "cars") or tmp_path / "cars"
    archives.picture(1).save(tmp_path / "secret.jpg")
    fields = ["relative_im_path", "bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "test"]
    for name in (str(tmp_path / "secret.jpg"), "../secret.jpg", "car_ims/../../secret.jpg"):
        note = np.array([(name, 1, 1, 9, 9, 1, 0)], [(field, object) for field in fields])
        savemat(root / "cars_annos.mat", {"annotations": note[None]})
        said = refusal(lambda: StanfordCars(str(root), "train"))
        assert f"cars_annos.mat, entry 1: {name[:80]!r}" in said


def test_pairs_that_are_links_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "pairs"
    for place in ("images", "masks"):
        (folder / place).mkdir(parents=True)
        for number in range(2):
            Image.new("L", (4, 4), 255).save(folder / place / f"{number:06d}.png")
    (folder / "manifest.csv").write_text("index,image,mask,layers\n0,a,b,c\n1,/etc/x,..,c\n")
    assert len(PictureReader(folder)) == 2  # Names are made, not taken.
    file = folder / "masks/000001.png"
    file.rename(tmp_path / "secret.png")
    file.symlink_to(tmp_path / "secret.png")
    said = refusal(lambda: PictureReader(folder))
    assert said.startswith(f"{folder / 'manifest.csv'}, ")
    assert "leads out of" in said


def test_names_that_only_look_odd_are_fine(tmp_path: Path) -> None:
    names = ["a..b/c...jpg", "..a", "a~b", "ä" * 127, "a:b", "C:x", "x y/z", ".hidden/.x"]
    require_inside(tmp_path / "list", tmp_path, ((n, (tmp_path / n,)) for n in names))
    for name in ("ä" * 128, "a/..", "./..", "a b/../c", "..\\x"):
        with pytest.raises(DataError):
            require_inside(tmp_path / "list", tmp_path, [(name, (tmp_path / "a",))])


def test_links_in_circles_are_refused_as_missing_or_elsewhere(tmp_path: Path) -> None:
    root = tmp_path / "voc"
    archives.write_voc(root)
    file = root / "JPEGImages/2007_000000.jpg"
    file.unlink()
    file.symlink_to(file.name)
    with pytest.raises(DataError, match="2007_000000"):
        VOC(str(root), "train")
