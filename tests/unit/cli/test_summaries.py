"""What a finished `reproduce` leaves of scores, budget and time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from figureground.cli.records import Record
from figureground.cli.steps import Step
from figureground.cli.summaries import write_summary

PLAIN = {"name": "compare-x", "seed": 3, "chain": {"data": "toy"}}


def take(
    folder: Path, name: str, scores: dict[str, Any], command: str = "evaluate", **record: Any
) -> tuple[Step, Record]:
    step = Step(name, command, (), "metrics.json", (), folder / name)
    step.folder.mkdir(parents=True)
    (step.folder / "metrics.json").write_text(json.dumps(scores))
    taken = Record(name, command, [], {}, **record)
    taken.write(step.folder)
    taken.finish(step)
    return step, taken


def summary(folder: Path, steps: list[tuple[Step, Record]]) -> dict[str, Any]:
    write_summary(folder, PLAIN, steps)
    content = json.loads((folder / "metrics.json").read_text())
    assert isinstance(content, dict)
    return content


@pytest.fixture
def train(tmp_path: Path) -> tuple[Step, Record]:
    scores = {"test/acc": 0.3, "test/images": 8.0, "restarts": 1, "iterations": 13, "seconds": 4.0}
    facts = {"device": "cpu", "precision": "32-true", "commit": "abc", "versions": {"torch": "2"}}
    taken = take(tmp_path, "train", scores | facts, "train", seconds=10.0, cpu_seconds=6.0)
    asked = {"iterations": 12, "data": {"batch_size": 4, "resolution": 32, "name": "toy"}}
    (taken[0].folder / "config.json").write_text(json.dumps(asked))
    return taken


def test_scores_budgets_and_times_of_all_steps_are_put_together(
    tmp_path: Path, train: tuple[Step, Record]
) -> None:
    means = {"test/iou": {"mean": 0.5, "std": 0.0}, "test/images": {"mean": 9.0, "std": 0.0}}
    test = take(tmp_path, "test", means, seconds=2.5, cpu_seconds=1.25)
    found = summary(tmp_path, [train, test])
    assert {name: found[name] for name in ("name", "seed", "chain")} == PLAIN
    assert (found["seconds"], found["cpu_seconds"], found["restarts"]) == (12.5, 7.2, 1)
    # The later of two scores of one name counts.
    assert {n: v for n, v in found.items() if n.startswith("test/")} == {
        "test/acc": 0.3, "test/images": 9.0, "test/iou": 0.5,
    }  # fmt: skip
    training = found["trainings"]["train"]
    assert training["budget"] == {"iterations": 12, "batch_size": 4, "resolution": 32}
    assert (training["iterations"], training["device"], training["commit"]) == (13, "cpu", "abc")


def test_processor_time_is_left_out_where_a_part_is_unknown(
    tmp_path: Path, train: tuple[Step, Record]
) -> None:
    old = take(tmp_path, "test", {}, seconds=2.0)
    assert summary(tmp_path, [train, old])["cpu_seconds"] is None
    step, record = train
    record.scores["seconds"] = 50.0  # It began before its step, as a run by hand.
    found = summary(tmp_path, [(step, record)])
    assert (found["seconds"], found["cpu_seconds"]) == (50.0, None)


def test_time_of_all_calls_of_a_step_counts(tmp_path: Path) -> None:
    step = Step("train", "train", ("a=1",), "x", (), tmp_path / "train")
    first = Record.begin(step, {})
    first.spend(step.folder, 10.04, 4.0)
    other = Step("train", "train", ("a=2",), "x", (), tmp_path / "train")
    second = Record.begin(other, {})
    second.spend(step.folder, 5.0, 2.5)
    stored = Record.read(step.folder)
    assert stored is not None
    # Options are those of the first call until the step has finished.
    assert (stored.options, stored.seconds, stored.cpu_seconds) == (["a=1"], 15.0, 6.5)
    second.finish(other)
    stored = Record.read(step.folder)
    assert stored is not None
    assert (stored.options, stored.seconds, stored.cpu_seconds) == (["a=2"], 15.0, 6.5)
    assert Record.begin(step, {}).seconds == 0.0  # A finished one begins anew.


@pytest.mark.parametrize("odd", [{"data": 3}, {"data": None}, {"data": ["x"]}, [3]])
def test_odd_options_of_a_training_are_left_out(
    tmp_path: Path, train: tuple[Step, Record], odd: object
) -> None:
    (train[0].folder / "config.json").write_text(json.dumps(odd))
    budget = summary(tmp_path, [train])["trainings"][train[0].name]["budget"]
    assert budget == {"iterations": None, "batch_size": None, "resolution": None}
