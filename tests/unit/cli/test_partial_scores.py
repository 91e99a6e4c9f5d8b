"""Scores that a stopped `evaluate` has left are taken up, if they are numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from figureground.cli.partial_scores import PartialScores


def test_scores_of_the_same_options_are_taken_up(tmp_path: Path) -> None:
    first = PartialScores(tmp_path, {"seed": 3})
    first.put("a.ckpt", {"test/miou": 0.5, "test/images": 8})
    assert PartialScores(tmp_path, {"seed": 3}).get("a.ckpt") == first.found["a.ckpt"]
    assert PartialScores(tmp_path, {"seed": 4}).get("a.ckpt") is None


@pytest.mark.parametrize("odd", [{"x": "0.5"}, {"x": None}, {"x": [1]}, {"x": True}, [["x", 1]], 3])
def test_what_is_no_number_is_scored_anew(tmp_path: Path, odd: object) -> None:
    options = PartialScores(tmp_path, {}).options
    scores = {"a.ckpt": odd, "b.ckpt": {"test/miou": 0.5}}
    text = json.dumps({"options": options, "scores": scores})
    (tmp_path / "metrics.partial.json").write_text(text)
    assert PartialScores(tmp_path, {}).found == {"b.ckpt": {"test/miou": 0.5}}
