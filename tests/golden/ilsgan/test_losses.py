"""Independence, mask losses, perturbation, schedules and densities, against the authors' code."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.testing import assert_close

from figureground.losses.adversarial import (
    logistic_discriminator_losses,
    logistic_generator_loss,
)
from figureground.methods.ilsgan.densities import LayerDensity
from figureground.methods.ilsgan.independence import (
    Independence,
    independence_loss,
    likelihood_loss,
)
from figureground.methods.ilsgan.losses import mask_binarity, mask_shortage
from figureground.methods.ilsgan.perturbation import LayeredPicture, Perturbation
from figureground.nn.ema import average_decay
from weights import fill_by_sines

Golden = Callable[[str], Path]

#: Name of each stored case: our options, and the sigma it was stored with.
CASES = {
    "l1_distance": (Independence("distance"), 1.0),
    "l1_distance_allowgrad": (Independence("free_distance"), 1.0),
    "club_predL": (Independence(), 1.0),
    "club_predN": (Independence("normal"), 1.0),
    "club_predL_sum_neg0.5": (Independence(reduction="sum", negative_weight=0.5), 0.2),
    "club_predL_stopgrad_nomask": (Independence(detach_condition=True, detach_mask=True), 1.0),
    "club_predL_single": (Independence(pairs="whole"), 1.0),
    "club_predL_mf": (Independence(pairs="foreground_given_background"), 1.0),
    "club_learnL": (Independence("learned_laplace"), 1e-3),
    "club_learnN": (Independence("learned_normal"), 1e-3),
}


def read(golden: Golden, name: str) -> dict[str, Tensor]:
    return load_file(golden("ilsgan") / f"{name}.safetensors")


def scalars(golden: Golden) -> dict[str, dict[str, float]]:
    content: dict[str, dict[str, float]] = json.loads(
        (golden("ilsgan") / "scalars.json").read_text()
    )
    return content


def stored_densities(tensors: dict[str, Tensor]) -> list[Callable[[Tensor], tuple[Tensor, Tensor]]]:
    return [lambda _, i=i: (tensors[f"in.mu{i}"], tensors[f"in.logs{i}"]) for i in (0, 1)]


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_of_independence_match(golden: Golden, case: str) -> None:
    tensors = read(golden, "losses")
    options, sigma = CASES[case]
    layers = {k: tensors[f"in.{k}"].clone().requires_grad_() for k in ("bg", "fg", "mask")}
    orders = [tensors["in.perm0"], tensors["in.perm1"]]
    with patch("figureground.methods.ilsgan.independence.torch.randperm", side_effect=orders):
        loss = sigma * independence_loss(
            LayeredPicture(*layers.values()), options, stored_densities(tensors)
        )
    expected = torch.tensor(scalars(golden)["losses"][f"mi.{case}"])
    assert_close(loss.detach(), expected, rtol=1e-5, atol=1e-6)
    found = torch.autograd.grad(loss, list(layers.values()), allow_unused=True)
    for key, gradient in zip(layers, found, strict=True):
        stored = tensors[f"grad.{case}.{key}"]
        gradient = torch.zeros_like(stored) if gradient is None else gradient
        assert_close(gradient, stored, rtol=1e-5, atol=1e-6 * float(stored.abs().max()))


@pytest.mark.parametrize("family", ["laplace", "normal"])
def test_likelihood_of_densities_matches(golden: Golden, family: str) -> None:
    tensors = read(golden, "losses")
    options = Independence(f"learned_{family}")
    picture = LayeredPicture(*(tensors[f"in.{key}"] for key in ("bg", "fg", "mask")))
    found = likelihood_loss(picture, options, stored_densities(tensors))
    expected = scalars(golden)["losses"][f"nll.learn{family[0].upper()}"]
    assert_close(found, torch.tensor(expected), rtol=1e-6, atol=0)


def test_mask_losses_match(golden: Golden) -> None:
    tensors = read(golden, "losses")
    close = {"rtol": 1e-6, "atol": 1e-7}
    binarity = mask_binarity(tensors["in.mask"])
    assert_close(binarity, tensors["out.bin_per_sample"].squeeze(1), **close)
    shortage = mask_shortage(tensors["in.small_mask"])
    assert_close(shortage, tensors["out.msize_per_sample"].squeeze(1), **close)


def test_logistic_losses_match(golden: Golden) -> None:
    tensors = read(golden, "losses")
    logits = tensors["in.logits"]
    real, fake = logistic_discriminator_losses(logits, logits)
    assert_close(real, tensors["out.softplus_neg"].mean())
    assert_close(fake, tensors["out.softplus_pos"].mean())
    assert_close(logistic_generator_loss(logits), tensors["out.softplus_neg"].mean())


def test_composition_and_shift_match(golden: Golden) -> None:
    tensors = read(golden, "generator")
    picture = LayeredPicture(*(tensors[f"out.const.{key}"] for key in ("bg", "fg", "mask")))
    exact = {"rtol": 0, "atol": 0}
    assert_close(picture.composite, tensors["out.const.img"], **exact)
    assert_close(picture.cutout, tensors["out.const.fg_x_mask"], **exact)
    moved = Perturbation()(picture, tensors["in.eps"])
    for key, found in {
        "bg": moved.background,
        "fg": moved.foreground,
        "mask": moved.mask,
        "fg_x_mask": moved.mask * moved.foreground,
        "img": moved.composite,
    }.items():
        assert_close(found, tensors[f"out.tx.{key}"], **exact)


def test_decay_of_the_average_matches(golden: Golden) -> None:
    for seen, expected in scalars(golden)["ema_beta_batch32_ema10k_ramp0.05"].items():
        assert average_decay(int(seen), 32, 10_000) == expected


def their_name(key: str, scale: str) -> str:
    key = re.sub(r"(conv|norm)_([ab])", lambda m: m[1] + str("ab".index(m[2]) + 1), key)
    key = re.sub(r"^(down|up)\.(\d)", lambda m: f"{m[1]}{int(m[2]) + 1}", key)
    key = re.sub(r"^mean\.", "out_p_mu.", key.replace("stem.", "inc.").replace("norm", "bn"))
    return key.replace("log_scale.", f"out_p_{scale}.")


@pytest.mark.parametrize(("family", "scale"), [("gaussian", "logvar"), ("laplace", "logb")])
def test_densities_match(golden: Golden, family: str, scale: str) -> None:
    tensors = read(golden, "eval_nets")
    density = LayerDensity().eval()
    assert sum(p.numel() for p in density.parameters()) == 6_323_014
    keys = [k for k in density.state_dict() if not k.endswith("num_batches_tracked")]
    fill_by_sines(density, {their_name(key, scale): key for key in keys})
    with torch.no_grad():
        mean, log_scale = density(tensors["in.x"])
    close = {"rtol": 1e-4, "atol": 2e-5}
    assert_close(mean, tensors[f"neural_{family}.mu"], **close)
    assert_close(log_scale, tensors[f"neural_{family}.logs"], **close)
