"""The table at the end of a sweep."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from figureground.cli.sweep_table import SweepTable, finish, lay_out, read_columns


def add_job(folder: Path, number: int, overrides: list[str], scores: dict[str, Any] | None) -> None:
    job = folder / str(number)
    (job / ".hydra").mkdir(parents=True)
    (job / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    if scores is None:
        (job / "failed.txt").write_text("Traceback")
    else:
        (job / "metrics.json").write_text(json.dumps(scores))


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    for number, (method, seed, score, loss) in enumerate(
        [("a", 0, 0.5, 2.0), ("a", 1, 0.7, 1.0), ("b", 0, 0.9, None), ("b", 1, None, None)]
    ):
        scores = None if score is None else {"seed": seed, "test/iou": score, "restarts": 1}
        if scores is not None and loss is not None:
            scores["train/loss/x"] = loss
        add_job(tmp_path, number, [f"method={method}", "data=toy", f"seed={seed}"], scores)
    return tmp_path


def test_runs_that_differ_in_their_seed_make_one_column(sweep: Path) -> None:
    columns = read_columns(sweep)
    assert [(c.name, len(c.runs), c.num_failed) for c in columns] == [
        ("method=a", 2, 0), ("method=b", 1, 1),
    ]  # fmt: skip
    assert columns[0].cell("test/iou") == "0.6000 +- 0.1414"
    assert columns[1].cell("test/iou") == "0.9000"
    assert columns[1].cell("test/other") == ""


def test_table_shows_the_run_of_least_loss_and_what_was_published(sweep: Path) -> None:
    published = {"paper": {"test/iou": "0.8 +- 0.1", "test/ari": 0.3}}
    head, rows = lay_out(read_columns(sweep), "train/loss/x", published)
    assert head == ["score", "method=a", "method=a, least train/loss/x", "method=b", "paper"]
    table = {row[0]: row[1:] for row in rows}
    assert table["test/iou"] == ["0.6000 +- 0.1414", "0.7000", "0.9000", "0.8 +- 0.1"]
    assert table["test/ari"] == ["", "", "", "0.3"]
    assert table["runs"] == ["2", "seed 1", "1", ""]
    assert table["failed"] == ["0", "", "1", ""]
    assert table["restarts"] == ["2", "", "1", ""]


def test_finished_sweep_is_printed_and_written_once(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = SweepTable(least="train/loss/x")
    begun.on_multirun_start(
        SimpleNamespace(hydra=SimpleNamespace(sweep=SimpleNamespace(dir=sweep)))
    )
    finish()
    assert "method=b" in capsys.readouterr().out
    assert (sweep / "table.md").read_text().startswith("| score | method=a |")
    assert json.loads((sweep / "table.json").read_text())[4]["method=b"] == "0.9000"
    finish()
    assert capsys.readouterr().out == ""


def test_one_column_bears_the_name_of_its_runs(tmp_path: Path) -> None:
    add_job(tmp_path, 0, ["+experiment=x", "seed=0"], {"name": "m-d", "test/iou": 1.0})
    assert [column.name for column in read_columns(tmp_path)] == ["m-d"]


def test_sweep_without_scores_has_no_table(tmp_path: Path) -> None:
    add_job(tmp_path, 0, ["seed=0"], None)
    begun = SweepTable()
    begun.on_multirun_start(
        SimpleNamespace(hydra=SimpleNamespace(sweep=SimpleNamespace(dir=tmp_path)))
    )
    finish()
    assert not (tmp_path / "table.md").exists()


def test_a_job_given_by_itself_joins_those_of_the_sweep(tmp_path: Path) -> None:
    for number, more in enumerate([["sweep=comparison"], []]):
        overrides = [*more, "experiment=x", f"seed={number}"]
        add_job(tmp_path, number, overrides, {"seed": number, "test/iou": 0.5})
    assert [len(column.runs) for column in read_columns(tmp_path)] == [2]
