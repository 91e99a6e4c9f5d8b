"""Whole commands: several processes (F60), odd terminals (F63), places (F64), names (F46)."""

from __future__ import annotations

import csv
import json
import resource
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from faults import METHODS, ROOT, Result, command, flat_options, read_rows, run
from figureground.core.checkpoint import read_checkpoint

pytestmark = pytest.mark.slow


def run_two(folder: Path, method: str, what: str, rank: int, *overrides: str) -> Result:
    """Train with two processes, one of which does `what` at iteration 3."""
    fault = {"_target_": "ranks.FailOnRank", "what": what, "rank": str(rank), "folder": str(folder)}
    return run(
        command(
            method, folder / "run", "trainer=ddp_sim", "iterations=4", "data.train.count=40",
            *overrides, *(f"+callbacks.fault.{name}={value}" for name, value in fault.items()),
        ),
        cwd=folder, limit=120, env={"PYTHONPATH": str(Path(__file__).parent)},
    )  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_f60_nan_on_one_process_is_skipped_by_both_and_uneven_shards_do_not_hang(
    tmp_path: Path, method: str
) -> None:
    done = run_two(
        tmp_path, method, "poison", 1, "data.val.count=23", "data.eval_batch_size=4", "test=true"
    )
    assert done.code == 0, done.err
    first, second = (torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1))
    # What is counted or remembered differs between processes, what is learned does not.
    own = ("statistics", "references", "running_", "num_batches_tracked", "w_avg")
    weights = [name for name in first if not any(part in name for part in own)]
    assert_close({n: first[n] for n in weights}, {n: second[n] for n in weights})
    checkpoint = read_checkpoint(tmp_path / "run/checkpoints/last.ckpt")
    assert sum(checkpoint["figureground"]["skipped"].values()) == 0  # reset by the next good step
    rows = list(csv.DictReader((tmp_path / "run/csv/metrics.csv").open()))
    skipped = [name for name in rows[0] if name.startswith("train/skipped/")]
    assert any(float(row[name] or 0) == 1 for row in rows for name in skipped)
    assert json.loads((tmp_path / "run/metrics.json").read_text())["iterations"] == 4


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rank", [0, 1])
def test_f60_failure_of_one_process_ends_all_with_its_code(
    tmp_path: Path, method: str, rank: int
) -> None:
    done = run_two(tmp_path, method, "raise-known", rank)
    assert done.code == 4, done.err
    assert "error: one process fails" in done.err
    if rank:
        assert "process 1 failed, so all stop: NumericalError: one process fails" in done.err
    assert not list(tmp_path.rglob("*.tmp-*"))


@pytest.mark.parametrize("method", METHODS)
def test_f60_signal_to_one_process_stops_both_at_the_same_batch(
    tmp_path: Path, method: str
) -> None:
    done = run_two(tmp_path, method, "signal", 1)
    assert done.code == 143, done.err
    assert read_checkpoint(tmp_path / "run/checkpoints/last.ckpt")["global_step"] > 0
    assert [p.name for p in (tmp_path / "run/checkpoints").glob("*.ckpt")].count("last.ckpt") == 1


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as its wheel installs it, where nothing can be written."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "site")
    for file in (folder / "site").rglob("*"):
        file.chmod(0o555)
    return folder / "site"


@pytest.mark.parametrize("method", METHODS)
def test_f64_wheel_trains_like_the_checkout_from_anywhere_and_writes_nothing_into_itself(
    tmp_path: Path, site: Path, method: str
) -> None:
    before = sorted(site.rglob("*"))
    options = command(method, tmp_path / "run", "iterations=3", "test=true")[2:]
    entry = "import figureground.cli as c; print(c.__file__); c.main()"
    env = {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = run(["python", "-c", entry, "train", *options], cwd=elsewhere, env=env, limit=120)
    assert done.code == 0, done.err
    assert str(site) in done.out
    assert sorted(site.rglob("*")) == before
    other = tmp_path / "other"
    done = run(command(method, other, "iterations=3", "test=true"), cwd=tmp_path, limit=120)
    assert done.code == 0, done.err
    mine, theirs = (
        json.loads((folder / "metrics.json").read_text()) for folder in (tmp_path / "run", other)
    )
    scores = [key for key in theirs if key.startswith("test/") and "images" not in key]
    # A search of directions has nothing to score on real pictures.
    assert bool(scores) == (method != "gan_segmenter")
    assert {key: mine[key] for key in scores} == {key: theirs[key] for key in scores}
    mine, theirs = (
        read_checkpoint(folder / "checkpoints/last.ckpt")["state_dict"]
        for folder in (tmp_path / "run", other)
    )
    assert all(torch.equal(value, theirs[key]) for key, value in mine.items())


@pytest.mark.parametrize("method", METHODS)
def test_f63_odd_terminals_change_nothing(tmp_path: Path, method: str) -> None:
    odd = [
        {"LANG": "C", "NO_COLOR": "1"},
        {"COLUMNS": "20", "TERM": "dumb", "PYTHONIOENCODING": "ascii"},
    ]
    rows = []
    for number, env in enumerate(odd):
        folder = tmp_path / str(number)
        line = command(method, folder, "iterations=2")[1:]
        shell = shlex.join([sys.executable, *map(str, line)])
        done = run(["bash", "-c", f"{shell} >&-"], cwd=tmp_path, env=env)  # No stdout at all.
        assert done.code == 0, done.err
        assert "Traceback" not in done.err
        rows.append(read_rows(folder / "csv/metrics.csv"))
    assert rows[0] == rows[1]
    assert [row["step"] for row in rows[0][:2]] == ["0", "1"]


@pytest.mark.parametrize("method", METHODS)
def test_f46_misspelt_names_end_within_seconds_and_leave_nothing(
    tmp_path: Path, method: str
) -> None:
    option = flat_options(method)[1]
    group, key = option.split(".")[:2]
    for arguments, fragment in (
        ([f"method={method}x"], f"did you mean '{method}'"),
        ([f"method={method}", f"{group}.{key}x=1"], f"did you mean '{group}.{key}'"),
        ([f"method={method}", "+typo=1"], "typo: there is no such option"),
    ):
        used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        done = run(["python", ROOT / "src/train.py", *arguments], cwd=tmp_path)
        assert done.code == 2, done.err
        assert fragment in done.err
        assert "Traceback" not in done.err
        # Of computing: on a busy machine waiting adds to it.
        used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - used
        assert used < 5
        assert done.files == ()
        assert not (tmp_path / "outputs").exists()
