"""Scores over training: which snapshots are looked at, and what is written of them."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from figureground.cli.records import Record
from figureground.cli.references import fill_plain
from figureground.cli.steps import Step
from figureground.cli.sweep_table import write_table
from figureground.core.errors import UserError
from figureground.core.io import atomic_write

logger = logging.getLogger(__name__)

_NAME = "analysis"

Point = tuple[int, Mapping[str, Record]]


def find_snapshots(
    source: Mapping[str, Any], folders: Mapping[str, Path]
) -> list[tuple[int, Path]]:
    """Every so many of the snapshots kept over training, by iteration.

    Args:
        source: The node `snapshots`: `folder`, `every` (1 takes all) and `up_to`, the last
            iteration or None.
        folders: What `{step}` in `folder` stands for.

    Returns:
        Iterations and files, in order; counting begins so that the last one is taken.

    Raises:
        UserError: There are none.
    """
    name = fill_plain(str(source["folder"]), folders)
    numbered = sorted(
        (int(path.stem), path) for path in Path(name).glob("*.ckpt") if path.stem.isdigit()
    )
    up_to = source.get("up_to")
    kept = [each for each in numbered if up_to is None or each[0] <= up_to]
    if not kept:
        limit = "" if up_to is None else f" up to iteration {up_to}"
        raise UserError(
            f"{name} holds no snapshot{limit}; train with callbacks.checkpoints.keep_every=500, or "
            "give snapshots.folder=<run directory>/checkpoints/snapshots"
        )
    return kept[:: -int(source["every"])][::-1]


def write(
    output: Path,
    curves: Mapping[str, Mapping[str, str]],
    steps: Sequence[Step],
    points: Sequence[Point],
) -> None:
    """Write `analysis.json`, `analysis.md` and `analysis.png` into `output`; print the table.

    Args:
        output: Where they go.
        curves: From title to step and score (a pattern) to draw.
        steps: Taken for each snapshot.
        points: Iteration and what its steps have left.
    """
    from figureground.cli.inference import write_png
    from figureground.viz.charts import curve_chart

    content = [
        {"iteration": number, "scores": {s.name: records[s.name].scores for s in steps}}
        for number, records in points
    ]
    with atomic_write(output / f"{_NAME}.json", "w") as file:
        json.dump(content, file, indent=2)
    taken = {step.name for step in steps}  # Steps may have been left out.
    drawn = {
        title: [pick(records, curve) for _, records in points]
        for title, curve in curves.items()
        if curve["step"] in taken
    }
    rows = [
        [str(number), *(_show(drawn[title][place]) for title in drawn)]
        for place, (number, _) in enumerate(points)
    ]
    write_table(output, ["iteration", *drawn], rows, _NAME, data=False)
    chart = curve_chart([number for number, _ in points], drawn, "iteration")
    write_png(output / f"{_NAME}.png", chart)
    logger.info("look at %s", output / f"{_NAME}.png")


def pick(records: Mapping[str, Record], curve: Mapping[str, str]) -> float:
    """The score that `curve` asks for, NaN if its step has none of that name."""
    record = records.get(curve["step"])
    names = sorted(record.scores) if record else []
    for name in names:
        if record is not None and fnmatchcase(name, curve["score"]):
            return record.scores[name]
    return math.nan


def _show(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"
