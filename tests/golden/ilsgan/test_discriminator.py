"""The discriminator with the authors' weights gives the authors' scores and gradients."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import Tensor
from torch.testing import assert_close

from figureground.losses.adversarial import r1_penalty
from figureground.nn.stylegan2 import convert_released
from figureground.nn.stylegan2_discriminator import StyleDiscriminator

CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 2e-5}  # atol as in the golden data's README


@pytest.fixture(scope="module")
def stored(golden: Callable[[str], Path]) -> dict[str, Tensor]:
    return load_file(golden("ilsgan") / "discriminator.safetensors")


def load(stored: dict[str, Tensor], clamp: float = 256.0) -> StyleDiscriminator:
    network = StyleDiscriminator(32, channel_base=512, channel_max=24, conv_clamp=clamp)
    state = {k.removeprefix("sd."): v for k, v in stored.items() if k.startswith("sd.")}
    network.load_state_dict(convert_released(state))
    return network


def test_scores_match(stored: dict[str, Tensor]) -> None:
    network, image = load(stored), stored["in.img"]
    assert_close(network(image)[:, None], stored["out.logits"], **CLOSE)
    assert_close(network(image[:3])[:, None], stored["out.logits_first3"], **CLOSE)
    assert_close(network.features(image), stored["out.feat4"], **CLOSE)
    clamped = load(stored, 0.9)(image)[:, None]
    assert_close(clamped, stored["out.clamp0.9.logits"], **CLOSE)


def test_gradient_penalty_matches(stored: dict[str, Tensor], golden: Callable[[str], Path]) -> None:
    network, image = load(stored), stored["in.img"].clone().requires_grad_()
    penalty = r1_penalty(network(image), image)
    assert_close(penalty, stored["out.r1_penalty"], **CLOSE)
    loss = penalty.mean() * 10 / 2
    scalars = json.loads((golden("ilsgan") / "scalars.json").read_text())
    assert loss.item() == pytest.approx(scalars["r1_loss_mean_gamma10"], rel=1e-4)
    loss.backward()
    prefix = "out.r1_param_grad."
    expected = {k.removeprefix(prefix): v for k, v in stored.items() if k.startswith(prefix)}
    assert expected
    for name, gradient in expected.items():
        found = network.get_parameter(name).grad
        limit = 1e-4 * gradient.abs().max().item()
        assert_close(found, gradient, rtol=1e-4, atol=limit, msg=lambda m, n=name: f"{n}: {m}")


def test_image_gradient_matches(stored: dict[str, Tensor]) -> None:
    network, image = load(stored), stored["in.img"].clone().requires_grad_()
    network(image).sum().backward()
    expected = stored["out.r1_grad"]
    assert_close(image.grad, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
