"""Files of data from anybody: no program is started, memory is bounded, what is odd is one line."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features
from scipy.io import savemat

import archives
from figureground.cli.inference import find_pictures
from figureground.core import pictures
from figureground.core.errors import DataError
from figureground.core.pictures import FORMATS, forget_other_formats, open_image
from figureground.data import matlab, reading, tfrecord
from figureground.data.datasets.cub import CUB
from figureground.data.datasets.digits import TwoDigits
from figureground.data.datasets.drc import Cars
from figureground.data.datasets.folder import Folder
from figureground.data.datasets.tetrominoes import Tetrominoes
from figureground.data.index import index_path, verify_unchanged
from figureground.data.matlab import read_matlab, read_numbers
from figureground.data.pairs import SavedPairs
from figureground.data.pictures import load_picture
from figureground.data.reading import open_picture, read_image, read_mask, to_rgb
from figureground.data.splits import read_classes
from figureground.data.tfrecord import RecordReader, masked_crc32c
from figureground.viz.animation import save_gif

LONG = "n" * 5000
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"


def refusal(action: Callable[[], object], error: type[Exception] = DataError) -> str:
    """The one line that `action` ends with."""
    with pytest.raises(error) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where each program that Pillow may start leaves its name."""
    folder, marker = tmp_path / "bin", tmp_path / "marker"
    folder.mkdir()
    for name in ("gs", "gswin32c", "gswin64c", "inkscape", "djpeg", "convert", "fig2dev"):
        (folder / name).write_text(f"#!/bin/sh\necho {name} >> {marker}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return marker


@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "eps", "webp"])
@pytest.mark.parametrize(
    "content", [EPS, b"\xc5\xd0\xd3\xc6" + struct.pack("<6LH", 32, len(EPS), *[0] * 5) + EPS]
)
def test_postscript_starts_no_program(
    tmp_path: Path, programs: Path, ending: str, content: bytes
) -> None:
    path = tmp_path / f"x.{ending}"
    path.write_bytes(content)
    for read in (open_picture, read_image, read_mask, load_picture):
        assert str(path) in refusal(lambda read=read: read(path))  # type: ignore[misc]
    with pytest.raises(OSError, match="cannot identify"), (tmp_path / "g.gif").open("wb") as file:
        save_gif([path, path], file)
    assert not programs.exists()


def test_libraries_that_open_pictures_start_none_either(
    tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.init()
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    forget_other_formats()
    (tmp_path / "x.png").write_bytes(EPS)
    (tmp_path / "x.eps").write_bytes(EPS)
    for name in ("x.png", "x.eps"):
        with pytest.raises(OSError, match="cannot identify"):
            Image.open(tmp_path / name)
    archives.picture(0).save(tmp_path / "y.png")
    assert Image.open(tmp_path / "y.png").size == (40, 30)
    assert not programs.exists()


@pytest.mark.parametrize("name", [n for n in FORMATS if n != "AVIF" or features.check("avif")])
def test_all_formats_of_the_list_are_read_whatever_their_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.png"
    archives.picture(3).save(path, name)
    assert open_image(path).size == (40, 30)
    assert read_image(path).shape == (30, 40, 3)


@pytest.mark.parametrize("name", ["ICO", "PCX", "SGI", "DDS", "MSP", "PALM", "PDF", "XBM"])
def test_other_formats_are_no_pictures(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.png"
    Image.new("1" if name in {"MSP", "XBM", "PALM"} else "RGB", (32, 32)).save(path, name)
    assert "UnidentifiedImageError" in refusal(lambda: open_picture(path))


def test_all_code_opens_pictures_by_one_function() -> None:
    package = Path(pictures.__file__).parents[1]
    users = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if any(part in path.read_text("utf-8") for part in ("Image.open(", "imread(", "read_file("))
    }
    assert users == {"core/pictures.py"}


def peak(action: Callable[[], object]) -> float:
    """Most memory that Python and NumPy held meanwhile, in bytes."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("mode", ["I;16", "I", "F", "RGBA", "LA", "P", "1", "CMYK", "L"])
def test_large_pictures_take_little_more_memory_than_what_comes_out(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = 1000
    image = Image.new(mode, (side, side))
    monkeypatch.setattr(reading, "_STRIP", 2**14)
    assert peak(lambda: to_rgb(image)) < 1.35 * 3 * side**2


@pytest.mark.parametrize("mode", ["I;16", "I", "I;16B", "F", "RGBA", "LA", "P", "1", "CMYK", "RGB"])
@pytest.mark.parametrize("strip", [1, 170, 10**6])
def test_pictures_are_the_same_in_strips(
    mode: str, strip: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).integers(0, 65536, (29, 41), dtype=np.uint16)
    if mode in {"I;16", "I;16B", "I", "F"}:
        kind = {"I;16": "<u2", "I;16B": ">u2", "I": np.int32, "F": np.float32}[mode]
        values = (noise / 200 if mode == "F" else noise).astype(kind)
        image = Image.frombytes(mode, (41, 29), values.tobytes())
        gray = (noise / (200 if mode == "F" else 257)).clip(0, 255).astype(np.uint8)
        expected = np.repeat(gray[..., None], 3, axis=2)
    else:
        image = archives.picture(1, (41, 29)).convert("RGBA")
        image.putalpha(Image.fromarray((noise % 256).astype(np.uint8)))
        image = image.convert("RGB").convert(mode) if mode in {"P", "1"} else image.convert(mode)
        ground = Image.new("RGBA", image.size, "white")
        has_alpha = mode in {"RGBA", "LA"}
        whole = Image.alpha_composite(ground, image.convert("RGBA")) if has_alpha else image
        expected = np.asarray(whole.convert("RGB"))
    monkeypatch.setattr(reading, "_STRIP", strip)
    np.testing.assert_array_equal(to_rgb(image), expected)


def test_pictures_are_turned_upright_and_others_not_copied(tmp_path: Path) -> None:
    image, exif = archives.picture(0), Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    image.save(tmp_path / "upright.png")
    np.testing.assert_array_equal(
        read_image(tmp_path / "turned.png"), np.rot90(np.asarray(image), 3)
    )
    np.testing.assert_array_equal(read_image(tmp_path / "upright.png"), np.asarray(image))


def write_record(path: Path, length: int, data: bytes, *, zipped: bool = False) -> Path:
    """A file whose first record claims `length` bytes, with right checksums."""
    head = struct.pack("<Q", length)
    content = head + struct.pack("<I", masked_crc32c(head)) + data
    path.write_bytes(gzip.compress(content) if zipped else content)
    return path


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("length", [2**64 - 1, 2**63, 2**40, tfrecord._MOST_BYTES + 1])
def test_lengths_of_records_are_refused_before_they_are_read(
    tmp_path: Path, length: int, zipped: bool
) -> None:
    path = write_record(tmp_path / "a", length, b"x" * 100, zipped=zipped)
    for read in (RecordReader.read, RecordReader.skip):
        said = refusal(lambda read=read: read(RecordReader(path)))  # type: ignore[misc]
        assert f"record 0 claims {length} bytes" in said


def test_gzipped_records_take_no_more_memory_than_one_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tfrecord, "_MOST_BYTES", 2**20)
    path = write_record(tmp_path / "a", 2**25, bytes(2**25), zipped=True)
    assert path.stat().st_size < 2**16
    assert peak(lambda: refusal(lambda: RecordReader(path).read())) < 2**20


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b"3", b"null", b"{", b"\xff\xfe", b"{}", b'{"files": {}, "broken": []}',
        b'{"files": {"a": 3}, "broken": {}}', b'{"files": {"a": {"size": "x"}}, "broken": {}}',
        b'{"files": {"a": {"size": 1, "mtime_ns": null}}, "broken": {}}', b"[" * 100_000,
        b'{"files": [], "broken": {}}', b'{"files": {"a": {"size": 1e999, "mtime_ns": 1}}}',
    ],
)  # fmt: skip
def test_odd_indices_are_one_line(tmp_path: Path, content: bytes) -> None:
    dataset = Folder(str(archives.write_folder(tmp_path / "photos", 4)), "all")
    path = index_path(tmp_path, "folder", dataset.origin())
    path.write_bytes(content)
    said = refusal(lambda: verify_unchanged(dataset, [tmp_path], "folder"))
    assert said.startswith(f"{path} is not an index that prepare wrote")
    path.write_text(json.dumps({"files": {}, "broken": {}}))
    verify_unchanged(dataset, [tmp_path], "folder")


def test_names_longer_than_any_are_one_line(tmp_path: Path) -> None:
    long = tmp_path / LONG
    assert "matches no picture" in refusal(lambda: find_pictures([str(long)]))
    assert "is not a readable picture" in refusal(lambda: open_picture(long))
    assert "is not a file" in refusal(lambda: load_picture(long))
    assert "is not a folder" in refusal(lambda: Folder(str(long)))
    refusal(lambda: SavedPairs(str(long)))
    for root in (LONG, f"{tmp_path}/{LONG}"):
        with pytest.raises(DataError, match="files are missing"):
            CUB(root, "train")
        with pytest.raises(DataError, match="files are missing"):
            Tetrominoes("train", source="files", root=root)


def bomb(path: Path, size: int) -> Path:
    """A MATLAB file whose one element unpacks to `size` zeros."""
    squeezer = zlib.compressobj(9)
    data = b"".join(squeezer.compress(bytes(2**20)) for _ in range(size >> 20)) + squeezer.flush()
    head = b"MATLAB 5.0".ljust(124) + struct.pack("<H", 0x0100) + b"IM"
    path.write_bytes(head + struct.pack("<2I", 15, len(data)) + data)
    return path


def test_matlab_files_are_not_unpacked_beyond_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matlab, "_MOST_UNPACKED", 2**22)
    path = bomb(tmp_path / "a.mat", 2**25)
    assert peak(lambda: refusal(lambda: read_matlab(path, "x", "page"))) < 2**24
    monkeypatch.undo()
    savemat(path, {"x": np.arange(1, 4), "y": np.zeros(10)}, do_compression=True)
    assert read_numbers(path, "x", "page") == [1, 2, 3]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"x", bytes(200), b"\x89HDF\r\n\x1a\n" + bytes(200), b"PK\x03\x04", EPS,
        b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400),
        b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + b"\xff" * 400,
        b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + struct.pack("<2I", 15, 9) + b"x" * 9,
    ],
)  # fmt: skip
def test_odd_matlab_and_array_files_are_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "cars_annos.mat"
    path.write_bytes(content)
    assert "is not a MATLAB file" in refusal(lambda: read_matlab(path, "annotations", "page"))
    root = tmp_path / "cars"
    archives.write_cars(root)
    (root / "data_mrcnn_test_select.npy").write_bytes(content)
    assert "is not an array" in refusal(lambda: Cars(str(root), "test"))


def test_matlab_files_are_read_as_scipy_reads_them(tmp_path: Path) -> None:
    cells = np.empty((3, 1), object)
    cells[:, 0] = ["a/b.jpg", np.array([[7]]), "größe"]
    fields = [("name", object), ("side", object), ("more", object)]
    notes = np.array([[("a", 1, np.arange(3)), ("bc", 2.5, [])]], fields)
    content = {"row": np.arange(4)[None], "column": np.array([[1.5], [2]]), "cells": cells}
    content |= {
        "notes": notes,
        "one": notes[:, :1],
        "text": "hello",
        "rows": np.array(["ab", "cd"]),
    }
    expected = {
        "row": [0, 1, 2, 3], "column": [1.5, 2.0], "cells": ["a/b.jpg", 7, "größe"],
        "notes": [
            {"name": "a", "side": 1, "more": [0, 1, 2]}, {"name": "bc", "side": 2.5, "more": []},
        ],
        "one": [{"name": "a", "side": 1, "more": [0, 1, 2]}],
        "text": ["hello"], "rows": ["ab", "cd"],
    }  # fmt: skip
    for is_packed in (False, True):
        savemat(tmp_path / "a.mat", content, do_compression=is_packed)
        for name, values in expected.items():
            assert read_matlab(tmp_path / "a.mat", name, "page") == values
    assert "`absent` (KeyError)" in refusal(lambda: read_matlab(tmp_path / "a.mat", "absent", "p"))


def test_damaged_matlab_files_never_end_the_process(tmp_path: Path) -> None:
    archives.write_stanford_cars(tmp_path, (2, 1))
    path = tmp_path / "cars_annos.mat"
    content, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(content)
        for place in rng.integers(120, len(content), rng.integers(1, 6)):
            damaged[place] = rng.choice([0, 1, 14, 127, 128, 255])
        path.write_bytes(damaged)
        with contextlib.suppress(DataError):
            assert read_matlab(path, "annotations", "page")
    entry = struct.pack("<2I", 14, 56) + struct.pack("<2I", 6, 8) + struct.pack("<2I", 1, 0)
    for length in (2**31 - 1, -1):  # Cells without end, and fewer than none.
        shape = struct.pack("<2I", 5, 8) + struct.pack("<2i", length, 1)
        body = entry + shape + struct.pack("<2I", 1, 1) + b"x".ljust(8, b"\0")
        path.write_bytes(b"MATLAB 5.0".ljust(124) + b"\x00\x01IM" + body.ljust(64, b"\0"))
        assert "(ValueError)" in refusal(lambda: read_matlab(path, "x", "page"))


def test_numbers_that_are_none_are_one_line(tmp_path: Path) -> None:
    for values in ([np.inf], [np.nan], [1e400], ["a"]):
        savemat(tmp_path / "a.mat", {"x": np.array(values)})
        refusal(lambda: read_numbers(tmp_path / "a.mat", "x", "page"))
    (tmp_path / "list.txt").write_text(f"a {'9' * 5000}\n")
    assert "found '9999" in refusal(lambda: read_classes(tmp_path / "list.txt"))
    root = archives.write_cub(tmp_path / "cub", 9)
    (root / "bounding_boxes.txt").write_text("1 inf 1 1 1\n")
    assert "found `1 inf" in refusal(lambda: CUB(str(root), "train", crop="box"))
    (root / "images.txt").write_text("1 Bird/a.jpg\n")
    assert "names 'Bird/a.jpg'" in refusal(lambda: CUB(str(root), "train"))


def test_arrays_that_claim_more_than_there_is_are_one_line(tmp_path: Path) -> None:
    root = tmp_path / "cars"
    archives.write_cars(root)
    path = root / "data_mrcnn_test_select.npy"
    for shape in ("(1000000000000000,)", "(-1,)", "(" * 200):
        head = f"{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}}}".ljust(245) + "\n"
        path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode())
        assert "is not an array" in refusal(lambda: Cars(str(root), "test"))
    for text in ("a\ud800", "\U0010ffff"):
        head = (
            f"{{'descr': '<U{len(text)}', 'fortran_order': False, 'shape': (1,)}}".ljust(117) + "\n"
        )
        letters = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").copy()
        letters[letters == 0x10FFFF] += 1
        path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode())
        path.write_bytes(path.read_bytes() + letters.tobytes())
        assert "is not an array" in refusal(lambda: Cars(str(root), "test"))
    np.savez(root / "x.npz", np.arange(3))
    (root / "x.npz").rename(path)
    refusal(lambda: Cars(str(root), "test"))


@pytest.mark.parametrize("content", [b"", b"\0\0\x08\x03", b"\0\0\x08\x01" + bytes(50), b"x" * 99])
def test_odd_digits_are_one_line(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "MNIST/raw"
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (folder / f"{part}-{kind}-ubyte").write_bytes(content)
    said = refusal(lambda: TwoDigits("train", digits="mnist", root=str(tmp_path)))
    assert said.startswith(f"MNIST is not at {tmp_path}")


def test_a_number_far_beyond_the_others_takes_no_time(tmp_path: Path) -> None:
    for part in ("images", "masks", "sem_masks"):
        (tmp_path / part).mkdir()
        for number in (0, 10**15):
            (tmp_path / part / f"{number}.png").touch()
    with pytest.raises(DataError, match=r"images/1\.png"):
        Tetrominoes("train", source="files", root=str(tmp_path))
