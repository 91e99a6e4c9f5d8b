"""`evaluate`: score one checkpoint, or several with mean and spread."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from figureground.cli import run
from figureground.cli.check import check_job, is_typed
from figureground.core.errors import UserError
from figureground.core.peers import is_first_process


def main() -> None:
    """Entry of the command."""
    run(evaluate, "evaluate")


def evaluate(config: DictConfig) -> dict[str, float]:
    """Score `ckpt` (or each of `ckpt=[a,b,c]`) on a split of `data`; print and write the scores.

    Pictures have the size a checkpoint works at, unless `data.resolution` was typed; its metrics
    have the options they were trained with, unless `metrics` says otherwise. With
    `metrics=generation` or `metrics=information` the pictures it draws are scored instead.
    """
    check_job(config)
    from figureground.callbacks.clusters import ClusterPages
    from figureground.callbacks.signals import SignalGuard
    from figureground.cli.generation_scores import build_scorings, score_drawn
    from figureground.cli.train import quieten
    from figureground.core.checkpoint import load_method
    from figureground.core.config import build, to_plain
    from figureground.core.io import atomic_write
    from figureground.core.signals import watching

    quieten()
    paths = [config.ckpt] if isinstance(config.ckpt, str) else list(config.ckpt)
    output = Path(config.paths.output_dir)
    options = to_plain(config).get("metrics") or {}
    scorings, metrics = build_scorings(options), _find_changed(options)
    runs: list[dict[str, float]] = []
    datamodule: Any = None
    with watching() as stop:
        for number, path in enumerate(paths):
            folder = output / ("clusters" if len(paths) == 1 else f"clusters{number}")
            callbacks = [SignalGuard(), ClusterPages(str(folder))]
            trainer = build(
                config.trainer, logger=False, enable_checkpointing=False, callbacks=callbacks
            )
            if trainer.world_size == 1:  # Several processes agree to stop at the next batch.
                stop.check()
            method = load_method(path, metrics=metrics)
            datamodule = _fit_data(config, method, path, datamodule)
            if scorings:
                runs.append(score_drawn(scorings, method, datamodule, trainer, config.seed))
                continue
            datamodule.store(config.split)  # Without this split Lightning would score nothing.
            scores = getattr(trainer, "validate" if config.split == "val" else "test")
            found = scores(method, datamodule, verbose=False)
            runs.append({name: float(value) for each in found for name, value in each.items()})
    result = _summarise(runs)
    if is_first_process():
        _print(result, paths)
        with atomic_write(output / "metrics.json", "w") as file:
            json.dump({"ckpt": paths, "runs": runs, **result}, file, indent=2)
    return {name: cell["mean"] for name, cell in result.items()}


def _find_changed(metrics: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    given = {
        group: {name: value for name, value in options.items() if value is not None}
        for group, options in metrics.items()
        if "_target_" not in options
    }
    return {group: options for group, options in given.items() if options}


def _fit_data(config: DictConfig, method: Any, path: str, datamodule: Any) -> Any:
    """Data at the size of `method`: `datamodule` itself if it is."""
    from figureground.core.config import build

    resolution = getattr(method, "resolution", config.data.resolution)
    if resolution != config.data.resolution and is_typed("data.resolution"):
        raise UserError(
            f"{path} works at {resolution} pixels, data.resolution={config.data.resolution} was "
            f"given; leave it out or use data.resolution={resolution}"
        )
    if datamodule is None or resolution != config.data.resolution:
        config.data.resolution = resolution
        datamodule = build(config.data)
    return datamodule


def _summarise(runs: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation (n - 1) of each score over the runs."""
    table: dict[str, dict[str, float]] = {}
    for name in runs[0]:
        values = [each[name] for each in runs]
        spread = 0.0
        if len(values) > 1:  # Of what is no number there is no spread.
            spread = statistics.stdev(values) if all(map(math.isfinite, values)) else math.nan
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
