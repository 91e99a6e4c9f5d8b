"""The segmenter with a judge of masks: real pictures without masks, both players, options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import Run

from faults import build_tiny
from figureground.methods.segmenter import Segmenter
from figureground.methods.segmenter.game import real_pictures

GAME = ("method.loss=ds_comgan", "method.target=soft", "method.upsampling=nearest_conv")


def test_both_players_move_and_only_the_game_has_a_judge(tmp_path: Path) -> None:
    assert not any(key.startswith("judge") for key in Segmenter(resolution=16).state_dict())
    part = Run(tmp_path, iterations=2, make=lambda: build_tiny("segmenter", *GAME))
    before = {name: p.detach().clone() for name, p in part.method.named_parameters()}
    part.start()
    moved = {n.split(".")[0] for n, p in part.method.named_parameters()
             if not torch.equal(p, before[n])}  # fmt: skip
    assert moved == {"network", "judge"}
    assert set(part.method.last_losses) == {
        "judge/drawn", "judge/real", "distance", "game/drawn", "game/real",
    }  # fmt: skip


def test_real_pictures_repeat_and_are_those_that_pairs_replaced() -> None:
    data = build_tiny("segmenter")[1]
    data.setup("fit")
    one, two, three = (real_pictures(data, 4, place) for place in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, three)
    data.datasets["real"] = data.datasets["val"].without_masks()
    known = data.batch("val", range(8)).image
    found = real_pictures(data, 4, 1)
    assert all((known == picture).flatten(1).all(dim=1).any() for picture in found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "cross_entropy", "target": "soft"}, "binary_entropy or ds_comgan"),
        ({"loss": "ds_comgan", "resolution": 48}, "16, 32, ... pixels, got 48"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Segmenter(**{"resolution": 16, "depth": 2, **options})
