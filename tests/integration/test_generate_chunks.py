"""`generate` of a method with noise: equal files however they are written, or none at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from PIL import Image

from faults import build_tiny
from figureground.cli import generate as command
from figureground.cli.generate import generate
from figureground.cli.manifests import read_rows
from figureground.cli.picking import find_best
from figureground.core.checkpoint import VerifiedCheckpointIO, load_method
from figureground.core.errors import ConfigError, NumericalError, UserError
from figureground.core.types import Layers
from figureground.data.chunks import CHUNK, draw_chunk
from figureground.data.drawn_pictures import PictureReader
from figureground.data.pairs import LivePairs
from figureground.data.shards import ShardReader
from figureground.generators.toy import ToyGenerator
from figureground.viz.grids import to_uint8

Compose = Callable[..., DictConfig]


@pytest.fixture
def write(compose: Compose, tmp_path: Path) -> Callable[..., Path]:
    """Call `generate` with a tiny method; return the folder."""

    def call(name: str, folder: str, *more: str) -> Path:
        file = tmp_path / f"{name}.ckpt"
        if not file.exists():
            torch.manual_seed(0)
            method, _ = build_tiny(name)
            for key, value in method.state_dict().items():
                if key.endswith("noise_strength"):
                    value.fill_(0.5)
            checkpoint = {"state_dict": method.state_dict()}
            method.on_save_checkpoint(checkpoint)
            VerifiedCheckpointIO().save_checkpoint(checkpoint, file)
        options = [f"ckpt={file}", f"output={tmp_path / folder}", "device=cpu", *more]
        generate(compose(*options, config_name="generate"))
        return tmp_path / folder

    return call


def test_files_are_equal_whatever_they_are_written_in(write: Callable[..., Path]) -> None:
    few, many = (
        ShardReader(write("ilsgan", f"by{size}", "count=20", "format=shards", f"shard_size={size}"))
        for size in (7, 20)
    )
    for index in range(20):
        for part in ("image", "mask", "layers"):
            assert few.read(index, part).tobytes() == many.read(index, part).tobytes()
    folder = write("ilsgan", "png", "count=18")
    names = ("images/000003.png", "images/000017.png", "layers/000017_1.png")
    before = {name: (folder / name).read_bytes() for name in names}
    for name in names[:2]:
        (folder / name).unlink()
    write("ilsgan", "png", "count=18")
    assert before == {name: (folder / name).read_bytes() for name in names}


@pytest.mark.parametrize("name", ["gan", "ilsgan", "l2ic"])
def test_half_precision_draws_nearly_the_same_and_is_noted(
    write: Callable[..., Path], name: str
) -> None:
    folders = [
        write(name, precision, "count=2", f"precision={precision}")
        for precision in ("32-true", "bf16-mixed")
    ]
    full, half = (
        np.asarray(Image.open(folder / "images/000001.png"), dtype=np.float32) for folder in folders
    )
    assert 0 < np.abs(full - half).mean() < 4  # Of 255.
    full_row, half_row = (read_rows(folder)[1] for folder in folders)
    assert half_row == {**full_row, "precision": "bf16-mixed"}
    with pytest.raises(UserError, match="samples of other options"):
        write(name, "32-true", "count=2", "precision=bf16-mixed")


def test_half_precision_of_pairs_is_noted(write: Callable[..., Path]) -> None:
    options = ["count=2", "format=shards"]
    half = write("ilsgan", "half", "precision=bf16-mixed", *options)
    assert json.loads((half / "pairs.json").read_text())["precision"] == "bf16-mixed"
    with pytest.raises(UserError, match="other"):
        write("ilsgan", "half", *options)


def test_live_pairs_are_drawn_in_half_precision_too(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    write("ilsgan", "first", "count=1")
    full, half = (
        LivePairs(str(tmp_path / "ilsgan.ckpt"), precision=precision).draw(4, 0, 7).composite
        for precision in ("32-true", "bf16-mixed")
    )
    assert full.dtype == half.dtype == torch.float32
    assert 0 < (full - half).abs().mean() < 0.05


def test_colours_that_are_not_finite_are_reported(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, compose: Compose, tmp_path: Path
) -> None:
    write("ilsgan", "first", "count=1")
    drawer = type(build_tiny("ilsgan")[0])
    lost = Layers(torch.full((CHUNK, 1, 3, 4, 4), torch.nan), torch.ones(CHUNK, 1, 1, 4, 4))
    for name in ("sample", "sample_with"):
        monkeypatch.setattr(drawer, name, lambda *_, **__: lost)
    for kind in ("png", "shards"):
        with pytest.raises(NumericalError, match="pictures 0 to 15 have colours that are not"):
            write("ilsgan", "out", "count=2", f"format={kind}", "precision=16-mixed")
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(ToyGenerator, "paint", lambda *_: torch.full((1, 3, 32, 32), torch.nan))
    options = ["generator=toy", "device=cpu", f"output={tmp_path / 'out'}"]
    for more, name in (("count=2", "samples from 0 on"), ("explore=[walk]", "pictures of a view")):
        with pytest.raises(NumericalError, match=f"{name} have colours that are not finite"):
            generate(compose(*options, more, config_name="generate"))
    assert not (tmp_path / "out").exists()


def test_noise_and_truncation_are_options(write: Callable[..., Path]) -> None:
    def first(folder: str, *more: str) -> bytes:
        return (write("ilsgan", folder, "count=1", *more) / "images/000000.png").read_bytes()

    found = [first("const"), first("none", "noise=none"), first("near", "truncation=0.1")]
    found.append(first("random", "noise=random"))
    assert len(set(found)) == 4
    assert first("again", "noise=random") == found[-1]
    with pytest.raises(UserError, match="samples of other options"):
        write("ilsgan", "random", "count=1")


def test_what_is_refused_leaves_nothing_behind(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="ReDO draws without a mean picture"):
        write("redo", "out", "count=2", "noise=none")
    with pytest.raises(ConfigError, match="truncation=1.5"):
        write("redo", "out", "count=2", "truncation=1.5")
    drawer = type(build_tiny("redo")[0])

    def refuse(*_: object, **__: object) -> None:
        raise UserError("no")

    monkeypatch.setattr(drawer, "sample", refuse)
    for kind in ("png", "shards"):
        with pytest.raises(UserError, match="^no$"):
            write("redo", "out", "count=2", f"format={kind}")
    assert not (tmp_path / "out").exists()


def test_best_by_the_critic_are_kept_in_order(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write("ilsgan", "best", "count=20", "top=5")
    rows = read_rows(folder)
    method = load_method(tmp_path / "ilsgan.ckpt")
    scores, pictures = [], []
    for number in (0, 1):  # A discriminator compares what it is shown together.
        layers = draw_chunk(lambda chance: method.sample(CHUNK, generator=chance), 0, number)  # type: ignore[attr-defined]
        with torch.inference_mode():
            scores += method.score(layers.composite).tolist()  # type: ignore[attr-defined]
        pictures += [to_uint8(picture) for picture in layers.composite]
    expected = sorted(range(20), key=lambda number: -scores[number])[:5]
    assert [int(row["drawn"]) for row in rows] == expected
    for row, number in zip(rows, expected, strict=True):
        # Six digits; the last bits of a score depend on where in memory its picture lies.
        assert row["score"] == f"{float(row['score']):.6g}"
        assert float(row["score"]) == pytest.approx(scores[number], rel=1e-5)
    for row in rows:
        with Image.open(folder / row["image"]) as written:
            assert np.array_equal(np.asarray(written), pictures[int(row["drawn"])])
    assert len(PictureReader(folder)) == 5
    # What was stopped goes on without looking at all of them again.
    before = (folder / "masks/000002.png").read_bytes()
    (folder / "images/000002.png").unlink()
    monkeypatch.setattr(command, "find_best", None)
    write("ilsgan", "best", "count=20", "top=5")
    assert (folder / "masks/000002.png").read_bytes() == before
    assert read_rows(folder) == rows
    monkeypatch.undo()
    with pytest.raises(UserError, match="samples of other options"):
        write("ilsgan", "best", "count=40", "top=5")


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("dti_sprites", ("count=2", "top=1"), "DTISprites has no critic"),
        ("ilsgan", ("count=2", "top=3"), "top=3 keeps the best of the count=2 samples"),
        ("ilsgan", ("count=2", "top=1", "format=shards"), "leave out format=shards"),
        ("ilsgan", ("count=2", "top=0"), "top=0: expected a whole number"),
    ],
)
def test_best_are_refused_where_there_are_none(
    write: Callable[..., Path],
    tmp_path: Path,
    method: str,
    options: tuple[str, ...],
    message: str,
) -> None:
    with pytest.raises(UserError, match=message):
        write(method, "out", *options)
    assert not (tmp_path / "out").exists()


def test_pairs_may_be_shrunk_where_they_have_no_layers(write: Callable[..., Path]) -> None:
    for options in (("format=shards",), ("layers=false",)):
        with pytest.raises(ConfigError, match="add format=shards layers=false, or leave it out"):
            write("ilsgan", "out", "count=2", "resolution=8", *options)
    folder = write("ilsgan", "out", "count=2", "resolution=8", "format=shards", "layers=false")
    assert ShardReader(folder).read(1, "image").shape == (8, 8, 3)


def test_score_that_is_no_number_is_reported() -> None:
    class Lost:
        def score(self, image: torch.Tensor) -> torch.Tensor:
            return torch.full((len(image),), float("nan"))

    def draw(chance: torch.Generator) -> Layers:
        return Layers(torch.zeros(CHUNK, 1, 3, 4, 4), torch.ones(CHUNK, 1, 1, 4, 4))

    with pytest.raises(NumericalError, match="pictures 0 to 15 have a score"):
        find_best(Lost(), draw, seed=0, count=3, top=1, check=list)
