"""Names in JSON files of earlier steps and of edits are neither imported nor resolved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from figureground.cli.records import RECORD, Record
from figureground.cli.references import fill, quote
from figureground.core.edits import find_problems
from figureground.core.errors import UserError


@pytest.mark.parametrize("text", ["a'b", "a\\", "a\\'b", "x\\\\'", "a b\\\\", "', x: 1", "a,[b]"])
def test_quoted_values_are_read_as_they_were(text: str) -> None:
    override = OverridesParser.create().parse_override(f"key={quote(text)}")
    assert str(override.value()) == text


def write_scores(folder: Path, **content: Any) -> None:
    (folder / "metrics.json").write_text(json.dumps(content), "utf-8")


def test_checkpoint_is_chosen_by_its_score(tmp_path: Path) -> None:
    write_scores(tmp_path, ckpt=["a.ckpt", "b.ckpt"], runs=[{"fid": 3.0}, {"fid": 2.0}])
    assert fill("init={step:least fid}", {"step": tmp_path}) == "init=b.ckpt"


@pytest.mark.parametrize(
    "content",
    [
        {"ckpt": ["${oc.env:HOME}"], "runs": [{"fid": 1.0}]},
        {"ckpt": [3], "runs": [{"fid": 1.0}]},
        {"ckpt": ["a"], "runs": [{"fid": "x"}]},
        {"ckpt": ["a"], "runs": [3]},
        {"ckpt": ["a"], "runs": []},
        {"runs": []},
    ],
)
def test_odd_scores_are_refused_in_one_line(tmp_path: Path, content: dict[str, Any]) -> None:
    write_scores(tmp_path, **content)
    with pytest.raises(UserError, match=r"metrics\.json cannot be read as scores") as caught:
        fill("init={step:least fid}", {"step": tmp_path})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change", [{"options": 3}, {"scores": {"x": "y"}}, {"run": 3}, {"more": 1}]
)
def test_odd_records_are_refused_in_one_line(tmp_path: Path, change: dict[str, Any]) -> None:
    sound = {"step": "a", "command": "train", "options": [], "inputs": {}}
    (tmp_path / RECORD).write_text(json.dumps(sound), "utf-8")
    assert Record.read(tmp_path) == Record("a", "train", [], {})
    (tmp_path / RECORD).write_text(json.dumps({**sound, **change}), "utf-8")
    with pytest.raises(UserError, match="cannot be read") as caught:
        Record.read(tmp_path)
    assert "\n" not in str(caught.value)


def test_edits_name_no_class() -> None:
    assert find_problems([{"do": "move", "layer": 1, "_target_": "canary.touch"}]) == [
        "edits[0]._target_: there is no such option"
    ]
    (problem,) = find_problems([{"do": ["move"], "layer": 1}])
    assert "there is no such edit" in problem
