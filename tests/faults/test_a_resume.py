"""Faults of letter A: resuming and checkpoints."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from crafted import DAMAGES, Payload, truncate
from pytorch_lightning import LightningDataModule
from tiny import (
    Run,
    TinyData,
    TinyGAN,
    assert_equal_to,
    break_off,
    merged,
    save_quietly,
)

from faults import METHODS, At, assert_same_checkpoint, build_tiny, fail, run
from figureground.core.checkpoint import (
    VerifiedCheckpointIO,
    find_resumable,
    iteration_of,
    load_method,
    read_checkpoint,
)
from figureground.core.errors import CheckpointError, UserError
from figureground.core.io import RunLock, remove_stale
from figureground.core.manifest import find_damage
from figureground.core.method import Method

pytestmark = pytest.mark.filterwarnings(
    "ignore:The '\\w+' does not have many workers",
    "ignore:.*LeafSpec:FutureWarning",
    "ignore:You have overridden `on_before_batch_transfer`",
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The uninterrupted run."""
    return Run(tmp_path_factory.mktemp("whole")).start()


@pytest.mark.parametrize("count", [1, 3, 4, 7, 8, 11])
def test_f02_run_stopped_between_any_two_batches_resumes_exactly(
    tmp_path: Path, whole: Run, count: int
) -> None:
    first = break_off(tmp_path, "on_train_batch_start", count)
    assert iteration_of(read_checkpoint(first.last)) == count
    assert_equal_to(whole, first, Run(tmp_path).start(first.last))


@pytest.mark.parametrize("method", METHODS)
def test_f01_f02_every_method_resumes_exactly(tmp_path: Path, method: str) -> None:
    def make() -> tuple[Method, LightningDataModule]:
        return build_tiny(method)

    settings: dict[str, Any] = {"iterations": 6, "every": 6, "validate_every": 3, "make": make}
    whole = Run(tmp_path / "whole", **settings).start()
    # Four batches make an epoch of the toy set: after its first, at its end, in the next one.
    for count in (1, 4, 5):
        first = break_off(tmp_path / str(count), "on_train_batch_start", count, **settings)
        assert_equal_to(whole, first, Run(tmp_path / str(count), **settings).start(first.last))


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_f06_workers_change_nothing(tmp_path: Path, method: str) -> None:
    settings: dict[str, Any] = {"iterations": 6, "every": 2, "validate_every": 2}
    whole = Run(tmp_path / "whole", make=lambda: build_tiny(method), **settings).start()

    def make() -> tuple[Method, LightningDataModule]:
        return build_tiny(method, "data.num_workers=2")

    first = Run(
        tmp_path / "parts",
        At("on_train_batch_start", 3, fail()),
        make=lambda: build_tiny(method),
        **settings,
    )
    with pytest.raises(RuntimeError, match="injected"):
        first.start()
    assert_equal_to(whole, first, Run(tmp_path / "parts", make=make, **settings).start(first.last))


@pytest.mark.parametrize("hook", ["on_validation_batch_end", "on_validation_end"])
@pytest.mark.parametrize("count", [4, 8, 12])
def test_f04_run_stopped_in_validation_repeats_it(
    tmp_path: Path, whole: Run, hook: str, count: int
) -> None:
    first = break_off(tmp_path, hook, count)
    assert iteration_of(read_checkpoint(first.last)) == count
    second = Run(tmp_path).start(first.last)
    assert_same_checkpoint(whole.last, second.last)
    assert merged(first.rows, second.rows) == whole.rows.rows


def test_f04_run_stopped_in_its_extra_last_validation_repeats_it(tmp_path: Path) -> None:
    whole = Run(tmp_path / "whole", iterations=6).start()
    first = break_off(tmp_path / "parts", "on_validation_batch_end", 6, iterations=6)
    second = Run(tmp_path / "parts", iterations=6).start(first.last)
    assert_equal_to(whole, first, second)


def test_f05_run_resumed_twice_equals_uninterrupted(tmp_path: Path, whole: Run) -> None:
    first = break_off(tmp_path, "on_train_batch_start", 3)
    second = Run(tmp_path, At("on_train_batch_start", 8, fail()))
    with pytest.raises(RuntimeError, match="injected"):
        second.start(first.last)
    assert_equal_to(whole, first, second, Run(tmp_path).start(first.last))


def test_f05_finished_run_says_so_and_touches_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = Run(tmp_path, iterations=2).start()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    Run(tmp_path, iterations=2).start(first.last)
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before
    assert "already trained for iterations=2" in caplog.text


def test_f05_finished_run_goes_on_with_more_iterations(tmp_path: Path, whole: Run) -> None:
    first = Run(tmp_path, iterations=8).start()
    second = Run(tmp_path).start(first.last)
    assert_equal_to(whole, first, second)


_WRITER = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from figureground.core.checkpoint import VerifiedCheckpointIO, iteration_of, read_checkpoint
from figureground.core.manifest import find_damage
from figureground.core.io import remove_stale

directory, path = Path("checkpoints"), Path("checkpoints/last.ckpt")
payload = torch.zeros(1 << 20)

real = torch.load(sys.argv[2], weights_only=True)  # Of a method, and a large tensor besides.

def state(iteration):
    counters = {"epoch_loop.batch_progress": {"total": {"processed": iteration}}}
    weights = real["state_dict"] | {"x": payload + iteration}
    return real | {"state_dict": weights, "loops": {"fit_loop": counters}}

def write_for_ever(start, done):
    for iteration in range(start, 10**9):
        VerifiedCheckpointIO().save_checkpoint(state(iteration), path)
        os.write(done, b"x")

rng, saved, stale = random.Random(int(sys.argv[1])), 0, 0
for trial in range(20):
    read, done = os.pipe()
    pid = os.fork()
    if pid == 0:
        write_for_ever(saved + 1, done)
    os.close(done)
    acknowledged = len(os.read(read, 1))
    time.sleep(rng.uniform(0, 0.04))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    while chunk := os.read(read, 4096):
        acknowledged += len(chunk)
    os.close(read)
    checkpoint = read_checkpoint(path)  # raises unless it opens and verifies
    found = iteration_of(checkpoint)
    assert found in (saved + acknowledged, saved + acknowledged + 1), (found, saved, acknowledged)
    assert bool((checkpoint["state_dict"]["x"] == found).all())
    previous = directory / "previous.ckpt"
    assert not previous.exists() or find_damage(previous) is None
    saved = found
    for file in directory.glob("*.tmp-*"):
        os.utime(file, (0, 0))
    stale += len(remove_stale(directory))
    assert not list(directory.glob("*.tmp-*"))
print("stale files removed:", stale)
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_f07_kill_during_save_never_costs_a_checkpoint(
    tmp_path: Path, finished: Callable[[str], Run], method: str
) -> None:
    seed = random.randrange(10**6)
    real = finished(method).last
    result = run(["python", "-c", _WRITER, str(seed), real], cwd=tmp_path, limit=120)
    assert result.code == 0, f"seed {seed}: {result.err}"
    assert "stale files removed" in result.out


@pytest.mark.parametrize("damage", DAMAGES)
def test_f08_damaged_last_falls_back_to_previous_and_names_both(
    tmp_path: Path, whole: Run, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    shutil.copytree(whole.checkpoints_dir, tmp_path, dirs_exist_ok=True)
    damage(tmp_path / "last.ckpt")
    found = find_resumable(tmp_path)
    assert found == tmp_path / "previous.ckpt"
    assert iteration_of(read_checkpoint(found)) == 8
    (message,) = [record.getMessage() for record in caplog.records]
    assert "last.ckpt" in message
    assert "previous.ckpt" in message
    with pytest.raises(CheckpointError, match=r"last\.ckpt is"):
        read_checkpoint(tmp_path / "last.ckpt")


@pytest.mark.parametrize("damage", DAMAGES)
def test_f08_damage_is_found_without_a_manifest(
    tmp_path: Path, whole: Run, damage: Callable[[Path], None]
) -> None:
    path = Path(shutil.copy(whole.last, tmp_path))
    assert find_damage(path) is None
    damage(path)
    with pytest.raises(CheckpointError, match=r"last\.ckpt is") as caught:
        find_resumable(tmp_path)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_f08_run_after_fallback_equals_uninterrupted_and_keeps_the_good_file(
    tmp_path: Path, whole: Run
) -> None:
    shutil.copytree(whole.checkpoints_dir, tmp_path / "checkpoints")
    truncate(tmp_path / "checkpoints" / "last.ckpt")
    second = Run(tmp_path).start(find_resumable(tmp_path / "checkpoints"))
    assert_same_checkpoint(whole.last, second.last)
    assert find_damage(second.last.with_name("previous.ckpt")) is None


def test_f09_checkpoint_of_another_width_is_refused_untouched(tmp_path: Path, whole: Run) -> None:
    other = Run(tmp_path, make=lambda: (TinyGAN(width=6), TinyData()))
    before = {name: tensor.clone() for name, tensor in other.method.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        other.start(whole.last)
    assert "mask_net.0.weight is (4, 3, 3, 3), expected (6, 3, 3, 3)" in str(caught.value)
    assert caught.value.exit_code == 2
    after = other.method.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


@pytest.mark.parametrize("host", [socket.gethostname(), "another-machine"])
def test_f13_lock_of_a_dead_process_is_taken_over(tmp_path: Path, host: str) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    lock = tmp_path / "run.lock"
    lock.write_text(f"{dead.pid} {host}")
    with RunLock(tmp_path):
        assert lock.read_text().split()[0] == str(os.getpid())
    assert not lock.exists()


def test_f14_order_is_by_iteration_whatever_the_clock_says(tmp_path: Path, whole: Run) -> None:
    shutil.copytree(whole.checkpoints_dir, tmp_path, dirs_exist_ok=True)
    os.utime(tmp_path / "last.ckpt", (0, 0))
    assert find_resumable(tmp_path) == tmp_path / "last.ckpt"
    (tmp_path / "last.ckpt").rename(tmp_path / "best.ckpt")
    (tmp_path / "last.ckpt.json").rename(tmp_path / "best.ckpt.json")
    assert find_resumable(tmp_path) == tmp_path / "best.ckpt"


@pytest.mark.parametrize("section", ["state_dict", "callbacks", "hyper_parameters", "optimizer"])
@pytest.mark.parametrize("has_manifest", [False, True])
def test_f51_payload_is_refused_and_not_run(
    tmp_path: Path, whole: Run, section: str, has_manifest: bool
) -> None:
    target, path = tmp_path / "created", tmp_path / "crafted.ckpt"
    checkpoint = read_checkpoint(whole.last)
    checkpoint.setdefault(section, {})["payload"] = Payload(target)
    torch.save(checkpoint, path)
    if has_manifest:
        VerifiedCheckpointIO().save_checkpoint(read_checkpoint(whole.last), tmp_path / "fine.ckpt")
        record = json.loads((tmp_path / "fine.ckpt.json").read_text())
        content = path.read_bytes()
        record |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        (tmp_path / "crafted.ckpt.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match=r"posix\.mkdir") as caught:
        load_method(path)
    assert caught.value.exit_code == 2
    with pytest.raises(CheckpointError, match="refused"):
        Run(tmp_path, iterations=1).start(path)
    assert not target.exists()


def test_stale_files_of_the_living_and_the_young_stay(tmp_path: Path) -> None:
    young, living = tmp_path / "a.tmp-999999999", tmp_path / f"b.tmp-{os.getpid()}"
    young.touch()
    living.touch()
    os.utime(living, (0, 0))
    assert remove_stale(tmp_path) == []


def test_resume_elsewhere_says_that_it_is_not_exact(
    tmp_path: Path, whole: Run, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = read_checkpoint(whole.last)
    checkpoint["callbacks"]["RandomState"]["torch"] = "1.0"
    path = save_quietly(checkpoint, tmp_path / "old.ckpt")
    Run(tmp_path, iterations=13).start(path)
    assert "not bit-exact because torch was 1.0" in caplog.text


def test_best_checkpoint_follows_the_monitored_score(tmp_path: Path, whole: Run) -> None:
    part = Run(tmp_path, monitor="val/agreement").start()
    scores = {
        step + 1: row["val/agreement"] for step, row in part.rows.rows if "val/agreement" in row
    }
    best = max(scores.values())
    saved = read_checkpoint(part.checkpoints_dir / "best.ckpt")
    assert scores[iteration_of(saved)] == pytest.approx(best)
    assert part.checkpoints.best_score == pytest.approx(best)
    # Monitoring changes nothing else, and going on from the best is exact too.
    assert part.rows.rows == whole.rows.rows
    second = Run(tmp_path / "other").start(part.checkpoints_dir / "best.ckpt")
    assert torch.equal(
        read_checkpoint(second.last)["state_dict"]["critic.0.weight"],
        read_checkpoint(whole.last)["state_dict"]["critic.0.weight"],
    )


def test_unknown_monitor_ends_with_the_scores_there_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"monitor=val/iou is not logged.*val/agreement"):
        Run(tmp_path, monitor="val/iou").start()
