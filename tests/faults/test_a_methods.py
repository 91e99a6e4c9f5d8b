"""Faults of letter A, and files that are not to be trusted (F51, F52), for every method."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from crafted import DAMAGES, OTHER_FORMATS, Payload, truncate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback
from short import break_off_short, short
from tiny import Run, assert_equal_to, merged, save_quietly
from torch import Tensor
from torch.optim import Optimizer

from faults import (
    METHODS,
    At,
    assert_same_checkpoint,
    build_tiny,
    command,
    compose_tiny,
    fail,
    flat_options,
    saved_iteration,
    tiny_overrides,
)
from figureground.callbacks.image_grid import ImageGrid
from figureground.cli.train import train
from figureground.core.checkpoint import find_resumable, iteration_of, load_method, read_checkpoint
from figureground.core.errors import CheckpointError, ConfigError, UserError
from figureground.core.method import Method

Finished = Callable[[str], Run]
Compose = Callable[..., DictConfig]


@pytest.mark.parametrize("method", METHODS)
def test_f03_failure_of_the_last_player_resumes_from_the_last_save(
    tmp_path: Path, finished: Finished, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    descend, players = Method.descend, []

    def broken(
        self: Method, loss: Tensor, *optimizers: Optimizer, player: str, **more: Any
    ) -> bool:
        if self.iteration == 1:
            players.append(player)
        if self.iteration == 4 and player == players[-1]:
            raise RuntimeError("injected")
        return descend(self, loss, *optimizers, player=player, **more)

    monkeypatch.setattr(Method, "descend", broken)
    first = short(tmp_path, method)
    with pytest.raises(RuntimeError, match="injected"):
        first.start()
    monkeypatch.undo()
    assert iteration_of(read_checkpoint(first.last)) == 2
    assert_equal_to(finished(method), first, short(tmp_path, method).start(first.last))


def assert_same_state(one: Run, two: Run) -> None:
    """Both must have ended with the same weights and buffers, whatever their callbacks hold."""
    states = [read_checkpoint(run.last)["state_dict"] for run in (one, two)]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


@pytest.mark.parametrize("method", METHODS)
def test_f04_failure_in_validation_or_in_drawing_repeats_it(
    tmp_path: Path, finished: Finished, method: str
) -> None:
    images = tmp_path / "images"

    def part(*callbacks: Callback) -> Run:
        return short(tmp_path, method, *callbacks, ImageGrid(str(images), every=2))

    first = part(At("on_validation_batch_end", 2, fail()))
    with pytest.raises(RuntimeError, match="injected"):
        first.start()
    assert iteration_of(read_checkpoint(first.last)) == 2
    second = part()
    second.method.pictures = lambda batch: fail()()
    with pytest.raises(RuntimeError, match="injected"):
        second.start(first.last)
    assert not list(images.glob("*_00000?.png"))
    third = part().start(first.last)
    assert {path.stem[-6:] for path in images.glob("*_00000?.png")} == {"000002", "000004"}
    assert merged(first.rows, second.rows, third.rows) == finished(method).rows.rows
    assert_same_state(finished(method), third)


@pytest.mark.parametrize("method", METHODS)
def test_f05_resumed_twice_equals_uninterrupted_and_finished_is_left_alone(
    tmp_path: Path, finished: Finished, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    first = break_off_short(tmp_path, method, "on_train_batch_start", 1)
    second = short(tmp_path, method, At("on_train_batch_start", 3, fail()))
    with pytest.raises(RuntimeError, match="injected"):
        second.start(first.last)
    third = short(tmp_path, method).start(first.last)
    assert_equal_to(finished(method), first, second, third)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    short(tmp_path, method).start(third.last)
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before
    assert "already trained for iterations=4" in caplog.text


@pytest.mark.parametrize("method", METHODS)
def test_f08_f14_damaged_last_falls_back_and_the_clock_does_not_matter(
    tmp_path: Path, finished: Finished, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    for damage in reversed(DAMAGES):  # The last one is a file cut short, which is resumed from.
        folder = tmp_path / damage.__name__ / "checkpoints"
        shutil.copytree(finished(method).checkpoints_dir, folder)
        os.utime(folder / "last.ckpt", (0, 0))
        assert find_resumable(folder) == folder / "last.ckpt"
        damage(folder / "last.ckpt")
        caplog.clear()
        assert find_resumable(folder) == folder / "previous.ckpt"
        (message,) = [record.getMessage() for record in caplog.records]
        assert "last.ckpt is" in message
        assert "previous.ckpt" in message
        with pytest.raises(CheckpointError, match=r"last\.ckpt is"):
            read_checkpoint(folder / "last.ckpt")
    second = short(folder.parent, method).start(folder / "previous.ckpt")
    assert_same_checkpoint(finished(method).last, second.last)
    for path in folder.glob("*.ckpt"):
        truncate(path)
    with pytest.raises(CheckpointError, match="nothing to resume from") as caught:
        find_resumable(folder)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("method", METHODS)
def test_f09_checkpoint_of_another_method_width_or_resolution_is_refused_untouched(
    tmp_path: Path, finished: Finished, method: str
) -> None:
    widths = [o.replace("=8", "=16") for o in tiny_overrides(method) if o.startswith("method.")]
    stranger = METHODS[METHODS.index(method) - 1]
    cases = [(stranger, []), (method, widths), (method, ["data.resolution=64"])]
    for number, (source, overrides) in enumerate(cases):
        other = short(
            tmp_path / str(number), method, make=lambda o=overrides: build_tiny(method, *o)
        )
        before = {name: tensor.clone() for name, tensor in other.method.state_dict().items()}
        weights = read_checkpoint(finished(source).last)["state_dict"]
        if {n: t.shape for n, t in weights.items()} == {n: t.shape for n, t in before.items()}:
            continue  # The only method, or one without widths, or for any resolution.
        with pytest.raises(CheckpointError, match=r" is missing| is \(.*\), expected \(") as caught:
            other.start(finished(source).last)
        assert caught.value.exit_code == 2
        assert "\n" not in str(caught.value)
        after = other.method.state_dict()
        assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
        assert not other.last.exists()


@pytest.mark.parametrize("method", METHODS)
def test_f10_other_formats_end_in_one_line_with_the_next_step(
    tmp_path: Path, finished: Finished, method: str
) -> None:
    whole = read_checkpoint(finished(method).last)
    for edit, fragment in OTHER_FORMATS:
        checkpoint = {**whole, "figureground": dict(whole["figureground"]), "optimizer_states": []}
        edit(checkpoint)
        path = save_quietly(checkpoint, tmp_path / "edited.ckpt")
        with pytest.raises(CheckpointError, match=fragment) as caught:
            load_method(path)
        assert caught.value.exit_code == 2
        assert "edited.ckpt" in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", METHODS)
def test_f11_changed_options_are_named_unless_forced_and_more_iterations_are_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compose: Compose, method: str
) -> None:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"

    def start(iterations: int, *overrides: str) -> None:
        quick = ["logger=none", "trainer.limit_val_batches=0", "~callbacks.image_grid"]
        options = command(method, run, f"iterations={iterations}", *quick, *overrides)[2:]
        train(compose(*map(str, options), output=run))

    # What ended before it had saved anything keeps nobody out.
    run.mkdir()
    (run / "config.json").write_text('{"data": {"name": "another"}}')
    rates = [key for key in flat_options(method) if key.endswith(".lr")]
    # A method whose optimisers hang on other options gets one as a whole.
    adam = "method.generator_optimizer={_target_:torch.optim.Adam,_partial_:true,lr:0.0123}"
    changed = f"{rates[0]}=0.0123" if rates else adam
    option = changed.partition("=")[0]
    start(1)
    with pytest.raises(ConfigError, match=f"other settings: {option}.* .*-> .*0.0123") as caught:
        start(1, "ckpt=last", changed)
    assert caught.value.exit_code == 2
    assert saved_iteration(run) == 1
    start(2, "ckpt=last", changed, "resume.force=true")
    states = read_checkpoint(run / "checkpoints/last.ckpt")["optimizer_states"]
    node = OmegaConf.select(compose_tiny(method), option.removesuffix(".lr")) or {}
    every = node.get("every", 0)  # Of an optimiser that makes room for a penalty.
    wanted = 0.0123 * (every / (every + 1) if every else 1)
    found = [group["lr"] for state in states for group in state["param_groups"]]
    assert any(rate == pytest.approx(wanted) for rate in found), found
    start(3, "ckpt=last", changed)
    assert saved_iteration(run) == 3


@pytest.mark.parametrize("method", METHODS)
def test_f12_deleted_directory_is_made_anew(
    tmp_path: Path, finished: Finished, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    delete = At("on_train_batch_end", 3, lambda: shutil.rmtree(tmp_path / "checkpoints"))
    part = short(tmp_path, method, delete).start()
    assert "was deleted while training" in caplog.text
    assert_same_checkpoint(finished(method).last, part.last)


@pytest.mark.parametrize("method", METHODS)
def test_f13_run_in_use_is_refused_and_one_of_a_dead_process_taken_over(
    tmp_path: Path, finished: Finished, method: str
) -> None:
    shutil.copytree(finished(method).checkpoints_dir, tmp_path / "checkpoints")
    last, lock = tmp_path / "checkpoints/last.ckpt", tmp_path / "checkpoints/run.lock"
    before = last.read_bytes()
    lock.write_text(f"{os.getppid()} {os.uname().nodename}")
    with pytest.raises(UserError, match=f"in use by pid {os.getppid()}") as caught:
        short(tmp_path, method, iterations=5).start(last)
    assert caught.value.exit_code == 2
    assert lock.is_file()
    assert last.read_bytes() == before
    dead = subprocess.Popen([sys.executable, "-S", "-c", ""])
    dead.wait()
    lock.write_text(f"{dead.pid} {os.uname().nodename}")
    short(tmp_path, method, iterations=5).start(last)
    assert iteration_of(read_checkpoint(last)) == 5
    assert not lock.exists()


@pytest.mark.parametrize("method", METHODS)
def test_f51_payload_is_refused_and_not_run(
    tmp_path: Path, finished: Finished, method: str
) -> None:
    target, path = tmp_path / "created", tmp_path / "crafted.ckpt"
    whole = read_checkpoint(finished(method).last)
    for section in ("state_dict", "callbacks", "hyper_parameters", "optimizer_states"):
        before, payload = whole.get(section, {}), Payload(target)
        spoiled = [*before, payload] if isinstance(before, list) else {**before, "payload": payload}
        torch.save({**whole, section: spoiled}, path)
        with pytest.raises(CheckpointError, match=r"posix\.mkdir") as caught:
            load_method(path)
        assert caught.value.exit_code == 2
        assert not target.exists()
    with pytest.raises(CheckpointError, match="refused"):
        short(tmp_path, method).start(path)
    assert not target.exists()


def find_nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every dict with a `_target_` in a tree of plain containers."""
    if isinstance(tree, dict):
        if "_target_" in tree:
            yield tree
        for value in tree.values():
            yield from find_nodes(value)


@pytest.mark.parametrize("method", METHODS)
def test_f52_no_class_of_the_stored_options_can_be_exchanged(
    tmp_path: Path, finished: Finished, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.chdir(tmp_path)
    # What it says comes before what it weighs.
    checkpoint = {
        **read_checkpoint(finished(method).last),
        "state_dict": {},
        "optimizer_states": [],
    }
    stored, path = checkpoint["figureground"]["method"], tmp_path / "crafted.ckpt"
    evil = {"_target_": "os.system", "_args_": ["touch created"]}
    called = [evil, {"_target_": "builtins.eval", "_args_": ["1"]}, {"_target_": "torch.hub.load"}]
    for number in range(len(list(find_nodes(stored)))):
        for change in (*called, {"_args_": [evil]}):
            crafted = copy.deepcopy(stored)
            list(find_nodes(crafted))[number].update(change)
            checkpoint["figureground"]["method"] = crafted
            save_quietly(checkpoint, path)
            with pytest.raises(CheckpointError, match=r"crafted\.ckpt") as caught:
                load_method(path)
            assert caught.value.exit_code == 2
            assert "not allowed" in str(caught.value)
    assert not (tmp_path / "created").exists()
