"""What k-means on pixels makes of the classes of `toy`: what clusters should beat.

    python benchmarks/pixel_kmeans.py [--test 300] [--seeds 3]

As many means as there are classes, fitted to the 2,000 training pictures (the best of five starts)
and scored on the test pictures as methods are.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from scipy.cluster.vq import kmeans2, vq

from figureground.data.datasets.toy import Toy
from figureground.metrics.clustering import ClusteringScores

CLASSES, STARTS = 16, 5


def read(split: str, count: int) -> tuple[np.ndarray, torch.Tensor]:
    """Pixels (N, D) in [-1, 1] and labels (N,)."""
    toy = Toy(split, count)
    samples = [toy[number] for number in range(count)]
    pixels = np.stack([sample.image.astype(np.float32).ravel() for sample in samples])
    return pixels / 127.5 - 1, torch.tensor([sample.label for sample in samples])


def main() -> None:
    """Fit, score, print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--test", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    train, _ = read("train", 2000)
    test, labels = read("test", options.test)
    print("| seed | ACC | NMI |\n|---|---|---|")
    for seed in range(options.seeds):
        fits = [
            kmeans2(train, CLASSES, minit="++", iter=50, seed=100 * seed + start)[0]
            for start in range(STARTS)
        ]
        means = min(fits, key=lambda each: float(vq(train, each)[1].sum()))
        scores = ClusteringScores(CLASSES, CLASSES)
        scores.update(torch.from_numpy(vq(test, means)[0]).long(), labels)
        found = {name.rpartition("/")[2]: float(value) for name, value in scores.compute().items()}
        print(f"| {seed} | {found['acc']:.3f} | {found['nmi']:.3f} |", flush=True)


if __name__ == "__main__":
    main()
