"""Bottleneck generator network of BigGAN-deep (Brock et al. 2019).

The class vector and the whole latent condition every block. Blocks come in stages at one
resolution, of which the last block doubles it and narrows the maps.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from figureground.generators.blocks import (
    BottleneckBlock,
    Condition,
    ConditionalBatchNorm,
)
from figureground.nn.attention import PooledSelfAttention


class BlockShape(NamedTuple):
    """What a bottleneck block does to the size of its maps.

    Attributes:
        upsample: Whether it doubles height and width.
        before: Channels of its input, in multiples of the network's width.
        after: Channels of its output, likewise.
    """

    upsample: bool
    before: int
    after: int


def stage_shapes(multiples: Sequence[int], depth: int = 2) -> tuple[BlockShape, ...]:
    """Shapes of the blocks of stages that have `depth` blocks each.

    The first block of a stage keeps the channels, the second changes them, the last doubles.

    Args:
        multiples: Channels, in multiples of the width, before the first and after each stage.
        depth: At least 2.
    """
    shapes = []
    for before, after in itertools.pairwise(multiples):
        widths = [before, before, *[after] * (depth - 1)]
        pairs = itertools.pairwise(widths)
        shapes += [BlockShape(i == depth - 1, *pair) for i, pair in enumerate(pairs)]
    return tuple(shapes)


class DeepGenerator(nn.Module):
    """Draws images from latents and classes with bottleneck blocks.

    Args:
        shapes: Of the blocks.
        width: Channels that block shapes are multiples of.
        latent_dim: Size D of the latent.
        num_classes: Classes K.
        embedding_dim: Size E of the class vector.
        attention_after: Number of blocks before self-attention; None for no attention.
        class_first: Whether the class vector precedes the latent in the condition.
        rgb_channels: Outputs of the last convolution, of which the first three are the image.
        num_levels: Sets of statistics; see `ConditionalBatchNorm`.
        eps: Added to variances.
    """

    def __init__(
        self,
        *,
        shapes: Sequence[tuple[bool, int, int]],
        width: int,
        latent_dim: int,
        num_classes: int,
        embedding_dim: int = 128,
        attention_after: int | None = None,
        class_first: bool = False,
        rgb_channels: int = 3,
        num_levels: int = 1,
        eps: float = 1e-4,
    ) -> None:
        super().__init__()
        blocks = [BlockShape(*shape) for shape in shapes]
        self.class_first = class_first
        self.embedding = nn.Embedding(num_classes, embedding_dim)
        condition = Condition("vector", latent_dim + embedding_dim, eps)
        self.first = nn.Linear(condition.size, blocks[0].before * width * 16)
        layers: list[nn.Module] = [
            BottleneckBlock(
                block.before * width,
                block.after * width,
                condition,
                upsample=block.upsample,
                num_levels=num_levels,
            )
            for block in blocks
        ]
        if attention_after is not None:
            num_channels = blocks[attention_after].before * width
            layers.insert(attention_after, PooledSelfAttention(num_channels, norm_order=None))
        self.layers = nn.ModuleList(layers)
        last = blocks[-1].after * width
        self.norm = ConditionalBatchNorm(last, Condition(eps=eps), num_levels)
        self.to_rgb = nn.Conv2d(last, rgb_channels, 3, padding=1)

    def condition(self, latent: Tensor, label: Tensor) -> Tensor:
        """Vectors (B, D + E) that condition all blocks, of latents (B, D) and classes (B,)."""
        vector = self.embedding(label)
        parts = (vector, latent) if self.class_first else (latent, vector)
        return torch.cat(parts, dim=1)

    def forward(self, latent: Tensor, label: Tensor) -> Tensor:
        """Draw images.

        Args:
            latent: (B, D).
            label: Classes int64 (B,).

        Returns:
            Images (B, 3, R, R) in [-1, 1].
        """
        condition = self.condition(latent, label)
        features = self.first(condition).unflatten(1, (-1, 4, 4))
        for layer in self.layers:
            if isinstance(layer, BottleneckBlock):
                features = layer(features, condition)
            else:
                features = layer(features)
        features = F.relu(self.norm(features, condition))
        # No more than the image is computed of what the published convolution gives.
        weight, bias = self.to_rgb.weight[:3], self.to_rgb.bias
        bias = None if bias is None else bias[:3]
        return torch.tanh(F.conv2d(features, weight, bias, padding=1))
