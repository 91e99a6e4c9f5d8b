"""`evaluate metrics=generation` and `metrics=information`: scores of what a method draws."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from figureground.core.bounds import Count, LearningRate, PositiveInt
from figureground.core.config import build
from figureground.core.errors import NumericalError, UserError, WriteError
from figureground.core.io import atomic_write
from figureground.core.method import Method
from figureground.core.protocols import LatentDecoder, LayerGenerator
from figureground.core.seeds import mix_seed
from figureground.core.signals import watching
from figureground.core.types import Layers
from figureground.data.cache import first_writable
from figureground.data.datamodule import ImageDataModule, to_float
from figureground.metrics.features import (
    EfficientNetFeatures,
    FeatureExtractor,
    Features,
    InceptionFeatures,
    find_missing_weights,
)
from figureground.metrics.generation import (
    GenerationScores,
    PathLength,
    SubsetSize,
    squared_distance,
)
from figureground.metrics.information import (
    MutualInformation,
    Objective,
    flatten_layers,
    pair_layers,
)
from figureground.nn.paths import slerp

logger = logging.getLogger(__name__)

_FORMAT = 1  # Of the files with features of real pictures.
_STEP = 1e-4  # Between two pictures of a path; the published one.
_DRAWN, _HELD_OUT, _WALKED = range(3)  # What random numbers are for.

Check = Callable[[], object]


class Scoring(Protocol):
    """Scores a method by what it draws."""

    def score(
        self, method: Any, datamodule: ImageDataModule, seed: int, check: Check
    ) -> dict[str, float]:
        """Draw, score, and call `check` now and then, which raises to stop."""
        ...


class GenerationScoring:
    """FID, KID, IS, precision and recall of drawn pictures against real ones.

    Features of real pictures are kept beside the caches of the data, under a name that depends on
    all that they depend on.

    Args:
        count: Pictures to draw.
        split: Real pictures: as many as there are.
        batch_size: Pictures that are drawn together.
        inception: Weights of the published network; None for another with ids of its own.
        efficientnet: Weights of that other one; None for those of its package.
        num_subsets: Of the kernel distance.
        subset_size: Of the kernel distance.
        num_splits: Of the Inception score.
        num_neighbors: Of precision and recall.
        num_paths: Steps that the path length is measured by, where a method tells its latents.

    Raises:
        UserError: A file of weights is another one, or there is none.
    """

    def __init__(
        self,
        count: PositiveInt = 10_000,
        split: Literal["train", "val", "test"] = "train",
        batch_size: PositiveInt = 32,
        inception: str | None = None,
        efficientnet: str | None = None,
        num_subsets: PositiveInt = 20,
        subset_size: SubsetSize = 1000,
        num_splits: PositiveInt = 10,
        num_neighbors: PositiveInt = 3,
        num_paths: Count = 0,
    ) -> None:
        self.count, self.split, self.batch_size = count, split, batch_size
        self.num_paths = num_paths
        self.options = {
            "num_subsets": num_subsets,
            "subset_size": subset_size,
            "num_splits": num_splits,
            "num_neighbors": num_neighbors,
        }
        self.extractor: FeatureExtractor
        if inception is None:
            self.extractor = EfficientNetFeatures(efficientnet)
        else:
            self.extractor = InceptionFeatures(inception)

    @staticmethod
    def check_options(*, inception: str | None, efficientnet: str | None, **_: object) -> list[str]:
        """Miss weights before hours of training rather than after them."""
        problem = find_missing_weights(inception, efficientnet)
        return [] if problem is None else [problem]

    def score(
        self, method: Any, datamodule: ImageDataModule, seed: int, check: Check
    ) -> dict[str, float]:
        """All scores by id, `num_real`, `num_drawn`, and those of real halves as `.../floor`."""
        self.extractor.to(method.device)
        real = self._describe_real(datamodule, method.device, check)
        scores = self._new_scores(seed)
        scores.update(real, real=True)
        for layers in _draw(method, self.count, self.batch_size, mix_seed(seed, _DRAWN), check):
            features = self.extractor.extract(layers.composite.clamp(-1, 1))
            scores.update(_to_cpu(features), real=False)
        found = {name: float(value) for name, value in scores.compute().items()}
        found |= self._find_floor(real, seed)
        if self.num_paths and isinstance(method, LatentDecoder):
            found |= self._walk(method, mix_seed(seed, _WALKED), check)
        return {**found, "num_real": float(len(real.pooled)), "num_drawn": float(self.count)}

    def _new_scores(self, seed: int) -> GenerationScores:
        network = self.extractor
        return GenerationScores(
            network.suffix, network.num_features, network.num_middle, seed=seed, **self.options
        )

    def _describe_real(
        self, datamodule: ImageDataModule, device: torch.device, check: Check
    ) -> Features:
        """Features of all real pictures, from the file of an earlier run where there is one."""
        path = self._find_file(datamodule)
        if path is not None and path.is_file():
            with suppress(SafetensorError, OSError, KeyError):  # Made anew.
                stored = load_file(path)
                return Features(stored["pooled"], None, stored.get("middle"))
        store, parts = datamodule.store(self.split), []
        for start in range(0, len(store), self.batch_size):
            check()
            numbers = range(start, min(start + self.batch_size, len(store)))
            image = to_float(np.stack([store.load(number).image for number in numbers]))
            parts.append(_to_cpu(self.extractor.extract(image.to(device))))
        tensors = {"pooled": torch.cat([part.pooled for part in parts])}
        middle = [part.middle for part in parts if part.middle is not None]
        if middle:
            tensors["middle"] = torch.cat(middle)
        if path is not None:
            with atomic_write(path) as file:
                file.write(save(tensors))
        return Features(tensors["pooled"], None, tensors.get("middle"))

    def _find_file(self, datamodule: ImageDataModule) -> Path | None:
        """Where features of the real pictures belong; None where nothing can be kept."""
        if not datamodule.cache_dirs or datamodule.cache == "off":
            return None
        store = datamodule.store(self.split)  # Knows what was left out as broken.
        transform = getattr(datamodule.transform, "fingerprint", repr(datamodule.transform))
        parts = (
            *(_FORMAT, datamodule.datasets[self.split].fingerprint(), transform),
            *(datamodule.resolution, self.extractor.checksum, "\n".join(store.keys)),
        )
        digest = hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:24]
        try:
            folder = first_writable(datamodule.cache_dirs)
        except WriteError as error:
            logger.warning("features of real pictures are not kept: %s", error)
            return None
        return folder / f"features-{datamodule.name}-{self.split}-{digest}.safetensors"

    def _find_floor(self, real: Features, seed: int) -> dict[str, float]:
        """Distances of one half of the real pictures from the other: none can be nearer."""
        halves = self._new_scores(seed)
        for start in (0, 1):
            middle = None if real.middle is None else real.middle[start::2]
            halves.update(Features(real.pooled[start::2], None, middle), real=bool(start))
        frechet, suffix = halves.frechet, halves.suffix
        name = f"fid{suffix}"
        if halves.frechet_middle is not None:
            frechet, name = halves.frechet_middle, f"fid{suffix}_{halves.num_middle}"
        return {
            f"{name}/floor": float(frechet.compute()),
            f"kid{suffix}/floor": float(halves.kernel.compute()),
        }

    def _walk(self, method: LatentDecoder, seed: int, check: Check) -> dict[str, float]:
        """Path length between latents of normal distribution, along great circles."""
        network = self.extractor
        if not isinstance(network, EfficientNetFeatures):
            logger.info("path lengths are left out: they are measured by EfficientNet-Lite0")
            return {}
        metric = PathLength(_STEP)
        generator = torch.Generator().manual_seed(seed)
        for start in range(0, self.num_paths, self.batch_size):
            check()
            count = min(self.batch_size, self.num_paths - start)
            one, other = (method.latent(count, generator=generator) for _ in range(2))
            place = torch.rand(count, 1, generator=generator).to(one)
            maps = [
                network.extract_maps(method.decode(slerp(one, other, place + step)).composite)
                for step in (0, _STEP)
            ]
            metric.update(squared_distance(*maps).cpu())
        return {f"ppl_{network.suffix}": float(metric.compute())}


class InformationScoring:
    """Mutual information between layers of drawn pictures.

    Args:
        protocols: `separate`: what is seen of one layer with what it hides of the other; `single`:
            whole layers.
        count: Pictures to draw, learn and measure on.
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

    def __init__(
        self,
        protocols: Sequence[Literal["separate", "single"]] = ("separate", "single"),
        count: PositiveInt = 10_000,
        held_out: Count = 1000,
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
        self.resolution, self.batch_size = resolution, batch_size
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
        drawn = self._draw(method, self.count, mix_seed(seed, _DRAWN), check)
        others = self._draw(method, self.held_out, mix_seed(seed, _HELD_OUT), check)
        estimator = MutualInformation(seed=seed, **self.options)
        found: dict[str, float] = {}
        for protocol in self.protocols:
            pairs = pair_layers(*drawn, protocol)
            held_out = pair_layers(*others, protocol) if self.held_out else None
            found |= estimator.estimate(pairs, held_out, check)
        return {**found, "num_drawn": float(self.count), "num_held_out": float(self.held_out)}

    def _draw(
        self, method: Any, count: int, seed: int, check: Check
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Background, foreground (N, 3, R, R) and mask (N, 1, R, R) of drawn pictures."""
        parts = [
            tuple(self._shrink(each) for each in flatten_layers(layers))
            for layers in _draw(method, count, self.batch_size, seed, check)
        ]
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


def build_scorings(options: Mapping[str, Mapping[str, Any]]) -> list[Scoring]:
    """Make what `metrics` asks for beyond options of the checkpoint's own metrics.

    Raises:
        UserError: A file of weights is not the one it should be.
    """
    return [build(node) for node in options.values() if "_target_" in node]


def score_drawn(
    scorings: Sequence[Scoring],
    method: Method,
    datamodule: ImageDataModule,
    trainer: Any,
    seed: int,
) -> dict[str, float]:
    """Score what `method` draws, on the device of `trainer`.

    Raises:
        UserError: It draws nothing, or there are several processes.
    """
    if not isinstance(method, LayerGenerator):
        raise UserError(
            f"{type(method).__name__} cannot draw pictures; leave metrics=... out to score masks"
        )
    if trainer.world_size > 1:
        raise UserError("drawn pictures are scored by one process; add trainer.devices=1")
    method.to(trainer.strategy.root_device).eval()
    found: dict[str, float] = {}
    with watching() as stop:
        for scoring in scorings:
            found |= scoring.score(method, datamodule, seed, stop.check)
    return found


@torch.no_grad()
def _draw(method: Any, count: int, batch_size: int, seed: int, check: Check) -> Iterator[Layers]:
    """Draw `count` layered pictures; each batch depends on (seed, its number) alone."""
    for number, start in enumerate(range(0, count, batch_size)):
        check()
        generator = torch.Generator().manual_seed(mix_seed(seed, number))
        layers = method.sample(min(batch_size, count - start), generator=generator)
        if not bool(layers.composite.isfinite().all()):
            raise NumericalError(
                f"batch {number} of the drawn pictures holds non-finite numbers; score an earlier "
                "checkpoint"
            )
        yield layers


def _to_cpu(features: Features) -> Features:
    logits, middle = (
        None if each is None else each.cpu() for each in (features.logits, features.middle)
    )
    return Features(features.pooled.cpu(), logits, middle)
