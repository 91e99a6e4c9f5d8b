"""Verified files, their manifests, and methods rebuilt from them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from figureground.core.checkpoint import (
    VerifiedCheckpointIO,
    check_fits,
    find_resumable,
    iteration_of,
    load_method,
    read_checkpoint,
)
from figureground.core.errors import CheckpointError
from figureground.core.manifest import find_damage
from figureground.methods.redo import ReDO

SMALL = {
    "_target_": "figureground.methods.redo.ReDO",
    "resolution": 32,
    "latent_dim": 4,
    "mask_width": 4,
    "generator_width": 4,
    "discriminator_width": 4,
    "encoder_width": 4,
    "num_references": 2,
    "mask_optimizer": {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 1e-4},
}


def make(iteration: int = 0, **content: Any) -> dict[str, Any]:
    progress = {"epoch_loop.batch_progress": {"total": {"processed": iteration}}}
    return {
        "state_dict": {"weight": torch.full((1000,), float(iteration))},
        "loops": {"fit_loop": progress},
        "figureground": {"format": 1, "version": "0"},
        **content,
    }


def save(path: Path, iteration: int = 0, **content: Any) -> Path:
    VerifiedCheckpointIO().save_checkpoint(make(iteration, **content), path)
    return path


@pytest.fixture
def trained(tmp_path: Path) -> tuple[ReDO, Path]:
    """A small method and its checkpoint, as the trainer would write it."""
    options = {k: v for k, v in SMALL.items() if not k.startswith(("_", "mask_opt"))}
    method = ReDO(**options)
    method.origin = {"method": dict(SMALL), "data": {"name": "toy", "resolution": 32}}
    checkpoint = make(7, state_dict=method.state_dict())
    method.on_save_checkpoint(checkpoint)
    path = tmp_path / "last.ckpt"
    VerifiedCheckpointIO().save_checkpoint(checkpoint, path)
    return method, path


def test_manifest_says_what_the_file_holds(tmp_path: Path) -> None:
    path = save(tmp_path / "last.ckpt", 3)
    manifest = json.loads((tmp_path / "last.ckpt.json").read_text())
    assert manifest["size"] == path.stat().st_size
    assert len(manifest["sha256"]) == 64
    assert (manifest["iteration"], manifest["format"], manifest["replaces"]) == (3, 1, [])
    assert iteration_of(read_checkpoint(path)) == 3


def test_last_becomes_previous_and_other_names_do_not(tmp_path: Path) -> None:
    for iteration in (1, 2, 3):
        save(tmp_path / "last.ckpt", iteration)
        save(tmp_path / "best.ckpt", iteration)
    assert iteration_of(read_checkpoint(tmp_path / "last.ckpt")) == 3
    assert iteration_of(read_checkpoint(tmp_path / "previous.ckpt")) == 2
    assert {path.name for path in tmp_path.glob("*.ckpt")} == {
        "last.ckpt",
        "previous.ckpt",
        "best.ckpt",
    }


def test_previous_survives_a_damaged_last(tmp_path: Path) -> None:
    for iteration in (1, 2):
        save(tmp_path / "last.ckpt", iteration)
    (tmp_path / "last.ckpt").write_bytes(b"broken")
    save(tmp_path / "last.ckpt", 3)
    assert iteration_of(read_checkpoint(tmp_path / "previous.ckpt")) == 1


def test_previous_is_copied_where_hard_links_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    for iteration in (1, 2):
        save(tmp_path / "last.ckpt", iteration)
    assert iteration_of(read_checkpoint(tmp_path / "previous.ckpt")) == 1


@pytest.mark.parametrize("step", ["manifest", "file"])
def test_file_verifies_whichever_of_the_two_renames_was_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = save(tmp_path / "last.ckpt", 1)
    replace = os.replace

    def killed(source: Path, target: Path) -> None:
        if str(target).endswith("last.ckpt.json" if step == "manifest" else "last.ckpt"):
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        save(path, 2)
    assert iteration_of(read_checkpoint(path)) == 1
    assert find_resumable(tmp_path) == path


@pytest.mark.parametrize("value", [Path("/"), {1, 2}])
def test_what_could_not_be_read_again_is_refused_when_saving(tmp_path: Path, value: object) -> None:
    with pytest.raises(TypeError, match="more than tensors and plain containers"):
        save(tmp_path / "last.ckpt", callbacks={"x": value})
    assert list(tmp_path.iterdir()) == []


def test_remove_checkpoint_takes_the_manifest_along(tmp_path: Path) -> None:
    path = save(tmp_path / "best.ckpt")
    VerifiedCheckpointIO().remove_checkpoint(path)
    assert list(tmp_path.iterdir()) == []


def test_broken_manifest_does_not_condemn_a_good_file(tmp_path: Path) -> None:
    path = save(tmp_path / "last.ckpt", 5)
    (tmp_path / "last.ckpt.json").write_text("{")
    assert find_damage(path) is None
    assert iteration_of(read_checkpoint(path)) == 5


def test_missing_file_and_empty_directory_say_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"not a file.*last\.ckpt"):
        read_checkpoint(tmp_path / "absent.ckpt")
    with pytest.raises(CheckpointError, match=r"nothing to resume from.*no \*\.ckpt"):
        find_resumable(tmp_path)


def test_check_fits_lists_the_first_three_problems() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    state = module.state_dict()
    state["0.weight"] = torch.zeros(4, 2)
    state["0.bias"] = 3
    state["extra"] = state.pop("1.bias")
    with pytest.raises(CheckpointError) as caught:
        check_fits(module, state, "x.ckpt")
    message = str(caught.value)
    assert message.startswith("x.ckpt does not fit Sequential")
    assert "1.bias is missing; extra is not part of the method" in message
    assert "0.weight is (4, 2), expected (3, 2) and 1 more" in message


def test_load_method_rebuilds_bit_by_bit(trained: tuple[ReDO, Path]) -> None:
    method, path = trained
    loaded = load_method(path)
    assert isinstance(loaded, ReDO)
    assert not loaded.training
    assert loaded.origin == method.origin
    assert all(torch.equal(v, loaded.state_dict()[k]) for k, v in method.state_dict().items())
    image = torch.rand(2, 3, 32, 32) * 2 - 1
    assert torch.equal(loaded.segment(image), method.eval().segment(image))


@pytest.mark.parametrize(
    "node",
    [
        {"_target_": "os.system", "_args_": ["touch created"]},
        {"_target_": "builtins.eval", "_args_": ["1"]},
        {"_target_": "torch.hub.load", "repo_or_dir": "x", "model": "y"},
        {"_target_": "figureground.core.io.os.system", "_args_": ["touch created"]},
        {**SMALL, "mask_optimizer": {"_target_": "os.system", "command": "touch created"}},
        {**SMALL, "metrics": {"a": {"_target_": "torch.nn.ModuleList", "modules": [
            {"_target_": "os.mkdir", "path": "created"}]}}},
    ],
)  # fmt: skip
def test_f52_targets_outside_the_allow_list_are_refused(
    trained: tuple[ReDO, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    node: dict[str, Any],
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint = read_checkpoint(trained[1])
    checkpoint["figureground"]["method"] = node
    path = tmp_path / "crafted.ckpt"
    VerifiedCheckpointIO().save_checkpoint(checkpoint, path)
    with pytest.raises(CheckpointError, match=r"crafted\.ckpt") as caught:
        load_method(path)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "created").exists()


def test_load_method_refuses_what_is_no_method(trained: tuple[ReDO, Path], tmp_path: Path) -> None:
    checkpoint = read_checkpoint(trained[1])
    checkpoint["figureground"]["method"] = {"_target_": "torch.nn.ReLU"}
    VerifiedCheckpointIO().save_checkpoint(checkpoint, tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match=r"torch\.nn\.ReLU, which is not a method"):
        load_method(tmp_path / "x.ckpt")
