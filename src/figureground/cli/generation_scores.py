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

from figureground.cli.drawn import DRAWN, WALKED, Categories, Check, NoiseMode, draw_batches
from figureground.cli.path_length import PathSampling, PathScoring, PathSpace
from figureground.core.bounds import Count, PositiveInt
from figureground.core.config import build
from figureground.core.errors import UserError, WriteError
from figureground.core.io import atomic_write
from figureground.core.method import Method
from figureground.core.protocols import LayerGenerator
from figureground.core.seeds import mix_seed
from figureground.core.signals import watching
from figureground.data.batching import to_float
from figureground.data.cache import first_writable
from figureground.data.datamodule import ImageDataModule
from figureground.metrics.features import (
    EfficientNetFeatures,
    FeatureExtractor,
    Features,
    InceptionFeatures,
    find_wrong_weights,
)
from figureground.metrics.generation import (
    GenerationScores,
    SubsetSize,
)
from figureground.metrics.legacy import (
    DoubleScaledFeatures,
    LegacyScores,
    StretchedClassifier,
    find_wrong_legacy,
)

logger = logging.getLogger(__name__)

_FORMAT = 1  # Of the files with features of real pictures.


class Scoring(Protocol):
    """Scores a method by what it draws, or by what else its metrics have no place for.

    Attributes:
        capability: What the method must be able to do, a protocol of `core.protocols`.
    """

    @property
    def capability(self) -> type[Any]:
        """See above."""
        ...

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
        categories: Where a method has any: `random`, or `equal`, as many pictures of each, as
            L2IC's are for IS.
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
        path_space: Where paths run, see `PathScoring`,
        path_sampling: where on them steps are taken,
        path_crop: and whether only the middle of pictures is compared.

    Raises:
        UserError: A file of weights is another one, or there is none.
    """

    capability = LayerGenerator

    def __init__(
        self,
        count: PositiveInt = 10_000,
        split: Literal["train", "val", "test"] = "train",
        batch_size: PositiveInt = 32,
        noise: NoiseMode = "random",
        categories: Categories = "random",
        inception: str | None = None,
        efficientnet: str | None = None,
        num_subsets: PositiveInt = 20,
        subset_size: SubsetSize = 1000,
        num_splits: PositiveInt = 10,
        num_neighbors: PositiveInt = 3,
        num_paths: Count = 0,
        path_space: PathSpace = "z",
        path_sampling: PathSampling = "full",
        path_crop: bool = False,
        double_scaled: bool = False,
        imagenet_inception: str | None = None,
    ) -> None:
        self.count, self.split, self.batch_size = count, split, batch_size
        self.noise, self.categories = noise, categories
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
        self.paths: PathScoring | None = None
        if num_paths:
            own = self.extractor
            if not isinstance(own, EfficientNetFeatures):
                own = EfficientNetFeatures(efficientnet)
            self.paths = PathScoring(
                own, num_paths, path_space, path_sampling, path_crop, batch_size
            )

    @staticmethod
    def check_options(
        *, inception: str | None, efficientnet: str | None, num_paths: int = 0,
        path_space: PathSpace = "z", path_sampling: PathSampling = "full", path_crop: bool = False,
        double_scaled: bool = False, imagenet_inception: str | None = None, **_: object,
    ) -> list[str]:  # fmt: skip
        """Miss weights, or find others, before hours of training rather than after them."""
        problems = [find_wrong_weights(inception, efficientnet)]
        if not num_paths and (path_space, path_sampling, path_crop) != ("z", "full", False):
            problems.append(
                "path_space, path_sampling and path_crop do nothing without paths; add "
                "metrics.generation.num_paths=50000, or leave them out"
            )
        if inception is not None and num_paths:
            problems.append(find_wrong_weights(None, efficientnet))
        found = [problem for problem in problems if problem is not None]
        return found + find_wrong_legacy(inception, double_scaled, imagenet_inception)

    def score(
        self, method: Any, datamodule: ImageDataModule, seed: int, check: Check
    ) -> dict[str, float]:
        """All scores by id, `num_real`, `num_drawn`, and those of real halves as `.../floor`."""
        if self.categories == "equal" and "c" not in getattr(method, "codes", ()):
            raise UserError(
                f"this {type(method).__name__} has no categories to draw equally many pictures "
                "of; leave out metrics.generation.categories=equal"
            )
        if self.paths is not None:
            self.paths.require_paths(method)
            self.paths.network.to(method.device)
        self.extractor.to(method.device)
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
            method,
            self.count,
            self.batch_size,
            mix_seed(seed, DRAWN),
            check,
            self.noise,
            self.categories,
        )
        for layers in batches:
            image = layers.composite.clamp(-1, 1)
            scores.update(_to_cpu(self.extractor.extract(image)), real=False)
            legacy.take_drawn(image)
        found = {name: float(value) for name, value in scores.compute().items()} | legacy.compute()
        found |= self._find_floor(real, seed)
        if self.paths is not None:
            found |= self.paths.measure(method, mix_seed(seed, WALKED), check)
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
            with suppress(SafetensorError, OSError, KeyError, ValueError):  # Made anew.
                stored = load_file(path)
                _require_features(stored, len(datamodule.store(self.split)), extractor)
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
    """Score `method` by all of `scorings`, on the device of `trainer`.

    Raises:
        UserError: It cannot do what is scored, or there are several processes.
    """
    for capability in {scoring.capability for scoring in scorings}:
        if isinstance(method, capability):
            continue
        what = "draw pictures" if capability is LayerGenerator else "segment"
        raise UserError(
            f"{type(method).__name__} cannot {what}; leave metrics=... out to score what it can"
        )
    if trainer.world_size > 1:
        raise UserError("these scores are taken by one process; add trainer.devices=1")
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


def _require_features(
    stored: Mapping[str, torch.Tensor], count: int, extractor: FeatureExtractor
) -> None:
    """Raise `ValueError` unless a file holds features of `count` pictures, as `extractor` makes."""
    shapes = {"pooled": (count, extractor.num_features)}
    if extractor.num_middle:
        shapes["middle"] = (count, extractor.num_middle)
    for name, shape in shapes.items():
        if stored[name].shape != shape or not stored[name].is_floating_point():
            raise ValueError(f"{name} are {stored[name].dtype} {tuple(stored[name].shape)}")
