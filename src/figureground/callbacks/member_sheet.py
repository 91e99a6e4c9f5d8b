"""`MemberSheet`: the largest clusters of a test, a row of members each."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from figureground.core.types import Batch
from figureground.viz.grids import Pixels, contact_sheet, to_uint8

_CELL, _FRAME = 64, 3  # Sides of pictures on the sheet, and of frames around them, in pixels.
_SAME, _OTHER = (0, 160, 0), (200, 0, 0)
_LEGEND = "green: of the class of the row's first picture; red: of another"


class _Shown(NamedTuple):
    """A picture and its class, if that is known."""

    pixels: Pixels
    label: int | None


@dataclass
class _Members:
    """All that are counted, the few that are shown."""

    count: int = 0
    shown: list[_Shown] = field(default_factory=list)


class MemberSheet:
    """Collects members of clusters, each with the same chance to be shown.

    Args:
        num_rows: Clusters on the sheet, those with most members.
        num_members: Pictures of each.
    """

    def __init__(self, num_rows: int = 12, num_members: int = 10) -> None:
        self.num_rows, self.num_members = num_rows, num_members
        self._clusters: dict[int, _Members] = defaultdict(_Members)
        self._random = random.Random(0)

    def __len__(self) -> int:
        """Clusters with members."""
        return len(self._clusters)

    def add(self, batch: Batch, cluster: Tensor) -> None:
        """Take in pictures and their clusters, (B,) int64."""
        small = batch.image
        if max(small.shape[2:]) > _CELL:
            small = F.adaptive_avg_pool2d(small, _CELL)
        labels = [None] * len(small) if batch.label is None else batch.label.tolist()
        for number, (index, label) in enumerate(zip(cluster.tolist(), labels, strict=True)):
            members = self._clusters[index]
            members.count += 1
            place = self._random.randrange(members.count)
            if len(members.shown) < self.num_members:
                members.shown.append(_Shown(to_uint8(small[number].cpu()), label))
            elif place < self.num_members:
                members.shown[place] = _Shown(to_uint8(small[number].cpu()), label)

    def counts(self) -> dict[int, dict[str, float]]:
        """Members of each cluster from 1 on, and their share of all."""
        total = sum(members.count for members in self._clusters.values())
        return {
            index + 1: {"count": members.count, "share": members.count / total}
            for index, members in sorted(self._clusters.items())
        }

    def draw(self) -> Pixels:
        """The sheet; frames tell which members are of the first one's class, if known."""
        chosen = sorted(self._clusters.items(), key=lambda item: (-item[1].count, item[0]))
        chosen = chosen[: self.num_rows]
        rows = [[_frame(each, m.shown[0].label) for each in m.shown] for _, m in chosen]
        captions = [
            f"cluster {index + 1}: {m.count} picture{'s' * (m.count > 1)}" for index, m in chosen
        ]
        is_framed = any(m.shown[0].label is not None for _, m in chosen)
        return contact_sheet(
            rows, captions, [_LEGEND] if is_framed else [], cell=_CELL + 2 * _FRAME
        )


def _frame(member: _Shown, label: int | None) -> Pixels:
    """A member, enlarged by whole factors; its frame says whether it is of class `label`."""
    factor = max(1, _CELL // max(member.pixels.shape))  # Frames are not to grow with it.
    pixels = member.pixels.repeat(factor, axis=0).repeat(factor, axis=1)
    if member.label is None:
        return pixels
    height, width, _ = pixels.shape
    framed = np.empty((height + 2 * _FRAME, width + 2 * _FRAME, 3), np.uint8)
    framed[:] = _SAME if member.label == label else _OTHER
    framed[_FRAME:-_FRAME, _FRAME:-_FRAME] = pixels
    return framed
