"""`generate format=shards`: pairs to train on, in a few large files."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from figureground.cli.inference import write_png
from figureground.core.command_line import option

if TYPE_CHECKING:
    from collections.abc import Callable

    from figureground.core.method import Method
    from figureground.core.passages import Passages
    from figureground.data.chunks import Draw

logger = logging.getLogger(__name__)

_SHEET = 24  # Pairs on the contact sheet.


def find_counter(method: Method) -> Callable[[], Passages]:
    """What tells how many candidates `method` has thrown away; nothing if it keeps all."""
    from figureground.core.protocols import FilteringGenerator

    return method.count_passed if isinstance(method, FilteringGenerator) else dict


def tell_rates(accepted: Passages) -> None:
    """Say how many candidates were kept, if any were thrown away."""
    from figureground.core.passages import ALL, describe

    if ALL in accepted and accepted[ALL].seen:
        logger.info("%s", describe(accepted))


def write_shards(
    draw: Draw,
    output: Path,
    config: DictConfig,
    checkpoint: str,
    count_passed: Callable[[], Passages],
) -> None:
    """Write samples 0 to `count` - 1 as pairs to train on, and some of them as a sheet.

    Args:
        draw: Makes a chunk of them.
        output: Folder.
        config: Of the command.
        checkpoint: What tells apart the generator's weights.
        count_passed: What tells how many candidates were kept, see `find_counter`.
    """
    import torch

    from figureground.data.batching import to_float
    from figureground.data.shards import ShardReader, ShardWriter
    from figureground.viz.grids import picture_grid

    writer = ShardWriter(
        output,
        checkpoint=checkpoint,
        seed=config.seed,
        shard_size=config.shard_size,
        layers=config.layers,
        rounding=config.rounding,
        resolution=config.resolution,
        settings={
            "truncation": config.truncation,
            "noise": config.noise,
            "precision": config.precision,
        },
        overwrite=config.overwrite,
        count_passed=count_passed,
    )
    writer.write(draw, config.count)
    reader = ShardReader(output, verify=False)
    shown = []
    for index in range(min(_SHEET, len(reader))):
        shown.append(to_float(reader.read(index, "image")[None])[0])
        share = torch.from_numpy(reader.read(index, "mask")) / 127.5 - 1
        shown.append(share.expand(3, -1, -1))
    write_png(output / "samples.png", picture_grid(torch.stack(shown), columns=8))
    logger.info("%d pairs. Look at:\n  %s", len(reader), output / "samples.png")
    logger.info(
        "train on them: python src/train.py method=segmenter pairs=saved %s data=<real pictures>",
        option("pairs.root", output),
    )
    tell_rates(reader.accepted)
