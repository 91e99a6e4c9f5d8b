"""What `predict` writes about objects: maps, the picture put together again, facts as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from figureground.cli.inference import write_png

if TYPE_CHECKING:
    from torch import Tensor

    from figureground.core.protocols import ObjectFacts, ObjectMaps
    from figureground.core.types import Layers
    from figureground.data.samples import Pixels

#: Pictures written for each input, after mask and overlay.
KINDS = ("reconstruction", "instances", "classes")


class Found(NamedTuple):
    """Objects of a batch of pictures.

    Attributes:
        maps: Where they are.
        layers: What they look like, from a method that can decompose.
        facts: What a method that can describe says of each picture.
    """

    maps: ObjectMaps
    layers: Layers | None
    facts: list[list[ObjectFacts]] | None


def find(method: Any, squares: Tensor, layers: Layers | None) -> Found | None:
    """Find the objects in `squares` (B, 3, S, S); None if `method` knows no objects."""
    from figureground.core.protocols import Describer, ObjectFinder

    if not isinstance(method, ObjectFinder):
        return None
    facts = method.describe(squares) if isinstance(method, Describer) else None
    return Found(method.find_objects(squares), layers, facts)


def write(found: Found, number: int, size: tuple[int, int], stem: Path) -> None:
    """Write everything about picture `number` of the batch, at `size` = (H, W).

    Maps are PNGs whose values are the numbers of objects and classes, 0 where there is none, shown
    in colours by their palettes.

    Args:
        found: Objects of the batch.
        number: Which picture.
        size: Of the results.
        stem: Path without ending that names begin with.
    """
    from figureground.core.io import atomic_write
    from figureground.data.pictures import enlarge_labels
    from figureground.viz.grids import save_labels
    from figureground.viz.overlays import label_colors

    instances = enlarge_labels(found.maps.found[number], size)
    classes = enlarge_labels(found.maps.classes[number], size)
    for kind, labels in (("instances", instances), ("classes", classes)):
        with atomic_write(stem.with_name(f"{stem.name}_{kind}.png")) as file:
            save_labels(labels, label_colors(), file)
    order = None
    if found.layers is not None:
        write_reconstruction(found.layers, number, size, stem)
        if found.layers.order is not None:
            order = found.layers.order[number].tolist()
    facts = None if found.facts is None else found.facts[number]
    listed = list_objects(instances, classes, facts, order)
    described = {"width": size[1], "height": size[0], **listed}
    with atomic_write(stem.with_name(f"{stem.name}_objects.json"), "w") as file:
        json.dump(described, file, indent=2)


def write_reconstruction(layers: Layers, number: int, size: tuple[int, int], stem: Path) -> None:
    """Write what the layers of picture `number` give together, at `size` = (H, W); see `write`."""
    from figureground.data.pictures import enlarge
    from figureground.viz.grids import to_uint8

    picture = enlarge(layers.composite[number : number + 1].float(), size)[0]
    write_png(stem.with_name(f"{stem.name}_reconstruction.png"), to_uint8(picture))


def list_objects(
    found: Pixels,
    classes: Pixels,
    facts: list[ObjectFacts] | None,
    order: list[int] | None,
) -> dict[str, Any]:
    """Describe the objects of one picture.

    Args:
        found: Number of the object at each pixel, (H, W).
        classes: Class of the object at each pixel, (H, W).
        facts: What the method knows; without, only visible objects are listed.
        order: Layers from back to front; without, later ones are in front.

    Returns:
        `order`: layers from back to front; `objects`: for each its layer, class, visible area in
        pixels and as a share, box (left, top, right, bottom; the last two exclusive; null where
        nothing is seen), depth (1 is in front of all others) and parameters; `background`: which
        one it is and its parameters, or null.
    """
    import numpy as np

    known = {fact.layer: fact for fact in facts or ()}
    numbers = set(known) - {0} if facts is not None else set(np.unique(found).tolist()) - {0}
    order = sorted(numbers) if order is None else [n for n in order if n in numbers]
    objects = []
    for layer in sorted(numbers):
        seen = found == layer
        area = int(seen.sum())
        fact = known.get(layer)
        label = fact.label if fact else int(np.bincount(classes[seen]).argmax())
        objects.append({
            "layer": layer,
            "class": label,
            "area": area,
            "share": area / seen.size,
            "box": _box(seen) if area else None,
            "depth": len(order) - order.index(layer),
            "parameters": dict(fact.parameters) if fact else {},
        })  # fmt: skip
    ground = known.get(0)
    background = {"class": ground.label, "parameters": dict(ground.parameters)} if ground else None
    return {"order": order, "objects": objects, "background": background}


def _box(seen: Any) -> list[int]:
    rows, columns = seen.any(axis=1).nonzero()[0], seen.any(axis=0).nonzero()[0]
    edges = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    return [int(edge) for edge in edges]
