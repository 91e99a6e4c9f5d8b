"""The generator of StyleGAN2-ADA (Karras et al. 2020): latent -> styles -> picture.

`MappingNetwork` turns a latent z into style vectors w, `SynthesisNetwork` paints under them;
`StyleGenerator` is both. Methods that paint several layers hold several of each. Submodules are
named as in the released checkpoints, so `convert_released` and a prefix are all a converter needs.
Its blocks are in `style_blocks.py`, layers in `style_mapping.py` and `modulation.py`, the other
player is in `stylegan2_discriminator.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from figureground.core.errors import CheckpointError
from figureground.nn.modulation import NoiseMode
from figureground.nn.resample import fir_kernel
from figureground.nn.style_blocks import (
    LowPrecision,
    SynthesisBlock,
    block_dtype,
    block_resolutions,
    feature_maps,
    low_precision_resolutions,
)
from figureground.nn.style_mapping import MappingNetwork, draw_mixing_cutoff, mix_styles

__all__ = [
    "MappingNetwork",
    "StyleGenerator",
    "SynthesisNetwork",
    "convert_released",
    "draw_mixing_cutoff",
    "mix_styles",
]

SynthesisArchitecture = Literal["skip", "orig", "resnet"]


class SynthesisNetwork(nn.Module):
    """Paint a picture under style vectors, from a learned 4x4 constant upwards.

    Args:
        style_dim: Size of a style vector.
        resolution: Side of the picture, a power of two from 8 on.
        out_channels: Channels of the picture.
        channel_base: Maps of side r have min(channel_base / r, channel_max) channels.
        channel_max: See `channel_base`.
        conv_clamp: Activations stay within this limit, which half precision needs; None for none.
        architecture: "skip" sums pictures of all resolutions, "orig" paints at the last only,
            "resnet" adds 1x1 convolutions past each block.
        low_precision_blocks: How many of the largest resolutions run in half precision (never on
            a CPU).
        low_precision: Which half precision.
    """

    def __init__(
        self,
        style_dim: int,
        resolution: int,
        *,
        out_channels: int = 3,
        channel_base: int = 16384,
        channel_max: int = 256,
        conv_clamp: float | None = 256.0,
        architecture: SynthesisArchitecture = "skip",
        low_precision_blocks: int = 0,
        low_precision: LowPrecision = "float16",
    ) -> None:
        super().__init__()
        self.style_dim = style_dim
        self.resolution = resolution
        self.low_precision: LowPrecision = low_precision
        self.low_resolutions = low_precision_resolutions(resolution, low_precision_blocks)
        self.resolutions = block_resolutions(resolution)
        self.num_styles = 2 * len(self.resolutions)
        channels: int | None = None
        for side in self.resolutions:
            width = feature_maps(side, channel_base, channel_max)
            paints = architecture == "skip" or side == resolution
            block = SynthesisBlock(
                channels,
                width,
                style_dim,
                side,
                image_channels=out_channels if paints else None,
                has_skip=architecture == "resnet",
                clamp=conv_clamp,
            )
            self.add_module(f"b{side}", block)
            channels = width

    def forward(
        self,
        styles: Tensor,
        *,
        noise: NoiseMode = "random",
        generator: torch.Generator | None = None,
        fused: bool | None = None,
    ) -> Tensor:
        """Return pictures (B, out_channels, R, R), unbounded.

        Args:
            styles: (B, num_styles, style_dim).
            noise: "random" draws per sample and layer, "const" takes the stored noise, "none".
            generator: Where random noise comes from; None for the global generator.
            fused: Form of the modulated convolutions; None picks the faster one.
        """
        if styles.shape[1:] != (self.num_styles, self.style_dim):
            expected = f"(B, {self.num_styles}, {self.style_dim})"
            raise ValueError(f"styles must be {expected}, got {tuple(styles.shape)}")
        if fused is None:
            # One kernel per sample saves two passes over the map, but only pays for one sample.
            fused = len(styles) == 1 and not torch.is_grad_enabled()
        features: Tensor | None = None
        image: Tensor | None = None
        start = 0
        for side in self.resolutions:
            block: SynthesisBlock = getattr(self, f"b{side}")
            dtype = block_dtype(side in self.low_resolutions, self.low_precision, styles)
            features, image = block(
                features,
                image,
                iter(styles[:, start:].unbind(1)),
                dtype=dtype,
                noise=noise,
                generator=generator,
                fused=fused,
            )
            # The style of a block's picture is also that of the next block's first layer.
            start += block.num_convolutions
        if image is None:
            raise RuntimeError("no block painted a picture")
        return image


class StyleGenerator(nn.Module):
    """A plain StyleGAN2-ADA generator: mapping and synthesis.

    Args:
        resolution: Side of the picture.
        latent_dim: Size of z.
        style_dim: Size of w.
        num_classes: Classes of the condition; 0 for none.
        mapping_depth: Dense layers of the mapping network.
        out_channels: See `SynthesisNetwork`, as for the rest.
        channel_base: See there.
        channel_max: See there.
        conv_clamp: See there.
        architecture: See there.
        low_precision_blocks: See there.
        low_precision: See there.
    """

    def __init__(
        self,
        resolution: int,
        *,
        latent_dim: int = 512,
        style_dim: int = 512,
        num_classes: int = 0,
        mapping_depth: int = 8,
        out_channels: int = 3,
        channel_base: int = 16384,
        channel_max: int = 512,
        conv_clamp: float | None = 256.0,
        architecture: SynthesisArchitecture = "skip",
        low_precision_blocks: int = 0,
        low_precision: LowPrecision = "float16",
    ) -> None:
        super().__init__()
        self.synthesis = SynthesisNetwork(
            style_dim,
            resolution,
            out_channels=out_channels,
            channel_base=channel_base,
            channel_max=channel_max,
            conv_clamp=conv_clamp,
            architecture=architecture,
            low_precision_blocks=low_precision_blocks,
            low_precision=low_precision,
        )
        self.mapping = MappingNetwork(
            latent_dim,
            style_dim,
            self.synthesis.num_styles,
            num_classes=num_classes,
            depth=mapping_depth,
        )

    def forward(
        self,
        z: Tensor,
        label: Tensor | None = None,
        *,
        truncation: float = 1.0,
        cutoff: int | None = None,
        noise: NoiseMode = "random",
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Paint latents (B, latent_dim), with classes (B,) if conditional: (B, channels, R, R)."""
        styles = self.mapping(z, label, truncation=truncation, cutoff=cutoff)
        image: Tensor = self.synthesis(styles, noise=noise, generator=generator)
        return image


def convert_released(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn a released StyleGAN2-ADA state dict (or one with prefixed keys) into ours.

    Names are equal except for one: `*.resample_filter`, the fixed low-pass kernel that the authors
    store with every layer. Ours is computed, so theirs is checked and left out.

    Raises:
        CheckpointError: The network was built with another low-pass kernel.
    """
    expected = fir_kernel()
    converted = {}
    for key, tensor in state.items():
        if key.rpartition(".")[2] != "resample_filter":
            converted[key] = tensor
        elif tensor.shape != expected.shape or not torch.allclose(tensor.float().cpu(), expected):
            raise CheckpointError(
                f"{key} is not the low-pass kernel [1, 3, 3, 1]; expected weights of a network "
                "made with the usual kernel, the only one supported here"
            )
    return converted
