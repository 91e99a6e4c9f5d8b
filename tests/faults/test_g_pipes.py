"""No reader waits for a pipe or reads a device without end that stands in the place of a file."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType

import pytest
from omegaconf import OmegaConf

from faults import build_tiny
from figureground import load_generator
from figureground.callbacks.loggers import CsvLogger
from figureground.cli import check, edit, manifests, partial_scores, records, references, summaries
from figureground.cli.generate import _digest
from figureground.cli.sweep_table import _read_overrides, _read_run
from figureground.core import places
from figureground.core.checkpoint import VerifiedCheckpointIO, load_method, read_checkpoint
from figureground.core.errors import FiguregroundError
from figureground.core.manifest import claimed_iteration, find_damage
from figureground.core.presence import open_file, read_binary, require_file
from figureground.core.released import read_metadata, read_released
from figureground.data import arrays, cache, drawn_pictures, index, npz_records, splits, tfrecord
from figureground.data.datasets import cub, digits, drc, voc
from figureground.data.matlab import read_matlab
from figureground.data.pairs import LivePairs, open_pairs
from figureground.data.reading import open_picture
from figureground.generators import studiogan_config
from figureground.methods.gan_segmenter.latents import LatentSource
from figureground.methods.ilsgan.convert import convert_checkpoint
from figureground.metrics import features

_Read = Callable[[Path], object]

#: Names of files, and readers of the folders they are in, that end in one line.
REFUSED: dict[str, tuple[str, _Read]] = {
    "list": ("x.txt", lambda folder: splits.read_pairs(folder / "x.txt")),
    "classes": ("x.txt", lambda folder: splits.read_classes(folder / "x.txt")),
    "published list": ("x.txt", lambda folder: splits.check_published(folder / "x.txt", "x")),
    "files": ("x.jpg", lambda folder: splits.check_files("x", [folder / "x.jpg"], "", "")),
    "voc": ("x.txt", lambda folder: voc._read_names(folder / "x.txt")),
    "boxes": ("x.txt", lambda folder: cub._read_boxes(folder / "x.txt", ["1"])),
    "tokens": ("x.npy", lambda folder: drc._read_tokens(folder / "x.npy")),
    "matlab": ("x.mat", lambda folder: read_matlab(folder / "x.mat", "list", "the page")),
    "records": ("x", lambda folder: tfrecord.RecordReader(folder / "x")),
    "record": ("0.npz", lambda folder: npz_records.NpzRecord(folder / "0.npz").read_bytes("x")),
    "digits": (
        "MNIST/raw/train-images-idx3-ubyte",
        lambda folder: digits.TwoDigits("train", digits="mnist", root=str(folder)),
    ),
    "arrays": (arrays.MANIFEST, lambda folder: arrays.write_arrays(folder, None, {}, 1)),
    "index": ("x.json", lambda folder: index._parse(folder / "x.json", "x")),
    "pairs": ("pairs.json", partial(open_pairs, verify=True)),
    "drawn": ("manifest.csv", drawn_pictures.PictureReader),
    "live": ("x.ckpt", lambda folder: LivePairs(str(folder / "x.ckpt"))),
    "picture": ("x.png", lambda folder: open_picture(folder / "x.png")),
    "latents": ("x.npy", lambda folder: LatentSource(str(folder / "x.npy"))),
    "checkpoint": ("x.ckpt", lambda folder: read_checkpoint(folder / "x.ckpt")),
    "method": ("x.ckpt", lambda folder: load_method(folder / "x.ckpt")),
    "resume": (
        "x.ckpt",
        lambda folder: VerifiedCheckpointIO(resumes=True).load_checkpoint(folder / "x.ckpt"),
    ),
    "generator": ("x.pth", lambda folder: load_generator(str(folder / "x.pth"))),
    "released": ("x.pth", lambda folder: read_released(folder / "x.pth")),
    "snapshot": ("x.pkl", lambda folder: convert_checkpoint(folder / "x.pkl")),
    "studiogan": ("x.json", lambda folder: studiogan_config.check_config(folder, {})),
    "weights": ("x.pth", lambda folder: features.read_weights(str(folder / "x.pth"))),
    "digest": ("x.pth", lambda folder: features._hash_file(str(folder / "x.pth"))),
    "samples": ("x.ckpt", lambda folder: _digest(str(folder / "x.ckpt"))),
    "options": ("config.json", lambda folder: check._read_options(folder / "config.json")),
    "manifest": ("manifest.csv", manifests.read_rows),
    "step": ("step.json", records.Record.read),
    "scored": ("metrics.json", lambda folder: references._read_scored(folder / "metrics.json")),
    "edits": (
        "x.json",
        lambda folder: edit._read(OmegaConf.create({"edits": str(folder / "x.json")})),
    ),
}
#: The same of files that may as well be missing, and what is read then.
LEFT_OUT: dict[str, tuple[str, _Read, object]] = {
    "manifest": ("x.ckpt.json", lambda folder: claimed_iteration(folder / "x.ckpt"), -1),
    "metadata": ("x.pth", lambda folder: read_metadata(folder / "x.pth"), {}),
    "places": ("config.json", lambda folder: places._read_options(folder / "x.ckpt"), None),
    "scores": ("metrics.json", lambda folder: records.read_scores(folder / "metrics.json"), {}),
    "summary": ("config.json", lambda folder: summaries._read(folder / "config.json"), {}),
    "partial": (partial_scores._NAME, lambda folder: _read_partial(folder), {}),
    "overrides": ("x.yaml", lambda folder: _read_overrides(folder / "x.yaml"), None),
    "run": ("metrics.json", lambda folder: _read_run(folder / "metrics.json"), None),
    "log": ("metrics.csv", lambda folder: _read_log(folder), {}),
}


def _read_partial(folder: Path) -> object:
    return partial_scores.PartialScores(folder, {}).found


def _read_log(folder: Path) -> object:
    log = CsvLogger(str(folder))
    log._load(3)
    return log._rows


@pytest.fixture(autouse=True)
def _guard() -> Iterator[None]:
    """End a test that waits, or fills the memory."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise AssertionError("the reader waits")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 5)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def put(kind: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        monkeypatch.chdir(path.parent)  # Addresses are short.
        with socket.socket(socket.AF_UNIX) as found:
            found.bind(path.name)


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
@pytest.mark.parametrize("name", REFUSED)
def test_g_what_is_no_file_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str
) -> None:
    file, read = REFUSED[name]
    put(kind, tmp_path / file, monkeypatch)
    with pytest.raises(FiguregroundError) as caught:
        read(tmp_path)
    assert caught.value.exit_code in {2, 3}
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
@pytest.mark.parametrize("name", LEFT_OUT)
def test_g_what_is_no_file_counts_as_missing_where_one_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str
) -> None:
    file, read, expected = LEFT_OUT[name]
    put(kind, tmp_path / file, monkeypatch)
    assert read(tmp_path) == expected


@pytest.mark.parametrize("part", ["header.json", "images.npy"])
def test_g_a_cache_with_a_pipe_is_built_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, part: str
) -> None:
    dataset = build_tiny("redo")[1].datasets["train"]
    (tmp_path / "header.json").write_text(json.dumps(cache._header(len(dataset), 32)))
    (tmp_path / part).unlink(missing_ok=True)
    os.mkfifo(tmp_path / part)
    assert cache._open(tmp_path, dataset, 32) is None
    assert f"{part} is a pipe; expected a file" in caplog.text


@pytest.mark.parametrize("part", arrays.PARTS)
def test_g_an_array_that_is_a_pipe_is_one_line(tmp_path: Path, part: str) -> None:
    (tmp_path / arrays.MANIFEST).write_text('{"count": 1}')
    for each in arrays.PARTS:
        (tmp_path / f"{each}.npy").write_bytes(b"")
    (tmp_path / f"{part}.npy").unlink()
    os.mkfifo(tmp_path / f"{part}.npy")
    with pytest.raises(FiguregroundError, match="is a pipe; expected a file"):
        arrays.open_arrays(tmp_path)


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_g_what_stands_in_the_place_of_a_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    put(kind, tmp_path / "x", monkeypatch)
    for read in (open_file, read_binary, require_file):
        with pytest.raises(FiguregroundError) as caught:
            read(tmp_path / "x")
        assert str(caught.value).startswith(f"{tmp_path / 'x'} is a {kind}; expected a file")
        assert isinstance(caught.value, OSError)
    assert find_damage(tmp_path / "x") == "is no file"


def test_g_a_file_with_holes_is_not_read_into_memory(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(FiguregroundError, match="is larger than 268435456 bytes"):
        read_binary(tmp_path / "x")
    (tmp_path / "y").write_bytes(b"\xc3\xa4\r\n")
    (tmp_path / "link").symlink_to("y")
    assert read_binary(tmp_path / "link", 4) == b"\xc3\xa4\r\n"
    with pytest.raises(FiguregroundError, match="is larger than 3 bytes"):
        read_binary(tmp_path / "link", 3)


def test_g_what_the_system_shows_as_a_file_is_none() -> None:
    with pytest.raises(FiguregroundError, match="goes on beyond its size"):
        read_binary("/proc/self/environ")
