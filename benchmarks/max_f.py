"""Maximal F: one histogram a picture against the published loop over 254 thresholds.

    python benchmarks/max_f.py [--images 4] [--size 300 400] [--rounds 5] [--quick]

Ours is the curve of `SaliencyScores` alone, and all of its thirty scores in the same pass; all find
the same maximum, which is checked. Time is that of the processor, in one thread; rounds are
interleaved.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import ratios
import torch
import torch.nn.functional as F
from plain_saliency import max_f
from torch import Tensor

from figureground.metrics.saliency import SaliencyScores, f_measure

RESULTS = Path(__file__).parent / "results" / "max_f.json"


def make(count: int, size: tuple[int, int]) -> tuple[list[Tensor], list[Tensor]]:
    """Smooth probabilities and masks that they nearly agree with."""
    torch.manual_seed(0)
    fields = F.interpolate(torch.randn(count, 1, 7, 9), size, mode="bicubic")[:, 0]
    masks = [(field > 0).float() for field in fields]
    noise = F.interpolate(torch.randn(count, 1, 12, 15), size, mode="bicubic")[:, 0]
    return list((2 * fields + noise).sigmoid()), masks


def curve_alone(probabilities: list[Tensor], masks: list[Tensor]) -> float:
    """The same by what `SaliencyScores` counts for it, and no other score."""
    scores = SaliencyScores()
    curve = torch.zeros(255, dtype=torch.float64)
    for share, mask in zip(probabilities, masks, strict=True):
        truth = mask.flatten()[None] > 0
        hits, claimed = scores._count_above(share.flatten()[None], truth)
        curve += f_measure(hits, claimed, truth.sum(dim=1, keepdim=True))[0]
    return float((curve / len(masks)).max())


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
    parser.add_argument("--quick", action="store_true", help="check parity, save nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = make(options.images, tuple(options.size))
    sides = {"plain": max_f, "curve_alone": curve_alone, "all_scores": ours}
    found = [side(*data) for side in sides.values()]
    assert max(found) - min(found) < 1e-5, found
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, side in sides.items():
            begin = time.process_time()
            side(*data)
            taken[name].append(time.process_time() - begin)
    print("| ours | pictures | plain, s | ours, s | ratio: min / median / max |")
    print("|---|---|---|---|---|")
    result = {**vars(options), **ratios.describe_load(), **ratios.describe_software()}
    for name in ("curve_alone", "all_scores"):
        row = result[name] = ratios.summarize(taken["plain"], taken[name])
        seconds = f"{row['seconds_plain']:.3f} | {row['seconds_ours']:.4f}"
        print(f"| {name} | {options.images} | {seconds} | {ratios.show(row)} |")
    if not options.quick:
        ratios.save(RESULTS, result)


if __name__ == "__main__":
    main()
