"""Experiments of ILSGAN compose, are valid, and say what they are named after."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from figureground.cli.settings import TrainSettings
from figureground.core.config import check

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


def test_presets_are_those_of_the_table(compose: Compose) -> None:
    """Thousands of pictures, batch, group, width, rate, gamma, average, its ramp, depth."""
    table = {
        "auto": (25_000, 32, 4, 16384, 0.0025, None, None, 0.05, 2),
        "stylegan2": (25_000, 32, 4, 32768, 0.002, 10, 10, None, 8),
        "paper256": (25_000, 64, 8, 16384, 0.0025, 1, 20, None, 8),
        "paper512": (25_000, 64, 8, 32768, 0.0025, 0.5, 20, None, 8),
        "paper1024": (25_000, 32, 4, 32768, 0.002, 2, 10, None, 8),
        "cifar": (100_000, 64, 32, 16384, 0.0025, 0.01, 500, 0.05, 2),
    }
    for name, row in table.items():
        own = OmegaConf.load(FOLDER / f"ilsgan-base_{name}.yaml")
        method, batch_size = own.method, own.data.batch_size
        assert method.generator_optimizer.lr == method.discriminator_optimizer.lr
        assert row == (
            own.iterations * batch_size / 1000, batch_size, method.group_size,
            method.channel_base, method.generator_optimizer.lr, method.r1_gamma,
            method.ema_kimg, method.ema_ramp, method.mapping_depth,
        ), name  # fmt: skip
        assert own.trainer.val_check_interval * batch_size == 200_000
