"""Experiments of L2IC: the ablation takes one term away at a time, and its chain is of one size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from figureground.cli.settings import TrainSettings
from figureground.core.config import build, check
from figureground.methods.l2ic.weights import Weights

Compose = Callable[..., DictConfig]
EXPERIMENT = Path(__file__).parents[2] / "conf" / "experiment" / "l2ic-ablation.yaml"
TERMS = ["swap", "view", "cluster_head", "binarity"]


def test_ablation_leaves_out_one_term_at_a_time(compose: Compose) -> None:
    params = OmegaConf.load(EXPERIMENT).hydra.sweeper.params
    parser = OverridesParser.create()
    sweeps = {key: parser.parse_override(f"{key}={value}") for key, value in params.items()}
    assert list(sweeps["seed"].sweep_string_iterator()) == ["0", "1", "2"]
    without = []
    for text in sweeps["method.weights"].sweep_string_iterator():
        config = compose("experiment=l2ic-ablation", f"method.weights={text}")
        assert check(config, TrainSettings) == []
        weights = build(config.method.weights)
        assert isinstance(weights, Weights)
        without.append([name for name in TERMS if not getattr(weights, name)])
        assert config.method.background_drawing == "independent"  # The recipe is there too.
    assert without == [[], *([name] for name in TERMS)]


@pytest.mark.parametrize(
    ("data", "pictures", "classes", "share"),
    [("cub", 11788, 200, 2), ("flowers", 8189, 102, 3),
     ("stanford_cars", 8144, 196, 3), ("stanford_dogs", 12000, 120, 3)],
)  # fmt: skip
def test_c3gan_has_its_published_numbers_on_every_set(
    compose: Compose, data: str, pictures: int, classes: int, share: int
) -> None:
    config = compose("method=c3gan", f"data={data}")
    assert check(config, TrainSettings) == []
    assert config.iterations == 1000 * (pictures // config.data.batch_size)
    assert config.data.batch_size == 64
    assert config.method.num_categories == share * classes
    assert build(config.method.metrics.clustering).confusion.shape == (classes, share * classes)
    # Whole photographs, of which a square as large as the shorter side is taken.
    assert all(config.data[split].get("crop", "none") == "none" for split in ("train", "test"))
    square = build(config.data.augment)
    assert (square.shorter, square.square, square.resolution) == (128, 128, 128)


def test_segmenter_of_the_chain_is_that_of_the_second_stage(compose: Compose) -> None:
    config = compose(
        "method=segmenter", "data=toy", "recipe=segmenter-l2ic_toy", "pairs=saved", "pairs.root=x"
    )
    assert check(config, TrainSettings) == []
    assert (config.method.loss, config.method.target) == ("binary_entropy", "soft")
    assert config.method.upsampling == "nearest_conv"
    assert config.callbacks.checkpoints.monitor == "val_pairs/iou/global/fixed"
