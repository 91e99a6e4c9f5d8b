"""`predict`: masks, overlays, layers and objects of any pictures."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from figureground.cli import objects, run
from figureground.cli.check import check_job
from figureground.cli.inference import (
    choose_refinement,
    find_pictures,
    load,
    require_readable,
    write_png,
)
from figureground.core.links import refuse_linked_folders
from figureground.core.presence import exists

if TYPE_CHECKING:
    from figureground.cli.projecting import Way
    from figureground.core.types import Layers
    from figureground.data.samples import Pixels

logger = logging.getLogger(__name__)

_SHEET_ROWS = 40  # Pictures on the contact sheet.


def main() -> None:
    """Entry of the command."""
    run(predict, "predict")


def predict(config: DictConfig) -> None:
    """Segment every picture of `input` and write the results below `output`.

    For `a/b.jpg`: `a/b_mask.png`, `a/b_overlay.png`, one `a/b_layer<l>.png` per layer of a method
    that can decompose, and what `objects.write` says of a method that finds objects; also
    `contact_sheet.png`. Pictures whose mask exists are passed over unless `overwrite=true`, so an
    interrupted run is simply started again. With `steps`, layers are those of the nearest pictures
    that the method can draw, and `a/b_reconstruction.png` shows these.
    """
    check_job(config)
    from figureground.cli.projecting import choose_way
    from figureground.core.signals import watching

    pictures = require_readable(
        find_pictures(config.input), config.on_error == "skip", can_skip=True
    )
    output = Path(config.output)
    refuse_linked_folders(output, {name.parent for _, name in pictures}, "output")
    todo = [
        (file, name)
        for file, name in pictures
        if config.overwrite or not exists(_results(output, name)["mask"])
    ]
    with watching() as stop:
        method = load(config.ckpt, config.device)
        choose_refinement(method, config.refine)
        divide = choose_way(method, config, stop.check)
        for first in range(0, len(todo), config.batch_size):
            stop.check(goes_on=True)
            batch = todo[first : first + config.batch_size]
            if config.steps:
                logger.info("pictures %d to %d of %d", first + 1, first + len(batch), len(todo))
            _predict_batch(method, batch, output, config, divide)
    _write_sheet(pictures[:_SHEET_ROWS], output)
    num_kept = len(pictures) - len(todo)
    again = "; overwrite=true segments them again" if num_kept else ""
    logger.info("%d pictures segmented (%d were there)%s. Look at:\n  %s",
                len(todo), num_kept, again, output / "contact_sheet.png")  # fmt: skip


def _results(output: Path, name: Path) -> dict[str, Path]:
    kinds = ("mask", "overlay", *objects.KINDS)
    return {kind: output / name.parent / f"{name.name}_{kind}.png" for kind in kinds}


def _predict_batch(
    method: Any,
    batch: list[tuple[Path, Path]],
    output: Path,
    config: DictConfig,
    divide: Way,
) -> None:
    import numpy as np
    import torch

    from figureground.data.batching import to_float
    from figureground.data.pictures import enlarge, stretch
    from figureground.data.reading import read_image
    from figureground.viz.overlays import mask_to_gray, overlay

    images = [read_image(file) for file, _ in batch]
    squares = to_float(np.stack([stretch(image, method.resolution) for image in images]))
    with torch.inference_mode():
        squares = squares.to(method.device)
        probabilities, layers = divide(squares)
        found = objects.find(method, squares, layers) if config.objects else None
    for number, ((_, name), image) in enumerate(zip(batch, images, strict=True)):
        size = (image.shape[0], image.shape[1])
        own = enlarge(probabilities[number : number + 1], size)[0]
        mask = own.max(dim=0).indices.to(torch.uint8).cpu().numpy()
        if layers is not None and config.layers:
            _write_layers(layers, number, image, output / name)
        if config.steps and layers is not None:
            objects.write_reconstruction(layers, number, size, output / name)
        if found is not None:
            objects.write(found, number, size, output / name)
        paths = _results(output, name)
        write_png(paths["overlay"], overlay(image, mask))
        # The mask comes last: where it is, everything else of its picture is too.
        write_png(paths["mask"], mask_to_gray(mask, own.shape[0]))


def _write_layers(layers: Layers, number: int, image: Pixels, stem: Path) -> None:
    """Write one RGBA picture per layer; whole, where a method knows what others hide of it."""
    import numpy as np
    import torch

    from figureground.data.pictures import add_detail, enlarge
    from figureground.viz.grids import to_uint8

    shares = layers.alpha if layers.opacity is None else layers.opacity
    alphas = enlarge(shares[number].movedim(1, 0).float(), image.shape[:2])[0]  # (L, H, W)
    opacities = (alphas * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    for layer, opacity in enumerate(opacities):
        rgb = to_uint8(add_detail(layers.color[number, layer].float(), image))
        write_png(stem.with_name(f"{stem.name}_layer{layer}.png"), np.dstack([rgb, opacity]))


def _write_sheet(pictures: list[tuple[Path, Path]], output: Path) -> None:
    import numpy as np

    from figureground.data.reading import open_picture, read_image
    from figureground.viz.grids import contact_sheet
    from figureground.viz.overlays import on_checkerboard

    rows, captions = [], []
    for file, name in pictures:
        paths = _results(output, name)
        titles = ["picture", *(kind for kind, path in paths.items() if path.exists())]
        row = [read_image(file), *(read_image(paths[kind]) for kind in titles[1:])]
        layers = sorted(paths["mask"].parent.glob(f"{name.name}_layer*.png"))
        row += [on_checkerboard(np.asarray(open_picture(path).convert("RGBA"))) for path in layers]
        titles += [f"layer {n}" for n in range(len(layers))]
        rows.append(row)
        captions.append(str(name))
    if rows:
        write_png(output / "contact_sheet.png", contact_sheet(rows, captions, titles))
