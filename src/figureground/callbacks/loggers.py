"""Loggers that cannot take a run down with them, all with the same keys."""

from __future__ import annotations

import csv
import io
import logging
import os
import re
import threading
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.loggers.logger import DummyLogger

from figureground.core.errors import UserError, require
from figureground.core.io import atomic_write
from figureground.core.presence import open_file, read_text

logger = logging.getLogger(__name__)

# Seconds that W&B may take; together below the 20 that a run may lose to it.
_START, _FINISH = 12.0, 6.0
_ID, _MOST_ID = re.compile(r"[\w-]{1,64}", re.ASCII), 100  # How W&B names runs; bytes looked at.
#: W&B shall not tell the host, the user and the command line, with what was typed on it.
_QUIET = {"x_disable_meta": True, "x_disable_machine_info": True}


class CsvLogger(Logger):
    """`metrics.csv` with a row for each step that logged something, complete on disk at any time.

    A resumed run keeps the rows up to where it goes on and drops those after, which it will write
    again; the file equals that of an uninterrupted run.

    Args:
        directory: Where `metrics.csv` goes.
        flush_every: Rows between two writes; saving a checkpoint writes too.
    """

    def __init__(self, directory: str, flush_every: int = 50) -> None:
        super().__init__()
        self.path = Path(directory) / "metrics.csv"
        self.flush_every = flush_every
        self._rows: dict[int, dict[str, float]] = {}
        self._unsaved = 0
        self._is_loaded = False

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "csv"

    @property
    def version(self) -> str:
        """One file per run directory."""
        return ""

    @rank_zero_only
    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """Nothing: `config.json` has them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add `metrics` to the row of `step`."""
        self._load(step or 0)
        row = self._rows.setdefault(step or 0, {})
        row.update({name: float(value) for name, value in metrics.items() if name != "epoch"})
        self._unsaved += 1
        if self._unsaved >= self.flush_every:
            self.save()

    @rank_zero_only
    def save(self) -> None:
        """Write the file."""
        if not self._unsaved:
            return
        names = sorted({name for row in self._rows.values() for name in row})
        text = io.StringIO()
        writer = csv.DictWriter(text, ["step", *names], lineterminator="\n")
        writer.writeheader()
        for step in sorted(self._rows):
            writer.writerow({"step": step, **{k: repr(v) for k, v in self._rows[step].items()}})
        with atomic_write(self.path, "w") as file:
            file.write(text.getvalue())
        self._unsaved = 0

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is left."""
        self.save()

    def _load(self, first_step: int) -> None:
        """Take up the rows before `first_step` that an earlier part of this run has written."""
        if self._is_loaded:
            return
        self._is_loaded = True
        if not self.path.is_file():
            return
        try:
            for row in csv.DictReader(io.StringIO(read_text(self.path), newline="")):
                step = int(row.pop("step"))
                if step <= first_step:  # Its validation may be all that is logged anew.
                    self._rows[step] = {k: float(v) for k, v in row.items() if v}
        except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
            raise UserError(
                f"{self.path} is not a log of this suite ({type(error).__name__}); put the run's "
                "own back, or move it away to begin a new one"
            ) from error


def make_tensorboard(directory: str) -> TensorBoardLogger:
    """Make Lightning's TensorBoard logger, or say which extra installs TensorBoard."""
    require("tensorboard", extra="tensorboard")
    # Without the score that Lightning would make up, so that all loggers have the same keys.
    return TensorBoardLogger(directory, name="", version="", default_hp_metric=False)


class SafeWandbLogger(WandbLogger):
    """W&B that may fail: after the first trouble it is left alone and the run goes on.

    Training and the test after it are finished one by one, so that no run of a sweep ends up in
    that of the job before. Online, the test opens the training's run again. Offline that would give
    two folders for one run, of which an upload keeps one; so the run stays open there until
    the next one begins or the process ends.

    Args:
        project: W&B project.
        directory: Where its files go.
        name: Name of the run.
        group: Runs to be compared.
        tags: Tags of the run.
        offline: Write files only; works without an account.
        run_id: Run to go on with; a new one if None.
    """

    def __init__(
        self,
        project: str,
        directory: str,
        name: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        offline: bool = False,
        run_id: str | None = None,
    ) -> None:
        self._is_broken = False
        marker = Path(directory) / "wandb_id"
        if run_id is None and marker.is_file():
            with open_file(marker) as file:
                found = file.read(_MOST_ID).decode("ascii", "replace").strip()
            run_id = found if _ID.fullmatch(found) else None
        self._marker = marker
        super().__init__(
            name=name, save_dir=directory, offline=offline, project=project, group=group,
            tags=list(tags), id=run_id, resume="allow", settings=_QUIET,
        )  # fmt: skip

    @property
    def experiment(self) -> Any:
        """The W&B run, started on first use; something that takes all calls if it is broken.

        Lightning asks for it outside of any logging call, so this must not raise.
        """
        if getattr(rank_zero_only, "rank", 0) != 0:
            return DummyLogger().experiment
        if self._experiment is None:
            self._try(self._start)
        return DummyLogger().experiment if self._is_broken else self._experiment

    def _start(self) -> None:
        for other in _left_open:
            other._finish(0)
        _left_open.clear()
        _within(_START, lambda: super(SafeWandbLogger, self).experiment)
        self._id = self._wandb_init["id"] = str(super().experiment.id)
        with atomic_write(self._marker, "w") as file:
            file.write(self._id)

    @rank_zero_only
    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """Log `params`, if W&B works."""
        self._try(lambda: super(SafeWandbLogger, self).log_hyperparams(params))

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log `metrics`, if W&B works."""
        self._try(lambda: super(SafeWandbLogger, self).log_metrics(metrics, step))

    @rank_zero_only
    def log_image(
        self, key: str, images: list[Any], step: int | None = None, **kwargs: Any
    ) -> None:
        """Log `images`, if W&B works."""
        self._try(lambda: super(SafeWandbLogger, self).log_image(key, images, step, **kwargs))

    @rank_zero_only
    def log_video(
        self, key: str, videos: list[Any], step: int | None = None, **kwargs: Any
    ) -> None:
        """Log `videos`, if W&B works."""
        self._try(lambda: super(SafeWandbLogger, self).log_video(key, videos, step, **kwargs))

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Finish, if W&B works and does so in time."""
        is_offline = self._offline or os.environ.get("WANDB_MODE") in {"offline", "dryrun"}
        if status == "success" and is_offline:
            _left_open.append(self)
        else:
            self._finish(int(status != "success"))

    def _finish(self, exit_code: int) -> None:
        run, self._experiment = self._experiment, None
        if run is not None:
            self._try(lambda: _within(_FINISH, lambda: run.finish(exit_code=exit_code)))

    def _try(self, action: Callable[[], Any]) -> None:
        if self._is_broken:
            return
        try:
            action()
        except Exception as error:  # Whatever a service or its client comes up with.
            if self._is_broken:  # Starting has failed within `action`, and has been reported.
                return
            self._is_broken = True
            logger.warning(
                "W&B is left alone from now on (%s: %s); metrics.csv goes on",
                type(error).__name__, error,
            )  # fmt: skip


_left_open: list[SafeWandbLogger] = []  # Those of this process that wait for a test.


def _within(seconds: float, action: Callable[[], Any]) -> None:
    """Run `action` in a thread and raise what it raises, or `TimeoutError` after `seconds`."""
    problems: list[BaseException] = []

    def work() -> None:
        try:
            action()
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"no answer within {seconds:.0f} s")
    if problems:
        raise problems[0]
