"""Every file in conf/generator is valid, and says what its network is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from figureground.core.config import build, check_node, config_dir, read_choice
from figureground.core.protocols import PretrainedGenerator
from figureground.generators.base import ImageGenerator
from figureground.generators.weights import families

NAMES = sorted(path.stem for path in (Path(config_dir()) / "generator").glob("*.yaml"))
FREE = [name for name in NAMES if name != "checkpoint"]  # Which is nothing without a file.


@pytest.mark.parametrize("name", FREE)
def test_every_choice_is_valid_and_builds(name: str) -> None:
    node = read_choice("generator", name)
    assert check_node("generator", node) == []
    assert node["weights"] is None
    with torch.device("meta"):  # Shapes only.
        network = build(node)
    assert isinstance(network, PretrainedGenerator)
    assert network.resolution == node.get("resolution", network.resolution)
    text = (Path(config_dir()) / "generator" / f"{name}.yaml").read_text()
    millions = sum(p.numel() for p in network.parameters()) / 1e6  # type: ignore[attr-defined]
    if " M parameters" in text:
        assert f"{millions:.1f} M parameters" in text


def test_every_family_has_a_choice_and_says_where_weights_come_from() -> None:
    chosen = {read_choice("generator", name)["_target_"] for name in NAMES}
    every: list[type[ImageGenerator]] = list(families())
    assert len(every) >= 4
    for family in every:
        assert f"{family.__module__}.{family.__name__}" in chosen
        card: Any = family.card
        assert all([card.family, card.project, card.files, card.licence])
