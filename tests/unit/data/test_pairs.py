"""Shards of drawn pairs: the same bytes however they are written, and whole or refused."""

from __future__ import annotations

import json
import math
import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import Tensor
from torch.utils.data import DataLoader

from archives import write_folder
from figureground.core import io
from figureground.core.errors import (
    DataError,
    StoppedBySignalError,
    UserError,
    WriteError,
    exit_code_of,
)
from figureground.core.passages import Passage, add
from figureground.core.types import Layers
from figureground.data.chunks import CHUNK, chunk_seed
from figureground.data.datamodule import ImageDataModule
from figureground.data.datasets.folder import Folder
from figureground.data.datasets.toy import Toy
from figureground.data.pairs import SavedPairs
from figureground.data.shard_manifest import MANIFEST, read_rates
from figureground.data.shards import ShardReader, ShardWriter
from figureground.data.transforms import ResizeCrop

SIDE = 8


def draw(chance: torch.Generator) -> Layers:
    """Pictures of two layers, a function of `chance` alone; some colours leave [-1, 1]."""
    color = torch.rand(CHUNK, 2, 3, SIDE, SIDE, generator=chance) * 3 - 1.5
    front = torch.rand(CHUNK, 1, 1, SIDE, SIDE, generator=chance)
    return Layers(color, torch.cat([1 - front, front], dim=1))


def failing(at: int, action: Callable[[], Any]) -> Callable[[torch.Generator], Layers]:
    """Draw as `draw`, but call `action` before chunk number `at` of this run."""
    calls = iter(range(10**6))

    def wrapped(chance: torch.Generator) -> Layers:
        if next(calls) == at:
            action()
        return draw(chance)

    return wrapped


def writer(folder: Path, **options: Any) -> ShardWriter:
    return ShardWriter(folder, **{"checkpoint": "c", "seed": 3, "shard_size": 4, **options})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def test_pictures_are_the_same_in_shards_of_any_size(tmp_path: Path) -> None:
    readers, count = [], 2 * CHUNK + 5
    for size in (3, CHUNK, 100):
        writer(tmp_path / str(size), shard_size=size).write(draw, count)
        readers.append(ShardReader(tmp_path / str(size)))
    assert [len(shards(tmp_path / str(size))) for size in (3, CHUNK, 100)] == [13, 3, 1]
    for index in range(count):
        for part in ("image", "mask", "layers", "seed"):
            one, *others = (reader.read(index, part) for reader in readers)
            assert all(np.array_equal(one, other) for other in others)
    first = draw(torch.Generator().manual_seed(int(readers[0].read(0, "seed"))))
    # Composed of colours as drawn, then cut.
    colors = ((first.composite[0] + 1) * 127.5 + 0.5).clamp(0, 255).to(torch.uint8)
    assert np.array_equal(readers[0].read(0, "image"), colors.permute(1, 2, 0))
    assert readers[0].read(0, "layers").shape == (2, SIDE, SIDE, 4)


def test_each_chunk_is_drawn_once(tmp_path: Path) -> None:
    seeds: list[int] = []

    def watched(chance: torch.Generator) -> Layers:
        seeds.append(chance.initial_seed())
        return draw(chance)

    writer(tmp_path, shard_size=5).write(watched, 3 * CHUNK)
    assert seeds == [chunk_seed(3, n * CHUNK) for n in range(3)]
    assert len(set(seeds)) == 3


def test_generator_that_refuses_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        writer(tmp_path / "new").write(failing(0, lambda: 1 / 0), 3)
    assert not (tmp_path / "new").exists()
    writer(tmp_path / "old").write(draw, 3)
    before = contents(tmp_path / "old")
    with pytest.raises(ZeroDivisionError):
        writer(tmp_path / "old", seed=4, overwrite=True).write(failing(0, lambda: 1 / 0), 3)
    assert contents(tmp_path / "old") == before


class Filtering:
    """Draws as `draw`, and has thrown away one candidate for each bit of the seed, or so."""

    def __init__(self) -> None:
        self.counts = {"all": Passage(0, 0), "area": Passage(0, 0)}

    def __call__(self, chance: torch.Generator) -> Layers:
        seen = CHUNK + chance.initial_seed().bit_count()
        drawn = {"all": Passage(seen, CHUNK), "area": Passage(seen, CHUNK + 1)}
        self.counts = add(self.counts, drawn)
        return draw(chance)

    def write(self, folder: Path, count: int, **options: Any) -> dict[str, Passage]:
        writer(folder, count_passed=lambda: self.counts, **options).write(self, count)
        return ShardReader(folder).accepted


def test_rates_of_acceptance_are_those_of_all_that_was_drawn(tmp_path: Path) -> None:
    drawer, count, size = Filtering(), 5 * CHUNK - 3, 2 * CHUNK + 5
    whole = drawer.write(tmp_path / "whole", count, shard_size=size)
    assert whole == drawer.counts
    assert whole["all"].passed == 5 * CHUNK < whole["all"].seen
    # In parts, by drawers that count from the start, and with a part of it drawn twice.
    Filtering().write(tmp_path / "parts", 2 * CHUNK, shard_size=size)
    shown = Filtering().write(tmp_path / "parts", count - 1, shard_size=size)
    flip(shards(tmp_path / "parts")[1])
    assert Filtering().write(tmp_path / "parts", count, shard_size=size) == shown == whole
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    assert Filtering().write(tmp_path / "small", count, shard_size=5) == whole
    listed = json.loads((tmp_path / "whole" / MANIFEST).read_text())["accepted"]
    assert listed["area"]["rate"] == pytest.approx(whole["area"].rate, abs=1e-6)
    rates = read_rates(tmp_path / "whole")
    assert rates == {"pairs/accepted": whole["all"].rate, "pairs/accepted/area": whole["area"].rate}


def test_pairs_without_filters_have_no_rates(tmp_path: Path) -> None:
    writer(tmp_path / "a").write(draw, 4)
    assert ShardReader(tmp_path / "a").accepted == {}
    assert read_rates(tmp_path / "a") == read_rates(tmp_path) == {}
    for wrong in ([1], {"all": 3}, {"all": [1, 2, 3]}, {"all": ["x", 1]}, 5):
        edit(tmp_path / "a", accepted=wrong)
        with pytest.raises(DataError, match="damaged or of another version"):
            ShardReader(tmp_path / "a")


def test_layers_can_be_left_out(tmp_path: Path) -> None:
    for layers in (True, False):
        writer(tmp_path / str(layers), layers=layers).write(draw, 4)
    one, other = (shards(tmp_path / str(layers))[0].stat().st_size for layers in (True, False))
    assert one - other >= 4 * 2 * SIDE * SIDE * 4


def draw_hard(chance: torch.Generator) -> Layers:
    """As `draw`, with hard masks of an odd width, and classes."""
    layers = draw(chance)
    alpha = layers.alpha[..., :5].round()
    return Layers(layers.color[..., :5], alpha, label=torch.arange(CHUNK) % 3)


def test_hard_masks_are_written_as_bits_and_read_as_bytes(tmp_path: Path) -> None:
    writer(tmp_path, layers=False).write(draw_hard, 6)
    with safe_open(shards(tmp_path)[0], "np") as file:
        assert file.get_slice("mask_bits").get_shape() == [4, SIDE, 1]
        assert "mask" not in file.keys()  # noqa: SIM118 - no mapping
    reader = ShardReader(tmp_path)
    layers = draw_hard(torch.Generator().manual_seed(chunk_seed(3, 0)))
    for index in range(6):
        mask = (layers.foreground[index, 0] * 255).to(torch.uint8)
        assert np.array_equal(reader.read(index, "mask"), mask)
        assert int(reader.read(index, "label")) == index % 3


def test_one_soft_mask_keeps_its_shard_in_bytes(tmp_path: Path) -> None:
    def mixed(chance: torch.Generator) -> Layers:
        layers = draw_hard(chance)
        layers.alpha[5] = 0.5
        return layers

    writer(tmp_path, layers=False).write(mixed, 8)
    found = []
    for path in shards(tmp_path):
        with safe_open(path, "np") as file:
            found.append("mask_bits" in file.keys())  # noqa: SIM118 - no mapping
    assert found == [True, False]
    reader = ShardReader(tmp_path)
    assert np.unique(reader.read(5, "mask")).tolist() == [128]
    assert set(np.unique(reader.read(6, "mask"))) == {0, 255}


def test_bits_of_another_size_are_refused(tmp_path: Path) -> None:
    writer(tmp_path, layers=False).write(draw_hard, 4)
    content = {
        "image": np.zeros((4, 8, 9, 3), np.uint8),
        "mask_bits": np.zeros((4, 8, 1), np.uint8),
    }
    save_file(content, shards(tmp_path)[0])
    edit(tmp_path, size=shards(tmp_path)[0].stat().st_size)
    with pytest.raises(DataError, match=r"mask_bits has uint8 \(8, 1\) for a picture of \(8, 9\)"):
        ShardReader(tmp_path, verify=False).read(0, "mask")


def test_pairs_of_the_format_before_are_read_and_not_gone_on_with(tmp_path: Path) -> None:
    writer(tmp_path).write(draw, 6)
    before = [ShardReader(tmp_path).read(index, "mask") for index in range(6)]
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    manifest["format"] = 1
    del manifest["resolution"]
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    reader = ShardReader(tmp_path)
    assert all(np.array_equal(reader.read(index, "mask"), before[index]) for index in range(6))
    with pytest.raises(UserError, match="another format; add overwrite=true"):
        writer(tmp_path).write(draw, 6)


def test_shrunk_pairs_are_those_that_reading_would_shrink(tmp_path: Path) -> None:
    writer(tmp_path / "large", layers=False).write(draw, 6)
    writer(tmp_path / "small", layers=False, resolution=5).write(draw, 6)
    small = ShardReader(tmp_path / "small")
    assert small.read(0, "image").shape == (5, 5, 3)
    assert small.read(0, "mask").shape == (5, 5)
    found = []
    for name in ("large", "small"):
        data = make_data(5)
        SavedPairs(str(tmp_path / name), val_share=0.2).attach(data)
        found.append([data.datasets["train"][index] for index in range(5)])
    for large, shrunk in zip(*found, strict=True):
        assert np.array_equal(large.image, shrunk.image)
        assert np.array_equal(large.soft, shrunk.soft)
    writer(tmp_path / "as drawn", layers=False, resolution=99).write(draw, 2)
    assert ShardReader(tmp_path / "as drawn").read(0, "image").shape == (SIDE, SIDE, 3)


def test_room_for_all_pairs_is_asked_for_before_they_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    each = SIDE * SIDE * 4 + 8  # Picture, mask and seed in bytes.

    class Usage:
        free = 10_000 * each

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage)
    count = 10**6
    told = rf"has 3 MB free but {count} pairs need 264 MB; .* another output="
    with pytest.raises(WriteError, match=told):
        writer(tmp_path / "new", layers=False).write(draw, count)
    assert not (tmp_path / "new").exists()
    with caplog.at_level("INFO"):
        writer(tmp_path / "few", layers=False).write(draw, 12)
    assert "12 pairs of 0.3 kB need 0.0 MB more, 2.6 MB are free" in caplog.text
    # What is there needs no more room.
    Usage.free = 5 * each
    writer(tmp_path / "few", layers=False).write(draw, 16)
    with pytest.raises(WriteError, match="0 MB free"):
        writer(tmp_path / "few", layers=False).write(draw, 32)
    assert len(ShardReader(tmp_path / "few")) == 16


@pytest.mark.parametrize("fault", ["signal", "crash", "full disk"])
def test_f42_writing_goes_on_at_the_first_shard_that_is_not_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    count, size = 6 * CHUNK - 5, 2 * CHUNK
    writer(tmp_path / "whole", shard_size=size).write(draw, count)
    folder = tmp_path / "parts"
    if fault == "signal":
        broken = failing(2, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(StoppedBySignalError, match="the same command goes on") as caught:
            writer(folder, shard_size=size).write(broken, count)
        assert exit_code_of(caught.value) == 143
    elif fault == "crash":
        with pytest.raises(ZeroDivisionError):
            writer(folder, shard_size=size).write(failing(5, lambda: 1 / 0), count)
    else:
        replace, calls = os.replace, iter(range(100))

        def full(*args: Any) -> None:
            if next(calls) == 3:  # After an empty list, a shard, and its entry.
                raise OSError(28, "No space left on device")
            replace(*args)

        with monkeypatch.context() as patch:
            patch.setattr(io.os, "replace", full)
            with pytest.raises(WriteError, match="free some space"):
                writer(folder, shard_size=size).write(draw, count)
    done = {path: path.stat().st_mtime_ns for path in shards(folder)}
    assert len(done) == (2 if fault == "crash" else 1)
    assert len(ShardReader(folder)) == size * len(done)
    assert not list(folder.glob("*.tmp-*"))
    writer(folder, shard_size=size).write(draw, count)
    assert contents(folder) == contents(tmp_path / "whole")
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in done.items())


def test_more_pictures_can_be_added_and_surplus_ones_go(tmp_path: Path) -> None:
    writer(tmp_path / "once").write(draw, 11)
    writer(tmp_path / "twice").write(draw, 6)
    writer(tmp_path / "twice").write(draw, 11)
    assert contents(tmp_path / "twice") == contents(tmp_path / "once")
    writer(tmp_path / "twice").write(draw, 3)
    assert len(shards(tmp_path / "twice")) == 1
    assert len(ShardReader(tmp_path / "twice")) == 3


def test_damaged_shard_is_written_anew(tmp_path: Path) -> None:
    writer(tmp_path).write(draw, 11)
    before = contents(tmp_path)
    content = bytearray(before["pairs-000001.safetensors"])
    content[-1] ^= 1
    shards(tmp_path)[1].write_bytes(content)
    writer(tmp_path).write(draw, 11)
    assert contents(tmp_path) == before


def test_pictures_of_other_settings_are_not_mixed(tmp_path: Path) -> None:
    writer(tmp_path).write(draw, 6)
    for options in (
        {"seed": 4},
        {"checkpoint": "d"},
        {"shard_size": 5},
        {"rounding": "down"},
        {"layers": False},
        {"settings": {"noise": "none"}},
    ):
        name = "noise" if "settings" in options else next(iter(options))
        with pytest.raises(UserError, match=f"another {name}; add overwrite=true"):
            writer(tmp_path, **options).write(draw, 6)
    before = contents(tmp_path)
    writer(tmp_path, seed=4, overwrite=True).write(draw, 2)
    assert len(shards(tmp_path)) == 1
    assert not set(before.values()) & set(contents(tmp_path).values())
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(UserError, match="overwrite=true"):
        writer(tmp_path).write(draw, 2)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "fragment"),
    [
        (Path.unlink, "is missing"),
        (truncate, r"has \d+ bytes, expected \d+"),
        (flip, r"is damaged \(its checksum differs"),
    ],
)
def test_damaged_shards_are_refused(
    tmp_path: Path, spoil: Callable[[Path], object], fragment: str
) -> None:
    writer(tmp_path).write(draw, 11)
    spoil(shards(tmp_path)[1])
    with pytest.raises(DataError, match=rf"pairs-000001\.safetensors {fragment}") as caught:
        SavedPairs(str(tmp_path))
    assert exit_code_of(caught.value) == 3
    assert "\n" not in str(caught.value)


def test_a_list_cut_short_is_named_and_keeps_what_is_there(tmp_path: Path) -> None:
    writer(tmp_path).write(draw, 11)
    truncate(tmp_path / MANIFEST)
    before = {path: path.read_bytes() for path in shards(tmp_path)}
    with pytest.raises(DataError, match=r"pairs\.json is damaged .*; put the folder's own back"):
        SavedPairs(str(tmp_path))
    with pytest.raises(UserError, match=r"pairs\.json is damaged .*cannot be told without it"):
        writer(tmp_path).write(draw, 11)
    assert {path: path.read_bytes() for path in shards(tmp_path)} == before
    writer(tmp_path, overwrite=True).write(draw, 11)
    assert {path: path.read_bytes() for path in shards(tmp_path)} == before


def edit(folder: Path, **changes: Any) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["shards"][0].update(changes)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_f55_f57_crafted_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no pairs\.json; expected a folder written by"):
        SavedPairs(str(tmp_path))
    crafted: list[dict[str, Any]] = [{"file": "../x.safetensors"}, {"file": "a\0b"}]
    crafted += [{"count": count} for count in ("many", 10**12, 10**30, math.inf, 0, -4)]
    for changes in crafted:
        writer(tmp_path / "a", overwrite=True).write(draw, 4)
        edit(tmp_path / "a", **changes)
        with pytest.raises(DataError, match="damaged or of another version") as caught:
            SavedPairs(str(tmp_path / "a"))
        assert "\n" not in str(caught.value)
    (tmp_path / "a" / MANIFEST).write_text("[" * 10**5)
    with pytest.raises(DataError, match="damaged or of another version"):
        SavedPairs(str(tmp_path / "a"))
    writer(tmp_path / "b").write(draw, 4)
    edit(tmp_path / "b", count=10)
    with pytest.raises(DataError, match="cannot be read at picture 9"):
        ShardReader(tmp_path / "b").read(9, "image")
    header = json.dumps({"image": {"dtype": "U8", "shape": [10**12], "data_offsets": [0, 10**12]}})
    bad = len(header).to_bytes(8, "little") + header.encode()
    shards(tmp_path / "b")[0].write_bytes(bad)
    edit(tmp_path / "b", count=4, size=len(bad))
    with pytest.raises(DataError, match="cannot be read"):
        ShardReader(tmp_path / "b", verify=False).read(0, "image")


@pytest.mark.parametrize(
    "arrays",
    [
        {"image": np.zeros((4, SIDE, SIDE, 3), np.float32)},
        {"image": np.zeros((4, SIDE, SIDE, 1), np.uint8)},
        {"image": np.zeros((4, SIDE, SIDE, 3), np.uint8), "mask": np.zeros((4, 3, 3), np.uint8)},
        {"image": np.zeros((4, SIDE), np.uint8), "mask_bits": np.zeros((4, SIDE), np.uint8)},
    ],
)
def test_shards_of_other_types_and_shapes_are_refused(
    tmp_path: Path, arrays: dict[str, Any]
) -> None:
    writer(tmp_path).write(draw, 4)
    save_file(arrays, shards(tmp_path)[0])
    edit(tmp_path, size=shards(tmp_path)[0].stat().st_size)
    with pytest.raises(DataError, match="cannot be read at picture 1"):
        ShardReader(tmp_path, verify=False).read(1, list(arrays)[-1].removesuffix("_bits"))


def make_data(resolution: int = SIDE, **options: Any) -> ImageDataModule:
    toys = {split: Toy(split, 6, resolution=resolution) for split in ("val", "test")}
    return ImageDataModule(
        name="toy", resolution=resolution, batch_size=4, seed=1, **{**toys, **options}
    )


class Learner:
    """What the data module asks of a trainer and its method."""

    learns_from_masks = True
    global_rank, world_size = 0, 1

    def __init__(self) -> None:
        self.lightning_module = self
        self.fit_loop = self.epoch_loop = self.batch_progress = self.current = self
        self.ready = 0


def batches(data: ImageDataModule, count: int) -> list[Tensor]:
    data.trainer = Learner()  # type: ignore[assignment]
    data.setup("fit")
    loader = iter(data.train_dataloader())
    found = [next(loader) for _ in range(count)]
    assert all(torch.equal(batch.mask, (batch.soft_mask >= 0.5).long()) for batch in found)
    return [batch.image for batch in found]


def test_pairs_take_the_place_of_the_training_set(tmp_path: Path) -> None:
    writer(tmp_path).write(draw, 20)
    pairs = SavedPairs(str(tmp_path), val_share=0.2)
    data = make_data()
    pairs.attach(data)
    assert len(data.datasets["train"]) == 16
    assert data.datasets["train"].keys[-1] == "pair-00000015"
    assert list(data.datasets["val_pairs"].keys[1:3]) == ["pair-00000017", "pair-00000018"]
    data.trainer = Learner()  # type: ignore[assignment]
    data.setup("fit")
    real, kept = data.val_dataloader()
    assert next(key for batch in real for key in batch.key) == "toy-val-00000"
    (batch,) = kept
    reader = ShardReader(tmp_path)
    assert batch.key[0] == "pair-00000016"
    image = torch.from_numpy(reader.read(16, "image")).permute(2, 0, 1).float() / 127.5 - 1
    torch.testing.assert_close(batch.image[0], image)
    assert torch.equal(batch.mask[0], torch.from_numpy(reader.read(16, "mask")).ge(128).long())


def test_pictures_without_masks_are_refused_or_left_out(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "mine", 10)
    for path in sorted((root / "masks").rglob("*.png"))[:4]:
        path.unlink()
    options = {"train": Folder(str(root)), "transform": ResizeCrop(SIDE), "cache": "memory"}
    data = make_data(**options)
    data.trainer = Learner()  # type: ignore[assignment]
    with pytest.raises(DataError, match="4 of 10 toy train pictures have no mask to learn from"):
        data.setup("fit")
    data = make_data(**options, allow_unannotated=True)
    data.trainer = Learner()  # type: ignore[assignment]
    assert len(data.store("train")) == 6
    assert next(iter(data.train_dataloader())).mask is not None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_workers_change_nothing(tmp_path: Path) -> None:
    writer(tmp_path).write(draw, 20)
    streams = []
    for workers in (0, 1):
        data = make_data(num_workers=workers)
        SavedPairs(str(tmp_path)).attach(data)
        streams.append(batches(data, 6))
    assert all(torch.equal(one, two) for one, two in zip(*streams, strict=True))


def test_readers_travel_to_other_processes(tmp_path: Path) -> None:
    writer(tmp_path).write(draw, 4)
    reader = ShardReader(tmp_path)
    image = reader.read(0, "image")
    assert np.array_equal(pickle.loads(pickle.dumps(reader)).read(0, "image"), image)


def test_pairs_of_another_size_are_resized(tmp_path: Path) -> None:
    writer(tmp_path).write(draw, 20)
    data = make_data(16)
    SavedPairs(str(tmp_path)).attach(data)
    (image, *_) = batches(data, 1)
    assert image.shape == (4, 3, 16, 16)


def test_too_few_pairs_are_refused(tmp_path: Path) -> None:
    writer(tmp_path).write(draw, 3)
    with pytest.raises(DataError, match="has 3 pairs, too few to keep 0.1"):
        SavedPairs(str(tmp_path))


def test_loader_of_stored_pairs_is_an_ordinary_dataset(tmp_path: Path) -> None:
    writer(tmp_path).write(draw, 20)
    data = make_data()
    SavedPairs(str(tmp_path)).attach(data)
    loader = DataLoader(data.datasets["train"], batch_size=None)
    assert sum(1 for _ in loader) == 18
