"""ZIPs are judged by their table of contents, before anything in them is unpacked."""

from __future__ import annotations

import struct
import warnings
import zipfile
from pathlib import Path

import pytest
import torch

from figureground.core import archives, manifest, released
from figureground.core.errors import CheckpointError, UserError
from figureground.metrics.features import read_weights


@pytest.fixture(autouse=True)
def never_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading an entry is what must not happen."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("unpacked")

    monkeypatch.setattr(zipfile.ZipFile, "open", refuse)
    monkeypatch.setattr(zipfile.ZipFile, "testzip", refuse)


def write_raw(path: Path, entries: list[tuple[str, int, int, int]], body: bytes = b"") -> Path:
    """A ZIP of (name, where it lies, packed size, size), all deflated, that lists nothing else."""
    start = max(len(body), 64)
    table = b"".join(
        struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 8, 0, 0, 0, packed, size, len(name), 0,
                    0, 0, 0, 0, place) + name.encode()
        for name, place, packed, size in entries
    )  # fmt: skip
    end = struct.pack(
        "<4s4H2LH", b"PK\x05\x06", 0, 0, *[len(entries) % 65536] * 2, len(table), start, 0
    )
    path.write_bytes(body.ljust(start, b"\0") + table + end)
    return path


def refusals(path: Path) -> list[str]:
    """What each reader says of `path`."""
    said = []
    with pytest.raises(ValueError, match=r"\w") as caught:
        released.require_no_bomb(path)
    said.append(str(caught.value))
    with pytest.raises(CheckpointError) as refused:
        released.read_released(path)
    said.append(str(refused.value))
    said.append(str(manifest.find_damage(path)))
    with pytest.raises(UserError):
        read_weights(str(path))
    assert all("\n" not in each for each in said)
    return said


def test_claimed_sizes_are_looked_at_first(tmp_path: Path) -> None:
    path = write_raw(tmp_path / "a.ckpt", [("archive/data/0", 0, 10, 2**31)])
    assert all("claims to unpack to 2147483648 bytes" in said for said in refusals(path))


def test_bombs_below_the_usual_ratio_are_refused(tmp_path: Path) -> None:
    size = 2**20
    path = write_raw(tmp_path / "a.ckpt", [("a/data/0", 0, size - 99, 150 * size)], bytes(size))
    assert "claims to unpack to 157286400 bytes" in refusals(path)[0]


@pytest.mark.parametrize(
    ("entries", "what"),
    [
        ([("a", 0, 10, 10), ("b", 0, 10, 10)], "overlap"),  # The same bytes twice.
        ([("a", 0, 30, 30), ("b", 20, 5, 5)], "overlap"),  # One inside another.
        ([("a", 0, 40, 40)], "overlap"),  # Into the table of contents.
        ([("a", 0, 1, 1), ("a", 32, 1, 1)], "several entries of one name"),
    ],
)
def test_entries_that_share_bytes_or_names_are_refused(
    tmp_path: Path, entries: list[tuple[str, int, int, int]], what: str
) -> None:
    assert all(what in said for said in refusals(write_raw(tmp_path / "a.ckpt", entries)))


def test_too_many_entries_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_MOST_ENTRIES", 5)
    entries = [(f"a/data/{n}", 31 * n, 1, 1) for n in range(6)]
    path = write_raw(tmp_path / "a.ckpt", entries, bytes(31 * 6))
    assert all("it has 6 entries, expected at most 5" in said for said in refusals(path))
    monkeypatch.setattr(archives, "_MOST_TABLE", 100)
    assert "its table of contents has 324 bytes" in refusals(path)[0]


@pytest.mark.parametrize(
    ("method", "flags"), [(zipfile.ZIP_BZIP2, 0), (zipfile.ZIP_LZMA, 0), (8, 1)]
)
def test_other_ways_to_pack_and_secrets_are_refused(
    tmp_path: Path, method: int, flags: int
) -> None:
    path = write_raw(tmp_path / "a.ckpt", [("archive/data.pkl", 0, 1, 1)])
    content = bytearray(path.read_bytes())
    content[64 + 8 : 64 + 12] = struct.pack("<2H", flags, method)
    path.write_bytes(content)
    assert all("encrypted or packed in an unknown way" in said for said in refusals(path))


def test_files_of_torch_and_zips_of_them_are_fine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {f"w{n}": torch.full((3,), float(n)) for n in range(50)}
    torch.save(state, tmp_path / "w.pth")
    assert len(archives.require_sound(tmp_path / "w.pth")) >= 50
    monkeypatch.undo()
    assert manifest.find_damage(tmp_path / "w.pth") is None
    assert torch.equal(released.read_released(tmp_path / "w.pth")["w7"], state["w7"])
    with warnings.catch_warnings(action="error"):
        assert torch.equal(read_weights(str(tmp_path / "w.pth"))["w9"], state["w9"])
