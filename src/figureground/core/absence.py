"""Why a score is absent, and what cannot be scored at all."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping, Sequence
from typing import Any

from figureground.core.errors import ConfigError

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


def require_soft_masks(data: Any, splits: Sequence[str]) -> None:
    """Refuse to score shares of pixels where `data` has index masks alone.

    Args:
        data: The data module.
        splits: Those that are scored; it need not have them all.

    Raises:
        ConfigError: The first picture that is scored of one of them has a mask, but no soft one.
    """
    firsts = {split: data.first_scored(split) for split in splits if split in data.datasets}
    hard = [s for s, first in firsts.items() if first.mask is not None and first.soft_mask is None]
    if hard:
        raise ConfigError(
            f"the segmentation metric has truth=soft, but {' and '.join(hard)} pictures of "
            f"data={data.name} have no soft masks; set data.train.masks=soft where that is a "
            "choice (flowers, cub), else truth=binary of that metric"
        )
