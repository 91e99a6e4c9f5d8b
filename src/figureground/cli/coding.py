"""`generate vary=...` and `transfer=...`: pictures whose codes are set one by one.

Categories and backgrounds are numbered from 1, as on sheets of clusters.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from figureground.cli.inference import find_pictures, require_readable, write_png
from figureground.core.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from figureground.core.protocols import CodeDrawer

logger = logging.getLogger(__name__)

_CHUNK = 32  # Pictures drawn together.
_NAMES = {"z": "pose", "c": "category", "b": "background"}
_CHOICES = {"c": "categories", "b": "backgrounds"}  # Options that say which.


def draw_coded(method: Any, output: Path, config: DictConfig) -> None:
    """Write what `config.vary` and `config.transfer` ask for, if they do."""
    if config.vary is not None:
        vary(method, output, config)
    if config.transfer is not None:
        transfer(method, output, config)


def require_codes(method: Any, config: DictConfig) -> None:
    """Raise `UserError` unless `method` has the codes that `vary` and `transfer` set, if any."""
    from figureground.core.protocols import Clusterer, CodeDrawer

    if config.vary is None and config.transfer is None:
        return
    name = type(method).__name__
    if not isinstance(method, CodeDrawer):
        raise UserError(
            f"{name} draws from no codes that could be set one by one; use a checkpoint of l2ic, "
            "or count=..."
        )
    wanted = [] if config.vary is None else [config.vary, *(config.fixed or ())]
    if config.transfer is not None:
        wanted.append("c")
        if not isinstance(method, Clusterer):
            raise UserError(f"{name} cannot tell the category of a picture; leave out transfer")
    # Numbers that are given are wanted, too: nothing would be drawn of them.
    wanted += [code for code, option in _CHOICES.items() if config[option]]
    if missing := [code for code in wanted if code not in method.codes]:
        raise UserError(
            f"this {name} has no {missing[0]} ({_NAMES[missing[0]]}) to set; it has: "
            f"{', '.join(method.codes)}"
        )
    for option, count in (
        ("categories", method.num_categories),
        ("backgrounds", method.num_backgrounds),
    ):
        if wrong := [number for number in config[option] if not 1 <= number <= count]:
            raise UserError(f"{option}={wrong}: they are numbered from 1 to {count}")


def vary(method: CodeDrawer, output: Path, config: DictConfig) -> None:
    """Write `vary_<code>.png`: along a row one code changes, and those that are fixed stay.

    Rows share the values of the code that changes. Of other codes every picture has a value of its
    own, but for backgrounds, which go with their categories.
    """
    import torch

    from figureground.core.signals import watching

    chance = torch.Generator().manual_seed(config.seed)
    given = {"c": list(config.categories), "b": list(config.backgrounds)}
    columns = len(given.get(config.vary, ())) or config.columns
    fixed = config.fixed
    if fixed is None:
        fixed = [code for code in method.codes if code != config.vary]
    values: dict[str, Tensor] = {}
    for code in ("z", "c", "b"):  # All of them each time: equal seeds, equal values.
        is_free = code != config.vary and code not in fixed
        if code == "b" and is_free:
            values[code] = method.background_of(values["c"])
            continue
        count = columns if code == config.vary else config.rows * (columns if is_free else 1)
        drawn = _choose(method, code, count, given.get(code, ()), chance)
        values[code] = _lay_out(drawn, config.rows, columns, code == config.vary)
    titles = _titles(config.vary, values[config.vary][:columns])
    with watching() as stop, torch.inference_mode():
        found = _compose(method, values, stop.check)
    _write(found, columns, output / f"vary_{config.vary}.png", titles)


def transfer(method: Any, output: Path, config: DictConfig) -> None:
    """Write `transfer.png` and `transfer.json`: given pictures, and their categories elsewhere.

    Each row has a picture of the user's, then drawn ones of its category, in one pose, before
    chosen backgrounds; in several poses where methods have no backgrounds to choose.
    """
    import torch

    from figureground.core.io import atomic_write
    from figureground.core.signals import watching
    from figureground.viz.grids import Pixels, contact_sheet, to_uint8

    pictures = require_readable(find_pictures(config.transfer, "transfer"))
    chance = torch.Generator().manual_seed(config.seed)
    varied = "b" if "b" in method.codes else "z"
    columns = len(config.backgrounds) or config.columns
    values = {"z": method.draw_poses(columns if varied == "z" else 1, generator=chance)}
    values["z"] = values["z"].expand(columns, -1)
    values["b"] = _choose(method, "b", columns, list(config.backgrounds), chance)
    rows: list[list[Pixels]] = []
    captions: list[str] = []
    facts: dict[str, int] = {}
    with watching() as stop, torch.inference_mode():
        for file, name in pictures:
            image = load_square(method, file)
            category = method.cluster(image).cpu()
            facts[str(file)] = int(category) + 1
            values["c"] = category.expand(columns)
            rows.append([to_uint8(x) for x in (*image, *_compose(method, values, stop.check)[0])])
            captions.append(f"{name}: category {facts[str(file)]}")
    titles = ["picture", *_titles(varied, values[varied])]
    path = output / "transfer.png"
    write_png(path, contact_sheet(rows, captions, titles))
    with atomic_write(output / "transfer.json", "w") as out:
        json.dump(facts, out, indent=1)
    logger.info("look at %s; categories are in %s", path, output / "transfer.json")


def load_square(method: Any, picture: Any) -> Tensor:
    """The middle square of a picture as tests take it, (1, 3, S, S), on the method's device."""
    from figureground.data.batching import to_float
    from figureground.data.pictures import load_picture
    from figureground.data.samples import Sample
    from figureground.data.transforms import ResizeCrop

    whole = Sample(load_picture(picture), str(picture) if isinstance(picture, Path) else "")
    square = ResizeCrop(method.resolution, "bilinear")(whole)
    return to_float(square.image[None]).to(method.device)


def _choose(
    method: CodeDrawer, code: str, count: int, given: Sequence[int], chance: torch.Generator
) -> Tensor:
    """Values of a code: `given` ones over and over, or distinct ones at random, if there are any.

    Returns:
        (count, D) of z; (count,) int64 of others.
    """
    import torch

    if code == "z":
        return method.draw_poses(count, generator=chance)
    size = method.num_categories if code == "c" else method.num_backgrounds
    order = torch.randperm(size, generator=chance)
    if given:
        order = torch.tensor(list(given)) - 1
    return order[torch.arange(count) % len(order)]


def _lay_out(values: Tensor, rows: int, columns: int, is_varied: bool) -> Tensor:
    """Values of a grid row by row: one for each column, or for each row, or for each picture."""
    if is_varied:
        return values.repeat(rows, *[1] * (values.ndim - 1))
    return values if len(values) == rows * columns else values.repeat_interleave(columns, dim=0)


def _compose(
    method: CodeDrawer, values: dict[str, Tensor], check: Callable[[], None]
) -> list[Tensor]:
    """Pictures and their masks (N, 3, S, S), on the CPU."""
    import torch

    parts = []
    for start in range(0, len(values["c"]), _CHUNK):
        check()
        layers = method.compose(*(values[code][start : start + _CHUNK] for code in ("z", "c", "b")))
        mask = (2 * layers.foreground - 1).expand(-1, 3, -1, -1)
        parts.append(torch.stack([layers.composite, mask]).cpu())
    return list(torch.cat(parts, dim=1).clamp(-1, 1))


def _titles(code: str, values: Tensor) -> list[str]:
    numbers = range(len(values)) if code == "z" else values.tolist()
    return [f"{_NAMES[code]} {number + 1}" for number in numbers]


def _write(found: list[Tensor], columns: int, path: Path, titles: list[str]) -> None:
    """Rows of pictures with a row of their masks below each."""
    import torch

    from figureground.viz.grids import picture_grid

    rows = [each.reshape(-1, columns, *each.shape[1:]) for each in found]
    grid = torch.stack(rows, dim=1).flatten(0, 2)
    write_png(path, picture_grid(grid, columns, titles=titles))
    logger.info("look at %s", path)
