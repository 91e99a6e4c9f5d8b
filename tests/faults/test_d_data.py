"""Faults of the data: broken, odd, missing and changed files (F31-F39)."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from broken_pictures import bomb, empty, text, truncate
from PIL import Image

from archives import disc, picture, write_folder
from figureground.core.errors import DataError
from figureground.data.datamodule import ImageDataModule
from figureground.data.datasets.folder import Folder
from figureground.data.datasets.toy import Toy
from figureground.data.prepare import prepare
from figureground.data.reading import open_picture, read_image, read_mask, to_indices
from figureground.data.transforms import ResizeCrop


def make(root: Path, **options: object) -> ImageDataModule:
    settings: dict[str, object] = {
        "name": "mine", "resolution": 16, "batch_size": 4, "transform": ResizeCrop(16),
        "cache_dir": str(root.parent / "cache"), "train": Folder(str(root)),
        "val": Folder(str(root)),
    }  # fmt: skip
    return ImageDataModule(**{**settings, **options})  # type: ignore[arg-type]  # as given


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "mine", 24)


@pytest.mark.parametrize("breaks", [truncate, empty, text, bomb])
def test_f31_broken_picture_is_named(root: Path, breaks: Callable[[Path], None]) -> None:
    bad = sorted((root / "images").glob("*.jpg"))[3]
    breaks(bad)
    with pytest.raises(DataError, match=bad.name) as caught:
        make(root).setup("fit")
    assert "\n" not in str(caught.value)


def test_f31_directory_with_a_picture_name_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.png").mkdir()
    with pytest.raises(DataError, match="is a directory"):
        open_picture(tmp_path / "x.png")


def test_f31_prepare_lists_all_and_skip_drops_exactly_these(root: Path) -> None:
    bad = sorted((root / "images").glob("*.jpg"))[:3]
    for path, breaks in zip(bad, (truncate, empty, text), strict=True):
        breaks(path)
    with pytest.raises(DataError) as caught:
        prepare(make(root))
    assert all(path.name in str(caught.value) for path in bad)
    with pytest.raises(DataError, match="prepare found broken, but it did not run"):
        make(root, on_error="skip").setup("fit")
    reports = prepare(make(root), skip_broken=True)
    assert len(reports["train"].problems) == 3
    module = make(root, on_error="skip")
    module.setup("fit")
    keys = module.store("train").keys
    assert len(keys) == 21
    assert not {path.stem for path in bad} & set(keys)


def test_f32_training_needs_no_masks_but_scoring_does(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gone = sorted((root / "masks").rglob("*.png"))[:12]
    for path in gone:
        path.unlink()
    (root / "masks" / "stranger.png").write_bytes(b"")
    module = make(root)
    next(iter(module.train_dataloader()))
    with pytest.raises(DataError, match="12 of 24 val pictures have no mask: a/p"):
        module.val_dataloader()
    module = make(root, allow_unannotated=True, eval_batch_size=1)
    with caplog.at_level(logging.WARNING):
        batches = list(module.val_dataloader())
    assert "12 of 24" in caplog.text
    assert sum(batch.mask is not None for batch in batches) == 12


def test_f32_mask_of_another_size_is_refused(root: Path) -> None:
    mask = next((root / "masks").glob("*.png"))
    image = Image.open(mask)
    image.resize((image.width + 1, image.height)).save(mask)
    with pytest.raises(DataError, match="both must have the same size"):
        prepare(make(root))


@pytest.mark.parametrize(
    ("mode", "levels"),
    [
        ("L", (0, 1)),
        ("L", (0, 255)),
        ("1", (0, 1)),
        ("I;16", (0, 65535)),
        ("P", (0, 1)),
        ("RGB", (0, 255)),
    ],
)
def test_f33_mask_values_are_mapped(tmp_path: Path, mode: str, levels: tuple[int, int]) -> None:
    values = np.where(disc(), levels[1], levels[0])
    if mode == "I;16":
        image = Image.fromarray(values.astype(np.uint16))
    elif mode == "RGB":
        image = Image.fromarray(values.astype(np.uint8)).convert("RGB")
    elif mode == "P":
        image = Image.fromarray(values.astype(np.uint8), "L").convert("P")
        image.putdata(list(values.ravel()))
    else:
        image = Image.fromarray((values * (255 if mode == "1" else 1)).astype(np.uint8)).convert(
            mode
        )
    image.save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png"), disc())


def test_f33_soft_masks_are_cut_at_half_and_indices_kept() -> None:
    ramp = np.arange(256, dtype=np.uint8)[None]
    assert np.array_equal(to_indices(ramp), ramp > 127)
    few = np.array([[0, 1, 2, 5]], np.uint8)
    assert np.array_equal(to_indices(few), few)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.uint8([0, 100]), [0, 1]),
        (np.uint8([0, 255]), [0, 1]),
        (np.uint8([255]), [1]),
        (np.uint16([0, 1000]), [0, 1]),
        (np.uint16([0, 300, 65535]), [0, 0, 1]),
        (np.int32([0, 2, 90]), [0, 2, 90]),
        (np.float32([0, 0.5]), [0, 1]),
        (np.arange(71, dtype=np.uint8), range(71)),
        (np.uint8([0, 5, 130, 250]), [0, 0, 1, 1]),  # As JPEG leaves them.
    ],
)
def test_f33_levels_become_indices(values: np.ndarray, expected: list[int]) -> None:
    assert to_indices(values[None]).tolist() == [list(expected)]


@pytest.mark.parametrize(
    "values",
    [
        np.arange(150, dtype=np.uint8),
        np.arange(300, dtype=np.uint16),
        np.uint16([0, 7, 255]),  # White of another type.
        np.int32([-1, 0, 1]),
        np.float32([0, 0.2, 1]),
    ],
)
def test_f33_unclear_levels_are_refused(values: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"m\.png has \d+ values from .* save it with 0 = back"):
        to_indices(values[None], "m.png")


@pytest.mark.parametrize("through", ["L", "RGB"])
def test_f33_grey_mask_saved_with_a_palette_is_binary(tmp_path: Path, through: str) -> None:
    grey = Image.fromarray(np.where(disc(), 255, 0).astype(np.uint8))
    grey.convert(through).convert("P").save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png"), disc())


def write_palette(path: Path, indices: list[int], colors: dict[int, tuple[int, int, int]]) -> Path:
    image = Image.fromarray(np.uint8([indices]), "P")
    palette = np.zeros((256, 3), np.uint8)
    for index, color in colors.items():
        palette[index] = color
    image.putpalette(palette.tobytes())
    image.save(path)
    return path


def test_f33_palette_indices_are_kept_unless_unclear(tmp_path: Path) -> None:
    red, green, white = (255, 0, 0), (0, 255, 0), (255, 255, 255)
    path = tmp_path / "m.png"
    labels = write_palette(path, [0, 1, 200], {1: red, 200: green})
    assert read_mask(labels).tolist() == [[0, 1, 200]]
    assert read_mask(write_palette(path, [0, 15], {15: red})).tolist() == [[0, 1]]
    # Programs that shrink files order the colours as they like.
    assert read_mask(write_palette(path, [7, 9], {7: white})).tolist() == [[1, 0]]
    with pytest.raises(DataError, match=r"m\.png paints index 0 grey or white"):
        read_mask(write_palette(path, [0, 1], {0: white}))
    with pytest.raises(DataError, match=r"m\.png has index 255 beside 2 others"):
        read_mask(write_palette(path, [0, 15, 255], {15: red, 255: (224, 224, 192)}))


def test_f33_coloured_mask_is_refused(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "m.png")
    with pytest.raises(DataError, match="is coloured"):
        read_mask(tmp_path / "m.png")


@pytest.mark.parametrize("level", [0, 255])
def test_f33_split_without_any_object_or_ground_is_refused(root: Path, level: int) -> None:
    for path in (root / "masks").rglob("*.png"):
        Image.new("L", Image.open(path).size, level).save(path)
    what = "full" if level else "empty"
    with pytest.raises(DataError, match=f"all 24 masks of mine train are {what}"):
        prepare(make(root))
    for cache in ("disk", "off"):
        module = make(root, cache=cache)
        next(iter(module.train_dataloader()))
        with pytest.raises(DataError, match=f"all 24 masks of mine val are {what}"):
            module.val_dataloader()


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "I;16", "1"])
def test_f34_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(np.full((5, 7), 65535, np.uint16))
    else:
        image = Image.new("RGB", (7, 5), "white").convert("L" if mode in {"LA", "1"} else "RGB")
        image = image.convert(mode)
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    image.save(path)
    pixels = read_image(path)
    assert pixels.shape == (5, 7, 3)
    assert pixels.min() > 250


@pytest.mark.parametrize(("dtype", "scale"), [(np.uint16, 257), (np.int32, 257), (np.float32, 1)])
def test_f34_pixels_are_scaled_by_type_not_by_their_neighbours(
    tmp_path: Path, dtype: type[np.generic], scale: int
) -> None:
    for brightest in (90, 255):
        values = np.array([[0, 80, brightest]]) * scale
        Image.fromarray(values.astype(dtype)).save(tmp_path / "x.tif")
        assert read_image(tmp_path / "x.tif")[0, :, 0].tolist() == [0, 80, brightest]
    Image.fromarray(np.array([[200]]).astype(dtype)).save(tmp_path / "x.tif")
    assert read_image(tmp_path / "x.tif").max() == 200 // scale


def test_f34_transparency_is_put_on_white(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "x.png")
    assert read_image(tmp_path / "x.png").min() == 255


def test_f34_exif_turns_picture_and_mask_alike(tmp_path: Path) -> None:
    for name, image in (("x.jpg", picture(0)), ("m.png", Image.fromarray(disc().astype(np.uint8)))):
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(tmp_path / name, exif=exif)
    assert read_image(tmp_path / "x.jpg").shape == (40, 30, 3)
    assert read_mask(tmp_path / "m.png", (30, 40)).shape == (40, 30)


@pytest.mark.parametrize("size", [(1, 1), (4000, 3), (3, 400)])
def test_f34_odd_sizes_are_cropped_to_squares(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, "red").save(tmp_path / "x.png")
    sample = ResizeCrop(16)(Folder(str(tmp_path))[0])
    assert sample.image.shape == (16, 16, 3)


def test_f36_file_changed_after_prepare_is_named(root: Path) -> None:
    prepare(make(root))
    changed = next((root / "images").glob("*.jpg"))
    changed.write_bytes(changed.read_bytes() + b"x")
    with pytest.raises(DataError, match=f"changed since prepare: .*{changed.name}"):
        make(root).setup("fit")
    os.utime(changed)


def test_f36_preparing_another_folder_forgets_nothing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prepare(make(Path("mine"), cache_dir=str(tmp_path / "cache")))  # The same, relative.
    prepare(make(write_folder(tmp_path / "other", 24)))
    changed = next((root / "images").glob("*.jpg"))
    changed.write_bytes(changed.read_bytes() + b"x")
    with pytest.raises(DataError, match=f"changed since prepare: .*{changed.name}"):
        make(root).setup("fit")


def test_prepare_writes_no_index_of_drawn_pictures(tmp_path: Path) -> None:
    toy = Toy("val", 6)
    prepare(
        ImageDataModule(name="toy", resolution=32, batch_size=2, val=toy, cache_dir=str(tmp_path))
    )
    assert not list(tmp_path.iterdir())


def test_f36_vanished_file_is_named(root: Path) -> None:
    module = make(root)
    prepare(module)
    again = make(root)
    next((root / "images").glob("*.jpg")).unlink()
    with pytest.raises(DataError, match="gone"):
        again.setup("fit")


def test_f37_dataset_removed_while_training_is_named(root: Path) -> None:
    module = make(root, cache="off")
    batches = iter(module.train_dataloader())
    next(batches)
    shutil.move(root, root.with_name("elsewhere"))
    with pytest.raises(DataError, match="does not exist"):
        for _ in range(4):
            next(batches)


def test_f38_prepare_writes_its_index_where_it_can(root: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    module = make(root, fallback_cache_dir=str(tmp_path / "run"))
    prepare(module)
    assert len(list((tmp_path / "run").glob("mine-index-*.json"))) == 1


def test_prepare_reports_counts_and_foreground(root: Path) -> None:
    report = prepare(make(root))["val"]
    assert (report.count, report.masks) == (24, 24)
    assert 0.1 < report.foreground < 0.6
