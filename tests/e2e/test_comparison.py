"""One sweep compares methods: a job for each method, data and seed, none of them done twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from faults import ROOT, Result, run

pytestmark = pytest.mark.slow

SMALL = [
    "sweep=comparison",
    "experiment=compare-redo",
    "chain.data=rooms",
    "seed=0",
    "+steps.train.options={iterations:4,trainer.val_check_interval:2,data.train.count:40,"
    "callbacks.collapse.max_iteration:2,data.val.count:8,data.batch_size:4,"
    "trainer.accelerator:cpu}",
    "+steps.test.options={data.test.count:8,trainer.accelerator:cpu}",
]


def compare(folder: Path) -> Result:
    return run(["python", ROOT / "src/reproduce.py", *SMALL], cwd=folder, limit=600)


def test_a_sweep_goes_on_and_its_table_has_all_that_has_finished(tmp_path: Path) -> None:
    first = compare(tmp_path)
    assert first.code == 0, first.err
    folder = tmp_path / "outputs/comparison"
    before = (folder / "compare-redo-rooms-0/02-test/metrics.json").read_bytes()
    (folder / "compare-redo-rooms-0/failed.txt").write_text("of an earlier try")
    again = compare(tmp_path)
    assert again.code == 0, again.err
    assert (again.err + again.out).count("has finished before") == 2
    assert (folder / "compare-redo-rooms-0/02-test/metrics.json").read_bytes() == before
    rows = {row.pop("score"): row for row in json.loads((folder / "table.json").read_text())}
    ((name, runs),) = rows["runs"].items()
    assert (name, runs, rows["failed"][name]) == ("compare-redo", "1", "0")
    assert {"test/iou/img/fixed", "test/iou/img/oracle", "test/ari/img"} <= rows.keys()
    summary = json.loads((folder / "compare-redo-rooms-0/metrics.json").read_text())
    assert summary["seed"] == 0
    assert summary["cpu_seconds"] > 0
    # Shortened as they are, they are no part of the comparison.
    done = run(
        ["python", ROOT / "benchmarks/comparison.py", "--dry", folder], cwd=tmp_path, limit=120
    )
    assert done.code == 0, done.err
    assert done.err.count("was given options of its own") == 1
    assert done.out.startswith("0 runs read")
