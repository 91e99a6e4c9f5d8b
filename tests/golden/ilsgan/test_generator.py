"""Two mapping and two synthesis networks with the authors' weights paint the authors' layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.testing import assert_close

from figureground.nn.stylegan2 import MappingNetwork, SynthesisNetwork, convert_released

CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 2e-5}  # atol as in the golden data's README
LAYERS = {"bg": 3, "fg": 4}


@pytest.fixture(scope="module")
def stored(golden: Callable[[str], Path]) -> dict[str, Tensor]:
    return load_file(golden("ilsgan") / "generator.safetensors")


def part(stored: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    state = {k.removeprefix(prefix): v for k, v in stored.items() if k.startswith(prefix)}
    return convert_released(state)


@pytest.fixture
def mappings(stored: dict[str, Tensor]) -> dict[str, MappingNetwork]:
    networks = {layer: MappingNetwork(32, 48, 8, depth=3) for layer in LAYERS}
    for layer, network in networks.items():
        network.load_state_dict(part(stored, f"sd.mapping_{layer}."))
    return networks


def synthesize(stored: dict[str, Tensor], clamp: float = 256.0) -> dict[str, SynthesisNetwork]:
    networks = {}
    for layer, channels in LAYERS.items():
        networks[layer] = SynthesisNetwork(
            48, 32, out_channels=channels, channel_base=512, channel_max=24, conv_clamp=clamp
        )
        networks[layer].load_state_dict(part(stored, f"sd.synthesis_{layer}."))
    return networks


def paint(
    networks: dict[str, SynthesisNetwork], styles: dict[str, Tensor], **options: Any
) -> tuple[Tensor, ...]:
    """Background, foreground, mask and composition."""
    with torch.no_grad():
        background = networks["bg"](styles["bg"], **options)
        foreground, mask = networks["fg"](styles["fg"], **options).split((3, 1), dim=1)
    mask = mask.sigmoid()
    return background, foreground, mask, mask * foreground + (1 - mask) * background


def test_styles_match(stored: dict[str, Tensor], mappings: dict[str, MappingNetwork]) -> None:
    z = stored["in.z"]
    for layer, mapping in mappings.items():
        assert_close(mapping(z), stored[f"out.ws_{layer}"], **CLOSE)
    assert_close(mappings["bg"](z, truncation=0.5), stored["out.ws_bg_psi0.5"], **CLOSE)
    found = mappings["fg"](z, truncation=0.7, cutoff=3)
    assert_close(found, stored["out.ws_fg_psi0.7_cut3"], **CLOSE)


def test_style_averages_match(
    stored: dict[str, Tensor], mappings: dict[str, MappingNetwork]
) -> None:
    for layer, mapping in mappings.items():
        mapping(stored["in.z"], update_average=True)
        assert_close(mapping.w_avg, stored[f"out.w_avg_{layer}_after_train_fwd"], **CLOSE)


@pytest.mark.parametrize("fused", [False, True, None])
def test_layers_match(stored: dict[str, Tensor], fused: bool | None) -> None:
    networks = synthesize(stored)
    styles = {layer: stored[f"out.ws_{layer}"] for layer in LAYERS}
    bg, fg, mask, img = paint(networks, styles, noise="const", fused=fused)
    for name, found in (("bg", bg), ("fg", fg), ("mask", mask), ("img", img)):
        assert_close(found, stored[f"out.const.{name}"], **CLOSE)
    assert_close(img, stored["out.train_const.img"], **CLOSE)
    raw = networks["fg"](styles["fg"], noise="const", fused=fused)
    assert_close(raw, stored["out.raw_fg_rgba"], **CLOSE)


def test_other_settings_match(
    stored: dict[str, Tensor], mappings: dict[str, MappingNetwork]
) -> None:
    styles = {layer: stored[f"out.ws_{layer}"] for layer in LAYERS}
    networks = synthesize(stored)
    assert_close(paint(networks, styles, noise="none")[3], stored["out.none.img"], **CLOSE)
    pulled = {layer: mapping(stored["in.z"], truncation=0.5) for layer, mapping in mappings.items()}
    found = paint(networks, pulled, noise="const")[3]
    assert_close(found, stored["out.const_psi0.5.img"], **CLOSE)
    clamped = paint(synthesize(stored, 0.9), styles, noise="const")[3]
    assert_close(clamped, stored["out.clamp0.9.img"], **CLOSE)
