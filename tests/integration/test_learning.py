"""Methods work, not merely run: a stated score on the toy set within a fixed budget."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from faults import ROOT, run

#: Least `test/iou/img/set` of each method on `toy` with its recipe, seed 0.
FLOORS = {"redo": 0.80}


@pytest.mark.slow
@pytest.mark.parametrize("method", FLOORS)
def test_method_learns_the_toy_set(tmp_path: Path, method: str) -> None:
    done = run(
        ["python", ROOT / "src/train.py", f"method={method}", "data=toy",
         "paths.output_dir=run", "callbacks.image_grid.every=100000"],
        cwd=tmp_path, limit=1500,
    )  # fmt: skip
    assert done.code == 0, done.err
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["test/iou/img/set"] >= FLOORS[method]
    assert metrics["test/iou/img/fixed"] >= FLOORS[method]
