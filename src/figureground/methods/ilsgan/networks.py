"""The layered generator: one latent, two StyleGAN2 generators, a mask out of the foreground's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from figureground.methods.ilsgan.densities import make_densities
from figureground.methods.ilsgan.independence import Independence
from figureground.methods.ilsgan.perturbation import LayeredPicture
from figureground.nn.ada import AdaController, AugmentPipe
from figureground.nn.judging import check_augmentation
from figureground.nn.modulation import NoiseMode
from figureground.nn.precision import widen
from figureground.nn.style_blocks import LowPrecision, check_blocks
from figureground.nn.stylegan2 import MappingNetwork, SynthesisNetwork
from figureground.nn.stylegan2_discriminator import (
    GROUP_SIZE,
    DiscriminatorArchitecture,
    StyleDiscriminator,
    check_groups,
)


class LayeredGenerator(nn.Module):
    """Latents to background, foreground and mask.

    Both layers start from the same latent and share no weights. The mask is the fourth channel of
    the foreground's network: m = sigmoid(channel 3).

    Args:
        resolution: Side of the pictures, a power of two.
        latent_dim: Size D of latents.
        style_width: Size W of styles.
        mapping_depth: Layers of each mapping network.
        channel_base: Channels at resolution r are `channel_base` / r,
        channel_max: and this at most.
        conv_clamp: Bound of activations, or None.
        low_precision_blocks: Last blocks computed in half precision,
        low_precision: of this kind.
    """

    def __init__(
        self,
        resolution: int,
        *,
        latent_dim: int = 512,
        style_width: int = 512,
        mapping_depth: int = 8,
        channel_base: int = 16384,
        channel_max: int = 256,
        conv_clamp: float | None = 256.0,
        low_precision_blocks: int = 0,
        low_precision: LowPrecision = "float16",
    ) -> None:
        super().__init__()

        def make_synthesis(out_channels: int) -> SynthesisNetwork:
            return SynthesisNetwork(
                style_width,
                resolution,
                out_channels=out_channels,
                channel_base=channel_base,
                channel_max=channel_max,
                conv_clamp=conv_clamp,
                low_precision_blocks=low_precision_blocks,
                low_precision=low_precision,
            )

        def make_mapping(num_styles: int) -> MappingNetwork:
            return MappingNetwork(latent_dim, style_width, num_styles, depth=mapping_depth)

        synthesis_background, synthesis_foreground = make_synthesis(3), make_synthesis(4)
        num_styles = synthesis_background.num_styles
        self.mapping_background = make_mapping(num_styles)
        self.mapping_foreground = make_mapping(num_styles)
        self.synthesis_background = synthesis_background
        self.synthesis_foreground = synthesis_foreground

    def forward(
        self,
        latent: Tensor,
        *,
        truncation: float = 1.0,
        cutoff: int | None = None,
        noise: NoiseMode = "random",
        generator: torch.Generator | None = None,
        update_average: bool = False,
    ) -> LayeredPicture:
        """Draw layered pictures.

        Args:
            latent: (B, D), standard normal.
            truncation: Share of a style's distance from the mean style that is kept.
            cutoff: Styles that are truncated, counted from the first; None is all.
            noise: Per-pixel noise: drawn, the stored one, or none.
            generator: Source of `random` noise.
            update_average: Whether the running mean styles follow this batch.
        """
        background, foreground = self.map(
            latent, truncation=truncation, cutoff=cutoff, update_average=update_average
        )
        return self.synthesize(background, foreground, noise=noise, generator=generator)

    def map(
        self,
        latent: Tensor,
        *,
        truncation: float = 1.0,
        cutoff: int | None = None,
        update_average: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Styles of background and foreground, each (B, num_styles, W); see `forward`."""
        background, foreground = (
            mapping(latent, truncation=truncation, cutoff=cutoff, update_average=update_average)
            for mapping in (self.mapping_background, self.mapping_foreground)
        )
        return background, foreground

    def synthesize(
        self,
        background: Tensor,
        foreground: Tensor,
        *,
        noise: NoiseMode = "random",
        generator: torch.Generator | None = None,
        twice: bool = False,
    ) -> LayeredPicture:
        """Draw the layers of given styles, each (B, num_styles, W); see `forward`.

        `twice` says that they will be differentiated twice, which compiled networks cannot be.
        """
        paint_background, paint_foreground = (
            network.forward if twice else network
            for network in (self.synthesis_background, self.synthesis_foreground)
        )
        color = widen(paint_background(background, noise=noise, generator=generator))
        layer = widen(paint_foreground(foreground, noise=noise, generator=generator))
        return LayeredPicture(color, layer[:, :3], layer[:, 3:].sigmoid())


def network_builders(
    *,
    resolution: int,
    latent_dim: int,
    style_width: int,
    mapping_depth: int,
    channel_base: int,
    max_width: int,
    conv_clamp: float | None,
    low_precision_blocks: int,
    low_precision: LowPrecision,
    discriminator_architecture: DiscriminatorArchitecture,
    group_size: int,
    independence: Independence | None,
    density_width: int | None,
    **_: Any,
) -> dict[str, Callable[[], nn.Module]]:
    """Functions that make ILSGAN's networks anew, by name; arguments are those of `ILSGAN`."""
    common: dict[str, Any] = {
        "channel_base": channel_base,
        "channel_max": max_width,
        "conv_clamp": conv_clamp,
        "low_precision_blocks": low_precision_blocks,
        "low_precision": low_precision,
    }
    return {
        "generator": partial(
            LayeredGenerator,
            resolution,
            latent_dim=latent_dim,
            style_width=style_width,
            mapping_depth=mapping_depth,
            **common,
        ),
        "discriminator": partial(
            StyleDiscriminator,
            resolution,
            architecture=discriminator_architecture,
            group_size=group_size,
            **common,
        ),
        "densities": partial(make_densities, independence, density_width),
    }


def check_setup(
    *,
    resolution: int,
    batch_size: int,
    channel_base: int,
    conv_clamp: float | None,
    low_precision_blocks: int,
    low_precision: LowPrecision,
    group_size: int = GROUP_SIZE,
    independence: Independence | None = None,
    augmentation: AugmentPipe | None = None,
    controller: AdaController | None = None,
    **_: Any,
) -> list[str]:
    """Problems of options that are fine one by one but not together."""
    problems = check_groups(batch_size, group_size)
    problems += check_blocks(
        resolution,
        channel_base=channel_base,
        conv_clamp=conv_clamp,
        low_precision_blocks=low_precision_blocks,
        low_precision=low_precision,
    )
    if batch_size < 2 and independence is not None:
        problems.append(
            "the loss between layers takes layers of other pictures of a batch as negatives, so "
            f"data.batch_size must be 2 at least, got {batch_size}; or set independence=null"
        )
    return problems + check_augmentation(augmentation, controller)
