"""Atomic files, stale files and the lock of a run directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from figureground.core.errors import WriteError
from figureground.core.io import RunLock, atomic_write, is_alive, remove_stale


def test_atomic_write_makes_parents_and_writes_bytes_and_text(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a" / "b.bin") as file:
        file.write(b"\x00\x01")
    with atomic_write(str(tmp_path / "größe.txt"), "w") as file:
        file.write("Größe")
    assert (tmp_path / "a" / "b.bin").read_bytes() == b"\x00\x01"
    assert (tmp_path / "größe.txt").read_text("utf-8") == "Größe"


def test_atomic_write_shows_nothing_before_its_end(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    path.write_text("old")
    with atomic_write(path, "w") as file:
        file.write("new")
        file.flush()
        assert path.read_text() == "old"
        assert Path(file.name).parent == tmp_path  # Never another file system.
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["metrics.json"]  # noqa: PTH208


def test_atomic_write_keeps_the_old_file_when_interrupted(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    path.write_text("old")

    def write_half() -> None:
        with atomic_write(path, "w") as file:
            file.write("half")
            raise KeyError

    with pytest.raises(KeyError):
        write_half()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.json"]


def test_atomic_write_syncs_before_it_renames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    with atomic_write(tmp_path / "x") as file:
        file.write(b"x")
    assert calls == ["fsync", "replace", "fsync"]


@pytest.mark.parametrize("name", ["file/below", "x" * 300])
def test_atomic_write_names_the_path_it_cannot_write(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(WriteError, match=r"cannot write .*paths\.output_dir=") as caught,
        atomic_write(tmp_path / name),
    ):
        pass
    assert caught.value.exit_code == 5


def test_remove_stale_removes_only_old_files_of_the_dead(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    assert not is_alive(dead.pid)
    names = {
        "old_dead": f"a.ckpt.tmp-{dead.pid}",
        "young_dead": f"b.ckpt.tmp-{dead.pid}",
        "old_alive": f"a.ckpt.tmp-{os.getpid()}",
        "other": "notes.tmp-1x",
    }
    for name in names.values():
        (tmp_path / name).touch()
        if name != names["young_dead"]:
            os.utime(tmp_path / name, (0, 0))
    assert remove_stale(tmp_path) == [tmp_path / names["old_dead"]]
    assert remove_stale(tmp_path / "absent") == []


def test_run_lock_is_reentrant_within_a_process_and_left_to_its_owner(tmp_path: Path) -> None:
    with RunLock(tmp_path) as lock:
        RunLock(tmp_path).acquire()
        lock.path.write_text("1 elsewhere")
    assert lock.path.exists()
    lock.path.unlink()
    lock.release()
