"""Our networks with the authors' weights reproduce the authors' outputs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from torch.testing import assert_close

from figureground.methods.redo.convert import convert_attention, convert_network
from figureground.methods.redo.networks import (
    Discriminator,
    LatentEncoder,
    MaskNetwork,
    RegionGenerators,
)
from figureground.nn.attention import PooledSelfAttention

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
Load = Callable[[str], tuple[dict[str, Tensor], dict[str, Any]]]


@pytest.fixture
def load(golden: Callable[[str], Path]) -> Load:
    def read(name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        with safe_open(golden("redo") / f"{name}.safetensors", "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no dict
            return tensors, json.loads((file.metadata() or {}).get("config", "{}"))

    return read


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def to_image(pixels: Tensor) -> Tensor:
    return pixels.float() / 255 * 2 - 1


@pytest.mark.parametrize("name", ["mask_net", "mask_net_multi"])
def test_mask_network_matches(load: Load, name: str) -> None:
    tensors, config = load(name)
    network = MaskNetwork(
        resolution=config["sizex"],
        num_regions=config["nMasks"],
        width=config["nf"],
        num_blocks=config["nRes"],
        temperature=config["temperature"],
    )
    network.load_state_dict(convert_network("netEncM", part(tensors, "state/")))
    image = to_image(tensors["input/image_u8"])
    for network_mode in (network.train(), network.eval()):
        assert_close(network_mode(image), tensors["output/masks"], **CLOSE)
    features = network.features(image[:1])
    assert_close(features, tensors["inter/features"], **CLOSE)
    for number, context in enumerate(network.context(features)):
        assert_close(context, tensors[f"inter/pyramid.{number}"], **CLOSE)


@pytest.mark.parametrize("name", ["region_gen_attn", "region_gen_plain"])
def test_region_generators_match(load: Load, name: str) -> None:
    tensors, config = load(name)
    network = RegionGenerators(
        resolution=128,
        num_regions=config["nMasks"],
        latent_dim=config["nc"],
        width=config["nf"],
        use_attention=config["selfAtt"],
    )
    network.load_state_dict(convert_network("netGenX", part(tensors, "state/")))
    masks, latents = tensors["input/masks"].float(), tensors["input/z"].flatten(2)
    painted = network.eval()(masks, latents)
    assert_close(painted[..., 64, :], tensors["output/regions_eval_row64"], **CLOSE)
    assert_close(painted[..., ::2, ::2], tensors["output/regions_eval_stride2"], **CLOSE)
    painted = network.train()(masks, latents)
    assert_close(painted[..., 64, :], tensors["output/regions_train_row64"], **CLOSE)
    statistics = torch.stack([painted.mean(dim=(3, 4)), painted.std(dim=(3, 4))], dim=-1)
    expected = tensors["output/regions_train_mean_std_per_channel"]
    assert_close(statistics, expected, rtol=1e-3, atol=1e-4)
    check_vectors(network, "netGenX", tensors)


@pytest.mark.parametrize("name", ["disc_a", "disc_b"])
def test_discriminator_matches(load: Load, name: str) -> None:
    tensors, config = load(name)
    network = Discriminator(
        resolution=128, width=config["nf"], use_attention=config["selfAtt"]
    ).eval()
    network.load_state_dict(convert_network("netDX", part(tensors, "state/")))
    image = to_image(tensors["input/image_u8"]).requires_grad_()
    score = network(image)
    assert_close(score[:, None], tensors["output/score_eval"], **CLOSE)
    (gradient,) = torch.autograd.grad(score.sum(), image)
    assert_close(gradient[..., 64, :], tensors["output/grad_input_eval_row64"], **CLOSE)
    assert_close(network.train()(image)[:, None], tensors["output/score_train"], **CLOSE)
    check_vectors(network, "netDX", tensors)


def test_latent_encoder_matches(load: Load) -> None:
    tensors, config = load("z_encoder")
    network = LatentEncoder(
        resolution=128,
        num_regions=config["nMasks"],
        latent_dim=config["nc"],
        width=config["nf"],
    )
    network.load_state_dict(convert_network("netRecZ", part(tensors, "state/")))
    image = to_image(tensors["input/image_u8"])
    assert_close(network.eval()(image), tensors["output/z_eval"].flatten(2), **CLOSE)
    assert_close(network.train()(image), tensors["output/z_train"].flatten(2), **CLOSE)
    check_vectors(network, "netRecZ", tensors)


def test_attention_matches(load: Load) -> None:
    # The variant without pooling ("naive") exists in the authors' code and is never used.
    tensors, _ = load("attention")
    block = PooledSelfAttention(16).eval()
    block.load_state_dict(convert_attention(part(tensors, "pooled/state/")))
    assert_close(block(tensors["pooled/input"]), tensors["pooled/output"], **CLOSE)


def check_vectors(network: torch.nn.Module, name: str, tensors: dict[str, Tensor]) -> None:
    """Spectral-norm vectors after one train-mode forward."""
    state = network.state_dict()
    after = part(tensors, "after_train_forward/")
    assert after
    for key, tensor in convert_network(name, after).items():
        assert_close(state[key], tensor, **CLOSE)
