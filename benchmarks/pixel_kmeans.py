"""What k-means on pixels makes of the classes of an embedded set: what clusters should beat.

    python benchmarks/pixel_kmeans.py [--data rooms --means 16] [--test 300] [--seeds 3]

Fitted to the 2,000 training pictures of the set's own size (the best of five starts; as many means
as classes unless told) and scored on the test pictures as methods are.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from scipy.cluster.vq import kmeans2, vq

from figureground.data.datasets.rooms import CATEGORIES, Rooms
from figureground.data.datasets.toy import Split, Toy
from figureground.data.samples import ImageDataset
from figureground.metrics.clustering import ClusteringScores

STARTS = 5
#: Each set at its size, how many classes it has, and how many test pictures.
SETS: dict[str, tuple[Callable[[Split, int], ImageDataset], int, int]] = {
    "toy": (partial(Toy, resolution=32), 16, 300),
    "rooms": (partial(Rooms, resolution=64), len(CATEGORIES), 400),
}


def read(name: str, split: Split, count: int) -> tuple[np.ndarray, torch.Tensor]:
    """Pixels (N, D) in [-1, 1] and labels (N,)."""
    pictures = SETS[name][0](split, count)
    samples = [pictures[number] for number in range(count)]
    pixels = np.stack([sample.image.astype(np.float32).ravel() for sample in samples])
    return pixels / 127.5 - 1, torch.tensor([sample.label for sample in samples])


def main() -> None:
    """Fit, score, print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", choices=[*SETS], default="toy")
    parser.add_argument("--means", type=int)
    parser.add_argument("--test", type=int)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    _, classes, pictures = SETS[options.data]
    means_asked = options.means or classes
    train, _ = read(options.data, "train", 2000)
    test, labels = read(options.data, "test", options.test or pictures)
    print("| seed | ACC | one to one | NMI |\n|---|---|---|---|")
    for seed in range(options.seeds):
        fits = [
            kmeans2(train, means_asked, minit="++", iter=50, seed=100 * seed + start)[0]
            for start in range(STARTS)
        ]
        means = min(fits, key=lambda each: float(vq(train, each)[1].sum()))
        scores = ClusteringScores(means_asked, classes)
        scores.update(torch.from_numpy(vq(test, means)[0]).long(), labels)
        found = [scores.compute()[name] for name in ("acc", "acc/one_to_one", "nmi")]
        print(f"| {seed} | {' | '.join(f'{float(each):.3f}' for each in found)} |", flush=True)


if __name__ == "__main__":
    main()
