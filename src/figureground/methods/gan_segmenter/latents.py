"""Where latents come from: a generator's own distribution, or a file of stored ones."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from figureground.core.bounds import NonNegativeFloat
from figureground.core.errors import DataError
from figureground.core.presence import require_file
from figureground.core.types import Latent
from figureground.generators.base import ImageGenerator

logger = logging.getLogger(__name__)

_MEASURED = 64  # Latents whose length is taken.


class LatentSource:
    """Draws latents, with classes where the generator has some.

    Args:
        file: Stored latents, a .npy file of (N, *latent_shape), such as an encoder's of the
            pictures to be segmented; rows of it are drawn. None draws what the generator draws.
        noise: Times standard normal noise that is added.
    """

    def __init__(self, file: str | None = None, noise: NonNegativeFloat = 0.0) -> None:
        self.stored = None if file is None else _read(Path(file))
        self.file, self.noise = file, noise

    @staticmethod
    def check_options(*, file: str | None, **_: object) -> list[str]:
        """Say that the file is missing, or nothing."""
        if file is not None and not Path(file).is_file():
            return [f"file={file} does not exist; expected a .npy file of latents, or null"]
        return []

    def check_fits(self, network: ImageGenerator) -> None:
        """Raise `DataError` unless the stored latents are of the generator's shape."""
        shape = network.latent_shape
        if self.stored is not None and self.stored.shape[1:] != shape:
            raise DataError(
                f"{self.file} holds latents {tuple(self.stored.shape)}, expected "
                f"{('N', *shape)} for {network.card.family}"
            )

    def draw(
        self, network: ImageGenerator, count: int, *, generator: torch.Generator | None = None
    ) -> Latent:
        """Draw `count` latents for `network`.

        Args:
            network: Takes them.
            count: How many.
            generator: Source of the draws; None for the global generator.
        """
        latent = network.latent(count, generator=generator)
        vector = latent.vector
        if self.stored is not None:
            rows = torch.randint(len(self.stored), (count,), generator=generator)
            vector = self.stored[rows].to(vector)
        if self.noise:
            vector = vector + self.noise * torch.randn(vector.shape, generator=generator).to(vector)
        return Latent(vector, latent.label)


def warn_of_long_step(network: ImageGenerator, step: float) -> None:
    """Warn where a shift of `step` is longer than the truncated latents that it is added to."""
    if network.latent_space != "z" or network.truncation >= 1:
        return
    drawn = network.latent(_MEASURED, generator=torch.Generator().manual_seed(0)).vector
    length = float(drawn.flatten(1).norm(dim=1).mean())
    if step > length:
        logger.warning(
            "method.step=%g is longer than latents of %s at truncation=%g are (%.1f), so shifted "
            "pictures may leave what it can paint; lower method.step or raise generator.truncation",
            step,
            network.card.family,
            network.truncation,
            length,
        )


def _read(path: Path) -> Tensor:
    """Read an array; nothing in the file is run.

    Raises:
        DataError: It is missing, damaged, no array, empty, or claims more than it holds.
    """
    try:
        # Mapped, a header cannot claim more than the file holds.
        array = np.load(require_file(path), mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise TypeError("it is an archive of arrays")
        stored = torch.from_numpy(np.array(array, np.float32))
    except Exception as error:  # Whatever a crafted file provokes means the same.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path} is not a .npy file of numbers ({reason})") from error
    if stored.ndim < 2 or not len(stored) or not stored.isfinite().all():
        raise DataError(
            f"{path} holds {tuple(stored.shape)}, expected at least one row of finite latents"
        )
    return stored
