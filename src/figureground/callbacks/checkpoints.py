"""`Checkpoints`: when to save, from which state exactly, and what to do when saving fails."""

from __future__ import annotations

import logging
import math
import tempfile
from pathlib import Path
from typing import Any, Literal

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.loops.progress import _ProcessedTracker

from figureground.core.bounds import PositiveInt
from figureground.core.checkpoint import BEST, LAST
from figureground.core.content import require_state
from figureground.core.errors import ConfigError, NumericalError, WriteError
from figureground.core.io import RunLock, remove_stale, require_room
from figureground.core.links import refuse_links

logger = logging.getLogger(__name__)

SNAPSHOTS = "snapshots"
_SCORES = ("val/", "val_pairs/")


class Checkpoints(Checkpoint):
    """Keep `last.ckpt` (and the one before as `previous.ckpt`), and `best.ckpt` if asked.

    Saving happens at the start of the next batch: by then the logs of the last one are written, its
    validation is over, and every callback has seen it. Whatever moment a state is saved at, the
    loops' counters in the file say the same: so many batches are complete, and validation is still
    due or not. From such a file Lightning goes on as if it had never stopped; from its own
    mid-epoch files it skips a validation or counts a batch twice.

    This relies on a training loader without end, so that Lightning sees a single epoch, and on the
    plug-in `VerifiedCheckpointIO`.

    Args:
        directory: Where the files go. One process at a time may write there.
        every: Batches between two saves.
        monitor: Logged validation score by which `best.ckpt` is chosen, or None for no such file.
        mode: Whether the score should be large (`max`) or small (`min`).
        keep_every: Batches between two snapshots that are kept for good, below `snapshots` and
            without what only training needs; None for none.
    """

    def __init__(
        self,
        directory: str,
        every: PositiveInt,
        monitor: str | None = None,
        mode: Literal["max", "min"] = "max",
        keep_every: PositiveInt | None = None,
    ) -> None:
        self.directory = Path(directory)
        self.every, self.monitor, self.mode = every, monitor, mode
        self.keep_every = keep_every
        self.best_scores: dict[str, float] = {}  # All validation scores of `best.ckpt`.
        self.failures = 0  # Failed saves in this run.
        self._failed_last = False
        self._saved_at: int | None = None  # Batches complete in this run's `last.ckpt`.
        self._validated_at: int | None = None
        # Before training starts there is nothing new: a state may be restored in part only.
        self._started_at = math.inf
        self._has_validated = False
        self._lock = RunLock(self.directory)

    # -- when --------------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the directory, clear what killed runs left, and see that there is room."""
        if stage == "fit" and trainer.is_global_zero:
            refuse_links(self.directory, "callbacks.checkpoints.directory")
            self._check_room(pl_module)
            self._lock.acquire()
            remove_stale(self.directory)
            remove_stale(self.directory / SNAPSHOTS)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the directory back."""
        if trainer.is_global_zero:
            self._lock.release()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note where this run starts."""
        self._started_at = _progress(trainer).completed

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Save if due; one failure is survived, two in a row are not."""
        # A row of the log holds what its own batch logged. Lightning would repeat older values,
        # which a resumed run does not have.
        trainer.fit_loop.epoch_loop._results.reset()
        done = _progress(trainer).completed
        if done > self._started_at and done % self.every == 0 and self._saved_at != done:
            self._save_or_warn(trainer, LAST)
        self._keep_snapshot(trainer, done)
        if self.failures:
            pl_module.log("train/save_failures", float(self.failures))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save `best.ckpt` if the score has improved."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        self._validated_at, self._has_validated = _progress(trainer).completed, True
        if self.monitor is None:
            return
        if self.monitor not in trainer.callback_metrics:
            known = ", ".join(sorted(k for k in trainer.callback_metrics if k.startswith(_SCORES)))
            raise ConfigError(
                f"callbacks.checkpoints.monitor={self.monitor} is not logged; choose from: {known}"
            )
        score = float(trainer.callback_metrics[self.monitor])
        if not math.isnan(score) and self._is_better(score):
            before = self.best_scores
            scores = trainer.callback_metrics.items()
            # Set first, because the file itself says so, too.
            self.best_scores = {k: float(v) for k, v in scores if k.startswith(_SCORES)}
            self.best_scores[self.monitor] = score
            if not self._save_or_warn(trainer, BEST):
                self.best_scores = before

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the final state, unless nothing happened."""
        if _progress(trainer).completed > self._started_at or self._has_validated:
            self.save_now(trainer)
        self._keep_snapshot(trainer, _progress(trainer).completed)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Save what is complete if the failure came between two batches; give the directory back.

        Inside a batch some players have moved and others have not: the last file stays.
        """
        try:
            # Other ranks may be fine and would never come to save.
            alone = trainer.state.fn == "fit" and trainer.world_size == 1
            progress = _progress(trainer)
            between = progress.started == progress.processed == progress.completed
            new = progress.completed > self._started_at
            if alone and between and new and not isinstance(exception, NumericalError | WriteError):
                self.save_now(trainer)
        except WriteError as error:
            logger.warning("%s; the state before the failure was not saved", error)
        finally:
            self._lock.release()

    # -- what --------------------------------------------------------------------------------

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write the loops' counters down as `done` complete batches of one epoch."""
        done = _progress(trainer).processed
        due = trainer.enable_validation and done > 0 and done % _interval(trainer) == 0
        last = trainer.enable_validation and trainer.should_stop  # Once more at the very end.
        pending = (due or last) and self._validated_at != done
        counters = checkpoint["loops"]["fit_loop"]
        for key in ("total", "current"):
            counters["epoch_progress"][key].update(ready=1, started=1, processed=0, completed=0)
            batches = counters["epoch_loop.batch_progress"][key]
            batches.update(dict.fromkeys(batches, done))
            # One validation batch `started` is how Lightning recognises that validation is due;
            # the batches of the repeated one are counted from `current`.
            validated = counters["epoch_loop.val_loop.batch_progress"][key]
            validated.update(dict.fromkeys(validated, 0))
            if pending and key == "total":
                validated.update(ready=1, started=1)
        counters["epoch_loop.batch_progress"]["is_last_batch"] = False
        counters["epoch_loop.val_loop.batch_progress"]["is_last_batch"] = False
        # The loggers' x-axis. Where validation is due, Lightning passes its end (and the increment
        # there) once more, whether or not it runs it.
        counters["epoch_loop.state_dict"]["_batches_that_stepped"] = done - (due or pending)
        checkpoint["epoch"] = 0

    def state_dict(self) -> dict[str, Any]:
        """Best score so far and when validation last ran."""
        return {"best_scores": dict(self.best_scores), "validated_at": self._validated_at}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the best score."""
        require_state(self, state_dict, {"best_scores": dict[str, Any], "validated_at": int | None})
        scores = state_dict["best_scores"]
        require_state(self, scores, dict.fromkeys(scores, float))
        self.best_scores = dict(scores)
        self._validated_at = state_dict["validated_at"]

    # -- how ---------------------------------------------------------------------------------

    def forget_best(self, trainer: Trainer) -> None:
        """Remove `best.ckpt`: its weights were given up."""
        self.best_scores = {}
        if trainer.is_global_zero:
            for path in (self.directory / BEST, self.directory / f"{BEST}.json"):
                path.unlink(missing_ok=True)

    def save_now(self, trainer: Trainer) -> None:
        """Save `last.ckpt`, unless it already holds this state or nothing was trained yet.

        Raises:
            WriteError: It could not be written, twice.
        """
        done = _progress(trainer).processed
        if trainer.state.fn == "fit" and done and self._saved_at != done:
            self._save(trainer, LAST)
            self._saved_at = done

    def _save_or_warn(self, trainer: Trainer, name: str) -> bool:
        """Save; survive one failure, not two in a row. Return whether it worked."""
        try:
            if name == LAST:
                self.save_now(trainer)
            else:
                self._save(trainer, name)
        except WriteError as error:
            self.failures += 1
            if self._failed_last:
                raise
            self._failed_last = True
            logger.warning("%s. Training goes on; the next failed save ends it", error)
            return False
        self._failed_last = False
        return True

    def _keep_snapshot(self, trainer: Trainer, done: int) -> None:
        """Keep the state after `done` batches for good, if it is due and not there yet."""
        if self.keep_every is None or not done or done % self.keep_every:
            return
        path = self.directory / snapshot_name(done)
        # A run that was stopped just here may have kept it before; all ranks take the same branch.
        if trainer.strategy.reduce_boolean_decision(not path.is_file(), all=True):
            self._save_or_warn(trainer, snapshot_name(done))

    def _save(self, trainer: Trainer, name: str) -> None:
        if trainer.is_global_zero and not self.directory.is_dir():
            logger.warning("%s was deleted while training; it is made anew", self.directory)
        for attempt in (1, 2):
            error: WriteError | None = None
            try:
                # First, so that no row older than the state is lost with the process.
                for each in trainer.loggers:
                    each.save()
                slim = name.startswith(f"{SNAPSHOTS}/")
                trainer.save_checkpoint(self.directory / name, weights_only=slim)
            except WriteError as failure:
                error = failure
                trainer.strategy.barrier("Trainer.save_checkpoint")  # Where other ranks wait.
            # Only rank 0 writes and fails; all take the same branch.
            if not trainer.strategy.reduce_boolean_decision(error is not None, all=False):
                return
            if attempt == 2:
                raise error or WriteError("rank 0 cannot save")
            logger.warning("saving %s failed, trying once more", name)

    @property
    def best_score(self) -> float | None:
        """The monitored score of `best.ckpt`, or None without one."""
        return self.best_scores.get(str(self.monitor))

    def _is_better(self, score: float) -> bool:
        before = self.best_score
        if before is None:
            return True
        return score > before if self.mode == "max" else score < before

    def _check_room(self, module: LightningModule) -> None:
        """Raise `WriteError` unless the directory is writable and three checkpoints fit."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.directory).close()
        except OSError as error:
            raise WriteError(
                f"cannot write to {self.directory}: {error.strerror}; choose another place with "
                "paths.output_dir=..."
            ) from error
        weights = sum(t.numel() * t.element_size() for t in module.parameters())
        needed = 3 * 3 * weights  # Three files; Adam keeps two more numbers for each weight.
        require_room(self.directory, needed, "checkpoints", "paths.output_dir")


def snapshot_name(done: int) -> str:
    """Where the state after `done` batches is kept, below the directory of checkpoints."""
    return f"{SNAPSHOTS}/{done:07d}.ckpt"


def _progress(trainer: Trainer) -> _ProcessedTracker:
    """Counters of training batches since the start of training."""
    tracker = trainer.fit_loop.epoch_loop.batch_progress.total
    if not isinstance(tracker, _ProcessedTracker):
        raise TypeError(f"this version of Lightning counts batches by {type(tracker).__name__}")
    return tracker


def _interval(trainer: Trainer) -> float:
    """Batches between two validations; infinite if they are not counted in batches."""
    interval = trainer.val_check_batch
    return math.inf if interval is None else float(interval)
