"""Losses and steps of C3-GAN and DS-ComGAN against the authors' numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.testing import assert_close

from figureground.losses.adversarial import (
    hinge_fake,
    hinge_generator,
    hinge_real,
    logistic_discriminator_losses,
    logistic_generator_loss,
)
from figureground.methods.l2ic.ancestors import C3Generator
from figureground.methods.l2ic.codes import Codes, parent_of
from figureground.methods.l2ic.convert import (
    C3_GENERATOR,
    DISCRIMINATOR,
    JUDGE,
    READER,
    convert_checkpoint,
    convert_network,
)
from figureground.methods.l2ic.discriminator import ClusterDiscriminator, Judge
from figureground.methods.l2ic.losses import (
    area_hinge,
    assignment_entropies,
    category_loss,
    mask_entropy,
    pair_contrast,
)
from figureground.methods.l2ic.perturbation import move

Golden = Callable[[str], Path]
TAU = 0.1


def check_norms(
    network: nn.Module, table: object, stored: dict[str, Tensor], who: str, rel: float
) -> None:
    prefix = f"{who}.gradnorm."
    parameters = dict(network.named_parameters())
    names = {k.removeprefix(prefix): v for k, v in stored.items() if k.startswith(prefix)}
    assert names
    largest = max(float(value) for value in names.values())
    for key, expected in convert_network(table, names).items():
        found = parameters[key].grad.norm().item()
        assert found == pytest.approx(float(expected), rel=rel, abs=1e-5 * largest), key


def check_sums(network: nn.Module, table: object, stored: dict[str, Tensor], who: str) -> None:
    """Loosely: the first step of Adam follows the sign of a gradient, however small."""
    prefix = f"{who}.aftersum."
    names = {k.removeprefix(prefix): v for k, v in stored.items() if k.startswith(prefix)}
    for key, expected in convert_network(table, names).items():
        parameter = network.get_parameter(key).double()
        slack = 4e-4 * max(1.0, 0.02 * parameter.numel())
        assert parameter.sum().item() == pytest.approx(float(expected), rel=1e-4, abs=slack), key


def test_c3gans_step_matches(golden: Golden) -> None:
    folder = golden("l2ic")
    stored = load_file(folder / "c3_step.safetensors")
    found = convert_checkpoint(folder / "c3_gen.weights.safetensors")
    assert found.options == {
        "resolution": 128, "latent_dim": 8, "generator_width": 8, "num_categories": 12,
        "variation_dim": 4, "num_blocks": [2, 3, 3], "architecture": "c3gan",
    }  # fmt: skip
    generator = C3Generator(128, latent_dim=8, width=8, num_categories=12, variation_dim=4)
    generator.load_state_dict({k.partition(".")[2]: v for k, v in found.state_dict.items()})
    judge = ClusterDiscriminator(128, width=4, num_categories=12, has_cluster_head=False)
    weights = load_file(folder / "c3_disc.weights.safetensors")
    judge.load_state_dict(convert_network(DISCRIMINATOR, weights))
    category = stored["c_index"]
    picture = generator(Codes(stored["z"], category, category, stored["cz"]))
    picture = move(picture, stored["theta"])
    close = {"rtol": 1e-4, "atol": 3e-5}
    assert_close(picture.mask[..., ::4, ::4], stored["train.fg_mask.sub"], **close)
    assert_close(picture.composite[..., ::4, ::4], stored["train.fake_img.sub"], **close)

    real, view = (interpolate(stored[name], scale_factor=8) for name in ("real_16", "aug_16"))
    seen, fake, cut, other = (
        judge(x) for x in (real, picture.composite.detach(), picture.cutout.detach(), view)
    )
    e = judge.centroids
    each, together = assignment_entropies(seen.info, e, TAU)
    terms = {
        "real_loss": hinge_real(seen.score),
        "fake_loss": hinge_fake(fake.score),
        "info_loss": 5 * category_loss(fake.info, e, category, TAU),
        "info_loss_aug": category_loss(cut.info, e, category, TAU),
        "contrastive_loss": pair_contrast(seen.info, other.info, TAU),
        "entropy_reg_1": 0.1 * each,
        "entropy_reg_2": 0.1 * together,
    }
    for name, term in terms.items():
        assert term.item() == pytest.approx(float(stored[f"term.D/{name}"]), rel=1e-4), name
    optimizer = torch.optim.Adam(judge.parameters(), 2e-4, betas=(0.5, 0.999))
    sum(terms.values()).backward()
    check_norms(judge, DISCRIMINATOR, stored, "D", 2e-3)
    optimizer.step()
    check_sums(judge, DISCRIMINATOR, stored, "D")

    fake, cut, e = judge(picture.composite), judge(picture.cutout), judge.centroids
    terms = {
        "adv_loss": hinge_generator(fake.score),
        "info_loss": 5 * category_loss(fake.info, e, category, TAU),
        "info_loss_aug": category_loss(cut.info, e, category, TAU),
        "mask_reg_loss": area_hinge(picture.mask, 0.1, 0.9) + mask_entropy(picture.mask),
    }
    for name, term in terms.items():
        expected = float(stored[f"term.G/{name}"])
        assert term.item() == pytest.approx(expected, rel=2e-3, abs=1e-4), name
    sum(terms.values()).backward()
    check_norms(generator, C3_GENERATOR, stored, "G", 2e-2)


def load_judge(folder: Path, name: str, *, reads: bool) -> Judge:
    weights = load_file(folder / f"comgan_D_{name}.weights.safetensors")
    unwanted = "rf_logits" if reads else "code_logits"
    weights = {k: v for k, v in weights.items() if not k.startswith(unwanted)}
    network = Judge(128, width=4, num_codes=12 if reads else 0)
    network.load_state_dict(convert_network(READER if reads else JUDGE, weights))
    return network


def test_ds_comgans_terms_match(golden: Golden) -> None:
    folder = golden("l2ic")
    stored = load_file(folder / "comgan_terms.safetensors")
    given = {
        k.removeprefix("in16."): interpolate(v, scale_factor=8)
        for k, v in stored.items()
        if k.startswith("in16.")
    }
    judge = load_judge(folder, "image", reads=False)
    found = []
    for fake in ("xz", "final"):
        scores = judge(given["real"]).score, judge(given[fake]).score
        found += logistic_discriminator_losses(*scores)
    optimizer = torch.optim.Adam(judge.parameters(), 2e-4, betas=(0.5, 0.999))
    sum(found).backward()
    optimizer.step()
    check_after(judge, JUDGE, stored, "dis.D3.aftersum.")
    for layer in ("fore", "back"):
        logits = load_judge(folder, layer, reads=True)(given[layer]).info
        found.append(F.cross_entropy(logits, stored["c_index"]))
    found += [logistic_generator_loss(judge(given[name]).score) for name in ("final", "xz")]
    names = ["00.rf", "01.rf", "02.rf", "03.rf", "04.ce", "05.ce", "06.rf", "07.rf"]
    for name, term in zip(names, found, strict=True):
        expected = float(stored[f"dis.{name}"])
        assert term.item() == pytest.approx(expected, rel=2e-3), name


def check_after(network: nn.Module, table: object, stored: dict[str, Tensor], prefix: str) -> None:
    after = {
        k.removeprefix(prefix): v
        for k, v in stored.items()
        if k.startswith(prefix) and "code_logits" not in k
    }
    assert after
    for key, expected in convert_network(table, after).items():
        total = network.get_parameter(key).double().sum().item()
        slack = 4e-4 * max(1.0, 0.01 * network.get_parameter(key).numel())
        assert total == pytest.approx(float(expected), rel=1e-4, abs=slack), key


def test_mask_entropy_matches(golden: Golden) -> None:
    stored = load_file(golden("l2ic") / "metrics.safetensors")
    found = 0.5 * mask_entropy(stored["mask"])
    assert found.item() == pytest.approx(float(stored["BinaryLoss.w0.5"]), rel=1e-4)


def test_parents_of_categories_match(golden: Golden) -> None:
    stored = load_file(golden("l2ic") / "data.safetensors")
    for count in (4, 12):
        expected = stored[f"c2p.child12_parent{count}"]
        assert torch.equal(parent_of(torch.arange(12), 12, count), expected.long())
