"""Folders of StudioGAN: which file is taken, and what the configuration beside it must say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from containers import studiogan_state
from figureground import load_generator
from figureground.cli.painting import paint
from figureground.core.errors import CheckpointError, ConfigError, UserError
from figureground.generators.studiogan import StudioGAN
from figureground.generators.weights import read_weights

SMALL = {"resolution": 32, "width": 2, "latent_dim": 6, "num_classes": 3, "attention_after": None}
LIVE, AVERAGED = "model=G-best-weights-step=9.pth", "model=G_ema-best-weights-step=9.pth"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of one model, with live and averaged weights and its configuration."""
    for seed, name in enumerate((LIVE, AVERAGED)):
        torch.manual_seed(seed)
        torch.save({"state_dict": studiogan_state(), "step": 9}, tmp_path / name)
    torch.save({"state_dict": {}}, tmp_path / "model=D-best-weights-step=9.pth")
    config = {"DATA": {"img_size": 32}, "MODEL": {"z_dim": 6, "activation_fn": "ReLU"}}
    (tmp_path / "SNGAN.json").write_text(json.dumps(config))
    return tmp_path


def test_averaged_weights_are_taken_first(folder: Path) -> None:
    def first() -> torch.Tensor:
        return next(iter(read_weights(StudioGAN, folder).state_dict.values()))

    def of(name: str) -> torch.Tensor:
        return next(iter(read_weights(StudioGAN, folder / name).state_dict.values()))

    assert torch.equal(first(), of(AVERAGED))
    assert not torch.equal(first(), of(LIVE))
    (folder / AVERAGED).replace(folder / AVERAGED.replace("best", "current"))
    assert StudioGAN.find_file(folder).name == AVERAGED.replace("best", "current")
    StudioGAN.find_file(folder).unlink()
    assert torch.equal(first(), of(LIVE))
    assert load_generator("studiogan", folder, **SMALL).resolution == 32


@pytest.mark.parametrize("fold", [True, False])
def test_folder_loads_by_name(folder: Path, fold: bool) -> None:
    network = load_generator("studiogan", folder, **SMALL, fold=fold)
    assert network(network.latent(2)).shape == (2, 3, 32, 32)


def test_pictures_of_other_weights_in_the_folder_are_not_mixed(
    folder: Path, compose: Callable[..., DictConfig], tmp_path: Path
) -> None:
    options = [f"generator.{name}={'null' if v is None else v}" for name, v in SMALL.items()]
    config = compose(
        "generator=studiogan", *options, f"generator.weights='{folder}'", "device=cpu", "count=1",
        f"output={tmp_path / 'out'}", config_name="generate",
    )  # fmt: skip
    paint(config)
    paint(config)
    (folder / LIVE).replace(folder / AVERAGED)
    with pytest.raises(UserError, match="holds samples of other options"):
        paint(config)


def test_folders_without_one_generator_are_refused(folder: Path) -> None:
    (folder / AVERAGED.replace("9", "8")).write_bytes(b"")
    with pytest.raises(ConfigError, match=r"holds model=G_ema.*8\.pth, .*; expected one"):
        load_generator("studiogan", folder, **SMALL)
    for path in folder.glob("model=G*"):
        path.unlink()
    with pytest.raises(CheckpointError, match=r"no \.pth of a generator; expected one model=G"):
        read_weights(StudioGAN, folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"DATA": {"img_size": 64}}', "img_size=64, but .* resolution=32"),
        ('{"a": {"b": {"z_dim": 7}}}', "z_dim=7, but .* latent_dim=6"),
        ('{"activation_fn": "GELU"}', "activation_fn=GELU; only ReLU"),
        (json.dumps({"activation_fn": "a\nb" * 10**5}), "activation_fn=a ba .{95}; only ReLU"),
        ("{", "is not a configuration of StudioGAN"),
        ("[" * 100_000, "is not a configuration of StudioGAN"),
        (" " * 2**21, "larger than 1048576 bytes"),
    ],
)
def test_configuration_of_another_network_is_refused(folder: Path, text: str, message: str) -> None:
    (folder / "SNGAN.json").write_text(text)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_weights(StudioGAN, folder)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    (folder / "SNGAN.json").write_text("{}")
    (folder / "other.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"holds 2 \.json files"):
        read_weights(StudioGAN, folder)
