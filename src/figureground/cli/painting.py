"""`generate generator=...`: pictures of a pretrained generator, and views of its latents."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from figureground.cli.inference import choose_device, write_png
from figureground.cli.manifests import claim_folder, note_precision
from figureground.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from figureground.core.types import Latent
    from figureground.generators.base import ImageGenerator

logger = logging.getLogger(__name__)

_CHUNK = 8  # Pictures painted together.
_SHEET = 24  # Samples on the contact sheet.


@dataclass
class View:
    """What a view is made with.

    Attributes:
        network: The generator.
        latent: `rows` latents.
        output: Folder for results.
        config: Of the command.
        check: To be called now and then; raises where the command shall stop.
    """

    network: ImageGenerator
    latent: Latent
    output: Path
    config: DictConfig
    check: Callable[[], None]

    def paint(self, latent: Latent) -> Tensor:
        """Pictures (B, 3, R, R) of `latent`, on the CPU."""
        import torch

        from figureground.core.types import Latent

        pictures = []
        for start in range(0, len(latent), _CHUNK):
            self.check()
            end = start + _CHUNK
            label = None if latent.label is None else latent.label[start:end]
            part = Latent(latent.vector[start:end], label)
            pictures.append(_paint(self.network, part, "pictures of a view"))
        return torch.cat(pictures)

    def between(self, one: Tensor, other: Tensor, share: float) -> Tensor:
        """On the way from latents to others: along a line for styles, else along a circle."""
        from figureground.nn.paths import slerp

        if self.network.latent_space == "w":
            return one.lerp(other, share)
        return slerp(one, other, one.new_full((len(one), 1), share))


def paint(config: DictConfig) -> None:
    """Write `count` samples and the views that `explore` names below `output`.

    Equal seeds give equal pictures, of random weights too; sample i depends on (seed, i) alone.

    Raises:
        UserError: The generator cannot show a view.
    """
    import torch

    from figureground.core.config import build
    from figureground.core.signals import watching
    from figureground.nn.precision import computing_in

    torch.manual_seed(config.seed)  # Of random weights, where no file is given.
    device = choose_device(config.device)
    network: ImageGenerator = build(config.generator).to(device)
    output = Path(config.output)
    require_views(network, list(config.explore))
    with watching() as stop, torch.inference_mode(), computing_in(config.precision, device):
        if config.count:
            _sample(network, output, config, partial(stop.check, goes_on=True))
        for name in config.explore:
            seeded = torch.Generator().manual_seed(config.seed)
            latent = network.latent(config.rows, generator=seeded)
            VIEWS[name](View(network, latent, output, config, stop.check))


def _paint(network: ImageGenerator, latent: Latent, name: str) -> Tensor:
    """Pictures (B, 3, R, R) of `latent`, on the CPU.

    Raises:
        NumericalError: A colour is not finite; `name` says of which pictures.
    """
    from figureground.data.chunks import require_finite

    pictures: Tensor = network(latent).float().cpu()
    require_finite(pictures, name)
    return pictures


def require_views(network: ImageGenerator, views: list[str]) -> None:
    """Raise `UserError` unless `network` can show `views`."""
    if "mixing" in views and len(network.latent_shape) < 2:
        raise UserError(
            f"{network.card.family} has one latent vector a picture, so there is nothing to mix; "
            "leave mixing out of explore=[...]"
        )
    if "truncation" in views and not network.can_truncate:
        raise UserError(
            f"{network.card.family}: this one has no mean picture to truncate to; leave truncation "
            "out of explore=[...]"
        )


def _sample(
    network: ImageGenerator, output: Path, config: DictConfig, check: Callable[[], None]
) -> None:
    """Write a manifest, then the pictures of samples 0 to `count` - 1, and a sheet of the first."""
    import torch

    from figureground.core.seeds import mix_seed
    from figureground.viz.grids import picture_grid, to_uint8

    def draw(seed: int) -> Latent:
        return network.latent(1, generator=torch.Generator().manual_seed(seed))

    has_labels = network.num_classes > 0 and network.latent_space == "z"
    digest, rows = _digest(type(network), config), []
    for index in range(config.count):
        seed = mix_seed(config.seed, index)
        label = draw(seed).label if has_labels else None
        row = {"index": str(index), "seed": str(seed), "generator": digest}
        row |= {"label": "" if label is None else str(int(label))}
        row |= note_precision(config.precision)
        rows.append({**row, "image": f"images/{index:06d}.png"})
    shown: list[Tensor] = []
    for index, row in enumerate(rows):
        check()
        path = output / row["image"]
        if path.exists() and index >= _SHEET:
            continue
        # One at a time: a batch would tie a picture to its neighbours.
        picture = _paint(network, draw(int(row["seed"])), f"samples from {index} on")[0]
        if index == 0:  # A network that fails leaves nothing behind.
            claim_folder(output, rows, config.overwrite)
        if index < _SHEET:
            shown.append(picture)
        if not path.exists():
            write_png(path, to_uint8(picture))
    write_png(output / "samples.png", picture_grid(torch.stack(shown), columns=8))
    logger.info("%d samples. Look at:\n  %s", len(rows), output / "samples.png")


def _digest(family: type[ImageGenerator], config: DictConfig) -> str:
    """Tell generators apart by options and by the content of their file."""
    from figureground.core.config import to_plain

    options = to_plain(config.generator)
    weights = family.find_file(str(options.pop("weights", None)))
    text = json.dumps(options, sort_keys=True)
    if weights.is_file():
        with weights.open("rb") as file:
            text += hashlib.file_digest(file, "sha256").hexdigest()
    else:
        text += f"{weights} {config.seed}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _walk(view: View) -> None:
    """A GIF, and its frames: each picture goes through all latents and back, keeping its class."""
    from figureground.core.io import atomic_write
    from figureground.core.types import Latent
    from figureground.viz.animation import save_gif
    from figureground.viz.grids import picture_grid

    vectors, frames = view.latent.vector, view.config.frames
    files = []
    for number in range(frames):
        place = number * len(vectors) / frames
        start = vectors.roll(-int(place), 0)
        points = view.between(start, start.roll(-1, 0), place % 1)
        pictures = view.paint(Latent(points, view.latent.label))
        files.append(view.output / "walk" / f"{number:04d}.png")
        write_png(files[-1], picture_grid(pictures, columns=len(pictures)))
    for path in (view.output / "walk").glob("[0-9]*.png"):
        if path not in files:  # Of a longer walk before.
            path.unlink()
    with atomic_write(view.output / "walk.gif") as file:
        save_gif(files, file)
    logger.info("look at %s (frames in %s)", view.output / "walk.gif", view.output / "walk")


def _interpolate(view: View) -> None:
    """Each row goes from a latent to the next one, keeping its class."""
    from figureground.core.types import Latent

    vectors, columns = view.latent.vector, view.config.columns
    shares = [number / max(columns - 1, 1) for number in range(columns)]
    found = [
        view.paint(Latent(view.between(vectors, vectors.roll(-1, 0), share), view.latent.label))
        for share in shares
    ]
    _write_columns(view, found, "interpolation.png")


def _truncate(view: View) -> None:
    """Each row goes from the mean picture to that of a whole latent."""
    import torch

    network, columns = view.network, view.config.columns
    shares = [number / max(columns - 1, 1) for number in range(columns)]
    before, found = network.truncation, []
    try:
        for share in shares:
            network.truncation = share
            seeded = torch.Generator().manual_seed(view.config.seed)
            found.append(view.paint(network.latent(view.config.rows, generator=seeded)))
    finally:
        network.truncation = before
    _write_columns(view, found, "truncation.png", [f"{share:.2g}" for share in shares])


def _mix(view: View) -> None:
    """Coarse styles of the first column's latents with fine ones of the first row's."""
    import torch

    from figureground.core.types import Latent
    from figureground.nn.style_mapping import mix_styles
    from figureground.viz.grids import picture_grid

    seeded = torch.Generator().manual_seed(view.config.seed + 1)
    others = view.network.latent(view.config.columns, generator=seeded).vector
    fine = view.paint(Latent(others))
    rows = [torch.ones_like(fine[:1]), fine]
    for coarse in view.latent.vector:
        mixed = mix_styles(coarse.expand_as(others), others, others.shape[1] // 2)
        rows += [view.paint(Latent(coarse[None])), view.paint(Latent(mixed))]
    path = view.output / "mixing.png"
    write_png(path, picture_grid(torch.cat(rows), columns=len(others) + 1))
    logger.info("look at %s", path)


def _write_columns(
    view: View, found: list[Tensor], name: str, titles: list[str] | None = None
) -> None:
    """Write pictures whose columns are `found`, each (rows, 3, R, R)."""
    import torch

    from figureground.viz.grids import picture_grid

    grid = torch.stack(found, dim=1).flatten(0, 1)
    write_png(view.output / name, picture_grid(grid, len(found), titles=titles or ()))
    logger.info("look at %s", view.output / name)


#: Views by the name that `explore` knows them by.
VIEWS: dict[str, Callable[[View], None]] = {
    "walk": _walk,
    "interpolation": _interpolate,
    "truncation": _truncate,
    "mixing": _mix,
}
