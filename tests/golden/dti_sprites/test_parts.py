"""Transformations, clamps, masks, composition, encoders, schedules and re-assignment."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn
from torch.testing import assert_close

from figureground.methods.dti_sprites.composition import compose
from figureground.methods.dti_sprites.convert import convert_state
from figureground.methods.dti_sprites.module import DTISprites
from figureground.methods.dti_sprites.reassignment import replace_sprites
from figureground.methods.dti_sprites.schedules import Milestones
from figureground.methods.dti_sprites.sprites import SpriteBank
from figureground.methods.dti_sprites.transforms import TransformGroup
from figureground.nn.encoders import Encoder

CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}
WARPED: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture
def folder(golden: Callable[[str], Path]) -> Path:
    return golden("dti_sprites")


def read(folder: Path, name: str) -> dict[str, Tensor]:
    with safe_open(folder / f"{name}.safetensors", "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no dict


@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize(
    "name", ["color", "affine", "position", "similarity", "projective", "tps", "morphological"]
)
def test_transformations_match(folder: Path, name: str, padding: Any) -> None:
    tensors = read(folder, "modules")
    prefix = f"{name}.{padding}."
    stored = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    image = tensors["x5"]
    if name == "morphological":
        image = image[:, :1]
    if name == "tps":
        image = F.interpolate(image, stored["out"].shape[-2:])
    group = TransformGroup(name, 1, 3, tuple(stored["out"].shape[-2:]), padding=padding)  # type: ignore[arg-type]
    assert_close(group(image, {0: stored["beta"]}), stored["out"], **WARPED)
    zero = torch.zeros_like(stored["beta"])
    assert_close(group(image, {0: zero}), stored["out_at_zero"], **WARPED)


def test_clamps_match(folder: Path) -> None:
    tensors = read(folder, "modules")
    x = tensors["clamp.x"]
    for ours, theirs, slope in (
        ("soft", "soft", 0.01), ("hard", "hard", 0.01), ("soft", "soft0.1", 0.1),
        ("straight", "diff", 0.01),
    ):  # fmt: skip
        bank = SpriteBank(1, (4, 4), 0, (4, 4), clamp=ours, slope=slope)  # type: ignore[arg-type]
        assert_close(bank.clamp(x), tensors[f"clamp.{theirs}"])


def test_initial_masks_match(folder: Path) -> None:
    found = {k: v for k, v in read(folder, "modules").items() if k.startswith("gauss.")}
    assert found
    for key, mask in found.items():
        size = tuple(mask.shape[-2:])
        bank = SpriteBank(2, size, 0, size, mask_std=float(key.rpartition("std")[2]))  # type: ignore[arg-type]
        assert_close(bank.mask[1].detach(), mask, **CLOSE)


def test_composition_matches(folder: Path) -> None:
    tensors = read(folder, "modules")
    color, mask = (tensors[f"comp.{name}"].transpose(0, 1) for name in ("layers", "masks"))
    occlusion = tensors["comp.occ"].permute(2, 0, 1)
    assert_close(compose(color, mask, occlusion), tensors["comp.out"], **CLOSE)


def _formula_weights(encoder: nn.Module, a: float, b: float) -> dict[str, Tensor]:
    """Weights by the formula of the golden data's README."""
    state = {k: v for k, v in encoder.state_dict().items() if "num_batches" not in k}
    filled = {}
    for j, key in enumerate(sorted(state)):
        tensor = state[key]
        place = torch.arange(tensor.numel(), dtype=torch.float64)
        s = torch.sin(a * place + b * (j + 1)).view(tensor.shape)
        if tensor.dim() >= 2:
            value = 1.2 * math.sqrt(2 / (tensor.numel() / len(tensor))) * s
        elif key.endswith("running_var"):
            value = 1 + 0.3 * s
        elif key.endswith("weight"):
            value = 1 + 0.2 * s
        else:
            value = 0.1 * s
        filled[key] = value.float()
    return filled


def test_encoders_match(folder: Path) -> None:
    tensors = read(folder, "encoders")
    a, b = tensors["a_b"].tolist()
    names = sorted({key.removesuffix(".input") for key in tensors if key.endswith(".input")})
    assert len(names) >= 4
    for name in names:
        kind, _, pool = name.split(".")
        cells = [int(c) for c in pool.replace("x", " ").replace("_", " ").split() if c.isdigit()]
        encoder = Encoder(kind, cells if len(cells) == 2 else (1, 1))  # type: ignore[arg-type]
        assert isinstance(encoder.trunk, nn.Module)
        # Theirs are numbered under `encoder.`, which changes nothing in the order.
        encoder.trunk.load_state_dict(_formula_weights(encoder.trunk, a, b), strict=False)
        with torch.no_grad():
            found = encoder.eval()(tensors[f"{name}.input"])
        assert_close(found, tensors[f"{name}.output"], rtol=1e-4, atol=1e-4)


def test_schedules_match(folder: Path) -> None:
    """By epoch in theirs, by iteration in ours; any number of iterations per epoch will do."""
    stored = json.loads((folder / "schedules.json").read_text())
    drops = {
        "tetro": ([100, 200], 1.0, 1e-4), "dsprites": ([250, 500], 1.0, 1e-4),
        "clevr6": ([250, 400], 1.0, 1e-4), "gtsrb8": ([600], 0.1, 1e-3), "svhn": ([50], 0.1, 1e-3),
        "horse": ([14000], 0.1, 1e-3), "instagram": ([700], 0.1, 1e-3),
    }  # fmt: skip
    per_epoch = 3
    for name, (epochs, gamma, lr) in drops.items():
        rates = Milestones([epoch * per_epoch for epoch in epochs], gamma, 0.1)
        for change in stored[name]["changes"]:
            for iteration in ((change["epoch"] - 1) * per_epoch + 1, change["epoch"] * per_epoch):
                found = [lr * rates.factor(iteration, number) for number in (0, 1)]
                assert found == pytest.approx(change["lr"]), (name, change["epoch"])


def test_reassignment_matches(folder: Path) -> None:
    tensors = read(folder, "reassign")
    facts = json.loads((folder / "reassign.json").read_text())
    before, after = (
        convert_state(
            {k.removeprefix(when): v for k, v in tensors.items() if k.startswith(when)}, 5
        )
        for when in ("before.", "after.")
    )
    method = DTISprites(
        resolution=32, num_sprites=4, num_layers=2, sprite_size=(14, 14), encoder="default",
        encoder_pool=(2, 2), sprite_transform="identity_similarity", background_transform="color",
        layer_transform="color_position", hidden_width=16, occlusion="predicted",
        selection="greedy", empty_sprite=facts["add_empty"], reassign_threshold=facts["threshold"],
    )  # fmt: skip
    method.load_state_dict(before, strict=False)
    unused, winner = method.reassignment.find_unused(tensors["proportions"], method.model.has_empty)
    assert (unused, winner) == (facts["reassigned"], facts["from_cluster"])
    noise = tensors["noise"].expand(4, -1, -1, -1)
    replace_sprites(method.model, unused, winner, noise)
    found = method.state_dict()
    for key, tensor in after.items():
        assert_close(found[key], tensor, **CLOSE)
