"""StyleGAN2-ADA behind the common interface paints the authors' pictures from their files."""

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

from figureground.core.types import Latent
from figureground.generators.stylegan2 import StyleGAN2
from figureground.generators.weights import read_weights

Rebuild = Callable[..., tuple[Any, dict[str, Tensor]]]
CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}
CLAMPS = {"stylegan2_skip": 256, "stylegan2_cond_clamp": 2.0, "stylegan2_resnet": None,
          "stylegan2_orig": None}  # fmt: skip


@pytest.mark.parametrize("name", CLAMPS)
def test_pictures_and_gradients_match(rebuild: Rebuild, name: str) -> None:
    clamp = CLAMPS[name]
    network, stored = rebuild(StyleGAN2, name, conv_clamp=clamp, latent_space="z", truncation=1.0)
    z = stored["in.z"].clone().requires_grad_()
    label = stored["in.c"].argmax(dim=1) if "in.c" in stored else None
    image = network.paint(z, label)
    assert_close(image, stored["out.x"], **CLOSE)
    assert_close(network(Latent(z, label)), stored["out.x"].clamp(-1, 1), **CLOSE)
    (gradient,) = torch.autograd.grad((image * stored["probe"]).mean(), z)
    assert_close(gradient, stored["out.grad_z_of_mean_x_times_probe"], **CLOSE)


@pytest.mark.parametrize("name", CLAMPS)
def test_truncated_styles_match(rebuild: Rebuild, name: str) -> None:
    network, stored = rebuild(StyleGAN2, name, conv_clamp=CLAMPS[name], cutoff=4)
    assert isinstance(network, StyleGAN2)
    label = stored["in.c"].argmax(dim=1) if "in.c" in stored else None
    styles = network.map(stored["in.z"], label)
    assert_close(styles, stored["out.w_psi0.5_cutoff4"], **CLOSE)
    assert_close(network.paint(styles, None), stored["out.x_noise_const_psi0.5_cutoff4"], **CLOSE)
    network.noise_mode = "none"
    assert_close(network.paint(styles, None), stored["out.x_noise_none"], **CLOSE)
    network.truncation, network.cutoff = 0.7, None
    assert_close(network.map(stored["in.z"], label), stored["out.w_psi0.7"], **CLOSE)


def test_container_gives_weights_and_constructor_arguments(golden: Callable[[str], Path]) -> None:
    folder = golden("generators")
    found = read_weights(StyleGAN2, folder / "stylegan2_container.pkl")
    config = json.loads((folder / "index.json").read_text())["stylegan2_skip"]["config"]
    assert StyleGAN2.simplify(found.options) == {
        "resolution": config["img_resolution"],
        "latent_dim": config["z_dim"],
        "style_dim": config["w_dim"],
        "num_classes": 0,
        "mapping_depth": 8,
        "channel_base": config["synthesis_kwargs"]["channel_base"],
        "channel_max": config["synthesis_kwargs"]["channel_max"],
        "architecture": "skip",
        "conv_clamp": 256,
    }
    for key, tensor in load_file(folder / "stylegan2_skip.state.safetensors").items():
        if not key.endswith("resample_filter"):
            assert torch.equal(found.state_dict[f"network.{key}"], tensor), key
    network = StyleGAN2(**found.options, weights=str(folder / "stylegan2_container.pkl"))
    assert network(network.latent(2)).shape == (2, 3, 32, 32)
