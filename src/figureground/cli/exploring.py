"""`generate explore=[...]`: walks, paths, truncations and mixtures of what a method draws from."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from figureground.cli.inference import write_png
from figureground.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from figureground.core.types import Layers

logger = logging.getLogger(__name__)

_CHUNK = 32  # Pictures drawn together.


def explore(method: Any, output: Path, config: DictConfig) -> None:
    """Write each of the views that `config.explore` names below `output`; equal seeds, equal views.

    Raises:
        UserError: The method has no latents, or nothing to truncate or mix.
    """
    import torch

    from figureground.core.signals import watching

    require_latents(method, list(config.explore))
    with watching() as stop, torch.inference_mode():
        for name in config.explore:
            latent = method.latent(
                config.rows, generator=torch.Generator().manual_seed(config.seed)
            )
            VIEWS[name](method, latent, output, config, stop.check)


def require_latents(method: Any, views: list[str]) -> None:
    """Raise `UserError` unless `method` can show `views`."""
    from figureground.core.protocols import LatentDecoder, LayerMixer, TruncatedDecoder

    name = type(method).__name__
    if not isinstance(method, LatentDecoder):
        raise UserError(
            f"{name} has no latent that whole pictures are drawn from, so there is nothing to "
            "explore; use a checkpoint of a method that has, such as ilsgan, or count=..."
        )
    for view, capability in (("truncation", TruncatedDecoder), ("mixing", LayerMixer)):
        if view in views and not isinstance(method, capability):
            raise UserError(f"{name} cannot show {view}; leave it out of explore=[...]")


def _walk(
    method: Any, latent: Tensor, output: Path, config: DictConfig, check: Callable[[], None]
) -> None:
    """A GIF, and its frames: rows go through all latents and back, each from its own on."""
    import torch

    from figureground.core.io import atomic_write
    from figureground.nn.paths import walk_through
    from figureground.viz.animation import save_gif
    from figureground.viz.grids import picture_grid

    starts = [walk_through(latent.roll(-row, 0), config.frames) for row in range(len(latent))]
    files = []
    for number, points in enumerate(torch.stack(starts, dim=1)):
        check()
        parts = _show_parts(method.decode(points))
        files.append(output / "walk" / f"{number:04d}.png")
        write_png(files[-1], picture_grid(parts.flatten(0, 1), columns=parts.shape[1]))
    for path in (output / "walk").glob("[0-9]*.png"):
        if path not in files:  # Of a longer walk before.
            path.unlink()
    with atomic_write(output / "walk.gif") as file:
        save_gif(files, file)
    logger.info("look at %s (frames in %s)", output / "walk.gif", output / "walk")


def _interpolate(
    method: Any, latent: Tensor, output: Path, config: DictConfig, check: Callable[[], None]
) -> None:
    """Each row goes from a latent to the next one, with masks below if there are any."""
    import torch

    from figureground.nn.paths import slerp

    following, places = latent.roll(-1, 0), torch.linspace(0, 1, config.columns).to(latent)
    points = [slerp(latent, following, place.expand(len(latent), 1)) for place in places]
    found = _decode(method.decode, torch.stack(points, dim=1).flatten(0, 1), check)
    _write_rows(found, config.columns, output / "interpolation.png")


def _truncate(
    method: Any, latent: Tensor, output: Path, config: DictConfig, check: Callable[[], None]
) -> None:
    """Each row goes from the mean picture to a latent's own, with masks below if there are any."""
    import torch

    shares = torch.linspace(0, 1, config.columns).tolist()
    columns = [
        _decode(partial(method.decode_truncated, truncation=share), latent, check)
        for share in shares
    ]
    found = [torch.stack(each, dim=1).flatten(0, 1) for each in zip(*columns, strict=True)]
    titles = [f"{share:.2g}" for share in shares]
    _write_rows(found, config.columns, output / "truncation.png", titles)


def _mix(
    method: Any, latent: Tensor, output: Path, config: DictConfig, check: Callable[[], None]
) -> None:
    """Foregrounds of the first column's latents before backgrounds of the first row's."""
    import torch

    from figureground.viz.grids import picture_grid

    others = method.latent(config.columns, generator=torch.Generator().manual_seed(config.seed + 1))
    num_layers = method.decode(latent[:1]).color.shape[1]
    rows = [torch.ones_like(_show_parts(method.decode(others[:1]))[:, 0])]
    rows.append(torch.cat([_show_parts(method.decode(each[None]))[:, 1] for each in others]))
    for front in latent:
        check()
        fronts = front.expand(len(others), num_layers - 1, -1)
        mixed = method.decode_layers(torch.cat([others.unsqueeze(1), fronts], dim=1))
        rows += [_show_parts(method.decode(front[None]))[:, 2], mixed.composite]
    path = output / "mixing.png"
    write_png(path, picture_grid(torch.cat(rows), columns=len(others) + 1))
    logger.info("look at %s", path)


def _show_parts(layers: Layers) -> Tensor:
    """Composite, background, other layers on white, and mask: (B, L + 2, 3, H, W).

    Of pictures of a single layer only the composite, (B, 1, 3, H, W).
    """
    import torch

    if layers.color.shape[1] == 1:
        return layers.composite[:, None]
    fronts, shares = layers.color[:, 1:], layers.alpha[:, 1:]
    parts = [
        layers.composite[:, None],
        layers.color[:, :1],
        shares * fronts + (1 - shares),
        2 * layers.foreground[:, None].expand(-1, -1, 3, -1, -1) - 1,
    ]
    return torch.cat(parts, dim=1)


def _decode(
    decode: Callable[[Tensor], Layers], latent: Tensor, check: Callable[[], None]
) -> list[Tensor]:
    """Composites and, of several layers, masks (N, 3, H, W) of `latent` (N, D)."""
    import torch

    parts = []
    for part in torch.split(latent, _CHUNK):
        check()
        parts.append(_show_parts(decode(part)))
    shown = torch.cat(parts)
    return [shown[:, 0]] if shown.shape[1] == 1 else [shown[:, 0], shown[:, -1]]


def _write_rows(
    found: list[Tensor], columns: int, path: Path, titles: list[str] | None = None
) -> None:
    """Write rows of pictures, each with a row of what else is in `found` below."""
    import torch

    from figureground.viz.grids import picture_grid

    rows = [each.reshape(-1, columns, *each.shape[1:]) for each in found]
    grid = torch.stack(rows, dim=1).flatten(0, 2)
    write_png(path, picture_grid(grid, columns, titles=titles or ()))
    logger.info("look at %s", path)


#: Views by the name that `explore` knows them by.
VIEWS = {
    "walk": _walk,
    "interpolation": _interpolate,
    "truncation": _truncate,
    "mixing": _mix,
}
