"""`evaluate metrics=semantic`: found objects, clustered, against classes of pixels."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from figureground.cli.drawn import Check
from figureground.core.bounds import Bounds, Count, Fraction, PositiveInt
from figureground.core.errors import UserError
from figureground.core.promised import is_promised
from figureground.core.protocols import Segmenter
from figureground.core.seeds import mix_seed
from figureground.core.types import VOID
from figureground.data.batching import to_float
from figureground.data.datamodule import ImageDataModule
from figureground.data.datasets.voc import VOC
from figureground.data.samples import Pixels
from figureground.metrics.pixel_features import EXPECTED, load_features
from figureground.metrics.semantic import cluster, describe_object, score_regions, whiten

_Side = Annotated[int, Bounds(32, 4096)]


class SemanticScoring:
    """Mean IoU of clusters of objects, see `metrics.semantic`; for data with classes of pixels.

    The method finds one object in each picture, a network describes it, K-means groups all.

    Args:
        weights: Network that describes pixels, see `load_features`.
        num_clusters: K.
        resolution: Side that pictures are stretched to for that network.
        threshold: The object is where its probability is above this.
        components: Principal components that are clustered; 0 for the features themselves.
        runs: Clusterings, each by a seed of its own; their scores are averaged.
        split: Pictures to score.

    Raises:
        UserError: The file holds no network that is known.
    """

    capability = Segmenter

    def __init__(
        self,
        weights: str | None = None,
        num_clusters: PositiveInt = 20,
        resolution: _Side = 512,
        threshold: Fraction = 0.5,
        components: Count = 32,
        runs: PositiveInt = 5,
        split: Literal["train", "val", "test"] = "test",
    ) -> None:
        if problems := self.check_options(weights=weights):
            raise UserError(problems[0])
        self.network = load_features(str(weights))
        self.num_clusters, self.resolution, self.threshold = num_clusters, resolution, threshold
        self.components, self.runs, self.split = components, runs, split

    @staticmethod
    def check_options(*, weights: str | None, **_: object) -> list[str]:
        """Miss the file before anything is scored; nothing is downloaded."""
        if weights is None:
            return [f"weights=<file> is not set; {EXPECTED}"]
        if not Path(weights).is_file() and not is_promised(weights):
            return [f"weights={weights} is not a file; {EXPECTED}"]
        return []

    def score(
        self, method: Any, datamodule: ImageDataModule, seed: int, check: Check
    ) -> dict[str, float]:
        """Scores by id below `semantic/`, with `.../std` over runs, and counts of pictures."""
        dataset = datamodule.datasets.get(self.split)
        if not isinstance(dataset, VOC):
            raise UserError(
                f"data={datamodule.name} has no classes of pixels in its {self.split} split; "
                "use data=voc data.root=<folder in VOC's layout>"
            )
        self.network.to(method.device)
        inside, outside, vectors = self._look(method, dataset, check)
        if not vectors:
            raise UserError(f"no object was found in any of {len(dataset)} pictures")
        points = whiten(torch.stack(vectors), self.components)
        scores = []
        for number in range(self.runs):
            check()
            found = cluster(points, self.num_clusters, mix_seed(seed, number))
            confusion = torch.zeros(self.num_clusters + 1, dataset.num_classes + 1).long()
            confusion[0] = outside
            confusion.index_add_(0, 1 + found, torch.stack(inside))
            scores.append(score_regions(confusion, dataset.class_names))
        result = {f"semantic/{name}": _mean([each[name] for each in scores]) for name in scores[0]}
        for name in ("miou", "miou/ground"):
            spread = statistics.pstdev([each[name] for each in scores])
            result[f"semantic/{name}/std"] = spread
        counts = {"images": float(len(dataset)), "objects": float(len(vectors))}
        return result | {f"semantic/{name}": value for name, value in counts.items()}

    def _look(
        self, method: Any, dataset: VOC, check: Check
    ) -> tuple[list[Tensor], Tensor, list[Tensor]]:
        """Pixels of each class inside each object and outside of all, and each object's vector."""
        length = dataset.num_classes + 1
        outside = torch.zeros(length, dtype=torch.int64)
        inside, vectors = [], []
        for index in range(len(dataset)):
            check()
            picture = dataset[index].image
            mask = method.segment(picture)[0, 1].cpu() > self.threshold  # (H, W)
            classes = torch.from_numpy(dataset.read_classes(index).astype(np.int64))
            scored = classes != VOID
            vector = describe_object(self._describe(picture, method.device), mask)
            if vector is not None:
                vectors.append(vector)
                inside.append(torch.bincount(classes[mask & scored], minlength=length))
            outside += torch.bincount(classes[~mask & scored], minlength=length)
        return inside, outside, vectors

    def _describe(self, picture: Pixels, device: torch.device) -> Tensor:
        """Features (D, h, w) on the CPU."""
        side = (self.resolution, self.resolution)
        square = np.asarray(Image.fromarray(picture).resize(side, Image.Resampling.BICUBIC))
        features: Tensor = self.network(to_float(square[None]).to(device))
        return features[0].cpu()


def _mean(values: list[float]) -> float:
    return statistics.fmean(values)
