"""`evaluate metrics=generation`: scores of what a method draws, and of what else does so."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from figureground.cli.drawn import DRAWN, WALKED, Check, NoiseMode, draw_batches
from figureground.core.bounds import Count, PositiveInt
from figureground.core.config import build
from figureground.core.errors import UserError, WriteError
from figureground.core.io import atomic_write
from figureground.core.method import Method
from figureground.core.protocols import LatentDecoder, LayerGenerator
from figureground.core.seeds import mix_seed
from figureground.core.signals import watching
from figureground.data.cache import first_writable
from figureground.data.datamodule import ImageDataModule, to_float
from figureground.metrics.features import (
    EfficientNetFeatures,
    FeatureExtractor,
    Features,
    InceptionFeatures,
    find_wrong_weights,
)
from figureground.metrics.generation import (
    GenerationScores,
    PathLength,
    SubsetSize,
    squared_distance,
)
from figureground.metrics.legacy import (
    DoubleScaledFeatures,
    LegacyScores,
    StretchedClassifier,
    find_wrong_legacy,
)
from figureground.nn.paths import slerp

logger = logging.getLogger(__name__)

_FORMAT = 1  # Of the files with features of real pictures.
_STEP = 1e-4  # Between two pictures of a path; the published one.


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
        noise: Per pixel, where a method has any: `random` as published, `const` or `none`.
        inception: Weights of the published network; None for another with ids of its own.
        efficientnet: Weights of that other one, which also measures paths; None for those of its
            package.
        num_subsets: Of the kernel distance.
        subset_size: Of the kernel distance.
        num_splits: Of the Inception score.
        num_neighbors: Of precision and recall.
        double_scaled: Whether to add L2IC's FID of pictures that are scaled twice.
        imagenet_inception: Torchvision's weights, for L2IC's IS of pictures that are stretched one
            by one; None leaves it out.
        num_paths: Steps that the path length is measured by, where a method tells its latents.

    Raises:
        UserError: A file of weights is another one, or there is none.
    """

    def __init__(
        self,
        count: PositiveInt = 10_000,
        split: Literal["train", "val", "test"] = "train",
        batch_size: PositiveInt = 32,
        noise: NoiseMode = "random",
        inception: str | None = None,
        efficientnet: str | None = None,
        num_subsets: PositiveInt = 20,
        subset_size: SubsetSize = 1000,
        num_splits: PositiveInt = 10,
        num_neighbors: PositiveInt = 3,
        num_paths: Count = 0,
        double_scaled: bool = False,
        imagenet_inception: str | None = None,
    ) -> None:
        self.count, self.split, self.batch_size = count, split, batch_size
        self.noise, self.num_paths = noise, num_paths
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
        self.twice: DoubleScaledFeatures | None = None
        if double_scaled and isinstance(self.extractor, InceptionFeatures):
            self.twice = DoubleScaledFeatures(self.extractor)
        self.classifier: StretchedClassifier | None = None
        if imagenet_inception is not None:
            self.classifier = StretchedClassifier(imagenet_inception)
        self.paths: EfficientNetFeatures | None = None
        if num_paths:
            own = self.extractor
            self.paths = (
                own if isinstance(own, EfficientNetFeatures) else EfficientNetFeatures(efficientnet)
            )

    @staticmethod
    def check_options(
        *, inception: str | None, efficientnet: str | None, num_paths: int = 0,
        double_scaled: bool = False, imagenet_inception: str | None = None, **_: object,
    ) -> list[str]:  # fmt: skip
        """Miss weights, or find others, before hours of training rather than after them."""
        problems = [find_wrong_weights(inception, efficientnet)]
        if inception is not None and num_paths:
            problems.append(find_wrong_weights(None, efficientnet))
        found = [problem for problem in problems if problem is not None]
        return found + find_wrong_legacy(inception, double_scaled, imagenet_inception)

    def score(
        self, method: Any, datamodule: ImageDataModule, seed: int, check: Check
    ) -> dict[str, float]:
        """All scores by id, `num_real`, `num_drawn`, and those of real halves as `.../floor`."""
        self.extractor.to(method.device)
        if self.paths is not None:
            self.paths.to(method.device)
        if self.classifier is not None:
            self.classifier.to(method.device)
        real = self._describe_real(self.extractor, datamodule, method.device, check)
        legacy = LegacyScores(self.twice, self.classifier, self.options["num_splits"])
        if self.twice is not None:
            again = self._describe_real(self.twice, datamodule, method.device, check)
            legacy.take_real(again.pooled)
        scores = self._new_scores(seed)
        scores.update(real, real=True)
        batches = draw_batches(
            method, self.count, self.batch_size, mix_seed(seed, DRAWN), check, self.noise
        )
        for layers in batches:
            image = layers.composite.clamp(-1, 1)
            scores.update(_to_cpu(self.extractor.extract(image)), real=False)
            legacy.take_drawn(image)
        found = {name: float(value) for name, value in scores.compute().items()} | legacy.compute()
        found |= self._find_floor(real, seed)
        if self.num_paths and isinstance(method, LatentDecoder):
            found |= self._walk(method, mix_seed(seed, WALKED), check)
        return {**found, "num_real": float(len(real.pooled)), "num_drawn": float(self.count)}

    def _new_scores(self, seed: int) -> GenerationScores:
        network = self.extractor
        return GenerationScores(
            network.suffix, network.num_features, network.num_middle, seed=seed, **self.options
        )

    def _describe_real(
        self,
        extractor: FeatureExtractor,
        datamodule: ImageDataModule,
        device: torch.device,
        check: Check,
    ) -> Features:
        """Features of all real pictures, from the file of an earlier run where there is one."""
        path = self._find_file(extractor, datamodule)
        if path is not None and path.is_file():
            with suppress(SafetensorError, OSError, KeyError):  # Made anew.
                stored = load_file(path)
                return Features(stored["pooled"], None, stored.get("middle"))
        store, parts = datamodule.store(self.split), []
        for start in range(0, len(store), self.batch_size):
            check()
            numbers = range(start, min(start + self.batch_size, len(store)))
            image = to_float(np.stack([store.load(number).image for number in numbers]))
            parts.append(_to_cpu(extractor.extract(image.to(device))))
        tensors = {"pooled": torch.cat([part.pooled for part in parts])}
        middle = [part.middle for part in parts if part.middle is not None]
        if middle:
            tensors["middle"] = torch.cat(middle)
        if path is not None:
            with atomic_write(path) as file:
                file.write(save(tensors))
        return Features(tensors["pooled"], None, tensors.get("middle"))

    def _find_file(self, extractor: FeatureExtractor, datamodule: ImageDataModule) -> Path | None:
        """Where features of the real pictures belong; None where nothing can be kept."""
        if not datamodule.cache_dirs or datamodule.cache == "off":
            return None
        store = datamodule.store(self.split)  # Knows what was left out as broken.
        transform = getattr(datamodule.transform, "fingerprint", repr(datamodule.transform))
        parts = (
            *(_FORMAT, datamodule.datasets[self.split].fingerprint(), transform),
            *(datamodule.resolution, extractor.checksum, "\n".join(store.keys)),
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
        network = self.paths
        if network is None:
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


def _to_cpu(features: Features) -> Features:
    logits, middle = (
        None if each is None else each.cpu() for each in (features.logits, features.middle)
    )
    return Features(features.pooled.cpu(), logits, middle)
