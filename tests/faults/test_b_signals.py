"""Faults of letter B: signals, lost workers, a full disk; all in the middle of a run."""

from __future__ import annotations

import logging
import os
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback
from tiny import Run, TinyData, TinyGAN

from faults import (
    METHODS,
    At,
    assert_same_checkpoint,
    assert_same_run,
    command,
    flat_options,
    kill,
    run,
    saved_iteration,
)
from figureground.core import checkpoint as checkpoint_module
from figureground.core.checkpoint import find_damage, iteration_of, read_checkpoint
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
    # F11: another learning rate is refused by name, more iterations are not.
    lr = next(key for key in flat_options(method) if key.endswith(".lr"))
    result = run(command(method, parts, "iterations=30", "ckpt=last", f"{lr}=0.0123"), cwd=tmp_path)
    assert result.code == 2
    assert lr in result.err
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


@pytest.mark.parametrize("stage", ["test", "predict"])
def test_f16_signal_in_test_and_prediction_stops_at_the_batch(tmp_path: Path, stage: str) -> None:
    counter = At(f"on_{stage}_batch_start", 0, kill())
    part = Run(tmp_path, counter)
    with pytest.raises(StoppedBySignalError):
        getattr(part.trainer, stage)(part.method, TinyData())
    assert not part.last.exists()


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


def test_f18_signal_during_a_save_leaves_a_good_file(
    tmp_path: Path, whole: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = checkpoint_module._HashingWriter.write, []

    def slow(self: Any, data: bytes) -> int:
        if len(calls) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        calls.append(len(data))
        return write(self, data)

    monkeypatch.setattr(checkpoint_module._HashingWriter, "write", slow)
    first = stop(tmp_path)
    assert iteration_of(read_checkpoint(first.last)) in (4, 5)
    assert not list(first.checkpoints_dir.glob("*.tmp-*"))
    second = Run(tmp_path).start(first.last)
    assert_same_checkpoint(whole.last, second.last)


@pytest.mark.parametrize("hook", ["setup", "on_fit_start", "on_sanity_check_start"])
def test_f19_signal_before_the_first_batch_ends_without_a_checkpoint(
    tmp_path: Path, hook: str
) -> None:
    with watching():
        first = stop(tmp_path, At(hook, 0, kill()))
    assert not first.last.exists()
    assert not first.checkpoints_dir.joinpath("run.lock").exists()


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


class Loader(TinyData):
    """Data loaded by a worker process that then kills itself."""

    def train_dataloader(self) -> Any:
        loader = super().train_dataloader()
        return torch.utils.data.DataLoader(
            Doomed(loader.dataset), batch_size=None, num_workers=1, generator=torch.Generator()
        )


class Doomed(torch.utils.data.IterableDataset[Any]):
    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __iter__(self) -> Iterator[Any]:
        for index, batch in enumerate(self.inner):
            if index == 6:
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_f20_killed_worker_is_named_and_the_state_is_saved(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # The death may be noticed within a batch, when only what was saved before counts.
    part = Run(tmp_path, every=2)
    with caplog.at_level(logging.ERROR), pytest.raises(RuntimeError, match="worker") as caught:
        part.trainer.fit(part.method, Loader())
    assert exit_code_of(caught.value) == 1
    assert "memory has run out: lower data.num_workers" in caplog.text
    assert find_damage(part.last) is None
    assert iteration_of(read_checkpoint(part.last)) > 0


@contextmanager
def full_disk(limit: int = 2000) -> Iterator[None]:
    """Let no file of this process grow beyond `limit` bytes: the kernel refuses as on ENOSPC."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class FullDisk(Callback):
    """The disk is full from batch `first` to batch `last`."""

    def __init__(self, first: int, last: int) -> None:
        self.range = range(first, last)
        self.limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def on_train_batch_start(self, trainer: Any, *_: Any, **__: Any) -> None:
        done = trainer.fit_loop.epoch_loop.batch_progress.total.completed
        limit = 2000 if done in self.range else self.limits[0]
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, self.limits[1]))

    def on_exception(self, *_: Any) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self.limits)


def test_f41_one_failed_save_is_survived(
    tmp_path: Path, whole: Run, caplog: pytest.LogCaptureFixture
) -> None:
    part = Run(tmp_path, FullDisk(8, 9)).start()
    assert "Training goes on" in caplog.text
    assert {"train/save_failures": 1.0}.items() <= merged_rows(part).items()
    assert not list(part.checkpoints_dir.glob("*.tmp-*"))
    assert torch.equal(
        read_checkpoint(part.last)["state_dict"]["mask_net.0.weight"],
        read_checkpoint(whole.last)["state_dict"]["mask_net.0.weight"],
    )


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


def test_f41_second_failed_save_in_a_row_ends_the_run(tmp_path: Path) -> None:
    part = Run(tmp_path, FullDisk(8, 100), iterations=20)
    with pytest.raises(WriteError, match=r"last\.ckpt.*free some space") as caught:
        part.start()
    assert exit_code_of(caught.value) == 5
    assert find_damage(part.last) is None
    assert iteration_of(read_checkpoint(part.last)) == 4
    assert not list(part.checkpoints_dir.glob("*.tmp-*"))


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


def merged_rows(part: Run) -> dict[str, float]:
    """Last value of everything that was logged."""
    return {key: value for _, row in part.rows.rows for key, value in row.items()}
