"""MaskContrast learns: clusters of its features are classes that it was never told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from faults import ROOT, run
from figureground.core.checkpoint import load_method
from figureground.core.method import Method
from figureground.data.batching import to_float
from figureground.data.datasets.toy import HUES, SHAPES, Toy
from figureground.metrics.clustering import ClusteringScores
from figureground.metrics.semantic import cluster, describe_object


def score(method: Method) -> float:
    """Mutual information of clusters of 300 objects with shape and colour, normalised."""
    toy = Toy("test", 300)
    samples = [toy[index] for index in range(len(toy))]
    image = to_float(np.stack([sample.image for sample in samples]))
    with torch.no_grad():
        features = method.eval().embed(image)
    masks = [torch.from_numpy(sample.mask > 0) for sample in samples]
    vectors = [describe_object(*pair) for pair in zip(features, masks, strict=True)]
    count = len(SHAPES) * len(HUES)
    scores = ClusteringScores(count, count)
    found = cluster(torch.stack(vectors), count, seed=0)
    scores.update(found, torch.tensor([sample.label for sample in samples]))
    return float(scores.compute()["nmi"])


@pytest.mark.slow
def test_clusters_of_features_are_classes_more_than_those_of_the_initial_network(
    tmp_path: Path,
) -> None:
    done = run(
        ["python", ROOT / "src/train.py", "method=mask_contrast", "data=toy", "iterations=100",
         "method.decay_iterations=100", "trainer.val_check_interval=100", "test=false",
         "trainer.accelerator=cpu", "paths.output_dir=run", "callbacks.image_grid=null"],
        cwd=tmp_path, limit=600,
    )  # fmt: skip
    assert done.code == 0, done.err
    method = load_method(tmp_path / "run/checkpoints/last.ckpt")
    learned = score(method)
    torch.manual_seed(0)
    method.reset_parameters()
    assert learned > score(method) + 0.08
