"""Which files of `conf/generator` describe a network, so that messages can name one to use."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from figureground.core.config import config_dir, read_choice
from figureground.generators.base import ImageGenerator

STORED = "stored"  # Value of an option that is taken from the file.


def advise_choice(family: type[ImageGenerator], options: Mapping[str, Any]) -> str:
    """Name the choices that fit, as `generator=a or generator=b`.

    Args:
        family: What the network is.
        options: Of its constructor, as far as they are known.

    Returns:
        Nothing if no choice fits.
    """
    wanted = family.simplify(options)
    defaults = {
        name: each.default
        for name, each in inspect.signature(family).parameters.items()
        if each.default is not inspect.Parameter.empty
    }
    found = []
    for path in sorted((Path(config_dir()) / "generator").glob("*.yaml")):
        node = read_choice("generator", path.stem)
        if node.get("_target_") != f"{family.__module__}.{family.__name__}":
            continue
        theirs = family.simplify({**defaults, **node})
        if all(theirs.get(name) in (value, STORED) for name, value in wanted.items()):
            found.append(f"generator={path.stem}")
    return " or ".join(found)
