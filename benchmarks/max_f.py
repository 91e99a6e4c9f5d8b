"""Maximal F: one histogram a picture against the published loop over 254 thresholds.

    python benchmarks/max_f.py [--images 4] [--size 300 400] [--rounds 5]

Ours is `SaliencyScores`, which counts twenty other scores in the same pass; both find the same
maximum, which is checked. One thread. Rounds are interleaved.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import ratios
import torch
import torch.nn.functional as F
from plain_saliency import max_f
from torch import Tensor

from figureground.metrics.saliency import SaliencyScores

RESULTS = Path(__file__).parent / "results" / "max_f.json"


def make(count: int, size: tuple[int, int]) -> tuple[list[Tensor], list[Tensor]]:
    """Smooth probabilities and masks that they nearly agree with."""
    torch.manual_seed(0)
    fields = F.interpolate(torch.randn(count, 1, 7, 9), size, mode="bicubic")[:, 0]
    masks = [(field > 0).float() for field in fields]
    noise = F.interpolate(torch.randn(count, 1, 12, 15), size, mode="bicubic")[:, 0]
    return list((2 * fields + noise).sigmoid()), masks


def ours(probabilities: list[Tensor], masks: list[Tensor]) -> float:
    """The same by `SaliencyScores`, picture by picture as in a test at full resolution."""
    scores = SaliencyScores()
    for share, mask in zip(probabilities, masks, strict=True):
        scores.update(torch.stack([1 - share, share])[None], mask[None].long())
    return float(scores.compute()["fmax/img"])


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--size", type=int, nargs=2, default=[300, 400])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = make(options.images, tuple(options.size))
    expected, found = max_f(*data), ours(*data)
    assert abs(expected - found) < 1e-5, (expected, found)
    taken: dict[str, list[float]] = {"plain": [], "ours": []}
    for _ in range(options.rounds):
        taken["plain"].append(ratios.seconds(lambda: max_f(*data)))
        taken["ours"].append(ratios.seconds(lambda: ours(*data)))
    row = ratios.summarize(taken["plain"], taken["ours"])
    print("| pictures | plain, s | ours, s | ratio: min / median / max |\n|---|---|---|---|")
    seconds = f"{row['seconds_plain']:.3f} | {row['seconds_ours']:.4f}"
    print(f"| {options.images} | {seconds} | {ratios.show(row)} |")
    about = {**vars(options), **ratios.describe_load(), **ratios.describe_software()}
    ratios.save(RESULTS, {**about, "max_f": row})


if __name__ == "__main__":
    main()
