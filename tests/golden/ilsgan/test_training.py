"""The layered generator, and one step of each phase, against the authors' code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from pytorch_lightning import Callback, Trainer
from safetensors.torch import load_file
from torch import Tensor
from torch.testing import assert_close
from torch.utils.data import DataLoader

from figureground.core.types import Batch
from figureground.methods.ilsgan import ILSGAN
from figureground.methods.ilsgan.convert import convert_network
from figureground.methods.ilsgan.networks import LayeredGenerator
from figureground.methods.ilsgan.perturbation import LayeredPicture
from figureground.methods.ilsgan.schedules import Sigma
from figureground.nn.modulation import SynthesisLayer

Golden = Callable[[str], Path]
SIZES = {"latent_dim": 32, "style_width": 48, "mapping_depth": 3, "channel_base": 512}
CLOSE = {"rtol": 1e-4, "atol": 2e-5}


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


@pytest.fixture(scope="module")
def stored(golden: Golden) -> dict[str, Tensor]:
    return load_file(golden("ilsgan") / "generator.safetensors")


def make_generator(stored: dict[str, Tensor], **options: Any) -> LayeredGenerator:
    generator = LayeredGenerator(32, **SIZES, channel_max=24, **options)
    generator.load_state_dict(convert_network("G", part(stored, "sd.")))
    return generator


def test_styles_match(stored: dict[str, Tensor]) -> None:
    generator, z = make_generator(stored), stored["in.z"]
    for number, layer in enumerate(("bg", "fg")):
        assert_close(generator.map(z)[number], stored[f"out.ws_{layer}"], **CLOSE)
    half = generator.map(z, truncation=0.5)[0]
    assert_close(half, stored["out.ws_bg_psi0.5"], **CLOSE)
    cut = generator.map(z, truncation=0.7, cutoff=3)[1]
    assert_close(cut, stored["out.ws_fg_psi0.7_cut3"], **CLOSE)


@torch.no_grad()
def test_layers_match(stored: dict[str, Tensor]) -> None:
    generator, z = make_generator(stored), stored["in.z"]
    picture = generator(z, noise="const")
    for key, found in {
        "bg": picture.background,
        "fg": picture.foreground,
        "mask": picture.mask,
        "fg_x_mask": picture.cutout,
        "img": picture.composite,
    }.items():
        assert_close(found, stored[f"out.const.{key}"], **CLOSE)
    rgba = generator.synthesis_foreground(generator.map(z)[1], noise="const")
    assert_close(rgba, stored["out.raw_fg_rgba"], **CLOSE)
    assert_close(picture.mask * picture.foreground, stored["out.gl.fg_x_mask"], **CLOSE)
    assert_close(generator(z, noise="none").composite, stored["out.none.img"], **CLOSE)
    truncated = generator(z, noise="const", truncation=0.5)
    assert_close(truncated.composite, stored["out.const_psi0.5.img"], **CLOSE)
    clamped = make_generator(stored, conv_clamp=0.9)(z, noise="const")
    assert_close(clamped.composite, stored["out.clamp0.9.img"], **CLOSE)


@torch.no_grad()
def test_training_moves_the_mean_styles_as_stored(stored: dict[str, Tensor]) -> None:
    generator = make_generator(stored)
    picture = generator(stored["in.z"], noise="const", update_average=True)
    assert_close(picture.composite, stored["out.train_const.img"], **CLOSE)
    for mapping, layer in (
        (generator.mapping_background, "bg"),
        (generator.mapping_foreground, "fg"),
    ):
        assert_close(mapping.w_avg, stored[f"out.w_avg_{layer}_after_train_fwd"], **CLOSE)


@pytest.fixture(scope="module")
def step(golden: Golden) -> dict[str, Tensor]:
    return load_file(golden("ilsgan") / "train_step.safetensors")


def make_method(step: dict[str, Tensor], kimg: int, gamma: float | None = None) -> ILSGAN:
    # Sigma 1 from the start stands for 500 thousand pictures seen.
    sigma = Sigma() if kimg == 0 else Sigma(first=Sigma().at(1000 * kimg))
    method = ILSGAN(resolution=32, max_width=24, sigma=sigma, r1_gamma=gamma, **SIZES)
    method.generator.load_state_dict(convert_network("G", part(step, "G0.")))
    method.discriminator.load_state_dict(convert_network("D", part(step, "D0.")))
    return method


class Phases(Callback):
    """Keeps gradients and weights of each step."""

    def __init__(self) -> None:
        self.gradients: list[dict[str, Tensor]] = []
        self.generator: dict[str, Tensor] = {}

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        owned = {id(p) for group in optimizer.param_groups for p in group["params"]}
        self.gradients.append(
            {
                name: parameter.grad.clone()
                for name, parameter in module.named_parameters()
                if id(parameter) in owned and parameter.grad is not None
            }
        )


def train(step: dict[str, Tensor], method: ILSGAN) -> Phases:
    phases = Phases()
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, logger=False, callbacks=[phases],
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    batch = Batch(step["in.real_D"], tuple("abcdefgh"))

    def draw_inputs(self: ILSGAN, count: int) -> tuple[Tensor, Tensor]:
        if not phases.gradients:
            return step["in.z_G"], step["in.eps_G"]
        # The stored generator, so that Adam's unsure first steps do not show in what follows.
        own = {key: value.clone() for key, value in self.generator.state_dict().items()}
        phases.generator = own
        stepped = convert_network("G", part(step, "G1."))
        self.generator.load_state_dict(own | stepped)
        return step["in.z_D"], step["in.eps_D"]

    orders = [step["in.perm0"], step["in.perm1"]]
    regularise = ILSGAN._regularise_discriminator

    def regularise_stored(self: ILSGAN, _: Tensor, batch_size: int) -> None:
        self.discriminator.load_state_dict(convert_network("D", part(step, "D1.")))
        # Adam's averages too are as if the stored gradient had been the first one.
        (optimizer,) = self.trainer.optimizers[1:]
        (beta,) = {group["betas"][1] for group in optimizer.param_groups}
        weights = dict(self.discriminator.named_parameters())
        for key, gradient in convert_network("D", part(step, "Dmain.grad.")).items():
            optimizer.state[weights[key]]["exp_avg_sq"].copy_((1 - beta) * gradient.square())
        regularise(self, step["in.real_Dreg"], batch_size)

    with (
        # At first its strengths are zero, and no gradient of theirs was stored.
        patch.object(SynthesisLayer, "_draw_noise", return_value=None),
        patch.object(ILSGAN, "_draw_inputs", draw_inputs),
        patch("figureground.methods.ilsgan.independence.torch.randperm", side_effect=orders),
        patch.object(ILSGAN, "_regularise_discriminator", regularise_stored),
    ):
        trainer.fit(method, DataLoader([batch], batch_size=None))
    return phases


def compare(
    found: dict[str, Tensor], expected: dict[str, Tensor], name: str, share: float = 1e-4
) -> None:
    stored = convert_network(name, expected)
    owner = {"G": "generator", "D": "discriminator"}[name]
    assert len(stored) > 20
    for key, tensor in stored.items():
        if key.endswith("noise_strength"):
            continue
        gradient = found[f"{owner}.{key}"]
        scale = float(tensor.abs().max())
        assert_close(
            gradient, tensor, rtol=1e-4, atol=share * scale, msg=lambda m, k=key: f"{k}: {m}"
        )


def check_steps(step: dict[str, Tensor], phases: Phases, method: ILSGAN) -> None:
    """Compare the discriminator after its penalty, Adam's second step."""
    found = method.discriminator.state_dict()
    for key, tensor in convert_network("D", part(step, "D2.")).items():
        gradient = phases.gradients[2][f"discriminator.{key}"]
        sure = gradient.abs() > 1e-3 * gradient.abs().max()
        assert_close(found[key][sure], tensor[sure], rtol=1e-4, atol=1e-5, msg=key)


@pytest.mark.parametrize("kimg", [0, 500])
def test_phases_match(golden: Golden, step: dict[str, Tensor], kimg: int) -> None:
    scalars = json.loads((golden("ilsgan") / "scalars.json").read_text())
    method = make_method(step, kimg, scalars["r1_gamma_train_step"])
    phases = train(step, method)
    compare(phases.gradients[0], part(step, f"Gmain_k{kimg}.grad."), "G")
    total = torch.tensor(scalars["Gmain_components"][f"total_k{kimg}"])
    assert_close(method.last_losses["generator"], total, rtol=1e-4, atol=0)
    for ours, theirs in {
        "adversarial": "adv", "binarity": "bin", "size": "msize", "independence": "mi_sigma1",
    }.items():  # fmt: skip
        expected = torch.tensor(scalars["Gmain_components"][theirs])
        assert_close(method.last_losses[ours], expected, rtol=1e-4, atol=1e-6)
    if kimg == 0:
        return  # What follows was stored after the other step.
    for key, tensor in convert_network("G", part(step, "G1.")).items():
        if key.endswith("noise_strength"):
            continue
        # Adam's first step has the length lr whatever the gradient's: compare where that is large.
        gradient = phases.gradients[0].get(f"generator.{key}")
        sure = torch.ones_like(tensor, dtype=torch.bool)
        if gradient is not None:
            sure = gradient.abs() > 1e-3 * gradient.abs().max()
        assert_close(phases.generator[key][sure], tensor[sure], rtol=1e-4, atol=1e-5, msg=key)
    check_steps(step, phases, method)
    # By then their strengths are 0.002, and the noise drawn with them was not stored.
    compare(phases.gradients[1], part(step, "Dmain.grad."), "D", 1e-2)
    compare(phases.gradients[2], part(step, "Dreg.grad."), "D")


def test_layers_of_the_step_match(step: dict[str, Tensor]) -> None:
    method = make_method(step, 0)
    with torch.no_grad():
        picture = method.generator(step["in.z_G"], noise="none")
        moved: LayeredPicture = method.perturbation(picture, step["in.eps_G"])
        for key, found in {
            "layer.bg": picture.background,
            "layer.fg": picture.foreground,
            "layer.mask": picture.mask,
            "layer.img": picture.composite,
            "tx.mask": moved.mask,
            "tx.img": moved.composite,
        }.items():
            assert_close(found, step[f"Gmain.{key}"], **CLOSE)
        logits = method.score(moved.composite)
    assert_close(logits, step["Gmain.logits"].squeeze(1), rtol=1e-4, atol=1e-4)


def test_optimisers_are_slowed_down_as_stored(golden: Golden) -> None:
    method = ILSGAN(resolution=32, max_width=8, **SIZES)
    expected = json.loads((golden("ilsgan") / "scalars.json").read_text())["opt"]
    for optimizer, name in zip(method.configure_optimizers(), "GD", strict=True):
        assert optimizer.defaults["lr"] == pytest.approx(expected[name]["lr"], rel=1e-12)
        beta = optimizer.defaults["betas"][1]
        assert beta == pytest.approx(expected[name]["beta2"], rel=1e-12)
