"""Every file in conf/generator is valid, and says what its network is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from figureground import generators
from figureground.core.config import build, check_node, config_dir, read_choice
from figureground.core.protocols import PretrainedGenerator
from figureground.generators.base import ImageGenerator
from figureground.generators.choices import advise_choice
from figureground.generators.dcgan import DCGAN
from figureground.generators.stylegan2 import StyleGAN2
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


def test_choices_are_found_by_what_a_file_holds() -> None:
    assert advise_choice(DCGAN, {"resolution": 64, "width": 64}) == "generator=dcgan_faces"
    assert advise_choice(DCGAN, {"resolution": 64, "width": 3}) == ""
    node = read_choice("generator", "stylegan2_cifar10")
    whole = {name: value for name, value in node.items() if name not in {"_target_", "weights"}}
    assert advise_choice(StyleGAN2, whole) == "generator=stylegan2_cifar10"


def test_every_choice_stands_in_the_table() -> None:
    text = (Path(generators.__file__).parent / "README.md").read_text()
    listed = set()
    for cell in re.findall(r"^\| (`[^|]+) \|", text, re.MULTILINE)[1:]:
        names = re.findall(r"`([^`]+)`", cell)
        stem = names[0].rpartition("_")[0]
        for name in [f"{stem}{each}" if each.startswith("_") else each for each in names]:
            listed |= expand(name)
    assert listed == set(NAMES)


def test_every_row_of_the_table_names_project_file_licence_and_size() -> None:
    text = (Path(generators.__file__).parent / "README.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in re.findall(r"^\| `.+$", text, re.MULTILINE)]
    for names, *cells in rows[1:]:
        assert len(cells) == 6, names
        assert all(cells), names
    for family in families():
        card: Any = family.card
        assert card.licence.split("; trained")[0] in text, card.family


def expand(name: str) -> set[str]:
    """All names that `a_{b,c}` stands for."""
    found = re.search(r"\{([^}]+)\}", name)
    if found is None:
        return {name}
    choices = found[1].split(",")
    return {each for c in choices for each in expand(name.replace(found[0], c, 1))}


def test_every_family_has_a_choice_and_says_where_weights_come_from() -> None:
    chosen = {read_choice("generator", name)["_target_"] for name in NAMES}
    every: list[type[ImageGenerator]] = list(families())
    assert len(every) >= 4
    for family in every:
        assert f"{family.__module__}.{family.__name__}" in chosen
        card: Any = family.card
        assert all([card.family, card.project, card.files, card.licence])
