"""BigBiGAN's forward pass as here, against the published order of operations.

    python benchmarks/bigbigan_forward.py [--rounds 5] [--batches 1 4] [--device cpu]
        [--width 96] [--quick]

The network has 128 pixels, 70 M parameters, fp32, random weights. The published one makes a power
iteration for each weight at each call, and doubles maps before it convolves them. Folding the norm
alone is measured too. All paint the same pictures, which is checked before anything is timed.
Beside this, a picture and its shifted twin come from one call of twice the batch or from two calls.
Rounds are interleaved, so that ratios hold when the machine's speed drifts.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ratios
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from figureground.generators.bigbigan import BigBiGAN
from figureground.generators.blocks import ResidualBlock, double
from figureground.generators.spectral import add_spectral_norm, fold_state

RESULTS = Path(__file__).parent / "results" / "bigbigan_forward.json"


class PublishedBlock(ResidualBlock):
    """Doubles first, on both ways, as the published code does."""

    def forward(self, features: Tensor, condition: Tensor | None) -> Tensor:
        """See `ResidualBlock.forward`."""
        hidden = self.conv1(double(F.relu(self.norm1(features, condition))))
        hidden = self.conv2(F.relu(self.norm2(hidden, condition)))
        out: Tensor = hidden + self.shortcut(double(features))
        return out


def build(device: str, width: int) -> tuple[nn.Module, ...]:
    """The published network, the same folded, and ours; of equal function."""
    torch.manual_seed(0)
    networks = [BigBiGAN(width=width, embedding_rows=1).network for _ in range(3)]
    published, norm_folded, ours = networks
    for network in (published, norm_folded):
        for layer in network.layers:
            if isinstance(layer, ResidualBlock):
                layer.__class__ = PublishedBlock
    names = [
        name
        for name, layer in published.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    ends = ("original", "0.u")
    add_spectral_norm(published, [f"{n}.parametrizations.weight.{e}" for n in names for e in ends])
    plain = fold_state(published.state_dict())
    for network in (norm_folded, ours):
        network.load_state_dict(plain)
    return published.to(device), norm_folded.to(device), ours.to(device)


@torch.inference_mode()
def compare(
    networks: tuple[nn.Module, ...], batch: int, options: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Ratios of published to folded and to ours, and of two calls to one."""
    published, norm_folded, ours = networks
    label = torch.zeros(batch, dtype=torch.int64, device=options.device)
    latent = torch.randn(batch, 120).to(options.device)
    shifted = latent + torch.randn(120).to(options.device)
    both, labels = torch.cat([latent, shifted]), torch.cat([label, label])
    expected = published(latent, label)
    for network in (norm_folded, ours):
        assert_close(network(latent, label), expected, rtol=1e-4, atol=1e-4)

    def two_calls() -> list[Tensor]:
        return [ours(vector, label) for vector in (latent, shifted)]

    runs: dict[str, Callable[[], object]] = {
        "published": lambda: published(latent, label),
        "norm_folded": lambda: norm_folded(latent, label),
        "ours": lambda: ours(latent, label),
        "two_calls": two_calls,
        "one_call": lambda: ours(both, labels),
    }
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(options.rounds + 1):
        for name, run in runs.items():
            elapsed = ratios.seconds(run, options.device)
            if number:  # The first round warms up.
                taken[name].append(elapsed)
    return {
        "published_over_norm_folded": spread(taken["published"], taken["norm_folded"]),
        "published_over_ours": spread(taken["published"], taken["ours"]),
        "two_calls_over_one": spread(taken["two_calls"], taken["one_call"]),
    }


def spread(slow: list[float], fast: list[float]) -> dict[str, float]:
    """Median seconds of both and least, middle and largest ratio."""
    return {
        "seconds_first": statistics.median(slow),
        "seconds_second": statistics.median(fast),
        **ratios.spread(slow, fast),
    }


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--width", type=int, default=96, help="96 is the published one")
    parser.add_argument("--quick", action="store_true", help="check parity, save nothing")
    options = parser.parse_args()
    result: dict[str, Any] = {
        **vars(options),
        **ratios.describe_load(),
        **ratios.describe_software(),
        "batch": {},
    }
    networks = build(options.device, options.width)
    print("| batch | what | ratio: min / median / max |\n|---|---|---|")
    for batch in options.batches:
        result["batch"][batch] = compare(networks, batch, options)
        for name, found in result["batch"][batch].items():
            print(f"| {batch} | {name} | {ratios.show(found)} |", flush=True)
    if not options.quick:
        ratios.save(RESULTS, result)


if __name__ == "__main__":
    main()
