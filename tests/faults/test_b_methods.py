"""Faults of letter B, and a full disk (F41), for every method."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from full_disk import FullDisk
from omegaconf import DictConfig
from short import short
from tiny import Run, assert_equal_to
from torch.utils.data import DataLoader

from archives import write_folder
from faults import (
    METHODS,
    At,
    assert_same_checkpoint,
    build_tiny,
    command,
    kill,
    run,
    saved_iteration,
)
from figureground.callbacks.run_card import RunCard
from figureground.cli import generate as generate_module
from figureground.cli import predict as predict_module
from figureground.core import checkpoint as checkpoint_module
from figureground.core.checkpoint import iteration_of, read_checkpoint
from figureground.core.errors import StoppedBySignalError, WriteError, exit_code_of
from figureground.core.manifest import find_damage
from figureground.core.protocols import LayerGenerator, Segmenter
from figureground.core.signals import SIGNALS, watching

Finished = Callable[[str], Run]
Compose = Callable[..., DictConfig]


@pytest.fixture(autouse=True)
def _handlers_come_back() -> Iterator[None]:
    """Whatever happens inside, the process has its old handlers afterwards."""
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before


def stop(part: Run, signum: int = signal.SIGTERM) -> Run:
    """Train until a signal stops it; the exit code must be the shell's for that signal."""
    with pytest.raises(StoppedBySignalError) as caught:
        part.start()
    assert exit_code_of(caught.value) == 128 + signum
    return part


@pytest.mark.parametrize("method", METHODS)
def test_f16_signal_in_validation_saves_and_validation_is_repeated(
    tmp_path: Path, finished: Finished, method: str
) -> None:
    first = stop(short(tmp_path, method, At("on_validation_batch_start", 2, kill())))
    assert iteration_of(read_checkpoint(first.last)) == 2
    assert_equal_to(finished(method), first, short(tmp_path, method).start(first.last))


@pytest.mark.parametrize("method", METHODS)
def test_f16_signal_in_test_and_prediction_stops_at_the_batch(tmp_path: Path, method: str) -> None:
    part = short(tmp_path, method, At("on_test_batch_start", 0, kill()))
    ended: list[int] = []
    part.method.test_step = lambda batch, batch_idx: ended.append(batch_idx)  # There are two.
    with pytest.raises(StoppedBySignalError) as caught:
        part.trainer.test(part.method, part.data, verbose=False)
    assert exit_code_of(caught.value) == 143
    assert ended == [0]
    if isinstance(part.method, Segmenter):
        part = short(tmp_path, method, At("on_predict_batch_start", 0, kill()))
        with pytest.raises(StoppedBySignalError):
            part.trainer.predict(part.method, DataLoader([part.data.batch("test", [0])], None))
    assert not part.last.exists()


def interrupt(monkeypatch: pytest.MonkeyPatch, module: Any, number: int) -> None:
    """Send SIGTERM when `module` writes its picture `number`."""
    write, count = module.write_png, iter(range(10**6))

    def wrapped(path: Path, pixels: Any) -> None:
        write(path, pixels)
        if next(count) == number:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(module, "write_png", wrapped)


@pytest.mark.parametrize("method", METHODS)
def test_f16_stopped_generate_and_predict_go_on_where_they_were(
    tmp_path: Path,
    finished: Finished,
    monkeypatch: pytest.MonkeyPatch,
    compose: Compose,
    method: str,
) -> None:
    trained = finished(method)
    write_folder(tmp_path / "mine", 4, masks=False)
    commands: list[tuple[str, Any, list[str], str]] = []
    if isinstance(trained.method, LayerGenerator):
        commands.append(("generate", generate_module, ["count=4"], "images/*.png"))
    if isinstance(trained.method, Segmenter):
        options = [f"input={tmp_path}/mine/images", "batch_size=1"]
        commands.append(("predict", predict_module, options, "**/*_mask.png"))
    for name, module, options, pattern in commands:
        output = tmp_path / name
        options = [*options, f"ckpt={trained.last}", f"output={output}", "device=cpu"]
        with monkeypatch.context() as patch:
            interrupt(patch, module, 0)
            with pytest.raises(StoppedBySignalError) as caught:
                getattr(module, name)(compose(*options, config_name=name))
        assert exit_code_of(caught.value) == 143
        done = {path: path.stat().st_mtime_ns for path in output.glob(pattern)}
        assert len(done) == 1
        assert not list(output.rglob("*.tmp-*"))
        getattr(module, name)(compose(*options, config_name=name))
        assert len(list(output.glob(pattern))) == 4
        assert all(path.stat().st_mtime_ns == stamp for path, stamp in done.items())


@pytest.mark.parametrize("method", METHODS)
def test_f17_first_interrupt_saves_after_the_batch(
    tmp_path: Path, finished: Finished, method: str
) -> None:
    interrupted = At("on_train_batch_end", 3, kill(signal.SIGINT))
    first = stop(short(tmp_path, method, interrupted), signal.SIGINT)
    assert iteration_of(read_checkpoint(first.last)) == 3
    assert_equal_to(finished(method), first, short(tmp_path, method).start(first.last))


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_f17_second_interrupt_ends_at_once_and_keeps_the_last_save(
    tmp_path: Path, method: str
) -> None:
    fault = {"_target_": "ranks.FailOnRank", "what": "interrupt twice", "rank": 0, "iteration": 4}
    options = ["iterations=30", *(f"+callbacks.fault.{key}={fault[key]}" for key in fault)]
    environment = {"PYTHONPATH": f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}"}
    done = run(command(method, tmp_path / "run", *options), cwd=tmp_path, env=environment)
    assert done.code == 130, done.err
    assert "Ctrl-C again" in done.err
    assert "Traceback" not in done.err
    assert saved_iteration(tmp_path / "run") == 2
    assert find_damage(tmp_path / "run/checkpoints/last.ckpt") is None


@pytest.mark.parametrize("method", METHODS)
def test_f18_signal_during_a_save_leaves_a_good_file(
    tmp_path: Path, finished: Finished, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    write, calls = checkpoint_module._HashingWriter.write, iter(range(10**9))

    def interrupted(self: Any, data: bytes) -> int:
        if next(calls) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return write(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_module._HashingWriter, "write", interrupted)
        first = stop(short(tmp_path, method))
    assert iteration_of(read_checkpoint(first.last)) in (2, 3)
    assert not list(first.checkpoints_dir.glob("*.tmp-*"))
    second = short(tmp_path, method).start(first.last)
    assert_same_checkpoint(finished(method).last, second.last)


@pytest.mark.parametrize("method", METHODS)
def test_f19_signal_before_the_first_batch_leaves_no_finished_run(
    tmp_path: Path, method: str
) -> None:
    for hook in ("setup", "on_sanity_check_start"):
        card = RunCard(str(tmp_path / hook))
        with watching():  # As a command does, from its first line.
            first = stop(short(tmp_path / hook, method, At(hook, 0, kill()), card))
        assert not first.last.exists()
        assert not first.checkpoints_dir.joinpath("run.lock").exists()
        written = tmp_path / hook / "metrics.json"
        assert not written.exists() or '"finished"' not in written.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_f20_killed_worker_is_named_and_the_state_is_saved(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    def lose_worker() -> None:
        for worker in multiprocessing.active_children():
            worker.kill()

    part = short(
        tmp_path, method, At("on_train_batch_start", 3, lose_worker), iterations=60,
        validate_every=10**6, make=lambda: build_tiny(method, "data.num_workers=1"),
    )  # fmt: skip
    caplog.set_level(logging.ERROR)
    # Watched as by a command, from its first line.
    with watching(), pytest.raises(RuntimeError, match="worker") as caught:
        part.start()
    assert exit_code_of(caught.value) == 1
    assert "memory has run out: lower data.num_workers" in caplog.text
    assert find_damage(part.last) is None
    assert iteration_of(read_checkpoint(part.last)) >= 2


@pytest.mark.parametrize("method", METHODS)
def test_f41_one_failed_save_is_survived_two_in_a_row_are_not(
    tmp_path: Path, finished: Finished, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    part = short(tmp_path / "one", method, FullDisk(2, 3)).start()
    assert "Training goes on" in caplog.text
    name = "train/save_failures"
    assert {row[name] for _, row in part.rows.rows if name in row} == {1.0}
    saved, whole = (read_checkpoint(r.last)["state_dict"] for r in (part, finished(method)))
    assert all(torch.equal(value, saved[key]) for key, value in whole.items())
    part = short(tmp_path / "two", method, FullDisk(2, 100), every=1, validate_every=100)
    with pytest.raises(WriteError, match=r"last\.ckpt.*free some space") as caught:
        part.start()
    assert exit_code_of(caught.value) == 5
    assert find_damage(part.last) is None
    assert iteration_of(read_checkpoint(part.last)) == 1
    assert not list(tmp_path.rglob("*.tmp-*"))
