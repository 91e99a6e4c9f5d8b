"""Seconds that ILSGAN's training takes for a thousand pictures, on an accelerator.

    python benchmarks/ilsgan_kimg.py [--device cuda] [--iterations 64] [--batch 32] [--only 64]

Published networks at 64 and 128 pixels, in float32, float16 and bfloat16, eager and compiled, fed
with random pictures from memory. Iterations are whole: with the lazy penalties, the augmentation,
the moving average. StyleGAN2-ADA's table gives 12.8 to 13.7 s/kimg for one V100 at 128 pixels;
other hardware and another network, so it shows an order of magnitude only.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

import ratios
import torch

from figureground.cli.composing import composed
from figureground.core.config import build
from figureground.core.types import Batch
from figureground.methods.ilsgan import ILSGAN

RESULTS = Path(__file__).parent / "results" / "ilsgan_kimg.json"
PRECISIONS = {
    "float32": {"low_precision_blocks": 0},
    "float16": {"low_precision_blocks": 4, "low_precision": "float16"},
    "bfloat16": {"low_precision_blocks": 4, "low_precision": "bfloat16"},
}
#: Iterations before timing: the penalties' first round, and what compilation takes.
WARM_UP = 17


class Clock(ratios.Interleave):
    """Times our iterations alone."""

    def prepare(self, number: int) -> None:
        """Nothing: pictures are there."""

    def step_plain(self, number: int, method: Any) -> None:
        """Nothing: there is no other side."""

    def check(self, number: int, method: Any) -> None:
        """Nothing to compare with."""


def make(resolution: int, batch: int, precision: str) -> ILSGAN:
    """The published method of CUB."""
    options = [f"method.{name}={value}" for name, value in PRECISIONS[precision].items()]
    data = ["data=cub_drc", f"data.resolution={resolution}", f"data.batch_size={batch}"]
    with composed("train", ["method=ilsgan", *data, *options]) as config:
        method: ILSGAN = build(config.method)
    return method


def seconds_per_kimg(method: ILSGAN, options: argparse.Namespace) -> float:
    """Mean over whole iterations."""
    side = method.resolution
    image = torch.rand(options.batch, 3, side, side, generator=torch.Generator().manual_seed(0))
    batch = Batch(image * 2 - 1, tuple(map(str, range(options.batch))))
    clock = Clock(has_plain=False, device=options.device)
    accelerator = "cpu" if options.device == "cpu" else "gpu"
    batches = [batch] * (options.warm_up + options.iterations)
    ratios.train(method, batches, clock, accelerator=accelerator, devices=1)
    timed = clock.seconds["ours"][options.warm_up :]
    return 1000 * sum(timed) / (len(timed) * options.batch)


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--iterations", type=int, default=64, help="a multiple of 16")
    parser.add_argument("--warm-up", type=int, default=WARM_UP)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--only", type=int, choices=[64, 128], help="one size, write nothing")
    options = parser.parse_args()
    name = "cpu" if options.device == "cpu" else torch.cuda.get_device_name(options.device)
    sizes = [options.only] if options.only else [64, 128]
    print("| pixels | precision | compiled | s/kimg |\n|---|---|---|---|")
    rows = []
    for size, precision, compiled in itertools.product(sizes, PRECISIONS, (False, True)):
        torch.manual_seed(0)
        method = make(size, options.batch, precision)
        if compiled:
            method.compile_networks()
        taken = seconds_per_kimg(method, options)
        row = {"pixels": size, "precision": precision, "compiled": compiled, "s_per_kimg": taken}
        rows.append(row)
        print(f"| {size} | {precision} | {'yes' if compiled else 'no'} | {taken:.2f} |", flush=True)
    if not options.only:
        result = {"device": name, "batch": options.batch, **ratios.describe_software()}
        ratios.save(RESULTS, result | {"rows": rows})


if __name__ == "__main__":
    main()
