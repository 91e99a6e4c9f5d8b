"""Ways to divide pictures: by a method that segments, or by searching what one would draw."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from figureground.core.command_line import option
from figureground.core.errors import NumericalError, UserError

if TYPE_CHECKING:
    from torch import Tensor

    from figureground.core.types import Layers

#: From pictures (B, 3, S, S) to probabilities (B, K, S, S), and layers if there are any.
Way = Callable[["Tensor"], tuple["Tensor", "Layers | None"]]

logger = logging.getLogger(__name__)


def choose_way(method: Any, config: DictConfig, check: Callable[[], None]) -> Way:
    """How `method` divides pictures under the options of `predict`.

    Args:
        method: See below.
        config: With `steps` above 0, pictures are searched for among those it can draw.
        check: Called now and then; raises to stop.

    Raises:
        UserError: It cannot segment, or cannot search, or there are no weights to compare by.
        NumericalError: Later: the search met numbers that are not finite.
    """
    from figureground.core.protocols import Decomposer, Projector, Segmenter

    name = type(method).__name__
    if config.steps:
        if not isinstance(method, Projector):
            raise UserError(f"{name} does not search for pictures; leave steps=... out")
        return _search_way(method, config, check)
    if not isinstance(method, Segmenter) and not method.draws_layers:
        raise UserError(
            f"{name} cannot segment, and draws pictures without masks; use it as a generator: "
            f"generator=checkpoint {option('generator.weights', config.ckpt)}"
        )
    if not isinstance(method, Segmenter):
        hint = ", or search for each picture among those it can draw: steps=500"
        raise UserError(
            f"{name} cannot segment; train a segmenter on its samples: python src/train.py "
            f"method=segmenter pairs=saved{hint if isinstance(method, Projector) else ''}"
        )

    def segment(image: Tensor) -> tuple[Tensor, Layers | None]:
        layers = method.decompose(image) if isinstance(method, Decomposer) else None
        return method.segment(image).float(), layers

    return segment


def _search_way(method: Any, config: DictConfig, check: Callable[[], None]) -> Way:
    import torch

    features = None
    if config.distance == "features":
        from figureground.metrics.features import EfficientNetFeatures

        features = EfficientNetFeatures(config.efficientnet).to(method.device).follow_maps

    def report(step: int, distance: Tensor) -> None:
        check()
        if not bool(distance.isfinite().all()):
            raise NumericalError(
                "the search met non-finite numbers; use an earlier checkpoint, or device=cpu if "
                "half precision is to blame"
            )
        logger.info(
            "step %d of %d: distance %.4f on average", step, config.steps, float(distance.mean())
        )

    def search(image: Tensor) -> tuple[Tensor, Layers | None]:
        layers: Layers = method.project(
            image,
            steps=config.steps,
            generator=torch.Generator().manual_seed(config.seed),
            features=features,
            report=report,
        )
        return layers.alpha.squeeze(2).float(), layers

    return search
