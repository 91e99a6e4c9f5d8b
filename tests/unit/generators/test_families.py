"""Every family with small random weights: latents, pictures, repetition, files of our own."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from containers import SMALL
from faults import build_tiny
from figureground import load_generator
from figureground.core.checkpoint import ConvertedWeights, VerifiedCheckpointIO
from figureground.core.errors import CheckpointError, ConfigError, UserError
from figureground.core.protocols import PretrainedGenerator
from figureground.core.types import Latent
from figureground.generators.base import ImageGenerator
from figureground.generators.checkpoint import CheckpointGenerator
from figureground.generators.cips import CIPS
from figureground.generators.dcgan import DCGAN
from figureground.generators.stylegan2 import StyleGAN2
from figureground.generators.weights import read_weights, save_weights
from figureground.nn.precision import Precision, computing_in

STYLES = {"latent_dim": 6, "style_dim": 5, "channel_base": 64, "channel_max": 4}
TINY: list[tuple[type[ImageGenerator], dict[str, Any], tuple[int, ...]]] = [
    (StyleGAN2, {"resolution": 16, **STYLES, "mapping_depth": 2}, (6, 5)),
    (StyleGAN2, {"resolution": 16, **STYLES, "num_classes": 3, "latent_space": "z"}, (6,)),
    (StyleGAN2, {"resolution": 16, **STYLES, "num_classes": 3, "architecture": "resnet"}, (6, 5)),
    (CIPS, {"resolution": 16, "latent_dim": 6, "width": 4, "channel_max": 4}, (6,)),
    (CIPS, {"resolution": 32, "latent_dim": 6, "width": 4, "channel_max": 4, "architecture": "res",
            "channel_multiplier": 1, "latent_space": "z"}, (6,)),
    (DCGAN, {"resolution": 16, "latent_dim": 6, "width": 2}, (6,)),
]  # fmt: skip
IDS = [f"{family.__name__}-{number}" for number, (family, _, _) in enumerate(TINY)]
every_family = pytest.mark.parametrize(("family", "options", "shape"), TINY, ids=IDS)


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@every_family
def test_latents_and_pictures_repeat_and_are_in_range(
    family: type[ImageGenerator], options: dict[str, Any], shape: tuple[int, ...]
) -> None:
    network = family(**options)
    assert isinstance(network, PretrainedGenerator)
    latent = network.latent(3, generator=seeded())
    assert latent.vector.shape == (3, *shape) == (3, *network.latent_shape)
    assert (latent.label is not None) == (network.num_classes > 0 and network.latent_space == "z")
    image = network(latent)
    side = options["resolution"]
    assert image.shape == (3, 3, side, side)
    assert image.abs().max() <= 1
    assert torch.equal(image, network(network.latent(3, generator=seeded())))
    assert not torch.equal(image, network(network.latent(3, generator=seeded(2))))
    single = Latent(latent.vector[1:2], None if latent.label is None else latent.label[1:2])
    assert_close(network(single), image[1:2], rtol=1e-3, atol=1e-4)


@every_family
def test_networks_are_frozen_but_latents_have_gradients(
    family: type[ImageGenerator], options: dict[str, Any], shape: tuple[int, ...]
) -> None:
    network = family(**options)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    latent = network.latent(2, generator=seeded())
    vector = latent.vector.requires_grad_()
    (gradient,) = torch.autograd.grad(network(Latent(vector, latent.label)).sum(), vector)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


@every_family
def test_truncation_pulls_to_one_picture(
    family: type[ImageGenerator], options: dict[str, Any], shape: tuple[int, ...]
) -> None:
    network = family(**options)
    if isinstance(network, StyleGAN2):
        network.cutoff = None

    def spread(truncation: float) -> float:
        network.truncation = truncation
        latent = network.latent(6, generator=seeded())
        if latent.label is not None:
            latent.label.zero_()
        return float(network(latent).var(dim=0).mean())

    assert spread(0.0) < 1e-8
    assert spread(1.0) > 2 * spread(0.3) > 0


@every_family
def test_wrong_latents_are_refused(
    family: type[ImageGenerator], options: dict[str, Any], shape: tuple[int, ...]
) -> None:
    network = family(**options)
    with pytest.raises(ValueError, match=r"latents must be \(B, .*\), got \(2, 99\)"):
        network(Latent(torch.zeros(2, 99)))
    if network.num_classes and network.latent_space == "z":
        vector = torch.zeros(2, *shape)
        with pytest.raises(ValueError, match="has 3 classes; give a label"):
            network(Latent(vector))
        with pytest.raises(ValueError, match="from 0 to 2"):
            network(Latent(vector, torch.tensor([0, 3])))
        with pytest.raises(ValueError, match="labels must be int64"):
            network(Latent(vector, torch.zeros(2)))


@every_family
def test_random_weights_are_said_once(
    family: type[ImageGenerator],
    options: dict[str, Any],
    shape: tuple[int, ...],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        network = family(**options)
        network(network.latent(1))
        copy.deepcopy(network)
    (record,) = caplog.records
    for part in ("random weights", family.card.project, family.card.licence):
        assert part in record.getMessage()


@every_family
def test_files_of_our_own_hold_options_and_a_checksum(
    family: type[ImageGenerator], options: dict[str, Any], shape: tuple[int, ...], tmp_path: Path
) -> None:
    network = family(**options)
    path = tmp_path / "small.safetensors"
    save_weights(family, ConvertedWeights(options, network.state_dict(), []), path, "theirs.pkl")
    again = load_generator(path)
    assert type(again) is family
    latent = network.latent(2, generator=seeded())
    assert torch.equal(again(latent), network(latent))
    assert read_weights(family, path).options == options
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="checksum differs"):
        load_generator(path)


def test_noise_is_constant_unless_asked_for() -> None:
    for family, options, _ in (TINY[0], TINY[3]):
        network = family(**options)
        state = network.state_dict()
        for key in state:
            if "noise_strength" in key:
                state[key].fill_(1.0)
        latent = network.latent(1, generator=seeded())
        assert torch.equal(network(latent), network(latent))
        network.noise_mode = "random"  # type: ignore[assignment]
        assert not torch.equal(network(latent), network(latent))


@pytest.mark.parametrize(
    ("family", "options", "count", "tensors"),
    [
        (StyleGAN2, {"resolution": 1024}, 30_370_060, 182),
        (StyleGAN2, {"resolution": 512}, 30_276_583, 163),
        (CIPS, {"resolution": 256}, 44_317_092, 122),
        (CIPS, {"resolution": 256, "architecture": "res"}, 43_027_858, 100),
        (DCGAN, {}, 3_576_704, 25),
    ],
)
def test_published_networks_have_the_published_sizes(
    family: type[ImageGenerator], options: dict[str, Any], count: int, tensors: int
) -> None:
    with torch.device("meta"):
        network = family(**options)
    assert sum(parameter.numel() for parameter in network.parameters()) == count
    filters = tensors - len(network.state_dict())  # StyleGAN2's are computed, not stored.
    assert filters == 0 or family is StyleGAN2


def test_methods_that_draw_from_latents_are_generators(tmp_path: Path) -> None:
    method = build_tiny("ilsgan")[0]
    checkpoint = {"state_dict": method.state_dict()}
    method.on_save_checkpoint(checkpoint)
    path = tmp_path / "run/checkpoints/last.ckpt"
    path.parent.mkdir(parents=True)
    VerifiedCheckpointIO().save_checkpoint(checkpoint, path)
    network = load_generator(tmp_path / "run")
    assert isinstance(network, CheckpointGenerator)
    assert isinstance(network, PretrainedGenerator)
    latent = network.latent(2, generator=seeded())
    image = network(latent)
    assert image.shape == (2, 3, network.resolution, network.resolution)
    assert torch.equal(image, network(network.latent(2, generator=seeded())))
    assert_close(network.layers(latent).composite.clamp(-1, 1), image)
    vector = latent.vector.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network(Latent(vector)).sum(), vector)
    assert gradient.abs().max() > 0
    network.truncation = 0.0
    still = network(latent)
    assert_close(still[0], still[1])


def save_tiny(name: str, folder: Path, *overrides: str) -> Path:
    method = build_tiny(name, *overrides)[0]
    checkpoint = {"state_dict": method.state_dict()}
    method.on_save_checkpoint(checkpoint)
    VerifiedCheckpointIO().save_checkpoint(checkpoint, folder / "last.ckpt")
    return folder / "last.ckpt"


@pytest.mark.parametrize("name", ["gan", "ilsgan"])
def test_styles_are_latents_on_request(name: str, tmp_path: Path) -> None:
    path = save_tiny(name, tmp_path)
    plain, styled = load_generator(path), load_generator(path, latent_space="w")
    latent = styled.latent(2, generator=seeded())
    assert latent.vector.shape[1:] == styled.latent_shape
    assert len(styled.latent_shape) == 2
    assert_close(styled(latent), plain(plain.latent(2, generator=seeded())))
    vector = latent.vector.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(styled(Latent(vector)).sum(), vector)
    assert (gradient.abs().amax(dim=2) > 0).all()  # Each layer's own style counts.
    styled.truncation = 0.0
    still = styled.latent(2, generator=seeded()).vector
    assert_close(still[0], still[1])


def test_styles_are_refused_where_there_are_none(tmp_path: Path) -> None:
    path = save_tiny("gan", tmp_path, "method.network=sngan")
    with pytest.raises(UserError, match="has no styles; use generator.latent_space=z"):
        load_generator(path, latent_space="w")


def test_methods_without_latents_are_refused(tmp_path: Path) -> None:
    method = build_tiny("redo")[0]
    checkpoint = {"state_dict": method.state_dict()}
    method.on_save_checkpoint(checkpoint)
    VerifiedCheckpointIO().save_checkpoint(checkpoint, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match="no latents that whole pictures are drawn from"):
        load_generator(tmp_path)
    with pytest.raises(ConfigError, match="does not exist"):
        load_generator(tmp_path / "none.ckpt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"has no checkpoints/last\.ckpt"):
        load_generator(tmp_path / "empty")


def test_names_options_and_nodes_are_taken(caplog: pytest.LogCaptureFixture) -> None:
    small = load_generator("dcgan_faces", resolution=16, width=2, latent_dim=3)
    assert small(small.latent(1)).shape == (1, 3, 16, 16)
    node = {"_target_": "figureground.generators.dcgan.DCGAN", "resolution": 16, "width": 2}
    assert load_generator(node).resolution == 16
    with pytest.raises(ConfigError, match=r"no such choice; did you mean 'dcgan_faces'"):
        load_generator("dcgan_face")
    with pytest.raises(ConfigError, match=r"wdth: there is no such option; did you mean"):
        load_generator("dcgan_faces", wdth=2)
    with pytest.raises(ConfigError, match="a power of two"):
        load_generator("stylegan2_ffhq", resolution=48)
    with pytest.raises(ConfigError, match="needs _target_"):
        load_generator({"resolution": 16})
    with pytest.raises(ConfigError, match="is not a generator"):
        load_generator({"_target_": "torch.nn.ReLU"})


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("family", SMALL, ids=lambda family: family.__name__)
def test_every_family_paints_in_half_precision(
    family: type[ImageGenerator], precision: Precision
) -> None:
    torch.manual_seed(0)
    network = family(**SMALL[family])
    latent = network.latent(4, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        full = network(latent)
        with computing_in(precision, torch.device("cpu")):
            half = network(latent).float()
    assert 0 < (half - full).abs().mean() < 0.02 * full.std()
