"""`evaluate`: score one checkpoint, or several with mean and spread."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from figureground.cli import run
from figureground.cli.check import check_job
from figureground.core.errors import UserError


def main() -> None:
    """Entry of the command."""
    run(evaluate, "evaluate")


def evaluate(config: DictConfig) -> dict[str, float]:
    """Score `ckpt` (or each of `ckpt=[a,b,c]`) on a split of `data`; print and write the scores."""
    check_job(config)
    from figureground.cli.train import quieten
    from figureground.core.checkpoint import load_method
    from figureground.core.config import build
    from figureground.core.io import atomic_write

    quieten()
    paths = [config.ckpt] if isinstance(config.ckpt, str) else list(config.ckpt)
    runs: list[dict[str, float]] = []
    datamodule = build(config.data)
    for path in paths:
        method = load_method(path)
        resolution = getattr(method, "resolution", datamodule.resolution)
        if resolution != datamodule.resolution:
            raise UserError(
                f"{path} works at {resolution} pixels, data={datamodule.name} gives "
                f"{datamodule.resolution}; add data.resolution={resolution}"
            )
        trainer = build(config.trainer, logger=False, enable_checkpointing=False)
        scores = getattr(trainer, "validate" if config.split == "val" else "test")
        found = scores(method, datamodule, verbose=False)
        runs.append({name: float(value) for each in found for name, value in each.items()})
    result = _summarise(runs)
    _print(result, paths)
    with atomic_write(Path(config.paths.output_dir) / "metrics.json", "w") as file:
        json.dump({"ckpt": paths, "runs": runs, **result}, file, indent=2)
    return {name: cell["mean"] for name, cell in result.items()}


def _summarise(runs: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation (n - 1) of each score over the runs."""
    table: dict[str, dict[str, float]] = {}
    for name in runs[0]:
        values = [each[name] for each in runs]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        table[name] = {"mean": statistics.fmean(values), "std": spread}
    return table


def _print(result: dict[str, dict[str, float]], paths: list[Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{len(paths)} checkpoint(s)")
    table.add_column("score")
    table.add_column("mean", justify="right")
    if len(paths) > 1:
        table.add_column("std", justify="right")
    for name, cell in sorted(result.items()):
        values = [f"{cell['mean']:.4f}"] + ([f"{cell['std']:.4f}"] if len(paths) > 1 else [])
        table.add_row(name, *values)
    Console().print(table)
