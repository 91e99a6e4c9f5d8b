"""`generate`: new layered pictures, views of latents, redraws of given ones, swaps between two."""

from __future__ import annotations

import hashlib
import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from figureground.cli import run
from figureground.cli.check import check_job
from figureground.cli.coding import draw_coded, require_codes
from figureground.cli.exploring import explore, require_latents
from figureground.cli.inference import find_pictures, load, require_readable, write_png
from figureground.cli.manifests import claim_folder, note_precision, read_rows
from figureground.cli.picking import find_best, require_critic
from figureground.cli.writing_pairs import find_counter, tell_rates, write_shards
from figureground.core.command_line import option
from figureground.core.errors import UserError
from figureground.core.links import refuse_linked_folders
from figureground.core.presence import open_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch
    from torch import Tensor

    from figureground.core.method import Method
    from figureground.core.types import Layers
    from figureground.data.chunks import Draw

logger = logging.getLogger(__name__)

_FIELDS = ("index", "seed", "checkpoint", "image", "mask", "layers", "truncation", "noise")
_FOLDERS = ("images", "masks", "layers", "walk")  # Below `output`.
_PICKED = ("drawn", "of", "score")  # Further fields where the best were kept.
_SHEET = 24  # Samples on the contact sheet.

#: Number of a sample in the order of drawing, and its score as text.
Pick = tuple[int, str]


def main() -> None:
    """Entry of the command."""
    run(generate, "generate")


def generate(config: DictConfig) -> None:
    """Write what was asked for below `output`.

    `count` samples, or the `top` of them by the score of the method's critic; views of latents
    (`explore`), `input` redrawn, `swap` swapped, grids in which one code changes (`vary`), pictures
    sorted and drawn elsewhere (`transfer`); of the method in `ckpt`, or, samples and views, of the
    pretrained `generator`.

    Sample i depends on (seed, i) alone, see `data.chunks`, so an interrupted run is simply started
    again. Samples of another seed, checkpoint, truncation or noise are refused unless
    `overwrite=true`, which removes them.
    """
    check_job(config)
    refuse_linked_folders(config.output, _FOLDERS, "output")
    named = (config.input, config.swap, config.vary, config.transfer)
    if not (config.count or config.explore or any(each is not None for each in named)):
        more = ", input=my_photos, swap=[a.jpg,b.jpg], vary=c or transfer=my_photos"
        more = more if config.get("generator") is None else " or both"
        raise UserError(f"nothing to do; give count=50, explore=[walk]{more}")
    if config.get("generator") is not None:
        from figureground.cli.painting import paint

        paint(config)
    else:
        _draw(config)


def _draw(config: DictConfig) -> None:
    """Draw by the method of a checkpoint."""
    from figureground.core.protocols import Redrawer

    method = _load(config)
    output = Path(config.output)
    require_codes(method, config)
    if config.explore:
        require_latents(method, list(config.explore))  # Before samples are drawn for hours.
    if config.top is not None:
        require_critic(method, config.ckpt)
    if config.count:
        draw = _choose_draw(method, config)
        if config.format == "png":
            _sample(draw, output, _choose_rows(method, draw, output, config), config)
            tell_rates(find_counter(method)())
        else:
            write_shards(draw, output, config, _digest(config.ckpt), find_counter(method))
    if config.explore:
        explore(method, output, config)
    draw_coded(method, output, config)
    if config.input is not None or config.swap is not None:
        if not isinstance(method, Redrawer):
            raise UserError(f"{type(method).__name__} cannot redraw given pictures; use count=...")
        if config.input is not None:
            _redraw(method, output, config)
        if config.swap is not None:
            _swap(method, output, list(config.swap))


def _load(config: DictConfig) -> Method:
    """The method of the checkpoint, which must not lack a network that is asked for."""
    from figureground.core.checkpoint import require_network

    method = load(config.ckpt, config.device)
    require_network(method, "generator", config.ckpt)
    if config.transfer is not None:
        require_network(method, "discriminator", config.ckpt)
    return method


def _choose_draw(method: Method, config: DictConfig) -> Draw:
    """What draws a chunk of samples, with the noise and truncation asked for."""
    import torch

    from figureground.core.protocols import LayerGenerator, NoisyGenerator
    from figureground.data.chunks import CHUNK
    from figureground.nn.precision import computing_in

    if not isinstance(method, LayerGenerator):
        raise UserError(
            f"{type(method).__name__} cannot draw pictures; use predict to segment given ones"
        )
    if config.format != "png" and not method.draws_layers:
        raise UserError(
            f"{type(method).__name__} draws pictures without masks, so there are no pairs to "
            "write; use format=png, or search directions in it first: train method=gan_segmenter "
            f"generator=checkpoint {option('generator.weights', config.ckpt)}"
        )
    truncation, noise = config.truncation, config.noise
    sample: Callable[..., Layers] = partial(method.sample, CHUNK)
    if truncation is not None or noise != "const":
        if not isinstance(method, NoisyGenerator):
            raise UserError(
                f"{type(method).__name__} draws without a mean picture and without noise; leave "
                "out truncation=... and noise=..."
            )
        sample = partial(method.sample_with, CHUNK, noise=noise, truncation=truncation)

    def draw(chance: torch.Generator) -> Layers:
        with torch.inference_mode(), computing_in(config.precision, method.device):
            return sample(generator=chance).widen()

    return draw


def _choose_rows(
    method: Method, draw: Draw, output: Path, config: DictConfig
) -> list[dict[str, str]]:
    """Rows of the manifest: all samples in order, or the best of them."""
    from figureground.core.signals import watching

    if config.top is None:
        return _list_samples(config, with_layers=method.draws_layers)
    before = [] if config.overwrite else read_rows(output)
    if len(before) == config.top and before[0].keys() >= set(_PICKED):
        # Anything may stand there; what is no number is not what is asked for.
        drawn = (n if (n := str(row["drawn"])).isdecimal() else "0" for row in before)
        stored = [(int(n[:18]), row["score"]) for n, row in zip(drawn, before, strict=True)]
        # Equal rows were chosen from the same pictures by the run that is gone on with.
        if _list_samples(config, stored, with_layers=method.draws_layers) == before:
            return before
    with watching() as stop:
        best = find_best(
            method, draw, seed=config.seed, count=config.count, top=config.top, check=stop.check
        )
    picks = [(number, f"{score:.6g}") for number, score in best]
    return _list_samples(config, picks, with_layers=method.draws_layers)


def _sample(draw: Draw, output: Path, rows: list[dict[str, str]], config: DictConfig) -> None:
    """Write a manifest, then images, masks and layers of `rows`, as far as these name them."""
    import torch

    from figureground.core.signals import watching
    from figureground.data.chunks import CHUNK, draw_chunk
    from figureground.viz.grids import picture_grid

    chunks: dict[int, list[dict[str, str]]] = {}
    for row in rows:
        chunks.setdefault(_number(row) // CHUNK, []).append(row)
    shown: dict[int, torch.Tensor] = {}
    with watching() as stop:
        first = draw_chunk(draw, config.seed, 0)  # A method that refuses leaves nothing behind.
        claim_folder(output, rows, config.overwrite)
        for number, chunk in sorted(chunks.items()):
            stop.check(goes_on=True)
            missing = [row for row in chunk if not (output / row["image"]).exists()]
            on_sheet = [row for row in chunk if int(row["index"]) < _SHEET]
            if not missing and not on_sheet:
                continue
            layers = draw_chunk(draw, config.seed, number) if number else first
            for row in on_sheet:
                shown[int(row["index"])] = layers.composite[_number(row) % CHUNK].cpu()
            for row in missing:
                stop.check(goes_on=True)
                _write_sample(output, row, layers, _number(row) % CHUNK)
    sheet = torch.stack([picture for _, picture in sorted(shown.items())])
    write_png(output / "samples.png", picture_grid(sheet, columns=8))
    logger.info("%d samples. Look at:\n  %s", len(rows), output / "samples.png")


def _number(row: dict[str, str]) -> int:
    """Of a sample in the order of drawing, which chunks are counted by."""
    return int(row.get("drawn", row["index"]))


def _write_sample(output: Path, row: dict[str, str], layers: Layers, place: int) -> None:
    """Write number `place` of a chunk: layers and mask if `row` has them, the picture last."""
    import numpy as np
    import torch

    from figureground.viz.grids import to_uint8
    from figureground.viz.overlays import mask_to_gray

    num_layers = layers.color.shape[1]
    if "layers" in row:
        for layer in range(num_layers):
            rgb = to_uint8(layers.color[place, layer])
            alpha = (layers.alpha[place, layer, 0] * 255).round().clamp(0, 255)
            rgba = np.dstack([rgb, alpha.to(torch.uint8).cpu().numpy()])
            write_png(output / row["layers"].replace("*", str(layer)), rgba)
    if "mask" in row:
        mask = layers.segmentation[place].to(torch.uint8).cpu().numpy()
        write_png(output / row["mask"], mask_to_gray(mask, num_layers))
    write_png(output / row["image"], to_uint8(layers.composite[place]))


def _digest(ckpt: str) -> str:
    """Tell checkpoints apart by content: the last.ckpt of a run is another one tomorrow."""
    with open_file(ckpt) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _list_samples(
    config: DictConfig, picks: Sequence[Pick] | None = None, *, with_layers: bool
) -> list[dict[str, str]]:
    """Rows of the manifest: where each sample, or each of `picks`, comes from and where it goes."""
    from figureground.data.chunks import chunk_seed

    digest = _digest(config.ckpt)
    how = "" if config.truncation is None else str(config.truncation), config.noise
    rows = []
    numbers = range(config.count) if picks is None else [number for number, _ in picks]
    for index, number in enumerate(numbers):
        stem = f"{index:06d}"
        places = (f"images/{stem}.png", f"masks/{stem}.png", f"layers/{stem}_*.png")
        cells = (str(index), str(chunk_seed(config.seed, number)), digest, *places, *how)
        row = dict(zip(_FIELDS, cells, strict=True))
        if picks is not None:
            more = (str(number), str(config.count), picks[index][1])
            row |= dict(zip(_PICKED, more, strict=True))
        row |= note_precision(config.precision)
        if not with_layers:
            del row["mask"], row["layers"]
        rows.append(row)
    return rows


def _load_squares(method: Any, files: list[Path]) -> Tensor:
    import numpy as np

    from figureground.data.batching import to_float
    from figureground.data.pictures import stretch
    from figureground.data.reading import read_image

    squares = np.stack([stretch(read_image(file), method.resolution) for file in files])
    return to_float(squares).to(method.device)


def _redraw(method: Any, output: Path, config: DictConfig) -> None:
    """One sheet per region: picture, mask, then redraws with one latent down each column."""
    import torch

    from figureground.core.signals import watching
    from figureground.viz.grids import picture_grid

    pictures = require_readable(find_pictures(config.input), skip=False)
    generator = torch.Generator().manual_seed(config.seed)
    sizes = (config.columns, method.num_regions, method.latent_dim)
    latents = torch.randn(sizes, generator=generator).to(method.device)
    rows: list[list[Tensor]] = [[] for _ in range(method.num_regions)]
    with watching() as stop, torch.inference_mode():
        for file, _ in pictures:
            stop.check()
            image = _load_squares(method, [file])
            masks = method.segment(image)
            redraws = method.redraw(image.expand(len(latents), -1, -1, -1), latents)
            for region, row in enumerate(rows):
                mask = (2 * masks[0, region] - 1).expand(3, -1, -1)
                row += [image[0], mask, *redraws[:, region]]
    for region, row in enumerate(rows):
        name = "background" if region == 0 else f"object{region}"
        path = output / f"redraw_{name}.png"
        write_png(path, picture_grid(torch.stack(row), columns=config.columns + 2))
        logger.info("look at %s", path)


def _swap(method: Any, output: Path, files: list[str]) -> None:
    """Give each of two pictures the other's latents, region by region, and walk in between."""
    import torch

    from figureground.viz.grids import picture_grid

    if len(files) != 2:
        raise UserError(f"swap takes two pictures, got {len(files)}: swap=[a.jpg,b.jpg]")
    require_readable([(Path(file), Path(file)) for file in files], skip=False)
    with torch.inference_mode():
        image = _load_squares(method, [Path(file) for file in files])
        try:
            latent = method.recover_latent(image)
        except ValueError as error:
            raise UserError(f"cannot swap: {error}") from error
        steps = torch.linspace(0, 1, 7, device=image.device)
        for region in range(latent.shape[1]):
            rows = []
            for which in (0, 1):
                walk = torch.stack([latent[which].lerp(latent[1 - which], t) for t in steps])
                redrawn = method.redraw(image[which].expand(len(steps), -1, -1, -1), walk)
                rows += [image[which], *redrawn[:, region]]
            name = "background" if region == 0 else f"object{region}"
            path = output / f"swap_{name}.png"
            write_png(path, picture_grid(torch.stack(rows), columns=len(steps) + 1))
            logger.info("look at %s", path)
