"""`evaluate metrics=information`: what layers of drawn pictures know of one another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from figureground.cli.drawn import DRAWN, HELD_OUT, Check, draw_batches
from figureground.core.bounds import Count, LearningRate, PositiveInt
from figureground.core.errors import UserError
from figureground.core.protocols import LayerGenerator
from figureground.core.seeds import mix_seed
from figureground.core.types import Layers
from figureground.data.datamodule import ImageDataModule
from figureground.data.pairs import open_pairs
from figureground.metrics.information import (
    MutualInformation,
    Objective,
    flatten_layers,
    pair_layers,
)


class InformationScoring:
    """Mutual information between layers of drawn pictures.

    Args:
        pairs: Folder of written pictures to learn and measure on; None draws them. Those held out
            are drawn in any case.
        protocols: `separate`: what is seen of one layer with what it hides of the other; `single`:
            whole layers.
        count: Pictures to learn and measure on.
        held_out: Further ones to measure on only; 0 for none.
        resolution: Side that larger pictures are shrunk to.
        batch_size: Pictures that are drawn together.
        objective: Bound that is maximised.
        iterations: Training steps.
        training_batch: Pictures in each.
        num_hidden: Hidden units of a network.
        lr: Learning rate.
        evaluate_every: Iterations between evaluations; the mean of the last 20 is reported.
    """

    capability = LayerGenerator

    def __init__(
        self,
        protocols: Sequence[Literal["separate", "single"]] = ("separate", "single"),
        count: PositiveInt = 10_000,
        held_out: Count = 1000,
        pairs: str | None = None,
        resolution: PositiveInt = 64,
        batch_size: PositiveInt = 32,
        objective: Objective = "mine",
        iterations: PositiveInt = 100_000,
        training_batch: PositiveInt = 64,
        num_hidden: PositiveInt = 3000,
        lr: LearningRate = 2e-4,
        evaluate_every: PositiveInt = 400,
    ) -> None:
        self.protocols, self.count, self.held_out = protocols, count, held_out
        self.resolution, self.batch_size, self.pairs = resolution, batch_size, pairs
        self.options: dict[str, Any] = {
            "objective": objective,
            "iterations": iterations,
            "batch_size": training_batch,
            "num_hidden": num_hidden,
            "lr": lr,
            "evaluate_every": evaluate_every,
        }

    def score(
        self, method: Any, datamodule: ImageDataModule, seed: int, check: Check
    ) -> dict[str, float]:
        """Estimates in nats by name, each beside that on pictures held out."""
        if not getattr(method, "draws_layers", True):
            name = type(method).__name__
            raise UserError(f"{name} draws pictures without layers; use metrics=generation")
        batches = self._draw(method, self.count, mix_seed(seed, DRAWN), check)
        if self.pairs is not None:
            batches = read_layers(self.pairs, self.count, self.batch_size, check)
        drawn = self._collect(batches)
        num_drawn = len(drawn[0])
        others = self._collect(self._draw(method, self.held_out, mix_seed(seed, HELD_OUT), check))
        estimator = MutualInformation(seed=seed, **self.options)
        found: dict[str, float] = {}
        for protocol in self.protocols:
            pairs = pair_layers(*drawn, protocol)
            held_out = pair_layers(*others, protocol) if self.held_out else None
            found |= estimator.estimate(pairs, held_out, check)
        return {**found, "num_drawn": float(num_drawn), "num_held_out": float(self.held_out)}

    def _draw(self, method: Any, count: int, seed: int, check: Check) -> Iterator[Layers]:
        return draw_batches(method, count, self.batch_size, seed, check)

    def _collect(self, batches: Iterable[Layers]) -> tuple[Tensor, Tensor, Tensor]:
        """Background, foreground (N, 3, R, R) and mask (N, 1, R, R) of pictures."""
        parts = [tuple(self._shrink(each) for each in flatten_layers(layers)) for layers in batches]
        if not parts:
            nothing = torch.zeros(0, 3, 1, 1)
            return nothing, nothing, nothing[:, :1]
        background, foreground, mask = (torch.cat(each) for each in zip(*parts, strict=True))
        return background, foreground, mask

    def _shrink(self, image: Tensor) -> Tensor:
        # Files of pictures, which the authors read, hold nothing beyond.
        image = image.clamp(-1, 1)
        if image.shape[-1] <= self.resolution:
            return image
        return F.interpolate(image, (self.resolution,) * 2, mode="bilinear", antialias=True)


def read_layers(folder: str, count: int, batch_size: int, check: Check) -> Iterator[Layers]:
    """Layers of the first `count` pictures, if so many, that `generate` has written into `folder`.

    Raises:
        DataError: Files are missing or damaged.
        UserError: They were written without layers.
    """
    reader = open_pairs(Path(folder), verify=False)
    count = min(count, len(reader))
    if not reader.has_layers:
        raise UserError(f"{folder} holds no layers; write them with generate layers=true")
    for start in range(0, count, batch_size):
        check()
        numbers = range(start, min(start + batch_size, count))
        stack = torch.from_numpy(np.stack([reader.read(number, "layers") for number in numbers]))
        values = stack.permute(0, 1, 4, 2, 3).float()  # (B, L, 4, H, W)
        yield Layers(values[:, :, :3] / 127.5 - 1, values[:, :, 3:] / 255)
