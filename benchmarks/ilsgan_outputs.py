"""What follows ILSGAN's training: writing samples, and scoring what is drawn.

    python benchmarks/ilsgan_outputs.py [--count 192] [--rounds 3] [--quick]

Samples go to shards, or to one PNG for each layer, the mask and the picture, both as `generate`
writes them. The generator is small (64 pixels, channels as on `toy`): with the published width on
a CPU, drawing hides what writing costs, which it does not on a GPU. FID and KID come from one pass
over drawn pictures or from a pass for each; real pictures are described beforehand, for all alike.
The FID compares the 112 means half way: matrices of all 1280 take seconds once, which would hide
the passes at numbers that a CPU can draw. Rounds are interleaved; all runs on one thread. `--quick`
is one round of 64 and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from figureground.cli.composing import composed
from figureground.cli.generate import _choose_draw, _list_samples, _sample
from figureground.cli.writing_pairs import write_shards
from figureground.data.chunks import Draw
from figureground.methods.ilsgan import ILSGAN
from figureground.metrics.features import _MIDDLE, EfficientNetFeatures
from figureground.metrics.generation import FrechetDistance, KernelDistance
from figureground.nn.efficientnet import EfficientNetLite0

RESULTS = Path(__file__).parent / "results" / "ilsgan_outputs.json"
BATCH = 32


def seconds(function: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def build() -> ILSGAN:
    """A small generator of pictures of 64 pixels."""
    torch.manual_seed(0)
    small: dict[str, Any] = {"latent_dim": 32, "style_width": 32, "mapping_depth": 2}
    method = ILSGAN(resolution=64, channel_base=512, max_width=32, **small)
    return method.eval().to(memory_format=torch.channels_last)  # As `generate` loads it.


def write_png(draw: Draw, folder: Path, config: DictConfig) -> None:
    """Write one file per layer, mask and picture."""
    _sample(draw, folder, _list_samples(config, with_layers=True), config)


def write_pairs(draw: Draw, folder: Path, config: DictConfig) -> None:
    """Write shards."""
    write_shards(draw, folder, config, "", dict)


WRITERS = {"png": write_png, "shards": write_pairs}


def compare_writing(method: ILSGAN, count: int, rounds: int) -> dict[str, float]:
    """Pictures per second of both formats, and their ratio."""
    taken: dict[str, list[float]] = {"png": [], "shards": []}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        ckpt = root / "m.ckpt"
        ckpt.write_bytes(b"")  # Only its digest is asked for.
        for number in range(rounds + 1):
            for kind in taken:
                folder = root / f"{kind}{number}"
                folder.mkdir()
                chosen = [f"format={kind}", f"ckpt={ckpt}", f"count={count}", f"seed={number}"]
                with composed("generate", [*chosen, f"paths.output_dir={folder}"]) as config:
                    write = partial(WRITERS[kind], _choose_draw(method, config), folder, config)
                    taken[kind].append(seconds(write))
    png, shards = (taken[kind][1:] for kind in ("png", "shards"))
    return {
        "pictures_per_s_png": count / statistics.median(png),
        "pictures_per_s_shards": count / statistics.median(shards),
        **spread([a / b for a, b in zip(png, shards, strict=True)]),
    }


@torch.inference_mode()
def compare_scoring(method: ILSGAN, count: int, rounds: int) -> dict[str, float]:
    """Share of the time of two passes that one takes for both distances."""
    network = EfficientNetLite0().eval()  # Its weights are random: they take the same time.
    size = EfficientNetFeatures.num_middle

    def describe(image: Tensor) -> Tensor:
        return network.describe(image)[0][_MIDDLE].mean(dim=(2, 3))

    real = describe(torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(1)))

    def run(*metrics: FrechetDistance | KernelDistance) -> list[float]:
        chance = torch.Generator().manual_seed(0)
        for metric in metrics:
            metric.update(real, real=True)
        for _ in range(count // BATCH):
            features = describe(method.sample(BATCH, generator=chance).composite)
            for metric in metrics:
                metric.update(features, real=False)
        return [float(metric.compute()) for metric in metrics]

    def make() -> tuple[FrechetDistance, KernelDistance]:
        return FrechetDistance(size), KernelDistance()

    one, two = [], []
    for _ in range(rounds + 1):
        found: list[list[float]] = []
        one.append(seconds(lambda: found.append(run(*make()))))  # noqa: B023 - called here
        two.append(seconds(lambda: found.extend(run(metric) for metric in make())))  # noqa: B023
        if found[0] != [value for values in found[1:] for value in values]:
            raise AssertionError("one pass and two passes give other distances")
    one, two = one[1:], two[1:]
    return {
        "seconds_one_pass": statistics.median(one),
        "seconds_two_passes": statistics.median(two),
        **spread([a / b for a, b in zip(one, two, strict=True)]),
    }


def spread(ratios: list[float]) -> dict[str, float]:
    """Least, middle and largest ratio."""
    return {
        "ratio_min": min(ratios),
        "ratio_median": statistics.median(ratios),
        "ratio_max": max(ratios),
    }


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.count, options.rounds = 64, 1
    torch.set_num_threads(1)
    method = build()
    result: dict[str, Any] = {
        **vars(options),
        "device": "cpu",
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "shards_over_png": compare_writing(method, options.count, options.rounds),
        "one_pass_of_two": compare_scoring(method, options.count, options.rounds),
    }
    print("| what | ratio: min / median / max |\n|---|---|")
    for name in ("shards_over_png", "one_pass_of_two"):
        row = " / ".join(f"{result[name][f'ratio_{k}']:.2f}" for k in ("min", "median", "max"))
        print(f"| {name} | {row} |")
    if not options.quick:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
