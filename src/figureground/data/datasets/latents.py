"""`latents`: no pictures, for methods that learn from what a generator paints alone."""

from __future__ import annotations

import numpy as np

from figureground.core.bounds import PositiveInt
from figureground.data.samples import ImageDataset, Sample


class Latents(ImageDataset):
    """Blank pictures that only say how many latents a method shall draw.

    Args:
        count: How many.
        resolution: Side S.
    """

    annotated = False

    def __init__(self, count: PositiveInt = 1000, resolution: PositiveInt = 16) -> None:
        self.resolution = resolution
        self.keys = [f"latent-{index:05d}" for index in range(count)]

    def __getitem__(self, index: int) -> Sample:
        return Sample(np.zeros((self.resolution, self.resolution, 3), np.uint8), self.keys[index])

    def fingerprint(self) -> str:
        """What the pictures depend on."""
        return f"latents-{len(self)}-{self.resolution}"
