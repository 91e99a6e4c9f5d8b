"""`ImageGrid`: the same few pictures, again and again, so that learning can be seen."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger
from torch import Tensor

from figureground.core.bounds import Count, PositiveInt
from figureground.core.content import require_state
from figureground.core.io import atomic_write
from figureground.core.method import Method
from figureground.core.protocols import Critic
from figureground.core.types import Batch
from figureground.viz.animation import save_gif
from figureground.viz.grids import Pixels, picture_grid, save_png

logger = logging.getLogger(__name__)

_REALS, _COLUMNS = "reals", 8


class ImageGrid(Callback):
    """Draw `method.pictures` of fixed validation pictures after validation and at the end.

    Writes `<name>_<iteration>.png` and, always the newest, `<name>.png`, and hands the pictures to
    loggers that take any. Random numbers come from a stream of its own: drawing changes nothing.
    When training ends, `<name>.gif` shows all drawings one after the other. They are read from the
    directory, so that those from before a stop are among them. Where a method's critic compares new
    pictures with training pictures, some of the latter are written to `reals.png` at the start.

    Args:
        directory: Where the files go.
        every: Iterations between two drawings; drawn at the first validation from then on.
        num_images: Pictures, taken evenly from the validation set (training set if there is none).
        animate: Whether to write GIFs.
        num_reals: Training pictures in `reals.png`, taken evenly; 0 for no such file.
    """

    def __init__(
        self,
        directory: str,
        every: PositiveInt = 1000,
        num_images: PositiveInt = 5,
        animate: bool = True,
        num_reals: Count = 40,
    ) -> None:
        self.directory, self.every, self.num_images = Path(directory), every, num_images
        self.animate, self.num_reals = animate, num_reals
        self._batch: Batch | None = None
        self._drawn_at = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show what new pictures are to look like, unless a run that is gone on with has."""
        path = self.directory / f"{_REALS}.png"
        is_wanted = self.num_reals and trainer.is_global_zero and not path.exists()
        if is_wanted and isinstance(pl_module, Critic):
            image = _choose(trainer, "train", self.num_reals).image
            self._show(trainer, _REALS, picture_grid(image, _COLUMNS), [path], 0)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw if it is time."""
        done = _batches_done(trainer)
        if trainer.state.fn == "fit" and done - self._drawn_at >= self.every:
            self.draw(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw what came out."""
        if _batches_done(trainer) > self._drawn_at:
            self.draw(trainer, pl_module)
        if self.animate and trainer.is_global_zero:
            for path in self.write_animations(_batches_done(trainer)):
                for each in trainer.loggers:
                    if isinstance(each, WandbLogger):
                        each.log_video(f"images/{path.stem}_evolution", [str(path)])

    def write_animations(self, until: int) -> list[Path]:
        """Write `<name>.gif` from the drawings up to iteration `until`; return what was written."""
        drawings: dict[str, dict[int, Path]] = {}
        for path in self.directory.glob("*.png"):
            found = re.fullmatch(r"(.+)_(\d{6,})", path.stem)
            if found and int(found[2]) <= until:
                drawings.setdefault(found[1], {})[int(found[2])] = path
        written, single = [], []
        for name, frames in sorted(drawings.items()):
            target = self.directory / f"{name}.gif"
            if len(frames) < 2:
                single.append(str(target))
                continue
            with atomic_write(target) as file:
                save_gif([frames[number] for number in sorted(frames)], file)
            written.append(target)
        if single:
            logger.info(
                "not written, as each needs two drawings and there is one: %s; train longer or "
                "lower callbacks.image_grid.every", ", ".join(single),
            )  # fmt: skip
        return written

    def state_dict(self) -> dict[str, Any]:
        """When it was last drawn."""
        return {"drawn_at": self._drawn_at}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        require_state(self, state_dict, {"drawn_at": int | None})
        self._drawn_at = state_dict["drawn_at"]

    @torch.no_grad()
    def draw(self, trainer: Trainer, module: LightningModule) -> None:
        """Draw, write and log the grids now."""
        done = _batches_done(trainer)
        if trainer.is_global_zero and isinstance(module, Method):
            self._write(trainer, module, done)
        self._drawn_at = done  # Only now: what fails is drawn again by the resumed run.

    def _write(self, trainer: Trainer, module: Method, done: int) -> None:
        if self._batch is None:
            split = "val" if "val" in trainer.datamodule.datasets else "train"  # type: ignore[attr-defined]  # set by fit
            self._batch = _choose(trainer, split, self.num_images)
        grids = _draw_apart(module, self._batch.to(module.device))
        titles = module.picture_titles()
        for name, pictures in grids.items():
            columns = max(1, len(pictures) // len(self._batch))
            pixels = picture_grid(pictures, columns, titles=titles.get(name, ()))
            paths = [self.directory / f"{each}.png" for each in (f"{name}_{done:06d}", name)]
            self._show(trainer, name, pixels, paths, done)

    def _show(
        self, trainer: Trainer, name: str, pixels: Pixels, paths: list[Path], done: int
    ) -> None:
        """Write a grid to `paths`, and hand it to loggers that take any."""
        for path in paths:
            with atomic_write(path) as file:
                save_png(pixels, file)
        for each in trainer.loggers:
            if isinstance(each, TensorBoardLogger):
                each.experiment.add_image(f"images/{name}", pixels, done, dataformats="HWC")
            elif isinstance(each, WandbLogger):
                each.log_image(f"images/{name}", [pixels], step=done)


def _choose(trainer: Trainer, split: str, wanted: int) -> Batch:
    """Up to `wanted` pictures, evenly from a split."""
    data = trainer.datamodule  # type: ignore[attr-defined]  # set by fit
    count = len(data.store(split))
    wanted = min(wanted, count)
    batch: Batch = data.batch(split, [i * count // wanted for i in range(wanted)])
    return batch


def _draw_apart(method: Method, batch: Batch) -> dict[str, Tensor]:
    """Draw in evaluation mode with random numbers of its own; leave mode and numbers as found."""
    # Part by part: what is frozen in evaluation mode must stay so.
    modes = [(part, part.training) for part in method.modules()]
    devices = [method.device] if method.device.type == "cuda" else []
    try:
        method.eval()
        with torch.random.fork_rng(devices):
            torch.manual_seed(0)
            return method.pictures(batch)
    finally:
        for part, training in modes:
            part.training = training


def _batches_done(trainer: Trainer) -> int:
    return trainer.fit_loop.total_batch_idx + 1
