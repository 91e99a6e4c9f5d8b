"""Pairs drawn, filtered and written per second, against the published script.

    python benchmarks/pairs_written.py [--generators toy dcgan_small dcgan_faces] [--count 512]
        [--quick]

Both sides use one generator with random weights, the same two directions, filters that count but
keep all, and draw as many pairs. The plain one is written from the spec (`plain_saliency.py`): a
call for each shift, masks and histograms one by one, a JPEG and a PNG file for each pair, as
published. Ours writes shards. Both make the same masks of the same latents, which is checked. Time
is that of the processor, in one thread; rounds are interleaved.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import ratios
import torch
from plain_saliency import draw, write
from torch import Tensor

from figureground.core.config import build, read_choice
from figureground.core.types import Latent
from figureground.data.chunks import CHUNK
from figureground.data.shards import ShardWriter
from figureground.methods.gan_segmenter import GANSegmenter
from figureground.methods.gan_segmenter.drawing import join
from figureground.methods.gan_segmenter.filters import PairFilters, judge

RESULTS = Path(__file__).parent / "results" / "pairs_written.json"
#: Of a size at which drawing does not hide what else there is to do.
SMALL = {"dcgan_small": ("dcgan_faces", {"resolution": 32, "width": 8})}
_BATCH = 32  # Of the plain side; the published one takes what fits.


class Drawer(GANSegmenter):
    """Counts what the filters let through, and keeps all: random weights draw nothing good."""

    def sample(self, count: int, *, generator: torch.Generator | None = None) -> Any:
        """See `PairDrawing.sample`."""
        drawn = self.draw_candidates(count, generator=generator)
        judge(drawn.sides, drawn.shifted, {s: PairFilters() for s in drawn.sides}, self.acceptance)
        return join(drawn.image, drawn.mask)


def paint(method: GANSegmenter, vector: Tensor) -> Tensor:
    """Pictures of latents (B, *shape), of class 0 where there are classes."""
    label = torch.zeros(len(vector), dtype=torch.int64) if method.generator.num_classes else None
    image: Tensor = method.generator(Latent(vector, label))
    return image


@torch.inference_mode()
def plain(method: GANSegmenter, count: int, folder: Path) -> None:
    """Draw and write as published."""
    light, dark = (method.directions.best(side) for side in ("light", "dark"))
    for first in range(0, count, _BATCH):
        latent = method.generator.latent(min(_BATCH, count - first))
        image, mask, _ = draw(partial(paint, method), latent.vector, light, dark, method.step)
        write(folder, image, mask, first)


@torch.inference_mode()
def ours(method: GANSegmenter, count: int, folder: Path) -> None:
    """Draw and write as `generate format=shards rounding=down layers=false`."""
    writer = ShardWriter(
        folder, checkpoint="x", seed=0, shard_size=count, layers=False, rounding="down"
    )
    writer.write(lambda chance: method.sample(CHUNK, generator=chance), count)


@torch.inference_mode()
def check(method: GANSegmenter) -> None:
    """Compare both sides on the same latents."""
    drawn = method.draw_candidates(8, generator=torch.Generator().manual_seed(0))
    latent = method.latents.draw(method.generator, 8, generator=torch.Generator().manual_seed(0))
    light, dark = (method.directions.best(side) for side in ("light", "dark"))
    if latent.label is None:
        _, mask, _ = draw(partial(paint, method), latent.vector, light, dark, method.step)
        same = (mask == drawn.mask).float().mean()
        assert same > 0.999, float(same)  # Rounding decides where nothing changes.


def compare(name: str, options: argparse.Namespace) -> dict[str, float]:
    """Ratios on one generator."""
    torch.manual_seed(0)
    choice, changes = SMALL.get(name, (name, {}))
    method = Drawer(generator=build(read_choice("generator", choice) | changes)).eval()
    check(method)
    taken: dict[str, list[float]] = {"plain": [], "ours": []}
    for _ in range(options.rounds):
        for side, run in (("plain", plain), ("ours", ours)):
            with tempfile.TemporaryDirectory() as folder:
                begin = time.process_time()
                run(method, options.count, Path(folder))
                taken[side].append(time.process_time() - begin)
    row = ratios.summarize(taken["plain"], taken["ours"])
    for side in ("plain", "ours"):
        row[f"pairs_per_second_{side}"] = options.count / row[f"seconds_{side}"]
    return row


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--generators", nargs="+", default=["toy", "dcgan_small", "dcgan_faces"])
    parser.add_argument("--count", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="check parity, save nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {
        **vars(options),
        **ratios.describe_load(),
        **ratios.describe_software(),
        "generator": {},
    }
    print("| generator | plain, pairs/s | ours, pairs/s | ratio: min / median / max |")
    print("|---|---|---|---|")
    for name in options.generators:
        row = result["generator"][name] = compare(name, options)
        rates = " | ".join(f"{row[f'pairs_per_second_{side}']:.0f}" for side in ("plain", "ours"))
        print(f"| {name} | {rates} | {ratios.show(row)} |", flush=True)
    if not options.quick:
        ratios.save(RESULTS, result)


if __name__ == "__main__":
    main()
