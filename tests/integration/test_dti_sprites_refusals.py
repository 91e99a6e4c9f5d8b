"""Options of DTI-Sprites that cannot work together end the command before anything is made."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from figureground.cli.settings import TrainSettings
from figureground.core.config import check


@pytest.mark.parametrize(
    ("overrides", "fragment"),
    [
        (["data=tetrominoes", "method.selection=exhaustive"], "6859 combinations per picture"),
        (["data=clevr6", "method.num_backgrounds=2"], "selection=greedy knows one background"),
        (["data=dsprites", "method.layer_transform=color"], "layer_transform must place sprites"),
        (
            ["data=gtsrb8", "method.sprite_transform=color_projective"],
            "names 2 transformations, but color_projective has 1 after its first",
        ),
        (["data=svhn", "method.sprite_transform=color_twist_tps"], "no transformation 'twist'"),
        (
            ["data=svhn", "method.sprite_transform=color_morpho_tps"],
            "morphological works on single-channel pictures",
        ),
        (
            ["data=svhn", "method.empty_sprite=true"],
            "num_clusters=10, but 10 sprites and the empty one are clusters of their own; use "
            "method.metrics.clustering.num_clusters=11",
        ),
        (["data=clevr6", "method.empty_sprite=false"], "add empty_sprite=true"),
    ],
)
def test_options_are_refused_before_training(
    compose: Callable[..., DictConfig], overrides: list[str], fragment: str
) -> None:
    (problem,) = check(compose("method=dti_sprites", *overrides), TrainSettings)
    assert problem.startswith("method: ")
    assert fragment in problem
    assert "\n" not in problem
