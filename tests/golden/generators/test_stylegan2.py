"""Plain StyleGAN2-ADA generators with the authors' weights paint the authors' pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.testing import assert_close

from figureground.core.errors import CheckpointError
from figureground.core.released import collect_module, read_released
from figureground.methods.ilsgan.convert import convert_checkpoint
from figureground.nn.stylegan2 import StyleGenerator, convert_released

CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}
NAMES = ["stylegan2_skip", "stylegan2_cond_clamp", "stylegan2_resnet", "stylegan2_orig"]
Load = Callable[[str], tuple[StyleGenerator, dict[str, Tensor]]]


@pytest.fixture
def load(golden: Callable[[str], Path]) -> Load:
    def read(name: str) -> tuple[StyleGenerator, dict[str, Tensor]]:
        folder = golden("generators")
        entry = json.loads((folder / "index.json").read_text())[name]
        config = entry["config"]
        synthesis = config["synthesis_kwargs"]
        network = StyleGenerator(
            config["img_resolution"],
            latent_dim=config["z_dim"],
            style_dim=config["w_dim"],
            num_classes=config["c_dim"],
            mapping_depth=config["mapping_kwargs"]["num_layers"],
            out_channels=config["img_channels"],
            channel_base=synthesis["channel_base"],
            channel_max=synthesis["channel_max"],
            conv_clamp=synthesis["conv_clamp"],
            architecture=synthesis["architecture"],
        )
        network.load_state_dict(convert_released(load_file(folder / f"{name}.state.safetensors")))
        assert sum(p.numel() for p in network.parameters()) == entry["n_params"]
        return network.eval(), load_file(folder / f"{name}.io.safetensors")

    return read


@pytest.mark.parametrize("name", NAMES)
def test_styles_match(load: Load, name: str) -> None:
    network, stored = load(name)
    z, label = stored["in.z"], stored.get("in.c")
    mapping = network.mapping
    assert_close(mapping(z, label), stored["out.w"], **CLOSE)
    assert_close(mapping(z, label, truncation=0.7), stored["out.w_psi0.7"], **CLOSE)
    found = mapping(z, label, truncation=0.5, cutoff=4)
    assert_close(found, stored["out.w_psi0.5_cutoff4"], **CLOSE)
    if label is not None:
        assert_close(mapping(z, label.argmax(dim=1)), stored["out.w"], **CLOSE)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_pictures_match(load: Load, name: str, fused: bool) -> None:
    network, stored = load(name)
    z, label = stored["in.z"], stored.get("in.c")
    styles = network.mapping(z, label)
    found = network.synthesis(styles, noise="const", fused=fused)
    assert_close(found, stored["out.x"], **CLOSE)
    styles = network.mapping(z, label, truncation=0.5, cutoff=4)
    found = network.synthesis(styles, noise="none", fused=fused)
    assert_close(found, stored["out.x_noise_none"], **CLOSE)
    found = network(z, label, truncation=0.5, cutoff=4, noise="const")
    assert_close(found, stored["out.x_noise_const_psi0.5_cutoff4"], **CLOSE)


@pytest.mark.parametrize("name", NAMES)
def test_latent_gradients_match(load: Load, name: str) -> None:
    network, stored = load(name)
    z = stored["in.z"].clone().requires_grad_()
    image = network(z, stored.get("in.c"), noise="const")
    (gradient,) = torch.autograd.grad((image * stored["probe"]).mean(), z)
    assert_close(gradient, stored["out.grad_z_of_mean_x_times_probe"], **CLOSE)


def test_container_is_read_as_its_tensors(golden: Callable[[str], Path]) -> None:
    path = golden("generators") / "stylegan2_container.pkl"
    content = read_released(path)
    stored = load_file(golden("generators") / "stylegan2_skip.state.safetensors")
    found = collect_module(content["G_ema"])
    assert set(found) == set(stored)
    for key, tensor in stored.items():
        assert torch.equal(found[key], tensor), key
    with pytest.raises(CheckpointError, match="has no layered generator"):
        convert_checkpoint(path)
