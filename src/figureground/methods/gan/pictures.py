"""What a GAN shows: pictures of the same latents each time, live and averaged, and truncated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from figureground.nn.paths import slerp

if TYPE_CHECKING:
    from figureground.methods.gan.module import GAN

_NUM_COLUMNS = 8
_TRUNCATIONS, _PLACES = (0.0, 0.25, 0.5, 0.75, 1.0), (0.0, 0.25, 0.5, 0.75, 1.0)
#: Of the columns of `picture_grids`.
TITLES = {
    "truncation": tuple(f"{share:g}" for share in _TRUNCATIONS),
    "interpolation": tuple(f"{place:g}" for place in _PLACES),
}


@torch.no_grad()
def picture_grids(method: GAN, real: Tensor) -> dict[str, Tensor]:
    """Draw grids of the same latents each time.

    Args:
        method: Trained or training.
        real: Pictures (N, 3, S, S), one for each row.

    Returns:
        `samples` and `samples_raw` (N * 8, 3, S, S): by averaged and by live weights, of equal
        latents; `real` (N, 3, S, S); `truncation` and `interpolation` (N * 5, 3, S, S): pictures of
        the first column nearer to the mean, and on the way to the next row's. All in [-1, 1].
    """
    count = len(real)
    chance = torch.Generator().manual_seed(0)
    latent = torch.randn(count, _NUM_COLUMNS, method.latent_dim, generator=chance)
    everything, first = latent.flatten(0, 1), latent[:, 0]
    following, ones = first.roll(-1, 0), torch.ones(count, 1)
    with method.ema.bypassed():
        raw = method.draw(everything)
    return {
        "samples": method.draw(everything),
        "samples_raw": raw,
        "real": real.clamp(-1, 1),
        "truncation": _as_rows([method.draw(first, share) for share in _TRUNCATIONS]),
        "interpolation": _as_rows(
            [method.draw(slerp(first, following, place * ones)) for place in _PLACES]
        ),
    }


def _as_rows(columns: Sequence[Tensor]) -> Tensor:
    """Columns of (N, 3, S, S) each as one grid, row by row."""
    return torch.stack(list(columns), dim=1).flatten(0, 1)
