"""Adaptive augmentation changes pictures as the authors' pipe does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.testing import assert_close

from figureground.nn.ada import AugmentPipe

CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 2e-5}  # atol as in the golden data's README
OURS = {"imgfilter": "filter"}


@pytest.fixture(scope="module")
def stored(golden: Callable[[str], Path]) -> dict[str, Tensor]:
    return load_file(golden("ilsgan") / "ada_augment.safetensors")


def test_filters_match(stored: dict[str, Tensor]) -> None:
    pipe = AugmentPipe()
    assert_close(pipe.geometry_filter, stored["Hz_geom"])
    assert_close(pipe.filter_bank, stored["Hz_fbank"])


def test_single_operations_match(stored: dict[str, Tensor]) -> None:
    names = [key.split(".")[1] for key in stored if key.startswith("single.")]
    assert len(names) == 14
    for name in names:
        found = AugmentPipe(OURS.get(name, name))(stored["in.img"], percentile=0.85)
        expected = stored[f"single.{name}.percentile0.85"]
        assert_close(found, expected, **CLOSE, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("percentile", [0.2, 0.5, 0.85])
@pytest.mark.parametrize(
    ("name", "operations"), [("bgc", ["bgc"]), ("full", ["bgc", "filter", "cutout"])]
)
def test_pipes_match(
    stored: dict[str, Tensor], name: str, operations: list[str], percentile: float
) -> None:
    found = AugmentPipe(operations)(stored["in.img"], percentile=percentile)
    assert_close(found, stored[f"{name}.percentile{percentile}"], **CLOSE)


def test_no_strength_matches(stored: dict[str, Tensor]) -> None:
    assert_close(AugmentPipe("bgc", p=0.0)(stored["in.img"]), stored["bgc.p0"], **CLOSE)


def test_draws_match(stored: dict[str, Tensor], golden: Callable[[str], Path]) -> None:
    scalars = json.loads((golden("ilsgan") / "scalars.json").read_text())
    generator = torch.Generator().manual_seed(scalars["augment_seed_p0.6"])
    found = AugmentPipe("bgc", p=0.6)(stored["in.img"], generator=generator)
    assert_close(found, stored["bgc.p0.6.seed"], **CLOSE)
