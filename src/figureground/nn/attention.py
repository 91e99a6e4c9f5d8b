"""Self-attention over the positions of a feature map, as in SAGAN (Zhang et al. 2019)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from figureground.nn.normalization import SpectralNormOrder, spectral_norm


class PooledSelfAttention(nn.Module):
    """Gated self-attention with max-pooled keys and values.

    out = x + gate * O(values . softmax(keys^T . queries)), the softmax over key positions and
    without scaling; all projections are 1x1 convolutions without bias, by default under spectral
    norm.
    The gate starts at 0, so the block starts as the identity.

    Args:
        num_channels: Channels C of the input, at least 2.
        norm_order: Flavour of spectral norm (see `SpectralNorm`); None for none.
    """

    def __init__(
        self, num_channels: int, norm_order: SpectralNormOrder | None = "right_first"
    ) -> None:
        super().__init__()
        key_channels, value_channels = max(num_channels // 8, 1), num_channels // 2

        def project(num_in: int, num_out: int) -> nn.Module:
            projection = nn.Conv2d(num_in, num_out, 1, bias=False)
            return spectral_norm(projection, norm_order) if norm_order else projection

        self.query = project(num_channels, key_channels)
        self.key = project(num_channels, key_channels)
        self.value = project(num_channels, value_channels)
        self.output = project(value_channels, num_channels)
        self.gate = nn.Parameter(torch.zeros(1))

    def forward(self, features: Tensor) -> Tensor:
        """Attend over all positions of `features` (B, C, H, W); H and W even, same shape out."""
        queries = self.query(features).flatten(2).mT  # (B, H*W, C/8)
        keys = F.max_pool2d(self.key(features), 2).flatten(2).mT  # (B, H*W/4, C/8)
        values = F.max_pool2d(self.value(features), 2).flatten(2).mT.contiguous()  # (B, H*W/4, C/2)
        # Fast kernels want one width for all three; zeros change no product.
        missing = (0, values.shape[-1] - keys.shape[-1])
        queries, keys = F.pad(queries, missing), F.pad(keys, missing)
        attended = F.scaled_dot_product_attention(
            queries.unsqueeze(1), keys.unsqueeze(1), values.unsqueeze(1), scale=1.0
        )
        # (B, 1, H*W, C/2) to (B, C/2, H, W)
        attended = attended.squeeze(1).mT.reshape(len(features), -1, *features.shape[-2:])
        out: Tensor = features + self.gate * self.output(attended)
        return out
