"""`evaluate`: score one checkpoint, or several with mean and spread."""

from __future__ import annotations

import copy
import json
import logging
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from figureground.cli import run
from figureground.cli.check import check_job, is_typed
from figureground.cli.references import SCORED
from figureground.cli.tables import print_table
from figureground.core.errors import UserError
from figureground.core.peers import is_first_process

if TYPE_CHECKING:
    from figureground.core.signals import SignalWatch

logger = logging.getLogger(__name__)


def main() -> None:
    """Entry of the command."""
    run(evaluate, "evaluate")


def evaluate(config: DictConfig) -> dict[str, float]:
    """Score `ckpt` (or each of `ckpt=[a,b,c]`) on a split of `data`; print and write the scores.

    Pictures have the size a checkpoint works at, unless `data.resolution` was typed; its metrics
    have the options they were trained with, unless `metrics` says otherwise. With
    `metrics=generation` or `metrics=information` the pictures it draws are scored instead; with
    `ensemble=true` all of them segment together and are scored once. Data are prepared as the
    recipe of the checkpoint's method has it. Of several checkpoints a run that was stopped, started
    again in its directory, scores those that were not yet.
    """
    check_job(config)
    from figureground.cli.generation_scores import build_scorings
    from figureground.cli.partial_scores import PartialScores
    from figureground.cli.train import quieten
    from figureground.core.config import to_plain
    from figureground.core.io import atomic_write
    from figureground.core.publishing import publish_text
    from figureground.core.signals import watching

    quieten()
    paths = [config.ckpt] if isinstance(config.ckpt, str) else list(config.ckpt)
    output = Path(config.paths.output_dir)
    scorings = build_scorings(to_plain(config).get("metrics") or {})
    runs: list[dict[str, float]] = []
    modules: dict[str, Any] = {}
    groups = [paths] if config.ensemble else [[path] for path in paths]
    partial = PartialScores(output, to_plain(config)) if len(groups) > 1 else None
    with watching() as stop:
        for number, group in enumerate(groups):
            scores = None if partial is None else partial.get(group[0])
            if scores is None:
                folder = output / ("clusters" if len(groups) == 1 else f"clusters{number}")
                scores = _score(config, group, folder, scorings, modules, stop)
                if partial is not None:
                    partial.put(group[0], scores)
            runs.append(scores)
    result = _summarise(runs)
    if is_first_process():
        _print(result, groups)
        with atomic_write(output / "metrics.json", "w") as file:
            shown = [publish_text(path, output) for path in paths]
            json.dump({"ckpt": shown, "runs": runs, **result}, file, indent=2)
        with atomic_write(output / SCORED, "w") as file:
            json.dump(paths, file, indent=2)
        if partial is not None:
            partial.remove()
    return {name: cell["mean"] for name, cell in result.items()}


def _score(
    config: DictConfig,
    paths: list[str],
    folder: Path,
    scorings: Sequence[Any],
    modules: dict[str, Any],
    stop: SignalWatch,
) -> dict[str, float]:
    """Scores of one checkpoint, or of an ensemble; pages of clusters go into `folder`."""
    from figureground.callbacks.clusters import ClusterPages
    from figureground.callbacks.signals import SignalGuard
    from figureground.cli.generation_scores import score_drawn
    from figureground.core.config import build, to_plain

    callbacks = [SignalGuard(), ClusterPages(str(folder))]
    trainer = build(config.trainer, logger=False, enable_checkpointing=False, callbacks=callbacks)
    if trainer.world_size == 1:  # Several processes agree to stop at the next batch.
        stop.check()
    method = _load(paths, _find_changed(to_plain(config).get("metrics") or {}), config.refine)
    _require_networks(method, paths[0], is_drawn=bool(scorings))
    datamodule = _fit_data(config, method, paths[0], modules)
    if scorings:
        return score_drawn(scorings, method, datamodule, trainer, config.seed)
    datamodule.store(config.split)  # Without this split Lightning would score nothing.
    scores = getattr(trainer, "validate" if config.split == "val" else "test")
    found = scores(method, datamodule, verbose=False)
    return {name: float(value) for each in found for name, value in each.items()}


def _load(paths: list[str], metrics: dict[str, dict[str, Any]], refine: str | None) -> Any:
    """The method of one checkpoint, or the ensemble of several."""
    from figureground.cli.inference import choose_refinement
    from figureground.core.checkpoint import load_method

    methods = [load_method(path, metrics=metrics) for path in paths]
    for method in methods:
        choose_refinement(method, refine)
    if len(methods) == 1:
        return methods[0]
    from figureground.methods.segmenter.ensemble import SegmenterEnsemble

    return SegmenterEnsemble(methods)


def _require_networks(method: Any, path: str, *, is_drawn: bool) -> None:
    """Refuse to score random weights of a network that a converted checkpoint lacks."""
    from figureground.core.checkpoint import require_network
    from figureground.core.protocols import Clusterer

    if is_drawn:
        require_network(method, "generator", path)
    elif isinstance(method, Clusterer):
        require_network(method, "discriminator", path)


def _find_changed(metrics: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    given = {
        group: {name: value for name, value in options.items() if value is not None}
        for group, options in metrics.items()
        if "_target_" not in options
    }
    return {group: options for group, options in given.items() if options}


def _fit_data(config: DictConfig, method: Any, path: str, modules: dict[str, Any]) -> Any:
    """Data at the size of `method`, as its recipe has it; those of the last call if they are so."""
    from figureground.cli.recipe_data import follow_recipe
    from figureground.core.config import build

    resolution = getattr(method, "resolution", config.data.resolution)
    if resolution != config.data.resolution and is_typed("data.resolution"):
        raise UserError(
            f"{path} works at {resolution} pixels, data.resolution={config.data.resolution} was "
            f"given; leave it out or use data.resolution={resolution}"
        )
    own = copy.deepcopy(config)
    own.data.resolution = resolution
    follow_recipe(own, method)
    plain = OmegaConf.to_container(own.data, resolve=True)
    text = json.dumps(plain, sort_keys=True, default=str)
    if text not in modules:
        modules.clear()  # One is enough in memory.
        modules[text] = build(own.data)
    return modules[text]


def _summarise(runs: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation (n - 1) of each score that all runs have."""
    table: dict[str, dict[str, float]] = {}
    shared = set(runs[0]).intersection(*runs)
    if beyond := sorted(set().union(*runs) - shared):
        logger.info("not in the table, as not every checkpoint has them: %s", ", ".join(beyond))
    for name in (each for each in runs[0] if each in shared):
        values = [each[name] for each in runs]
        spread = 0.0
        if len(values) > 1:  # Of what is no number there is no spread.
            spread = statistics.stdev(values) if all(map(math.isfinite, values)) else math.nan
        table[name] = {"mean": statistics.fmean(values), "std": spread}
    return table


def _print(result: dict[str, dict[str, float]], groups: list[list[str]]) -> None:
    parts = ["mean", "std"] if len(groups) > 1 else ["mean"]
    rows = [
        [name, *(f"{cell[part]:.4f}" for part in parts)] for name, cell in sorted(result.items())
    ]
    title = f"{sum(map(len, groups))} checkpoint(s)"
    print_table(["score", *parts], rows, title=title, numbers=True)
