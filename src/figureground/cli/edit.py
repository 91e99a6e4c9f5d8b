"""`edit`: change the layers of pictures and put them together again."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from figureground.cli import run
from figureground.cli.check import check_job
from figureground.cli.inference import find_pictures, load, require_readable, write_png
from figureground.core.edits import Edit, find_problems, read_edits, write_edits
from figureground.core.errors import ConfigError
from figureground.core.links import refuse_linked_folders
from figureground.core.presence import SMALL, read_text
from figureground.core.publishing import publish_text

if TYPE_CHECKING:
    from figureground.data.editing import Stack

logger = logging.getLogger(__name__)


def main() -> None:
    """Entry of the command."""
    run(edit, "edit")


def edit(config: DictConfig) -> None:
    """Apply `edits` to every picture of `input` and write the results below `output`.

    For `a/b.jpg`: `a/b_edited.png` at the picture's size, `a/b_edit.png` with what it was, what it
    was taken apart into and what came out, and `a/b_edit.json`, whose `edits` can be given again.
    """
    check_job(config)
    from figureground.core.signals import watching
    from figureground.data.editing import take_apart

    edits = _read(config)
    pictures = require_readable(find_pictures(config.input), skip=False)
    output = Path(config.output)
    refuse_linked_folders(output, {name.parent for _, name in pictures}, "output")
    with watching() as stop:
        method = load(config.ckpt, config.device)
        for file, name in pictures:
            stop.check()
            before = take_apart(method, file)
            _write(before, before.edit(edits), edits, file, output / name)
            logger.info("look at %s_edit.png", output / name)


def _read(config: DictConfig) -> list[Edit]:
    """Edits from the command line or a file."""
    written: Any = config.edits
    if isinstance(written, str):
        path = Path(written)
        try:
            content = json.loads(read_text(path, SMALL))
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(f"edits={path} cannot be read as JSON: {error}") from error
        written = content.get("edits") if isinstance(content, dict) else content
        if not isinstance(written, list) or not all(isinstance(each, dict) for each in written):
            raise ConfigError(
                f'edits={path}: expected a list such as [{{"do": "remove", "layer": 1}}], or '
                "an object with such a list as edits"
            )
        if problems := find_problems(written):
            raise ConfigError(f"{path}: {problems[0]}", *problems[1:])
    else:
        written = OmegaConf.to_container(written, resolve=True)
    if not written:
        raise ConfigError("edits is empty; give some, such as edits=[{do:remove,layer:1}]")
    return read_edits(written)


def _write(before: Stack, after: Stack, edits: list[Edit], file: Path, stem: Path) -> None:
    import numpy as np

    from figureground.core.io import atomic_write
    from figureground.data.reading import read_image
    from figureground.viz.grids import contact_sheet, to_uint8
    from figureground.viz.overlays import on_checkerboard

    edited = to_uint8(after.composite())
    write_png(stem.with_name(f"{stem.name}_edited.png"), edited)
    titles = ["picture", "put together", "edited", "background"]
    row = [read_image(file), to_uint8(before.composite()), edited]
    row.append(to_uint8(after.background * 2 - 1))
    for layer in after.layers:
        color, opacity = layer.render()
        alpha = to_uint8(opacity.expand(3, -1, -1) * 2 - 1)[..., :1]
        row.append(on_checkerboard(np.dstack([to_uint8(color * 2 - 1), alpha])))
        titles.append(f"layer {layer.number}")
    write_png(stem.with_name(f"{stem.name}_edit.png"), contact_sheet([row], [stem.name], titles))
    done = {
        "picture": publish_text(str(file)),
        "edits": write_edits(edits),
        "before": [layer.number for layer in before.layers],
        "after": [layer.number for layer in after.layers],
        "hidden_parts": "known" if before.has_hidden else "guessed from around",
    }
    with atomic_write(stem.with_name(f"{stem.name}_edit.json"), "w") as out:
        json.dump(done, out, indent=2)
