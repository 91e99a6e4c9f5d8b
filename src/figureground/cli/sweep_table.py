"""The table at the end of a sweep: runs that differ in their seed alone make one column."""

from __future__ import annotations

import json
import logging
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # comes with omegaconf
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from figureground.cli.tables import print_table
from figureground.core.escaping import markdown
from figureground.core.presence import SMALL, read_text
from figureground.core.publishing import publish_override

logger = logging.getLogger(__name__)

_STAGES = ("test/", "test_transductive/")
_begun: list[SweepTable] = []  # The sweep of this process.


class SweepTable(Callback):
    """Remember which sweep begins; `finish` writes its table, also when jobs have failed.

    Args:
        least: Score of a run, such as `train/loss/reconstruction`, by whose smallest value one run
            of a column is shown by itself, or None. Choosing by a loss needs no labels.
        published: Columns to set beside: a mapping from heading to scores by name, each a number or
            a text such as `0.995 +- 0.002`.
    """

    def __init__(
        self,
        least: str | None = None,
        published: Mapping[str, Mapping[str, float | str]] | None = None,
    ) -> None:
        self.least = least
        self.published = {name: dict(column) for name, column in (published or {}).items()}
        self.folder: Path | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Note where the jobs will be."""
        self.folder = Path(str(config.hydra.sweep.dir))
        _begun.append(self)


@dataclass
class Column:
    """Runs of one configuration.

    Attributes:
        name: Method, data and what else tells columns apart.
        runs: Their `metrics.json`.
        num_failed: Jobs that left no scores.
    """

    name: str
    runs: list[dict[str, Any]] = field(default_factory=list)
    num_failed: int = 0

    def cell(self, score: str) -> str:
        """Mean and standard deviation (n - 1) of `score`, empty if no run has it."""
        values = self.values(score)
        if not values:
            return ""
        mean = f"{statistics.fmean(values):.4f}"
        return f"{mean} +- {statistics.stdev(values):.4f}" if len(values) > 1 else mean

    def values(self, score: str) -> list[float]:
        """What runs have for `score`."""
        found = [run.get(score) for run in self.runs]
        return [float(value) for value in found if value is not None]

    def best(self, least: str) -> dict[str, Any] | None:
        """The run with the smallest `least`."""
        known = [run for run in self.runs if run.get(least) is not None]
        return min(known, key=lambda run: float(run[least]), default=None)


def finish() -> None:
    """Print the table of the sweep that this process has run, if any, and write it beside it."""
    while _begun:
        sweep = _begun.pop()
        if sweep.folder is None or not sweep.folder.is_dir():
            continue
        columns = read_columns(sweep.folder)
        if not any(column.runs for column in columns):
            continue
        head, rows = lay_out(columns, sweep.least, sweep.published)
        write_table(sweep.folder, head, rows)


def write_table(
    folder: Path,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    name: str = "table",
    *,
    data: bool = True,
) -> None:
    """Print a table and write it into `folder`, as Markdown and, with `data`, as JSON."""
    from figureground.core.io import atomic_write

    with atomic_write(folder / f"{name}.md", "w") as text:
        text.write(_as_markdown(head, rows))
    if data:
        with atomic_write(folder / f"{name}.json", "w") as file:
            json.dump([dict(zip(head, row, strict=True)) for row in rows], file, indent=2)
    print_table(head, rows)
    logger.info("the same as a file: %s", folder / f"{name}.md")


def read_columns(folder: Path) -> list[Column]:
    """Group the jobs below `folder` by their overrides without the seed, in order of jobs."""
    jobs = []
    for path in folder.glob("*/.hydra/overrides.yaml"):
        overrides = _read_overrides(path)
        if overrides is None:
            logger.warning("%s is not a list of options; its job is left out of the table", path)
            continue
        for name in ("seed", "sweep"):  # A job given by itself belongs to those of the sweep.
            overrides.pop(name, None)
        jobs.append((_order(path.parents[1]), path.parents[1], overrides))
    jobs.sort(key=lambda job: job[0])
    shared = set.intersection(*(set(o.items()) for _, _, o in jobs)) if jobs else set()
    columns: dict[str, Column] = {}
    for _, job, overrides in jobs:
        own = [f"{key}={value}" for key, value in overrides.items() if (key, value) not in shared]
        shown = ", ".join(publish_override(each, job) for each in own)
        column = columns.setdefault(", ".join(own), Column(shown or "all runs"))
        scores = job / "metrics.json"
        run = None if (job / "failed.txt").exists() else _read_run(scores)
        if run is not None:
            column.runs.append(run)
        else:
            column.num_failed += 1
    if len(columns) == 1:
        for column in columns.values():
            column.name = str(column.runs[0].get("name")) if column.runs else column.name
    return list(columns.values())


def _read_overrides(path: Path) -> dict[str, str] | None:
    """Options of a job by name; None if the file, which may come from anybody, holds no list."""
    try:
        found = yaml.safe_load(read_text(path, SMALL))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return None
    # A short file may hold lists of lists that are endless when written out.
    if not isinstance(found, list) or any(isinstance(each, list | dict | set) for each in found):
        return None
    return dict(str(each).lstrip("+").partition("=")[::2] for each in found)


def _read_run(path: Path) -> dict[str, Any] | None:
    """Scores of a job; None if there are none, or what is there is something else."""
    try:
        found = json.loads(read_text(path, SMALL))
        if not isinstance(found, dict):
            return None
        numbers = [v for k, v in found.items() if k.startswith((*_STAGES, "seconds", "restarts"))]
        is_sound = all(v is None or math.isfinite(float(v)) or v != v for v in numbers)
    except (OSError, ValueError, TypeError, OverflowError, RecursionError):
        return None
    return found if is_sound and all(not isinstance(v, str) for v in numbers) else None


def lay_out(
    columns: Sequence[Column],
    least: str | None = None,
    published: Mapping[str, Mapping[str, float | str]] | None = None,
) -> tuple[list[str], list[list[str]]]:
    """Heading and rows of the table: numbers of runs, then every test score of any column."""
    head = ["score"]
    cells: list[dict[str, str]] = []
    names = sorted({n for c in columns for run in c.runs for n in run if n.startswith(_STAGES)})
    for column in columns:
        head.append(column.name)
        counts = {
            "runs": str(len(column.runs)),
            "failed": str(column.num_failed),
            "restarts": str(sum(int(run.get("restarts", 0)) for run in column.runs)),
            "seconds": f"{statistics.fmean(column.values('seconds') or [0]):.0f}",
        }
        cells.append(counts | {name: column.cell(name) for name in names})
        best = column.best(least) if least else None
        if best is not None:
            head.append(f"{column.name}, least {least}")
            chosen = {n: f"{best[n]:.4f}" for n in names if best.get(n) is not None}
            cells.append({"runs": f"seed {best.get('seed')}", **chosen})
    for source, scores in (published or {}).items():
        head.append(source)
        cells.append({name: str(value) for name, value in scores.items()})
        names += [name for name in scores if name not in names]
    rows = [
        [name, *(cell.get(name, "") for cell in cells)]
        for name in ("runs", "failed", "restarts", "seconds", *names)
    ]
    return head, rows


def _order(job: Path) -> tuple[int, str]:
    return (int(job.name), "") if job.name.isdigit() else (10**9, job.name)


def _as_markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [map(markdown, head), ["---"] * len(head), *(map(markdown, row) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
