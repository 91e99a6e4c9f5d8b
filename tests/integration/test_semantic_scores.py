"""`evaluate metrics=semantic` on a made-up folder in PASCAL VOC's layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from archives import write_voc
from faults import build_tiny
from figureground.cli.evaluate import evaluate
from figureground.cli.generation_scores import build_scorings
from figureground.cli.semantic_scores import SemanticScoring
from figureground.core.checkpoint import VerifiedCheckpointIO
from figureground.core.errors import ConfigError, UserError
from weights import write_resnet

Compose = Callable[..., DictConfig]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_resnet(tmp_path_factory.mktemp("weights") / "net.pth", "moco")


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    """Options that score random weights on eight pictures of three classes."""
    method, _ = build_tiny("segmenter")
    with torch.no_grad():  # Of random weights all is object, or nothing.
        method.network.head.bias.copy_(torch.tensor([-1.0, 1.0]))
    file = tmp_path / "segmenter.ckpt"
    checkpoint = {"state_dict": method.state_dict()}
    method.on_save_checkpoint(checkpoint)
    VerifiedCheckpointIO().save_checkpoint(checkpoint, file)
    root = write_voc(tmp_path / "voc", num_classes=3)
    return [
        f"ckpt={file}", "data=voc", f"data.root={root}", "data.train.num_classes=3",
        "metrics=semantic", "trainer.accelerator=cpu", "metrics.semantic.resolution=64",
        "metrics.semantic.num_clusters=3", "metrics.semantic.runs=2",
    ]  # fmt: skip


def test_objects_are_clustered_and_scored(
    compose: Compose, tmp_path: Path, options: list[str], weights: Path
) -> None:
    given = [*options, f"metrics.semantic.weights={weights}"]
    found = evaluate(compose(*given, config_name="evaluate"))
    assert (found["semantic/images"], found["semantic/objects"]) == (4, 4)
    assert 0 < found["semantic/miou"] <= 1
    assert {f"semantic/iou/{number}" for number in (1, 2, 3)} < found.keys()
    written = json.loads((tmp_path / "run/metrics.json").read_text())
    assert written["semantic/miou"]["mean"] == found["semantic/miou"]


def test_missing_weights_are_named_and_never_fetched(
    compose: Compose, tmp_path: Path, options: list[str]
) -> None:
    with pytest.raises(ConfigError, match=r"weights=<file> is not set; expected MaskContrast's"):
        evaluate(compose(*options, config_name="evaluate"))
    given = [*options, f"metrics.semantic.weights={tmp_path}/nowhere.pth"]
    with pytest.raises(ConfigError, match=r"nowhere\.pth is not a file; expected MaskContrast's"):
        evaluate(compose(*given, config_name="evaluate"))


def test_choice_holds_all_options_of_its_class(compose: Compose, weights: Path) -> None:
    more = f"metrics.semantic.weights={weights}"
    config = compose("ckpt=x", "metrics=semantic", more, config_name="evaluate")
    (made,) = build_scorings(config.metrics)
    own = SemanticScoring(weights=str(weights))
    assert {k: v for k, v in vars(made).items() if k != "network"} == {
        k: v for k, v in vars(own).items() if k != "network"
    }
    method, toys = build_tiny("segmenter")
    with pytest.raises(UserError, match="data=toy has no classes of pixels in its test split"):
        own.score(method, toys, 0, list)
