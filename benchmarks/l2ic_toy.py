"""What L2IC's layers and clusters on `toy` hold, by a checkpoint of `experiment=l2ic-toy`.

    python benchmarks/l2ic_toy.py RUN/01-train/checkpoints/last.ckpt [--drawn 400] [--test 3000]

Grounds of this set are never warm, objects always, so warm pixels of a drawn background that lie
behind the mask are what is left of an object there. Classes are a shape and a colour; clusters are
scored for the two apart. Scores of clusters by chance, and of true colours split at random, say
what the others are worth.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from figureground.core.checkpoint import load_method
from figureground.data.batching import collate
from figureground.data.datasets.toy import HUES, SHAPES, Toy
from figureground.metrics.clustering import ClusteringScores

_WARM = 0.1  # How far red is above green and blue: 0.05 of the range [-1, 1].
_MANY = 0.02  # Share of warm pixels from which a picture counts.
_BATCH = 100


@torch.inference_mode()
def print_layers(method: torch.nn.Module, count: int) -> None:
    """Warm pixels of drawn backgrounds, behind the mask and beside it."""
    layers = method.sample(count, generator=torch.Generator().manual_seed(0))
    red, green, blue = layers.color[:, 0].unbind(dim=1)
    warm = (red > green + _WARM) & (red > blue + _WARM)
    behind = layers.foreground[:, 0] > 0.5
    share = (warm & behind).sum(dim=(1, 2)) / behind.sum(dim=(1, 2)).clamp(min=1)
    print("| warm behind masks | beside | pictures with more than 2 % behind |\n|---|---|---|")
    found = (warm[behind], warm[~behind], share > _MANY)
    print(f"| {' | '.join(f'{float(each.float().mean()):.3f}' for each in found)} |")


@torch.inference_mode()
def print_clusters(method: torch.nn.Module, count: int) -> None:
    """Scores of classes, and purity in colour and in shape alone."""
    toy = Toy("test", count)
    numbers = torch.arange(count).split(_BATCH)
    batches = [collate([toy[int(number)] for number in part]) for part in numbers]
    found = torch.cat([method.cluster(batch.image) for batch in batches])
    label = torch.cat([batch.label for batch in batches])
    chance = torch.Generator().manual_seed(0)
    at_random = torch.randint(method.num_categories, (count,), generator=chance)
    shade = torch.randint(len(SHAPES), (count,), generator=chance)
    print("| clusters | ACC | NMI | purity in colour | in shape |\n|---|---|---|---|---|")
    for name, clusters in (
        ("of the method", found),
        ("at random", at_random),
        ("true colours, each split at random", label % len(HUES) * len(SHAPES) + shade),
    ):
        every = _score(clusters, label, len(SHAPES) * len(HUES))
        color = _score(clusters, label % len(HUES), len(HUES))["purity"]
        shape = _score(clusters, label // len(HUES), len(SHAPES))["purity"]
        print(f"| {name} | {every['acc']:.3f} | {every['nmi']:.3f} | {color:.2f} | {shape:.2f} |")


def _score(clusters: Tensor, label: Tensor, num_classes: int) -> dict[str, float]:
    scores = ClusteringScores(len(SHAPES) * len(HUES), num_classes)
    scores.update(clusters, label)
    return {name: float(value) for name, value in scores.compute().items()}


def main() -> None:
    """Draw, sort, print two tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint")
    parser.add_argument("--drawn", type=int, default=400)
    parser.add_argument("--test", type=int, default=3000)
    options = parser.parse_args()
    method = load_method(options.checkpoint).eval()
    print_layers(method, options.drawn)
    print_clusters(method, options.test)


if __name__ == "__main__":
    main()
