"""`RunCard`: what a run was and what came out, as `metrics.json` and `card.md`."""

from __future__ import annotations

import json
import logging
import math
import os
import platform
import re
import subprocess
import time
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
import yaml  # type: ignore[import-untyped]  # comes with omegaconf
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from figureground import __version__
from figureground.core.bounds import Count
from figureground.core.command_line import join
from figureground.core.content import require_state
from figureground.core.errors import CheckpointError, WriteError
from figureground.core.escaping import code, markdown
from figureground.core.io import atomic_write
from figureground.core.method import Method
from figureground.core.presence import SMALL, read_text
from figureground.core.publishing import publish_override, publish_text

logger = logging.getLogger(__name__)


class RunCard(Callback):
    """Write `metrics.json` and `card.md` when training ends, also early, and after the test.

    Args:
        directory: The run directory.
        name: Of the run, such as `redo-toy`.
        seed: Of the run.
        monitor: Score that chose the checkpoint, or None: the last one was taken.
    """

    def __init__(
        self, directory: str, name: str = "", seed: Count = 0, monitor: str | None = None
    ) -> None:
        self.directory, self.name, self.seed, self.monitor = Path(directory), name, seed, monitor
        self._seconds = 0.0
        self._began: float | None = None
        self._metrics: dict[str, float] = {}
        self._losses: dict[str, Tensor] = {}  # Sums since the latest validation.
        self._num_summed = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._began = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Add up the losses."""
        for name, value in getattr(pl_module, "last_losses", {}).items():
            self._losses[name] = self._losses.get(name, 0) + value
        self._num_summed += 1

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the latest scores and the mean losses since the ones before."""
        self._take(trainer, "val/")
        self._take(trainer, "val_pairs/")
        if not trainer.sanity_checking:
            self._average_losses()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what is known so far."""
        self._average_losses()
        self._write(trainer, pl_module, "finished")

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Write how far it came."""
        if trainer.state.fn != "fit" or self._began is None:
            return
        try:
            self._write(trainer, pl_module, f"ended early ({type(exception).__name__})")
        except WriteError as error:  # Checkpoints are saved after this; they matter more.
            logger.warning("%s", error)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the test scores, those of training pictures too."""
        self._take(trainer, "test/")
        self._take(trainer, "test_transductive/")
        self._write(trainer, pl_module, "finished")

    def set_last_aside(self, best: dict[str, float]) -> None:
        """Keep all scores so far as those of the last checkpoint, before the best one is tested.

        Args:
            best: Validation scores of the best checkpoint, by name.
        """
        last = {f"last/{name}": value for name, value in self._metrics.items()}
        self._metrics = best | last

    def state_dict(self) -> dict[str, Any]:
        """Seconds spent so far, over all parts of a run, and losses not averaged yet."""
        return {
            "seconds": self._elapsed(),
            "metrics": dict(self._metrics),
            "losses": {name: value.cpu() for name, value in self._losses.items()},
            "num_summed": self._num_summed,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        require_state(self, state_dict, {"seconds": float, "metrics": dict[str, Any]})
        kept = {"losses": {}, "num_summed": 0, **state_dict}
        require_state(self, kept, {"losses": dict[str, Any], "num_summed": Count})
        odd = [name for name, value in kept["metrics"].items() if not isinstance(value, float)]
        odd += [
            name
            for name, value in kept["losses"].items()
            if not isinstance(value, Tensor) or value.numel() != 1 or value.is_complex()
        ]
        if odd:
            raise CheckpointError(
                f"the checkpoint is damaged: {odd[0]!r} of {type(self).__name__} is no number; "
                "resume from another one"
            )
        self._seconds, self._metrics = state_dict["seconds"], dict(state_dict["metrics"])
        self._losses = dict(state_dict.get("losses", {}))
        self._num_summed = state_dict.get("num_summed", 0)

    def _elapsed(self) -> float:
        return self._seconds + (0.0 if self._began is None else time.monotonic() - self._began)

    def _average_losses(self) -> None:
        """Training losses by which runs can be compared without labels."""
        self._metrics |= {
            f"train/loss/{name}": float(value) / self._num_summed
            for name, value in self._losses.items()
        }
        self._losses, self._num_summed = {}, 0

    def _take(self, trainer: Trainer, prefix: str) -> None:
        found = trainer.callback_metrics.items()
        self._metrics |= {name: float(v) for name, v in found if name.startswith(prefix)}

    def _write(self, trainer: Trainer, module: LightningModule, status: str) -> None:
        if not trainer.is_global_zero or not isinstance(module, Method):
            return
        facts = self._facts(trainer, module, status)
        # JSON has no word for NaN.
        scores = {name: x if math.isfinite(x) else None for name, x in self._metrics.items()}
        with atomic_write(self.directory / "metrics.json", "w") as file:
            json.dump({**facts, **scores}, file, indent=2)
        with atomic_write(self.directory / "card.md", "w") as file:
            file.write(self._card(module, facts))

    def _facts(self, trainer: Trainer, method: Method, status: str) -> dict[str, Any]:
        return {
            "name": publish_text(self.name, self.directory),
            "status": status,
            "seed": self.seed,
            # Complete ones: a signal stops a run when the next batch is already there.
            "iterations": trainer.fit_loop.epoch_loop.batch_progress.total.completed,
            "seconds": round(self._elapsed(), 1),
            "restarts": len(method.restarts),
            "device": _device_name(trainer),
            "precision": str(trainer.precision),
            "commit": find_commit(),
            "versions": {
                "figureground": __version__,
                "torch": torch.__version__,
                "lightning": version("pytorch-lightning"),
                "python": platform.python_version(),
            },
        }

    def _card(self, method: Method, facts: dict[str, Any]) -> str:
        data = method.origin.get("data", {})
        rule = f"best {code(self.monitor)}" if self.monitor else "the last one"
        lines = [
            f"# {markdown(facts['name'] or type(method).__name__)}",
            "",
            f"{type(method).__name__} on {code(data.get('name', '?'))} at "
            f"{markdown(data.get('resolution', '?'))} pixels, seed {facts['seed']}: "
            f"{facts['iterations']} iterations in "
            f"{facts['seconds']:.0f} s on {markdown(facts['device'])} ({facts['precision']}), "
            f"{facts['status']}.",
            "",
            f"Checkpoint: {rule}. "
            + ("Labels took part in choosing it." if self.monitor else "No label took part."),
            "",
        ]
        lines += [self._tell_restart(record) for record in method.restarts]
        lines += [
            f"- {code(name)} has no scores: {markdown(why)}." for name, why in method.absent.items()
        ]
        head = f"| {' | '.join(['score', *self._columns().values()])} |"
        lines += ["", head, re.sub(r"[^|]+", "---", head), *self._rows()]
        pictures = sorted((self.directory / "images").glob("*.png"))
        latest = [path for path in pictures if not path.stem[-6:].isdigit()]
        latest += sorted((self.directory / "images").glob("*.gif"))
        shown = (
            f"![{markdown(path.stem)}](images/{quote(os.fsencode(path.name))})\n" for path in latest
        )
        lines += ["", *shown]
        lines += self._command()
        lines += ["", "All options: `config.json`. Scores for programs: `metrics.json`.", ""]
        return "\n".join(lines)

    def _tell_restart(self, record: Mapping[str, Any]) -> str:
        """A line on a restart, whose record may come from somebody else's checkpoint."""
        told = dict.fromkeys(("attempt", "iteration", "seed", "reason"), "?") | {
            key: markdown(publish_text(str(value), self.directory)) for key, value in record.items()
        }
        return (
            f"- Restart {told['attempt']} at batch {told['iteration']} with seed "
            f"{told['seed']}: {told['reason']}."
        )

    def _command(self) -> list[str]:
        """What was typed, where Hydra has kept it."""
        path = self.directory / ".hydra" / "overrides.yaml"
        try:
            overrides = yaml.safe_load(read_text(path, SMALL))
        except (OSError, ValueError, RecursionError, yaml.YAMLError):
            return []
        if not isinstance(overrides, list) or not all(isinstance(x, str) for x in overrides):
            return []
        typed = [publish_override(each, self.directory) for each in overrides]
        # Some viewers look for tags even in code.
        command = join(["python", "src/train.py", *typed], hidden="<>")
        return ["Started with:", "", f"    {command}"]

    def _columns(self) -> dict[str, str]:
        """Headings of the table by the prefix of their scores."""
        columns = {"val": "validation", "test": "test"}
        if any(name.startswith("test_transductive/") for name in self._metrics):
            columns["test_transductive"] = "training pictures (transductive)"
        if not self.monitor:
            return columns
        best = {stage: f"best: {title}" for stage, title in columns.items()}
        return best | {f"last/{stage}": f"last: {title}" for stage, title in columns.items()}

    def _rows(self) -> list[str]:
        names = {
            name.removeprefix("last/").partition("/")[2]
            for name in self._metrics
            if not name.startswith("train/")
        }
        rows = []
        stages = self._columns()
        for name in sorted(names):
            cells = [self._metrics.get(f"{stage}/{name}") for stage in stages]
            # Counts are whole numbers, scores are not.
            form = "{:.0f}" if name == "images" else "{:.4f}"
            shown = ["" if cell is None else form.format(cell) for cell in cells]
            rows.append(f"| {code(name)} | {' | '.join(shown)} |")
        return rows


@cache
def find_commit() -> str | None:
    """Commit of the checkout that the package runs from, or None."""
    package = Path(__file__).parents[1]
    command = ["git", "-C", str(package), "log", "-1", "--format=%H", "--", "."]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None  # Empty where somebody else's repository is around us.


def _device_name(trainer: Trainer) -> str:
    device = trainer.strategy.root_device
    if device.type == "cuda":
        return f"{trainer.world_size} x {torch.cuda.get_device_name(device)}"
    return f"{device.type} ({torch.get_num_threads()} threads)"
