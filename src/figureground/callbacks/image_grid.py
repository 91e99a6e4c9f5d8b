"""`ImageGrid`: the same few pictures, again and again, so that learning can be seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger
from torch import Tensor

from figureground.core.bounds import PositiveInt
from figureground.core.io import atomic_write
from figureground.core.method import Method
from figureground.core.types import Batch
from figureground.viz.grids import picture_grid, save_png


class ImageGrid(Callback):
    """Draw `method.pictures` of fixed validation pictures after validation and at the end.

    Writes `<name>_<iteration>.png` and, always the newest, `<name>.png`, and hands the pictures to
    loggers that take any. Random numbers come from a stream of its own: drawing changes nothing.

    Args:
        directory: Where the PNG files go.
        every: Iterations between two drawings; drawn at the first validation from then on.
        num_images: Pictures, taken evenly from the validation set (training set if there is none).
    """

    def __init__(
        self, directory: str, every: PositiveInt = 1000, num_images: PositiveInt = 5
    ) -> None:
        self.directory, self.every, self.num_images = Path(directory), every, num_images
        self._batch: Batch | None = None
        self._drawn_at = 0

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw if it is time."""
        done = _batches_done(trainer)
        if trainer.state.fn == "fit" and done - self._drawn_at >= self.every:
            self.draw(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw what came out."""
        if _batches_done(trainer) > self._drawn_at:
            self.draw(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """When it was last drawn."""
        return {"drawn_at": self._drawn_at}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
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
            self._batch = self._choose(trainer)
        grids = _draw_apart(module, self._batch.to(module.device))
        for name, pictures in grids.items():
            pixels = picture_grid(pictures, columns=max(1, len(pictures) // len(self._batch)))
            for file_name in (f"{name}_{done:06d}.png", f"{name}.png"):
                with atomic_write(self.directory / file_name) as file:
                    save_png(pixels, file)
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_image(f"images/{name}", pixels, done, dataformats="HWC")
                elif isinstance(logger, WandbLogger):
                    logger.log_image(f"images/{name}", [pixels], step=done)

    def _choose(self, trainer: Trainer) -> Batch:
        data = trainer.datamodule  # type: ignore[attr-defined]  # set by fit
        split = "val" if "val" in data.datasets else "train"
        count = len(data.store(split))
        chosen = [i * count // self.num_images for i in range(min(self.num_images, count))]
        batch: Batch = data.batch(split, chosen)
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
