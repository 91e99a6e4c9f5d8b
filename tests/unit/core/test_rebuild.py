"""Files name classes that our constructors ask for, where they ask for them."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torchmetrics import Metric

from figureground.core.errors import CheckpointError, ConfigError
from figureground.core.method import Method
from figureground.core.rebuild import build_trusted, change_trusted, find_class, find_wanted
from figureground.generators.base import ImageGenerator
from figureground.methods.redo import ReDO
from figureground.metrics.segmentation import SegmentationScores
from figureground.nn.ada import AugmentPipe
from figureground.nn.optimizers import LazyAdam, OptimizerFactory

_SCORES = {"_target_": "figureground.metrics.segmentation.SegmentationScores", "num_regions": 2}
_LAZY = "figureground.nn.optimizers.LazyAdam"
_SMALL = {
    "_target_": "figureground.methods.redo.ReDO", "resolution": 32, "mask_width": 4,
    "generator_width": 4, "discriminator_width": 4, "encoder_width": 4,
}  # fmt: skip


def test_nested_nodes_are_built_where_they_are_asked_for() -> None:
    adam = {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 0.1, "betas": [0, 0.9]}
    lazy = {"_target_": _LAZY, "_partial_": True, "every": 4}
    method = build_trusted(
        {**_SMALL, "metrics": {"segmentation": _SCORES, "clustering": None},
         "mask_optimizer": adam, "encoder_optimizer": lazy},
        Method,
    )  # fmt: skip
    assert type(method) is ReDO
    assert isinstance(method._scores["test/segmentation"], SegmentationScores)
    optimizer = method._optimizers["mask_net"]
    assert isinstance(optimizer, partial)
    assert (optimizer.func, optimizer.keywords) == (
        torch.optim.Adam, {"lr": 0.1, "betas": [0, 0.9]},
    )  # fmt: skip
    assert method._optimizers["encoder"].func is LazyAdam


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        (
            {"mask_optimizer": {"_target_": "torch.optim.Adam", "lr": 0.1}},
            "_partial_: expected true",
        ),
        ({"_partial_": True}, "method._partial_: expected false"),
        ({"mask_optimizer": _SCORES}, "expected a Optimizer"),
        ({"metrics": {"segmentation": {"_target_": "torch.nn.ReLU"}}}, "expected a Metric"),
        ({"metrics": _SCORES}, "method.metrics._target_ is not allowed in a file here"),
        ({"metrics": {"_partial_": True}}, "method.metrics._target_ is not allowed in a file here"),
        ({"metrics": {"x": {"y": _SCORES}}}, "metrics.x.y._target_ is not allowed in a file here"),
        ({"latent_dim": _SCORES}, "method.latent_dim._target_ is not allowed in a file here"),
        ({"latent_dim": [[_SCORES]]}, "method.latent_dim[0][0]._target_ is not allowed"),
        ({"latent_dim": 0, "mask_width": 10**6, "x": 1}, "method.mask_width=1000000: expected"),
        ({"num_regions": 1}, "ReDO: num_regions must be at least 2"),
    ],
)
def test_wrong_kinds_and_values_are_named(change: dict[str, Any], fragment: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        build_trusted({**_SMALL, **change}, Method)
    assert fragment in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("figureground.methods.redo.module.torch.hub.load", object),
        ("figureground.methods.redo.module.LightningModule", object),
        ("figureground.methods.redo.module.check_options", object),
        ("figureground.core.io.RunLock", object),
        ("figureground.cli.check.ConfigCheck", object),
        ("figureground.__main__.main", object),
        ("figureground.methods.redo.nothing.ReDO", Method),
        ("torch.optim.Adam", Method),
        ("torch.nn.functional.Callable", object),
        ("torch.Tensor", object),
        ("torch.optim.adam.Adam", object),
        ("figureground.methods.redo.ReDO", Metric),
        (".ReDO", object),
        (None, object),
        (["x"], object),
    ],
)
def test_other_names_are_no_classes(target: object, kind: type) -> None:
    assert find_class(target, kind) is None


def test_wanted_classes_follow_from_annotations() -> None:
    assert find_wanted(AugmentPipe | None) == (AugmentPipe, False)
    assert find_wanted(ImageGenerator) == (ImageGenerator, False)
    assert find_wanted(OptimizerFactory | None) == (torch.optim.Optimizer, True)
    for hint in (int, str | None, Any, torch.Tensor, dict[str, Any], None):
        assert find_wanted(hint) is None


def test_changes_of_metrics_are_checked_as_on_the_command_line() -> None:
    changed = change_trusted({"segmentation": _SCORES}, {"segmentation": {"average": "batch"}},
                             Metric, "metrics")  # fmt: skip
    assert changed == {"segmentation": {**_SCORES, "average": "batch"}}
    for changes, fragment in (
        ({"x": {}}, r"metrics\.x: the checkpoint has none"),
        ({"segmentation": {"average": "all"}}, r"metrics\.segmentation\.average=all: expected one"),
    ):
        with pytest.raises(ConfigError, match=fragment):
            change_trusted({"segmentation": _SCORES}, changes, Metric, "metrics")
    with pytest.raises(CheckpointError, match="is not allowed in a file"):
        change_trusted({"x": {"_target_": "os.system"}}, {"x": {"a": 1}}, Metric, "metrics")
