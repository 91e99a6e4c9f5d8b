"""Several trained segmenters as one: the mean of their logits (gan-segmenter's first release)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from figureground.core.errors import UserError
from figureground.core.method import Method
from figureground.core.protocols import Segmenter as CanSegment
from figureground.core.types import Batch

_SMALLEST = 1e-30  # Of probabilities, whose logarithm is taken.


class SegmenterEnsemble(Method):
    """Segments by the mean of its members' logits; it is scored, not trained.

    The softmax of mean logits is that of mean log-probabilities, so members need only give
    probabilities, of the same regions.

    Args:
        members: Trained methods that can segment, two or more, working at one resolution; the
            ensemble is scored by the metrics of the first.

    Raises:
        UserError: Some cannot segment, or they do not work at the same resolution.
    """

    def __init__(self, members: Sequence[Method]) -> None:
        strangers = [type(each).__name__ for each in members if not isinstance(each, CanSegment)]
        sides = {getattr(each, "resolution", None) for each in members}
        if len(members) < 2 or strangers or len(sides) > 1:
            reason = f"{strangers[0]} cannot segment" if strangers else f"these work at {sides}"
            raise UserError(
                "an ensemble takes two or more checkpoints of methods that segment, at one "
                f"resolution; {reason if len(members) > 1 else 'there is one'}"
            )
        scores = members[0]._scores.get("test/segmentation")
        super().__init__(metrics={"segmentation": scores})
        self.members = nn.ModuleList(members)
        self.resolution = sides.pop()
        self.requires_grad_(False).eval()

    def segment(self, image: Tensor) -> Tensor:
        """Probabilities (B, K, H, W) of `image` (B, 3, H, W)."""
        return self._average([member.segment(image) for member in self._segmenters()])

    def _segment_to_score(self, batch: Batch) -> Tensor:
        return self._average([member._segment_to_score(batch) for member in self._methods()])

    def _average(self, found: Sequence[Tensor]) -> Tensor:
        if len({probabilities.shape for probabilities in found}) > 1:
            raise UserError("members of an ensemble must have equally many regions")
        logs = torch.stack([each.clamp(min=_SMALLEST).log() for each in found])
        return logs.mean(dim=0).softmax(dim=1)

    def _methods(self) -> list[Method]:
        return [each for each in self.members if isinstance(each, Method)]

    def _segmenters(self) -> list[CanSegment]:
        return [each for each in self.members if isinstance(each, CanSegment)]

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Never: members are trained one by one."""
        raise NotImplementedError("train the members of an ensemble one by one")

    def configure_optimizers(self) -> list[Optimizer]:
        """None."""
        return []

    def reset_parameters(self) -> None:
        """Reset all members."""
        for member in self._methods():
            member.reset_parameters()

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """`masks`: rows of picture and probability of the object."""
        share = (2 * self.segment(batch.image)[:, 1:2] - 1).expand(-1, 3, -1, -1)
        return {"masks": torch.stack([batch.image, share], dim=1).flatten(0, 1)}
