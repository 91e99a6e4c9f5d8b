"""BigBiGAN's forward pass with spectral norm folded into its weights, against the published one.

    python benchmarks/bigbigan_forward.py [--rounds 5] [--batch 4] [--device cpu]

The published network (128 pixels, 70 M parameters, fp32, random weights) makes a power iteration
for each weight at each call; folded, it paints the same pictures, which is checked before timing.
Beside this, a picture and its shifted twin come from one call of twice the batch or from two calls.
Rounds are interleaved, so that ratios hold when the machine's speed drifts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.testing import assert_close

from figureground.generators.bigbigan import BigBiGAN
from figureground.generators.spectral import add_spectral_norm, fold_state

RESULTS = Path(__file__).parent / "results" / "bigbigan_forward.json"


def seconds(function: Callable[[], object], device: str) -> float:
    """Wall-clock seconds of one call, the device's work included."""
    begin = time.perf_counter()
    function()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def build(device: str) -> tuple[nn.Module, nn.Module]:
    """The published network and the folded one, of equal function."""
    torch.manual_seed(0)
    published, folded = (BigBiGAN(embedding_rows=1).network for _ in range(2))
    names = [
        name
        for name, layer in published.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    ends = ("original", "0.u")
    add_spectral_norm(published, [f"{n}.parametrizations.weight.{e}" for n in names for e in ends])
    folded.load_state_dict(fold_state(published.state_dict()))
    return published.to(device), folded.to(device)


@torch.inference_mode()
def compare(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Ratios of published to folded, and of two calls to one."""
    published, folded = build(options.device)
    label = torch.zeros(options.batch, dtype=torch.int64, device=options.device)
    latent = torch.randn(options.batch, 120).to(options.device)
    shifted = latent + torch.randn(120).to(options.device)
    both, labels = torch.cat([latent, shifted]), torch.cat([label, label])
    assert_close(folded(latent, label), published(latent, label), rtol=1e-4, atol=1e-5)

    def two_calls() -> list[Tensor]:
        return [folded(vector, label) for vector in (latent, shifted)]

    runs: dict[str, Callable[[], object]] = {
        "published": lambda: published(latent, label),
        "folded": lambda: folded(latent, label),
        "two_calls": two_calls,
        "one_call": lambda: folded(both, labels),
    }
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(options.rounds + 1):
        for name, run in runs.items():
            elapsed = seconds(run, options.device)
            if number:  # The first round warms up.
                taken[name].append(elapsed)
    return {
        "published_over_folded": spread(taken["published"], taken["folded"]),
        "two_calls_over_one": spread(taken["two_calls"], taken["one_call"]),
    }


def spread(slow: list[float], fast: list[float]) -> dict[str, float]:
    """Median seconds of both and least, middle and largest ratio."""
    ratios = [a / b for a, b in zip(slow, fast, strict=True)]
    return {
        "seconds_first": statistics.median(slow),
        "seconds_second": statistics.median(fast),
        "ratio_min": min(ratios),
        "ratio_median": statistics.median(ratios),
        "ratio_max": max(ratios),
    }


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    result: dict[str, Any] = {
        **vars(options),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        **compare(options),
    }
    print("| what | ratio: min / median / max |\n|---|---|")
    for name in ("published_over_folded", "two_calls_over_one"):
        row = " / ".join(f"{result[name][f'ratio_{k}']:.2f}" for k in ("min", "median", "max"))
        print(f"| {name} | {row} |")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
