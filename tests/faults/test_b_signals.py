"""Faults of letter B: signals, lost workers, a full disk; all in the middle of a run."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from full_disk import FullDisk
from pytorch_lightning import Callback
from tiny import Run, TinyGAN

from faults import (
    METHODS,
    At,
    assert_same_run,
    command,
    kill,
    run,
    saved_iteration,
)
from figureground.core.checkpoint import iteration_of, read_checkpoint
from figureground.core.errors import StoppedBySignalError, WriteError, exit_code_of
from figureground.core.signals import SIGNALS, current_watch, watching

pytestmark = pytest.mark.filterwarnings(
    "ignore:The '\\w+' does not have many workers",
    "ignore:.*LeafSpec:FutureWarning",
    "ignore:You have overridden `on_before_batch_transfer`",
)


@pytest.fixture(autouse=True)
def _handlers_come_back() -> Iterator[None]:
    """Whatever happens inside, the process has its old handlers afterwards."""
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The uninterrupted run."""
    return Run(tmp_path_factory.mktemp("whole")).start()


def stop(directory: Path, *callbacks: Callback, signum: int = signal.SIGTERM) -> Run:
    """Train until a signal stops it; the exit code must be the shell's for that signal."""
    first = Run(directory, *callbacks)
    with pytest.raises(StoppedBySignalError) as caught:
        first.start()
    assert exit_code_of(caught.value) == 128 + signum
    return first


@pytest.mark.parametrize("signum", SIGNALS)
def test_f15_signal_in_training_saves_after_the_batch(
    tmp_path: Path, whole: Run, signum: int
) -> None:
    first = stop(tmp_path, At("on_train_batch_end", 3, kill(signum)), signum=signum)
    assert iteration_of(read_checkpoint(first.last)) == 3
    second = Run(tmp_path).start(first.last)
    assert_same_run(whole.checkpoints_dir.parent, tmp_path)
    assert first.rows.rows + second.rows.rows == whole.rows.rows


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_f15_command_stopped_by_sigterm_resumes_exactly(tmp_path: Path, method: str) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    result = run(command(method, whole, "iterations=30"), cwd=tmp_path, limit=120)
    assert result.code == 0, result.err
    result = run(
        command(method, parts, "iterations=30"),
        cwd=tmp_path,
        kill_after=(lambda: saved_iteration(parts) >= 4, signal.SIGTERM),
        limit=120,
    )
    assert result.code == 143, result.err
    assert "SIGTERM: stopping" in result.err
    assert 4 <= saved_iteration(parts) < 30
    result = run(command(method, parts, "iterations=30", "ckpt=last"), cwd=tmp_path, limit=120)
    assert result.code == 0, result.err
    assert_same_run(whole, parts)
    # F05: a finished run says so.
    result = run(command(method, parts, "iterations=30", "ckpt=last"), cwd=tmp_path, limit=120)
    assert result.code == 0, result.err
    assert "already trained for iterations=30" in result.out + result.err
    assert_same_run(whole, parts)


@pytest.mark.parametrize("count", [8, 12])
def test_f16_signal_in_validation_saves_and_validation_is_repeated(
    tmp_path: Path, whole: Run, count: int
) -> None:
    first = stop(tmp_path, At("on_validation_batch_start", count, kill()))
    assert iteration_of(read_checkpoint(first.last)) == count
    second = Run(tmp_path).start(first.last)
    assert_same_run(whole.checkpoints_dir.parent, tmp_path)
    assert first.rows.rows + second.rows.rows == whole.rows.rows


def test_f16_signal_in_a_plain_loop_stops_it_at_the_next_check() -> None:
    done = []

    def work() -> None:
        with watching() as watch:
            for item in range(10):
                done.append(item)
                if item == 3:
                    os.kill(os.getpid(), signal.SIGUSR1)
                watch.check()

    with pytest.raises(StoppedBySignalError) as caught:
        work()
    assert done == [0, 1, 2, 3]
    assert exit_code_of(caught.value) == 138
    assert current_watch() is None


_INTERRUPTED_TWICE = """
import os, signal, time
from figureground.core.signals import watching
with watching() as watch:
    os.kill(os.getpid(), signal.SIGINT)
    print("first survived", flush=True)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(30)
print("not reached")
"""


def test_f17_second_interrupt_ends_at_once(tmp_path: Path) -> None:
    result = run(["python", "-c", _INTERRUPTED_TWICE], cwd=tmp_path, limit=20)
    assert result.code == 130
    assert "first survived" in result.out
    assert "not reached" not in result.out
    assert "Ctrl-C again" in result.err


_INTERRUPTED_EARLY = """
import signal, sys
import hydra
from figureground.cli import run
hydra.main = lambda **options: lambda job: lambda: signal.raise_signal(signal.SIGINT)
run(print, "train")
"""


def test_interrupt_before_the_job_ends_in_one_line(tmp_path: Path) -> None:
    result = run(["python", "-c", _INTERRUPTED_EARLY], cwd=tmp_path, limit=60)
    assert result.code == 130
    assert result.err == "error: stopped by SIGINT\n"


def test_handlers_ignore_signals_in_forked_children() -> None:
    with watching() as watch:
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            os._exit(7 if watch.signum is None else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert watch.signum is None


def test_watching_in_another_thread_does_nothing() -> None:
    seen: list[int | None] = []

    def work() -> None:
        with watching() as watch:
            seen.append(watch.signum)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [None]


def test_f41_failed_best_is_survived_and_the_next_best_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Full while batch 4 and its validation run, with nothing else to save.
    part = Run(tmp_path, FullDisk(3, 4), every=100, monitor="val/raw/agreement").start()
    assert "best.ckpt" in caplog.text
    assert "Training goes on" in caplog.text
    saved = read_checkpoint(part.checkpoints_dir / "best.ckpt")
    assert iteration_of(saved) in (8, 12)
    assert saved["callbacks"]["Checkpoints"]["best_scores"] == part.checkpoints.best_scores


def test_f41_too_little_room_is_said_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 1000

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage)
    with pytest.raises(WriteError, match="MB free but checkpoints need"):
        Run(tmp_path).start()


def test_f62_out_of_memory_names_the_options_and_keeps_the_last_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    losses = TinyGAN.losses

    def exhausted(self: TinyGAN, image: torch.Tensor) -> Any:
        if self.iteration == 6:
            raise torch.OutOfMemoryError("injected")
        return losses(self, image)

    monkeypatch.setattr(TinyGAN, "losses", exhausted)
    part = Run(tmp_path)
    with pytest.raises(torch.OutOfMemoryError) as caught:
        part.start()
    assert exit_code_of(caught.value) == 1
    assert "lower data.batch_size" in caplog.text
    assert "trainer.precision=bf16-mixed" in caplog.text
    assert iteration_of(read_checkpoint(part.last)) == 4
