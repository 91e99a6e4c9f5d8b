"""Folders that somebody sent hold links: commands refuse them before anything is written (F55)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from faults import ROOT, Result, command, run

pytestmark = pytest.mark.slow

#: Where a run writes, and what a link there leads to.
PLACES = {
    "checkpoints/run.lock": "file", "checkpoints/last.ckpt.json": "file", "cli.log": "file",
    ".hydra/overrides.yaml": "file", "config.json": "file", "metrics.json": "file",
    "card.md": "file", "csv/metrics.csv": "file", "wandb_id": "file", "images": "folder",
    "tensorboard": "folder", "wandb": "folder", "debug": "folder", "cache": "folder",
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory after four iterations."""
    folder = tmp_path_factory.mktemp("trained")
    done = run(command("redo", folder / "run", "iterations=4"), cwd=folder, limit=120)
    assert done.code == 0, done.err
    return folder / "run"


def contents(folder: Path) -> dict[str, bytes | str]:
    """Every file below `folder`, and where every link leads."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path)] = str(path.readlink())
        elif path.is_file():
            found[str(path)] = path.read_bytes()
    return found


def refused(args: list[str | Path], folder: Path, *untouched: Path) -> Result:
    """Run a command that ends with one line about a link and changes nothing in `untouched`."""
    before = [contents(each) for each in untouched]
    done = run(args, cwd=folder, limit=120)
    assert done.code == 2, done.err
    assert len(done.err.strip().splitlines()) == 1
    assert "is a link" in done.err
    assert [contents(each) for each in untouched] == before
    return done


@pytest.mark.parametrize("place", PLACES)
def test_f55_resuming_refuses_a_run_with_a_link_and_leaves_all_as_it_was(
    tmp_path: Path, trained: Path, place: str
) -> None:
    folder, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    shutil.copytree(trained, folder)
    elsewhere.mkdir()
    (elsewhere / "victim").write_text("precious")
    path = folder / place
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(elsewhere / "victim" if PLACES[place] == "file" else elsewhere)
    done = refused(
        command("redo", folder, "iterations=6", "ckpt=last"), tmp_path, folder, elsewhere
    )
    assert str(path) in done.err


def test_f55_resuming_writes_nothing_where_no_checkpoint_is_whole(
    tmp_path: Path, trained: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    for path in folder.glob("checkpoints/*.ckpt"):
        path.write_bytes(b"damaged")
    before = contents(folder)
    done = run(command("redo", folder, "iterations=6", "ckpt=last"), cwd=tmp_path, limit=120)
    assert done.code == 2
    assert "nothing to resume from" in done.err
    assert contents(folder) == before


def test_f55_runs_reached_through_links_go_on(tmp_path: Path, trained: Path) -> None:
    disk = tmp_path / "disk"
    shutil.copytree(trained, disk / "train/run")
    (tmp_path / "outputs").symlink_to("disk")
    (disk / "latest").symlink_to("train/run")
    done = run(
        command("redo", Path("outputs/latest"), "iterations=6", "ckpt=last"),
        cwd=tmp_path, limit=120,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert '"iterations": 6' in (disk / "train/run/metrics.json").read_text()
    assert (disk / "latest").resolve() == (disk / "train/run").resolve()


def test_f55_sweeps_and_other_commands_refuse_linked_folders(tmp_path: Path, trained: Path) -> None:
    elsewhere, pictures = tmp_path / "elsewhere", tmp_path / "pictures/a"
    elsewhere.mkdir()
    (elsewhere / "000000.png").write_text("precious")
    pictures.mkdir(parents=True)
    Image.new("RGB", (40, 30)).save(pictures / "b.png")
    folders = {name: tmp_path / name for name in ("sweep/0/.hydra", "predicted/a", "drawn/images")}
    for folder in folders.values():
        folder.parent.mkdir(parents=True)
        folder.symlink_to(elsewhere)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/.cache").symlink_to(elsewhere)
    source, ckpt = ROOT / "src", trained / "checkpoints/last.ckpt"
    cases: list[list[str | Path]] = [
        ["python", source / "train.py", "-m", "seed=0,1", f"hydra.sweep.dir={tmp_path / 'sweep'}"],
        ["python", source / "predict.py", f"ckpt={ckpt}", f"input={pictures.parent}",
         f"output={tmp_path / 'predicted'}", "device=cpu"],
        ["python", source / "generate.py", "generator=toy", "count=1", "overwrite=true",
         f"output={tmp_path / 'drawn'}"],
        ["python", source / "evaluate.py", f"ckpt={ckpt}",
         f"paths.output_dir={tmp_path / 'predicted'}"],
        ["python", source / "prepare.py", "data=toy"],
    ]  # fmt: skip
    for case in cases:
        refused(case, tmp_path, elsewhere)
