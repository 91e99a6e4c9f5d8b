"""CIPS with the authors' weights paints the authors' pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from figureground.core.types import Latent
from figureground.generators.cips import CIPS

Rebuild = Callable[..., tuple[Any, dict[str, Tensor]]]
CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}


@pytest.mark.parametrize("name", ["cips_skip", "cips_res"])
def test_pictures_styles_and_gradients_match(rebuild: Rebuild, name: str) -> None:
    more = {"latent_space": "z", "truncation": 1.0, "noise_mode": "none"}
    network, stored = rebuild(CIPS, name, **more)
    z = stored["in.z"].clone().requires_grad_()
    assert_close(network.map(z), stored["out.w"], **CLOSE)
    image = network.paint(z, None)
    assert_close(image, stored["out.x"], **CLOSE)
    assert_close(network(Latent(z)), stored["out.x"].clamp(-1, 1), **CLOSE)
    (gradient,) = torch.autograd.grad((image * stored["probe"]).mean(), z)
    assert_close(gradient, stored["out.grad_z_of_mean_x_times_probe"], **CLOSE)


@pytest.mark.parametrize("name", ["cips_skip", "cips_res"])
def test_truncated_pictures_match(rebuild: Rebuild, name: str) -> None:
    network, stored = rebuild(CIPS, name, truncation=0.7, noise_mode="none")
    network.mean_style = stored["in.truncation_latent"]
    # The authors pull what they are given, styles here, before anything else.
    found = network.paint(network.truncate(stored["out.w"]), None)
    assert_close(found, stored["out.x_truncation0.7_input_is_latent"], **CLOSE)
