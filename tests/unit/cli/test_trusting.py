"""Files that are refused though trusted: `convert` says how to go on, and opens nothing itself."""

from __future__ import annotations

import pickle
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from crafted import Payload
from omegaconf import DictConfig

from figureground.cli.convert import convert
from figureground.cli.trusting import outside_command
from figureground.core.errors import CheckpointError, RefusedFileError
from figureground.generators.dcgan import DCGAN

Compose = Callable[..., DictConfig]


def run_outside(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """What a shell would do with the command, in this process."""
    _, flag, script, *arguments = shlex.split(command)
    assert flag == "-c"
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", ["-c", *arguments])
        exec(script, {})


def test_refused_file_is_never_opened_and_the_command_takes_its_weights_out(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, made, output = tmp_path / "it's.pth", tmp_path / "made", tmp_path / "out.safetensors"
    state = DCGAN(resolution=16, latent_dim=6, width=2).state_dict()
    torch.save({"state_dict": state, "config": Payload(made)}, file)
    options = ["generator=dcgan_faces", f"output={output}"]

    def converting(path: Path, *more: str) -> Path:
        config = compose(*options, *more, config_name="convert")
        config.weights = str(path)
        return convert(config)

    with pytest.raises(RefusedFileError, match="i_trust_this_file=true says how") as plain:
        converting(file)
    assert "\n" not in str(plain.value)
    with pytest.raises(RefusedFileError, match="nothing in it was run.*not opened here") as caught:
        converting(file, "i_trust_this_file=true")
    assert caught.value.exit_code == 2
    assert not made.exists()
    command, plain_file = outside_command(file)
    assert command in str(caught.value)
    assert str(plain_file) in str(caught.value)
    run_outside(monkeypatch, command)
    assert made.exists()  # There, not here.
    assert converting(plain_file) == output


def test_other_refusals_get_no_such_hint(compose: Compose, tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pth")
    config = compose(
        "generator=dcgan_faces", f"weights={tmp_path}/a.pth", "i_trust_this_file=true",
        config_name="convert",
    )  # fmt: skip
    with pytest.raises(CheckpointError, match="is not a file of DCGAN") as caught:
        convert(config)
    assert "trust" not in str(caught.value)


@pytest.mark.parametrize("method", ["redo", "dti_sprites", "ilsgan", "l2ic", "segmenter"])
def test_hint_stands_in_refusals_of_methods(compose: Compose, tmp_path: Path, method: str) -> None:
    file, made = tmp_path / "w.pth", tmp_path / "made"
    torch.save({"model": Payload(made)}, file)
    config = compose(f"method={method}", "data=toy", f"weights={file}", config_name="convert")
    with pytest.raises(RefusedFileError, match="i_trust_this_file=true says how"):
        convert(config)
    assert not made.exists()


class Owner:
    """A module of a project: its weights come by `state_dict`."""

    def state_dict(self) -> dict[str, Any]:
        return {"weight": torch.ones(2)}


def test_plain_values_and_state_dicts_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {"G_ema": Owner(), "step": 3, "sizes": [1, (2.5, None)], "other": {3}, (1,): 4}
    file = tmp_path / "n.pkl"
    file.write_bytes(pickle.dumps(content))
    command, output = outside_command(file)
    run_outside(monkeypatch, command)
    found = torch.load(output, weights_only=True)
    assert torch.equal(found.pop("G_ema")["weight"], torch.ones(2))
    assert found == {"step": 3, "sizes": [1, [2.5, None]], "other": None}
