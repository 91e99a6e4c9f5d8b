"""The score that sweeps optimise: read after training, and missed where it should be there."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from figureground.cli.check import is_typed
from figureground.core.errors import SweepError
from figureground.core.hints import nearest
from figureground.core.peers import is_first_process

logger = logging.getLogger(__name__)

_DEFAULT = "val/iou/img/set"  # Of conf/train.yaml; recipes name others.


def read_objective(name: str | None, logged: Mapping[str, Any]) -> float | None:
    """Find the objective `name` among what was `logged`; None if pictures had no truth to score.

    Raises:
        SweepError: There are scores but none of that name, and a sweep wants to compare them.
    """
    if name is None:
        return None
    if name in logged:
        return float(logged[name])
    if not logged:  # A run that was finished already.
        return None
    is_sweep = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    scores = sorted(each for each in logged if each.startswith("val/"))
    if not is_typed("objective"):
        # The default cannot be measured without masks, nor of a method that only draws.
        is_idle = name == _DEFAULT and not any(each.startswith("val/iou/") for each in scores)
        if set(scores) <= {"val/images"} or (is_idle and not is_sweep):
            return None
    message = f"objective={name} was never logged{nearest(name, scores or sorted(logged))}"
    if is_sweep:
        raise SweepError(message)
    if is_first_process():
        logger.warning("%s", message)
    return None
