"""BigGAN-deep, BigBiGAN, StudioGAN and Self-Conditioned GAN: sizes, latents, refusals, folding."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.testing import assert_close

from figureground.core.checkpoint import ConvertedWeights
from figureground.core.config import build, check_node, config_dir
from figureground.core.errors import CheckpointError
from figureground.core.types import Latent
from figureground.generators.base import ImageGenerator
from figureground.generators.bigbigan import BigBiGAN
from figureground.generators.biggan import BigGANDeep
from figureground.generators.blocks import (
    Condition,
    ConditionalBatchNorm,
    ResidualBlock,
    convolve_doubled,
    double,
)
from figureground.generators.deep import stage_shapes
from figureground.generators.self_conditioned import SelfConditionedGAN
from figureground.generators.spectral import IteratedSpectralNorm, add_spectral_norm, fold_state
from figureground.generators.studiogan import StudioGAN
from figureground.generators.weights import save_weights

COUNTS = {
    "biggan_deep_128": 50_388_609,
    "biggan_deep_256": 55_880_833,
    "biggan_deep_512": 56_163_905,
    "bigbigan": 70_433_988,
    "studiogan_imagenet_sngan": 41_996_931,
    "studiogan_imagenet_sagan": 42_017_412,
    "studiogan_imagenet_biggan256": 70_433_988,
    "studiogan_imagenet_biggan2048": 70_433_988,
    "studiogan_imagenet_contragan256": 70_433_988,
    "studiogan_imagenet_contragan2048": 70_433_988,
    "studiogan_tinyimagenet_acgan": 13_366_915,
    "studiogan_tinyimagenet_projgan": 13_366_915,
    "studiogan_tinyimagenet_sngan": 13_366_915,
    "studiogan_tinyimagenet_sagan": 13_387_396,
    "studiogan_tinyimagenet_ggan": 12_220_675,
    "studiogan_tinyimagenet_lsgan": 12_220_675,
    "studiogan_tinyimagenet_wgan_wc": 12_220_675,
    "studiogan_tinyimagenet_biggan": 17_335_204,
    "studiogan_tinyimagenet_contragan": 17_335_204,
    "self_conditioned": 100_305_347,
    "self_conditioned_uncond": 96_085_443,
}
TINY: dict[str, tuple[type[ImageGenerator], dict[str, Any]]] = {
    "biggan": (BigGANDeep, {"resolution": 128, "width": 4, "latent_dim": 8, "num_classes": 5}),
    "bigbigan": (
        BigBiGAN,
        {"resolution": 32, "width": 4, "latent_dim": 8, "embedding_rows": 3, "attention_after": 2},
    ),
    "table": (StudioGAN, {"resolution": 32, "width": 4, "latent_dim": 8, "num_classes": 5}),
    "shared": (
        StudioGAN,
        {"resolution": 32, "architecture": "big_resnet", "latent_dim": 8, "width": 4}
        | {"num_classes": 5, "attention_after": 2},
    ),
    "deep": (
        StudioGAN,
        {"resolution": 32, "architecture": "big_resnet_deep", "latent_dim": 8, "width": 4},
    ),
    "unconditional": (StudioGAN, {"resolution": 64, "width": 2, "num_classes": 0}),
    "clusters": (SelfConditionedGAN, {"resolution": 32, "width": 2, "latent_dim": 8}),
    "no_clusters": (SelfConditionedGAN, {"resolution": 64, "width": 2, "num_classes": 0}),
}


def _make(name: str, **more: Any) -> ImageGenerator:
    family, options = TINY[name]
    return family(**options, **more)


def _move_statistics(network: nn.Module) -> None:
    """Stored statistics as if trained: not those that a norm starts with."""
    for module in network.modules():
        if isinstance(module, ConditionalBatchNorm):
            module.mean.normal_(std=0.3)
            module.variance.uniform_(0.5, 2.0)


@pytest.mark.parametrize("name", COUNTS)
def test_published_networks_have_their_parameters(name: str) -> None:
    node = OmegaConf.load(Path(config_dir()) / "generator" / f"{name}.yaml")
    assert check_node("generator", OmegaConf.to_container(node)) == []
    with torch.device("meta"):  # No memory, no time.
        network = build(node)
    assert sum(p.numel() for p in network.parameters()) == COUNTS[name]


@pytest.mark.parametrize("name", TINY)
def test_random_networks_paint_different_pictures_and_warn_once(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        network = _make(name)
    assert len(caplog.records) == 1
    assert network.card.project in caplog.text
    latent = network.latent(3, generator=torch.Generator().manual_seed(0))
    again = network.latent(3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(latent.vector, again.vector)
    image = network(latent)
    assert image.shape == (3, 3, network.resolution, network.resolution)
    assert image.abs().max() <= 1
    assert (image[0] - image[1]).abs().mean() > 0.01
    alone = Latent(latent.vector[1:2], None if latent.label is None else latent.label[1:2])
    together = network.double()(latent)  # Rounding grows in untrained networks.
    assert_close(network(alone), together[1:2])


@pytest.mark.parametrize("name", ["biggan", "shared", "table"])
def test_classes_change_pictures(name: str) -> None:
    network = _make(name)
    vector = network.latent(1).vector
    images = [network(Latent(vector, torch.tensor([label]))) for label in (0, 3)]
    assert (images[0] - images[1]).abs().max() > 1e-3
    with pytest.raises(ValueError, match="give a label"):
        network(Latent(vector))


@pytest.mark.parametrize("name", TINY)
def test_half_precision_stays_near(name: str) -> None:
    network = _make(name)
    _move_statistics(network)
    latent = network.latent(2)
    full = network(latent)
    half = network.half()(latent)
    assert half.dtype == torch.float16
    assert (half.float() - full).abs().mean() < 0.01


def test_small_variances_survive_half_precision() -> None:
    norm = ConditionalBatchNorm(4, Condition(eps=1e-4)).half()
    norm.variance.fill_(1e-7)
    expected = torch.full((1, 4, 1, 1), 1 / (1e-4 + 1e-7) ** 0.5)
    found = norm(torch.ones(1, 4, 1, 1).half(), None)
    assert_close(found.float(), expected, rtol=2e-3, atol=0)


@pytest.mark.parametrize("side", [3, 20])
def test_residual_block_is_its_equation(side: int) -> None:
    block = ResidualBlock(4, 2, Condition("vector", 3)).double()
    _move_statistics(block)
    features, condition = torch.randn(2, 4, side, side).double(), torch.randn(2, 3).double()

    def normalise(norm: ConditionalBatchNorm, x: Tensor) -> Tensor:
        mean, variance = (s[0][:, None, None] for s in (norm.mean, norm.variance))
        scale, shift = (
            (condition @ layer.weight.T)[:, :, None, None] for layer in (norm.scale, norm.shift)
        )
        return (x - mean) / (variance + 1e-4).sqrt() * (1 + scale) + shift

    def repeat(x: Tensor) -> Tensor:
        return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)

    hidden = block.conv1(repeat(normalise(block.norm1, features).relu()))
    hidden = block.conv2(normalise(block.norm2, hidden).relu())
    expected = hidden + block.shortcut(repeat(features))
    assert_close(block(features, condition), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("side", [15, 16, 18])
@pytest.mark.parametrize("bias", [True, False])
def test_convolution_of_doubled_maps_is_the_plain_one(side: int, bias: bool) -> None:
    conv = nn.Conv2d(3, 5, 3, padding=1, bias=bias).double()
    features = torch.randn(2, 3, side, side + 1).double().requires_grad_()
    found, expected = convolve_doubled(features, conv), conv(double(features))
    assert_close(found, expected)
    probe = torch.randn_like(expected)
    gradients = [torch.autograd.grad((x * probe).sum(), features)[0] for x in (found, expected)]
    assert_close(*gradients)


def test_stages_keep_then_narrow_then_double() -> None:
    assert stage_shapes((16, 8, 4)) == (
        (False, 16, 16), (True, 16, 8), (False, 8, 8), (True, 8, 4),
    )  # fmt: skip
    assert stage_shapes((4, 2), depth=3) == ((False, 4, 4), (False, 4, 2), (True, 2, 2))


def test_iterated_norm_divides_by_the_length_after_one_step() -> None:
    weight = torch.randn(3, 2, 2)
    norm = IteratedSpectralNorm(weight).eval()
    matrix = weight.reshape(3, 4)
    v = norm.u @ matrix
    product = matrix @ (v / v.norm())
    assert_close(norm(weight), weight / product.norm())
    norm.u = torch.linalg.svd(matrix)[0][:, 0]
    assert_close(torch.linalg.matrix_norm(norm(weight).reshape(3, 4), 2), torch.tensor(1.0))


@pytest.mark.parametrize("stores_both", [True, False])
def test_folding_keeps_the_function(stores_both: bool) -> None:
    network = _make("shared").network
    names = [
        name
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear) and name != "embedding"
    ]
    suffixes = ["original", "0.u", *(["0.v"] if stores_both else [])]
    add_spectral_norm(
        network, [f"{name}.parametrizations.weight.{end}" for name in names for end in suffixes]
    )
    latent, label = torch.randn(2, 8), torch.tensor([1, 4])
    expected = network(latent, label)
    plain = _make("shared").network
    plain.load_state_dict(fold_state(network.state_dict()))
    assert_close(plain(latent, label), expected, rtol=1e-5, atol=1e-5)


def test_truncation_shrinks_latents_of_biggan_and_picks_statistics() -> None:
    network = _make("biggan")
    assert network.latent(50).vector.abs().max() <= 0.8
    network.truncation = 1.0
    assert 1 < network.latent(50).vector.abs().max() <= 2
    latent = network.latent(1)
    for module in network.modules():
        if isinstance(module, ConditionalBatchNorm):
            module.mean.copy_(torch.linspace(0, 1, 51)[:, None].expand_as(module.mean))
    full = network(latent)
    network.truncation = 0.5
    assert not torch.equal(network(latent), full)


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        (BigGANDeep, {"resolution": 64}, "resolution=64 has no published blocks"),
        (BigGANDeep, {"resolution": 64, "shapes": [[True, 4, 2]] * 9}, "do not lead from 4"),
        (BigGANDeep, {"resolution": 128, "truncation": 0.0}, "truncation=0 leaves one picture"),
        (BigGANDeep, {"resolution": 128, "attention_after": 10}, "must be from 0 to 9"),
        (BigBiGAN, {"attention_after": 6}, "attention_after=6 must be from 1 to 5"),
        (BigBiGAN, {"resolution": 100}, "resolution=100 is unknown"),
        (BigBiGAN, {"latent_dim": 100}, "does not divide into 6 chunks"),
        (StudioGAN, {"resolution": 100}, "resolution=100 is unknown"),
        (StudioGAN, {"architecture": "big_resnet", "latent_dim": 128}, "into 6 chunks"),
        (StudioGAN, {"architecture": "big_resnet_deep", "num_classes": 0}, "needs classes"),
        (StudioGAN, {"attention_after": 6}, "attention_after=6 must be from 1 to 5"),
        (SelfConditionedGAN, {"resolution": 100}, "must be a multiple of 32"),
    ],
)
def test_wrong_options_are_named(
    family: type[ImageGenerator], options: dict[str, Any], message: str
) -> None:
    (problem,) = family.check_options(**options)
    assert message in problem


def _released_studiogan(path: Path, width: int = 2) -> Path:
    """A file as the project writes them, of a small unconditional network."""
    network = StudioGAN(resolution=64, width=width, latent_dim=6, num_classes=0).network
    theirs = {}
    for key, tensor in network.state_dict().items():
        key = key.replace("first.", "linear0.").replace("to_rgb.", "conv2d5.")
        key = key.removeprefix("norm.") if not key.startswith("norm.") else "bn4." + key[5:]
        if key.startswith("layers."):
            number, rest = key.removeprefix("layers.").split(".", 1)
            key = f"blocks.{number}.0.{rest}"
        for ours, released in (
            (".norm", ".bn"), (".mean", ".running_mean"), (".variance", ".running_var"),
            (".shortcut", ".conv2d0"), (".conv1.", ".conv2d1."), (".conv2.", ".conv2d2."),
        ):  # fmt: skip
            key = key.replace(ours, released)
        theirs[key] = tensor[0] if "running" in key else tensor
    torch.save({"state_dict": theirs, "step": 1}, path)
    return path


def test_wrong_files_are_named_for_what_they_are(tmp_path: Path) -> None:
    path = _released_studiogan(tmp_path / "model.pth")
    for family, options in (TINY["biggan"], TINY["bigbigan"], TINY["clusters"]):
        with pytest.raises(CheckpointError, match=r"looks like StudioGAN with resolution=64.*wid"):
            family(**options, weights=str(path))
    with pytest.raises(CheckpointError, match=r"with resolution=64.*not one with.*set.* width=2"):
        StudioGAN(resolution=64, width=4, latent_dim=6, num_classes=0, weights=str(path))
    with pytest.raises(CheckpointError, match=r"set .*architecture=resnet"):
        StudioGAN(resolution=64, architecture="big_resnet_deep", width=2, weights=str(path))
    with pytest.raises(CheckpointError, match="BigBiGAN_x1.pth of the project"):
        _make("bigbigan", weights=str(tmp_path / "absent.pth"))
    right = StudioGAN(resolution=64, width=2, latent_dim=6, num_classes=0, weights=str(path))
    assert right(right.latent(1)).isfinite().all()


def test_parts_of_a_file_are_refused(tmp_path: Path) -> None:
    path = _released_studiogan(tmp_path / "model.pth")
    state = torch.load(path)["state_dict"]
    save_file({k: v for k, v in state.items() if "conv2d2" not in k}, tmp_path / "part.safetensors")
    with pytest.raises(CheckpointError, match=r"conv2\.\w+ is missing"):
        StudioGAN(
            resolution=64, width=2, latent_dim=6, num_classes=0,
            weights=str(tmp_path / "part.safetensors"),
        )  # fmt: skip


def test_folded_files_cannot_be_unfolded(tmp_path: Path) -> None:
    family, options = TINY["bigbigan"]
    path = tmp_path / "converted.safetensors"
    found = ConvertedWeights(options, family(**options).state_dict(), ["network"])
    save_weights(family, found, path, "BigBiGAN_x1.pth")
    family(**options, weights=str(path))
    with pytest.raises(CheckpointError, match="spectral norm folded"):
        BigBiGAN(**options, fold=False, weights=str(path))
