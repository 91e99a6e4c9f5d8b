"""The mean pixels of objects of batches before, which new ones are held against."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class KeyQueue(nn.Module):
    """The latest K keys, the oldest replaced first; in checkpoints, as they are buffers.

    It begins with random directions (He et al. 2020, MoCo).

    Args:
        size: K.
        dim: Length D of a key.

    Attributes:
        keys: (K, D), each of length one.
        place: Where the next one goes, int64 scalar.
    """

    keys: Tensor
    place: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("keys", torch.empty(size, dim))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw random directions and begin at the first place."""
        drawn = torch.randn(self.keys.shape, dtype=torch.get_default_dtype())
        self.keys.copy_(F.normalize(drawn, dim=1))
        self.place.zero_()

    @torch.no_grad()
    def push(self, keys: Tensor) -> None:
        """Put in `keys` (N, D), of length one; of more than K only the last stay."""
        size = len(self.keys)
        keys = keys[-size:]
        steps = torch.arange(len(keys), device=self.place.device)
        self.keys[(self.place + steps) % size] = keys.to(self.keys)
        self.place.copy_((self.place + len(keys)) % size)
