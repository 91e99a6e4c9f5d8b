"""Experiments of ILSGAN compose, are valid, and say what they are named after."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from figureground.cli.settings import TrainSettings
from figureground.core.config import check, to_plain
from figureground.losses.adversarial import usual_r1_gamma

Compose = Callable[..., DictConfig]
FOLDER = Path(__file__).parents[2] / "conf" / "experiment"
NAMES = sorted(path.stem for path in FOLDER.glob("ilsgan-*.yaml"))


@pytest.mark.slow  # Together: there are many.
@pytest.mark.parametrize("name", NAMES)
def test_experiment_is_valid(compose: Compose, name: str) -> None:
    config = compose(f"experiment={name}", "data.resolution=64")
    assert check(config, TrainSettings) == []
    assert config.method._target_.endswith("ILSGAN")


@pytest.mark.parametrize("data", ["dogs", "cars"])
def test_dogs_and_cars_at_128(compose: Compose, data: str) -> None:
    config = compose(f"experiment=ilsgan-{data}128")
    assert check(config, TrainSettings) == []
    assert (config.data.name, config.method.resolution) == (data, 128)
    assert (config.data.batch_size, config.iterations) == (32, 250_000)
    assert config.method.low_precision_blocks == 4


def auto(side: int) -> dict[str, object]:
    """Preset `auto` of StyleGAN2-ADA on one device, by its formulas."""
    batch_size = max(min(min(4096 // side, 32), 64), 1)
    return {
        "batch": batch_size, "group": min(batch_size, 4), "base": 32768 if side >= 512 else 16384,
        "lr": 0.002 if side >= 1024 else 0.0025, "gamma": 0.0002 * side**2 / batch_size,
        "ema": batch_size * 10 / 32, "ramp": 0.05, "depth": 2, "kimg": 25_000,
    }  # fmt: skip


def fixed(name: str) -> dict[str, object]:
    """The presets that are the same at any resolution."""
    names = ("batch", "group", "base", "lr", "gamma", "ema", "ramp", "depth", "kimg")
    rows = {
        "stylegan2": (32, 4, 32768, 0.002, 10, 10, None, 8, 25_000),
        "paper256": (64, 8, 32768 * 0.5, 0.0025, 1, 20, None, 8, 25_000),
        "paper512": (64, 8, 32768, 0.0025, 0.5, 20, None, 8, 25_000),
        "paper1024": (32, 4, 32768, 0.002, 2, 10, None, 8, 25_000),
        "cifar": (64, 32, 32768, 0.0025, 0.01, 500, 0.05, 2, 100_000),
    }
    return dict(zip(names, rows[name], strict=True))


def read(config: DictConfig) -> dict[str, object]:
    """What a composed preset would train with, worked out where it leaves that to the method."""
    method, batch_size = config.method, config.data.batch_size
    assert method.generator_optimizer.lr == method.discriminator_optimizer.lr
    assert config.trainer.val_check_interval * batch_size == 200_000
    gamma, half_life = method.r1_gamma, method.ema_kimg
    return {
        "batch": batch_size, "group": min(method.group_size, batch_size),
        "base": method.channel_base, "lr": method.generator_optimizer.lr,
        "gamma": usual_r1_gamma(method.resolution, batch_size) if gamma is None else gamma,
        "ema": 10 * batch_size / 32 if half_life is None else half_life,
        "ramp": method.ema_ramp, "depth": method.mapping_depth,
        "kimg": config.iterations * batch_size / 1000,
    }  # fmt: skip


@pytest.mark.parametrize(
    "name", ["auto", "stylegan2", "paper256", "paper512", "paper1024", "cifar"]
)
def test_preset_is_that_of_stylegan2_ada(compose: Compose, name: str) -> None:
    config = compose(f"experiment=ilsgan-base_{name}")
    for side in (32, 64, 128, 256, 512, 1024, 2048):
        config.data.resolution = side
        expected = auto(side) if name == "auto" else fixed(name)
        assert read(config) == pytest.approx(expected), side
    method = config.method
    assert (method.max_width, method.conv_clamp, method.low_precision_blocks) == (512, 256, 4)
    assert method.clean_gradients
    architecture = method.discriminator_architecture
    assert architecture == ("orig" if name == "cifar" else "resnet")


@pytest.mark.parametrize("data", ["toy", pytest.param("cub", marks=pytest.mark.slow)])
def test_preset_takes_nothing_of_a_recipe(compose: Compose, data: str) -> None:
    """Whatever a preset does not say is as published, not as small as on `toy`."""
    recipe = compose("method=ilsgan", f"data={data}", "~recipe")
    preset = compose("experiment=ilsgan-base_paper256", f"data={data}")
    said = OmegaConf.load(FOLDER / "ilsgan-base_paper256.yaml")
    expected = OmegaConf.merge(recipe, OmegaConf.masked_copy(said, [*set(said) - {"defaults"}]))
    assert to_plain(preset) == to_plain(expected)
    small = compose("experiment=ilsgan-base_paper256", f"data={data}", "method.latent_dim=64")
    assert small.method.latent_dim == 64


def test_steps_of_a_preset_follow_the_batch(compose: Compose) -> None:
    config = compose("experiment=ilsgan-base_auto", "data.batch_size=8", "data.resolution=256")
    assert (config.method.batch_size, config.iterations) == (8, 3_125_000)
    assert check(config, TrainSettings) == []
