"""BigGAN-deep, BigBiGAN, StudioGAN and Self-Conditioned GAN paint the authors' pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.testing import assert_close

from figureground import load_generator
from figureground.cli.convert import convert
from figureground.core.errors import CheckpointError
from figureground.core.types import Latent
from figureground.generators.base import ImageGenerator
from figureground.generators.bigbigan import BigBiGAN
from figureground.generators.biggan import BigGANDeep
from figureground.generators.self_conditioned import SelfConditionedGAN
from figureground.generators.studiogan import StudioGAN
from figureground.generators.weights import read_weights, save_weights

CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}
# Gradients of a mean over thousands of values are small, so their tolerance follows their size.
CLOSE_GRADIENT: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-8}
SPECTRAL = [
    "hf_biggan_deep",
    "bigbigan",
    "studiogan_sagan",
    "studiogan_biggan",
    "studiogan_contragan",
    "studiogan_biggan_deep",
]
PLAIN = [
    "studiogan_sngan",
    "studiogan_acgan",
    "studiogan_ggan_uncond",
    "selfcondgan_selfcond",
    "selfcondgan_uncond",
]
Load = Callable[..., tuple[ImageGenerator, dict[str, Tensor]]]


def _family(name: str) -> type[ImageGenerator]:
    if name == "hf_biggan_deep":
        return BigGANDeep
    if name == "bigbigan":
        return BigBiGAN
    return StudioGAN if name.startswith("studiogan") else SelfConditionedGAN


@pytest.fixture
def load(golden: Callable[[str], Path], rebuild: Load) -> Load:
    def read(name: str, **options: Any) -> tuple[ImageGenerator, dict[str, Tensor]]:
        return rebuild(_family(name), name, **_untold(golden, name), **options)

    return read


def _latent(network: ImageGenerator, stored: dict[str, Tensor]) -> Latent:
    label = stored.get("in.y")
    if "in.y_onehot" in stored:
        label = stored["in.y_onehot"].argmax(dim=1)
    return Latent(stored["in.z"].clone().requires_grad_(), label if network.num_classes else None)


def _check(network: ImageGenerator, stored: dict[str, Tensor]) -> None:
    latent = _latent(network, stored)
    image = network(latent)
    assert_close(image, stored["out.x"], **CLOSE)
    (gradient,) = torch.autograd.grad((image * stored["probe"]).mean(), latent.vector)
    assert_close(gradient, stored["out.grad_z_of_mean_x_times_probe"], **CLOSE_GRADIENT)


@pytest.mark.parametrize("name", SPECTRAL + PLAIN)
def test_pictures_and_latent_gradients_match(load: Load, name: str) -> None:
    _check(*load(name))


@pytest.mark.parametrize("name", SPECTRAL)
def test_spectral_norm_as_published_matches(load: Load, name: str) -> None:
    network, stored = load(name, fold=False)
    assert any("parametrizations" in key for key in network.state_dict())
    _check(network, stored)


@pytest.mark.parametrize("truncation", [0.4, 0.405, 0.5, 1.0])
def test_biggan_deep_takes_statistics_of_its_truncation(load: Load, truncation: float) -> None:
    network, stored = load("hf_biggan_deep", legacy_interpolation=True)
    network.truncation = truncation
    image = network(_latent(network, stored))
    assert_close(image, stored[f"out.x_truncation_{truncation}"], **CLOSE)


def test_biggan_deep_weighs_neighbouring_statistics_by_distance(load: Load) -> None:
    network, stored = load("hf_biggan_deep")
    published, _ = load("hf_biggan_deep", legacy_interpolation=True)
    latent = _latent(network, stored)
    # A quarter of the way one way round is three quarters the other way round.
    network.truncation, published.truncation = 0.405, 0.415
    assert_close(network(latent), published(latent))
    network.truncation = 0.4 + 1e-9
    assert_close(network(latent), stored["out.x_truncation_0.4"], **CLOSE)


def test_biggan_deep_conditions_match(load: Load) -> None:
    network, stored = load("hf_biggan_deep")
    latent = _latent(network, stored)
    assert isinstance(network, BigGANDeep)
    found = network.network.condition(latent.vector, latent.label)
    assert_close(found, stored["out.cond_vector"], **CLOSE)


def test_bigbigan_classes_match(load: Load) -> None:
    network, stored = load("bigbigan")
    found = network.paint(stored["in.z"], torch.tensor([3, 7]))
    assert_close(found, stored["out.x_class_3_7"], **CLOSE)


@pytest.mark.parametrize(
    "name", ["hf_biggan_deep", "bigbigan", "studiogan_sagan", "studiogan_biggan_deep", *PLAIN[1:]]
)
def test_converted_files_say_what_they_are(
    load: Load, golden: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    network, stored = load(name)
    family = type(network)
    source = golden("generators") / f"{name}.state.safetensors"
    path = tmp_path / "converted.safetensors"
    save_weights(family, read_weights(family, source), path, source.name)
    assert set(load_file(path)) == set(network.state_dict())
    _check(load_generator(path, **_untold(golden, name)), stored)


def _untold(golden: Callable[[str], Path], name: str) -> dict[str, Any]:
    """Options that the file of a network cannot tell: blocks that are no published list."""
    if _family(name) is not BigGANDeep:
        return {}
    entry = json.loads((golden("generators") / "index.json").read_text())[name]
    return {"resolution": 32, "shapes": entry["config"]["layers"]}


def test_biggan_deep_of_unusual_blocks_is_converted_with_those_that_are_configured(
    compose: Callable[..., DictConfig], load: Load, golden: Callable[[str], Path], tmp_path: Path
) -> None:
    _, stored = load("hf_biggan_deep")
    source = golden("generators") / "hf_biggan_deep.state.safetensors"
    output = tmp_path / "deep.safetensors"
    options = ["generator=biggan_deep_128", f"weights={source}", f"output={output}"]
    with pytest.raises(CheckpointError, match="does not fit BigGANDeep"):
        convert(compose(*options, config_name="convert"))
    assert not output.exists()
    untold = _untold(golden, "hf_biggan_deep")
    options += [f"generator.{key}={json.dumps(value)}" for key, value in untold.items()]
    convert(compose(*options, config_name="convert"))
    _check(load_generator(output), stored)


@pytest.mark.parametrize("name", ["hf_biggan_deep", "bigbigan", "studiogan_biggan", *PLAIN[-2:]])
def test_files_of_other_families_are_named(golden: Callable[[str], Path], name: str) -> None:
    path = golden("generators") / f"{name}.state.safetensors"
    right = _family(name)
    for family in {BigGANDeep, BigBiGAN, StudioGAN, SelfConditionedGAN} - {right}:
        with pytest.raises(CheckpointError, match=f"looks like {right.card.family} with"):
            read_weights(family, path)


@pytest.mark.parametrize("name", ["hf_biggan_deep", "bigbigan", "studiogan_sagan", PLAIN[-1]])
def test_files_without_some_weights_are_refused_in_one_line(
    golden: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    state = load_file(golden("generators") / f"{name}.state.safetensors")
    first = ("generator.gen_z.", "linear.", "linear0.", "fc.")
    second = ("weight_v", "weight", "weight_u", "bias")
    family = _family(name)
    small = {"resolution": 128, "width": 4} if family is BigGANDeep else {"width": 2}
    for gone in ("embed", *(f"{a}{b}" for a in first for b in second)):
        kept = {key: value for key, value in state.items() if not key.startswith(gone)}
        if len(kept) == len(state):
            continue
        path = tmp_path / "part.safetensors"
        save_file(kept, path)
        with pytest.raises(CheckpointError) as refusal:
            family(**small, weights=str(path))
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "place"),
    [("studiogan_sngan", "state_dict"), ("selfcondgan_selfcond", "generator")],
)
def test_containers_of_the_projects_are_read(
    golden: Callable[[str], Path], tmp_path: Path, name: str, place: str
) -> None:
    state = load_file(golden("generators") / f"{name}.state.safetensors")
    path = tmp_path / "model.pth"
    torch.save({place: state, "step": 7, "run_name": "x"}, path)
    family = _family(name)
    found = read_weights(family, path)
    expected = read_weights(family, golden("generators") / f"{name}.state.safetensors")
    assert found.options == expected.options
    assert all(torch.equal(found.state_dict[k], v) for k, v in expected.state_dict.items())
