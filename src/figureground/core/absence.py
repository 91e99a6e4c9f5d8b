"""Why a score is absent."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping

logger = logging.getLogger(__name__)

#: What groups need besides pictures; those that are not here need masks.
_NEEDS = {
    "clustering": "labels (the class of each picture)",
    "pixel_classes": "classes of objects",
}


def note_absence(found: MutableMapping[str, str], name: str) -> None:
    """Write down, and say once, why a group of metrics has no score.

    Args:
        found: Reasons by stage and group, which gets a new one.
        name: Stage and group, such as `val/clustering`.
    """
    if name in found:
        return
    found[name] = f"its pictures carry no {_NEEDS.get(name.rpartition('/')[2], 'masks')}"
    logger.warning("%s has no scores: %s", name, found[name])
