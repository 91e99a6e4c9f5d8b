"""Nothing is written through links: run directories, results, locks and temporary files."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from figureground.core import io
from figureground.core.errors import UserError, WriteError
from figureground.core.io import RunLock, atomic_write, remove_stale, temporary_beside
from figureground.core.links import refuse_linked_folders, refuse_links
from figureground.core.manifest import keep


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file elsewhere that must stay as it is."""
    path = tmp_path / "elsewhere" / "victim.txt"
    path.parent.mkdir()
    path.write_text("precious")
    return path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory as somebody sends it."""
    folder = tmp_path / "run"
    for place in ("checkpoints/last.ckpt", ".hydra/config.yaml", "csv/metrics.csv", "train.log"):
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(place)
    return folder


@pytest.mark.parametrize(
    "place",
    [
        *("checkpoints/run.lock", ".hydra/overrides.yaml", "cli.log", "card.md", "a/b/c/d.png"),
        *("wandb/other", "wandb/latest-run", "tensorboard", "images", "cache/toy-1/images.npy"),
        "wandb/run-1/logs/debug-core.log",
    ],
)
@pytest.mark.parametrize("target", ["victim", "folder", "nothing", "inside"])
def test_a_link_at_any_depth_of_a_run_is_refused_by_name(
    run: Path, victim: Path, place: str, target: str
) -> None:
    refuse_links(run)
    targets = {"victim": victim, "folder": victim.parent, "nothing": run / "absent"}
    (run / place).parent.mkdir(parents=True, exist_ok=True)
    (run / place).symlink_to(targets.get(target, run / "train.log"))
    with pytest.raises(UserError, match="is a link") as caught:
        refuse_links(run)
    assert str(run / place) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_second_names_of_what_is_written_in_place_are_parted_and_pipes_refused(
    run: Path, victim: Path
) -> None:
    os.link(run / "checkpoints/last.ckpt", run / "checkpoints/previous.ckpt")  # As we make them.
    refuse_links(run)
    for place in ("cli.log", ".hydra/hydra.yaml", "checkpoints/run.lock"):
        os.link(victim, run / place)
        refuse_links(run)
        assert (run / place).read_bytes() == victim.read_bytes()
        assert not (run / place).samefile(victim)
        assert victim.stat().st_nlink == 1
        (run / place).unlink()
    assert (run / "checkpoints/last.ckpt").stat().st_nlink == 2
    os.link(victim, run / "cli.log")
    (run / "z").symlink_to(victim)
    with pytest.raises(UserError, match="z is a link"):
        refuse_links(run)
    assert (run / "cli.log").samefile(victim)  # Nothing is written where there is a link.
    (run / "z").unlink()
    (run / "cli.log").unlink()
    os.mkfifo(run / "cli.log")
    with pytest.raises(UserError, match=r"cli\.log is no regular file"):
        refuse_links(run)


def test_links_to_the_run_and_those_that_are_ours_are_fine(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outputs").symlink_to(run.parent, target_is_directory=True)
    (tmp_path / "latest").symlink_to("outputs/run", target_is_directory=True)
    for job in (run, run / "01-train"):
        folder = job / "wandb/run-1/logs"
        folder.mkdir(parents=True)
        (folder / "debug.log").write_text("x")
        (folder / "debug-core.log").symlink_to(tmp_path / "wandb/logs/core-debug-2026_07.log")
        (job / "wandb/latest-run").symlink_to("run-1")
        (job / "wandb/debug.log").symlink_to("run-1/logs/debug.log")
        (job / "wandb/debug-internal.log.123").symlink_to("run-1/logs/later.log")
    monkeypatch.chdir(run)
    (run / "outputs").mkdir()
    (run / "outputs/latest").symlink_to("..")
    for folder in (run, tmp_path / "latest", tmp_path / "outputs/run", tmp_path / "absent"):
        refuse_links(folder)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="outputs/latest is a link"):
        refuse_links(run)  # It was made by somebody else.


def test_results_go_to_any_folder_but_not_through_links_below_it(
    tmp_path: Path, victim: Path
) -> None:
    output = tmp_path / "pictures"
    output.mkdir()
    (output / "data").symlink_to(victim.parent)  # Not looked at: nothing is written there.
    refuse_linked_folders(output, ["a/b", ".", "c"], "output")
    for place in ("a", "a/b", "c/d"):
        path = output / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(victim.parent)
        with pytest.raises(UserError, match=f"{path} is a link.*another output="):
            refuse_linked_folders(output, ["a/b", "c"], "output")
        path.unlink()
    link = tmp_path / "linked"
    link.symlink_to(output)
    refuse_linked_folders(link, ["a/b", "c"], "output")


@pytest.mark.parametrize("mode", ["w", "wb"])
def test_temporary_names_cannot_be_planted(
    tmp_path: Path, victim: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "metrics.json"
    path.with_name(f"{path.name}.tmp-{os.getpid()}").symlink_to(victim)
    with atomic_write(path, mode) as file:  # type: ignore[call-overload]
        file.write("x" if mode == "w" else b"x")
    assert path.read_text() == "x"
    assert temporary_beside(path) != temporary_beside(path)
    # Even one that is known is not followed.
    monkeypatch.setattr(io, "secrets", SimpleNamespace(token_hex=lambda count: "0" * 2 * count))
    planted = temporary_beside(path)
    planted.symlink_to(victim)
    with pytest.raises(WriteError, match="cannot write"), atomic_write(path):
        pass
    assert victim.read_text() == "precious"
    assert path.read_text() == "x"


def test_what_is_written_replaces_a_link_and_leaves_what_it_points_to(
    tmp_path: Path, victim: Path
) -> None:
    path = tmp_path / "card.md"
    path.symlink_to(victim)
    with atomic_write(path, "w") as file:
        file.write("new")
    assert (path.read_text(), path.is_symlink(), victim.read_text()) == ("new", False, "precious")


def test_temporary_names_fit_and_name_their_owner(tmp_path: Path) -> None:
    path = tmp_path / ("ä" * 120)
    with atomic_write(path, "w") as file:
        file.write("x")
        assert Path(file.name).name.endswith(f"-{os.getpid()}")
    assert path.read_text() == "x"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    stale = tmp_path / f"a.tmp-{secrets.token_hex(8)}-{dead.pid}"
    stale.touch()
    os.utime(stale, (0, 0))
    assert remove_stale(tmp_path) == [stale]


@pytest.mark.parametrize("can_link", [True, False])
def test_second_names_of_checkpoints_are_not_written_through_links(
    tmp_path: Path, victim: Path, can_link: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    last, previous = tmp_path / "last.ckpt", tmp_path / "previous.ckpt"
    last.write_bytes(b"weights")
    previous.symlink_to(victim)
    previous.with_name(f"{previous.name}.tmp-{os.getpid()}").symlink_to(victim)
    if not can_link:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("none here")))
    keep(last, previous)
    assert (previous.read_bytes(), previous.is_symlink()) == (b"weights", False)
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("kind", ["link", "dangling", "hard", "pipe"])
def test_the_lock_of_a_run_is_never_something_elsewhere(
    tmp_path: Path, victim: Path, kind: str
) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    path = folder / "run.lock"
    if kind == "hard":
        os.link(victim, path)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(victim if kind == "link" else tmp_path / "absent")
    with RunLock(folder) as lock:
        assert lock.path.read_text().startswith(f"{os.getpid()} ")
        assert not lock.path.is_symlink()
    assert victim.read_text() == "precious"
    assert not (tmp_path / "absent").exists()
    assert not path.exists()


def test_a_folder_in_the_place_of_the_lock_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "run.lock").mkdir()
    with pytest.raises(WriteError, match=r"cannot write .*run\.lock"):
        RunLock(tmp_path).acquire()
