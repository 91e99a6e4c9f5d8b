"""Parts of a batch, so that the layers of a few pictures are held at a time and not of all.

Once features are known a picture depends on no other, so parts change no number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Betas = dict[int, Tensor]
#: Bytes that the maps of one part may take: on CPUs few enough to stay near the caches, elsewhere
#: enough to keep the device busy.
BYTES_AT_ONCE = {"cpu": 2**25}
_OTHERWISE = 2**30


class Part(NamedTuple):
    """Pictures `begin` to `end` of a batch."""

    begin: int
    end: int

    def rows(self, tensor: Tensor) -> Tensor:
        """Those of (B, ...)."""
        return tensor[self.begin : self.end]

    def columns(self, tensor: Tensor) -> Tensor:
        """Those of (L, B, ...)."""
        return tensor[:, self.begin : self.end]

    def of(self, betas: dict[str, Betas]) -> dict[str, Betas]:
        """Those of the parameters (Q, B, ...) of every group."""
        return {
            name: {n: self.columns(beta) for n, beta in group.items()}
            for name, group in betas.items()
        }


def split_batch(image: Tensor, num_maps: int) -> list[Part]:
    """Parts of a batch (B, 3, H, W) of which each picture takes `num_maps` maps of its size."""
    size = num_maps * image.shape[2] * image.shape[3] * image.element_size()
    step = max(BYTES_AT_ONCE.get(image.device.type, _OTHERWISE) // size, 1)
    return [Part(begin, min(begin + step, len(image))) for begin in range(0, len(image), step)]


def run_parts(draw: Callable[[Part], Tensor], parts: Sequence[Part]) -> Tensor:
    """Join what `draw` makes of each part, (B, ...).

    Where there are several, each is drawn again for its gradients, so that what one needs for them
    is held at any time.
    """
    if len(parts) == 1:
        return draw(parts[0])
    made = [checkpoint(draw, part, use_reentrant=False, preserve_rng_state=False) for part in parts]
    return torch.cat(made)
