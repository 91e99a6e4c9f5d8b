"""Networks of the golden files, built and filled as released ones are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import Tensor

from figureground.generators.base import ImageGenerator

Rebuild = Callable[..., tuple[ImageGenerator, dict[str, Tensor]]]


@pytest.fixture
def rebuild(golden: Callable[[str], Path]) -> Rebuild:
    """Build `family` from the options its own file gives, and load that file; with stored values.

    More options are given by name; `entry` of index.json says how large the network is.
    """

    def make(
        family: type[ImageGenerator], name: str, **more: Any
    ) -> tuple[ImageGenerator, dict[str, Tensor]]:
        from figureground.generators.weights import read_weights

        folder = golden("generators")
        weights = folder / f"{name}.state.safetensors"
        options = read_weights(family, weights).options
        network = family(**{**options, **more}, weights=str(weights))
        entry = json.loads((folder / "index.json").read_text())[name]
        assert sum(p.numel() for p in network.parameters()) == entry["n_params"]
        return network, load_file(folder / f"{name}.io.safetensors")

    return make
