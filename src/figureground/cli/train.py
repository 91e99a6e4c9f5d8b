"""`train`: build everything a configuration names, fit, test, and say what to look at."""

from __future__ import annotations

import json
import logging
import os
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from figureground.cli import run
from figureground.cli.check import RESOLVED, check_job
from figureground.cli.objective import read_objective
from figureground.core.links import LATEST
from figureground.core.peers import is_first_process

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

    from figureground.core.method import Method

logger = logging.getLogger(__name__)

#: Remarks of Lightning and torch that do not apply here, by the start of their text.
_UNDERSTOOD = (
    ".*does not have many workers",  # Cached pictures need none.
    "This DataLoader will create .* worker processes",  # More than there are cores do no harm.
    ".*The number of training batches",
    ".*Checkpoint directory .* exists and is not empty",
    ".*exists and is not empty",
    ".*isinstance.treespec, LeafSpec",
    ".*You called `self.log.* in your .* but have no logger configured",
    ".*Experiment logs directory .* exists",
    ".*`is_sanity_checking`",
    ".*torch.jit.script",
    ".*sync_dist=True",  # torchmetrics have summed over processes already.
    ".*LeafSpec",
    ".*Total length of `list` across ranks is zero",  # There need be no validation set.
    ".*Grad strides do not match bucket view strides",  # channels_last with several processes
    ".*You have overridden `on_before_batch_transfer` in `LightningModule`",
    ".*module.s. in eval mode at the start of training",  # Frozen networks are to be.
)


def main() -> None:
    """Entry of the command."""
    run(train, "train")


def train(config: DictConfig) -> float | None:
    """Train one job; return its objective for sweeps, or None if it was not measured."""
    check_job(config)
    quieten()
    # Below, because importing torch takes seconds that a misspelt option need not wait for.
    import torch

    from figureground.core.config import build, to_plain
    from figureground.core.peers import failing_together, forget_failure
    from figureground.core.signals import watching

    plain = to_plain(config)
    folder = Path(plain["paths"]["output_dir"])
    ckpt = _resolve_ckpt(plain["ckpt"], folder)  # Before anything is written.
    if is_first_process():
        _claim(folder, plain)
        forget_failure(folder)
    _seed_everything(plain["seed"], plain["deterministic"])
    # One watch over everything: a signal during set-up ends the run at the first batch.
    with watching(), failing_together(folder):
        datamodule = build(config.data)
        if config.get("pairs") is not None:
            build(config.pairs).attach(datamodule)
        method = build_method(config)
        if plain["init"] is not None and plain["ckpt"] is None:
            _start_from(method, plain["init"])
        if plain["channels_last"]:
            method = method.to(memory_format=torch.channels_last)
        if plain["compile"]:
            method.compile_networks()
        trainer = _build_trainer(config)
        _log_hyperparameters(trainer, method, plain)
        with _explained_restoring(ckpt):
            trainer.fit(method, datamodule, ckpt_path=ckpt, weights_only=True)
        objective = read_objective(plain["objective"], trainer.callback_metrics)
        if plain["test"] and "test" in getattr(datamodule, "datasets", {}):
            _test(trainer, method, datamodule)
    _say_where_to_look(folder)
    return objective


@contextmanager
def _explained_restoring(ckpt: str | None) -> Iterator[None]:
    """Say in one line that a checkpoint cannot be restored, for a reason nobody foresaw."""
    from figureground.core.errors import CheckpointError, FiguregroundError
    from figureground.core.plain import summarize

    try:
        yield
    except FiguregroundError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        parts = [x.name for x in frames if x.filename.endswith("checkpoint_connector.py")]
        if not parts or "dump_checkpoint" in parts:  # Lightning saves there, too.
            raise
        raise CheckpointError(
            f"{ckpt} cannot be resumed from ({type(error).__name__}: {summarize(error)}); it is "
            "damaged, or of another method or version. Use another checkpoint"
        ) from error


def build_method(config: DictConfig) -> Method:
    """Build the method and note in it what it was built from."""
    from figureground.core.config import build, drop_hydra_keys, to_plain
    from figureground.core.places import shorten_places

    method: Method = build(config.method)
    plain = to_plain(config)
    data = {key: plain["data"].get(key) for key in ("name", "resolution")}
    node = drop_hydra_keys(plain["method"])
    method.origin = {"method": shorten_places(node), "data": data}
    return method


def _start_from(method: Method, path: str) -> None:
    """Take over the weights of a checkpoint, and nothing else of it.

    Raises:
        CheckpointError: It cannot be read, or its weights do not fit.
    """
    from figureground.core.checkpoint import load_state, read_checkpoint
    from figureground.core.errors import CheckpointError

    checkpoint = read_checkpoint(path)
    try:
        load_state(method, checkpoint["state_dict"], path)
    except CheckpointError as error:
        before = checkpoint.get("figureground", {}).get("method", {})
        raise CheckpointError(f"{error}{_tell_differences(before, method)}") from error
    logger.info("starting from the weights of %s", path)


def _tell_differences(before: dict[str, Any], method: Method) -> str:
    """Say which options of networks differ from those that weights were trained with."""
    now = method.origin.get("method", {})
    differing = [
        f"{name}={before[name]}, here {now[name]}"
        for name in sorted(before.keys() & now.keys())
        if before[name] != now[name] and not isinstance(now[name], dict)
    ]
    return f"; its options: {'; '.join(differing)}" if differing else ""


def quieten() -> None:
    """Silence remarks that do not apply here; keep those that may."""
    for text in _UNDERSTOOD:
        warnings.filterwarnings("ignore", message=text)
    for name in ("pytorch_lightning.utilities.rank_zero", "pytorch_lightning.accelerators.cuda"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _claim(folder: Path, plain: dict[str, Any]) -> None:
    """Write the resolved options into the run directory and point `outputs/latest` at it."""
    from figureground.core.io import atomic_write, temporary_beside

    text = json.dumps(plain, indent=2, default=str)
    stored = folder / RESOLVED
    if not stored.is_file() or stored.read_bytes() != text.encode():
        with atomic_write(stored, "w") as file:
            file.write(text)
    temporary = temporary_beside(LATEST)
    try:
        LATEST.parent.mkdir(exist_ok=True)
        # Where the run really is: its directory may have been given as `outputs/latest`.
        target = os.path.relpath(folder.resolve(), LATEST.parent.resolve())
        temporary.symlink_to(target, target_is_directory=True)
        temporary.replace(LATEST)
    except OSError as error:  # A file system without links, or a folder by that name.
        logger.info("outputs/latest was not updated: %s", error)
        temporary.unlink(missing_ok=True)


def _seed_everything(seed: int, deterministic: bool) -> None:
    import torch
    from pytorch_lightning import seed_everything

    seed_everything(seed, workers=False, verbose=False)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False


def _build_trainer(config: DictConfig) -> Trainer:
    from figureground.callbacks.optimizer_options import OptimizerOptions
    from figureground.callbacks.resume_check import ResumeCheck
    from figureground.core.checkpoint import VerifiedCheckpointIO
    from figureground.core.config import build

    callbacks = [build(node) for node in (config.callbacks or {}).values() if node is not None]
    callbacks.append(ResumeCheck())
    if config.resume.force:
        callbacks.append(OptimizerOptions())
    loggers = [build(node) for node in (config.logger or {}).values() if node is not None]
    trainer: Trainer = build(
        config.trainer,
        callbacks=callbacks,
        logger=loggers or False,
        plugins=[VerifiedCheckpointIO(resumes=True)],
        default_root_dir=str(config.paths.output_dir),
    )
    return trainer


def _log_hyperparameters(trainer: Trainer, method: Method, plain: dict[str, Any]) -> None:
    import torch

    from figureground import __version__
    from figureground.callbacks.run_card import find_commit
    from figureground.core.config import flatten
    from figureground.core.publishing import publish

    folder = Path(plain["paths"]["output_dir"])
    flat = {
        key: publish(value, key, folder)
        for key, value in flatten(plain).items()
        if not isinstance(value, list)
    }
    for name, network in method.named_children():
        if count := sum(p.numel() for p in network.parameters()):
            flat[f"parameters/{name}"] = count
    versions = {"figureground": __version__, "torch": torch.__version__}
    versions["lightning"] = version("pytorch-lightning")
    flat |= {f"versions/{name}": number for name, number in versions.items()}
    flat["git_commit"] = find_commit()
    for each in trainer.loggers:
        each.log_hyperparams(flat)


def _resolve_ckpt(ckpt: str | None, folder: Path) -> str | None:
    from figureground.core.checkpoint import BEST, find_resumable

    if ckpt is None:
        return None
    if ckpt == "last":
        return str(find_resumable(folder / "checkpoints"))
    return str(folder / "checkpoints" / BEST) if ckpt == "best" else ckpt


def _test(trainer: Trainer, method: Method, datamodule: Any) -> None:
    """Test the checkpoint that the run selects; if that is a best one, the last one beside it."""
    from figureground.callbacks.checkpoints import Checkpoints
    from figureground.callbacks.run_card import RunCard
    from figureground.core.checkpoint import BEST, read_checkpoint

    trainer.test(method, datamodule, verbose=False)
    for callback in trainer.checkpoint_callbacks:
        if not isinstance(callback, Checkpoints) or not callback.best_scores:
            continue
        best = callback.directory / BEST
        logger.info("testing %s", best)
        for card in trainer.callbacks:  # type: ignore[attr-defined]  # set by the constructor
            if isinstance(card, RunCard):
                card.set_last_aside(callback.best_scores)
        method.load_state_dict(read_checkpoint(best)["state_dict"])
        trainer.test(method, datamodule, verbose=False)


def _say_where_to_look(folder: Path) -> None:
    if not is_first_process():
        return
    pictures = sorted((folder / "images").glob("*.png"), key=lambda path: path.stat().st_mtime)
    latest = [str(path) for path in pictures if not path.stem[-6:].isdigit()]
    latest += [str(path) for path in sorted((folder / "images").glob("*.gif"))]
    latest += [str(path) for path in [folder / "clusters"] if path.is_dir()]
    lines = [*latest, str(folder / "card.md"), str(folder / "metrics.json")]
    logger.info("done. Look at:" + len(lines) * "\n  %s", *lines)
