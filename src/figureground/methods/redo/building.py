"""The networks that the options of `ReDO` describe."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from figureground.methods.redo.networks import (
    Discriminator,
    LatentEncoder,
    MaskNetwork,
    RegionGenerators,
)
from figureground.nn.normalization import SpectralNormOrder


def check_options(
    *, resolution: int, num_regions: int, mask_width: int, **others: Any
) -> list[str]:
    """Problems of options that are fine one by one but not together."""
    problems = []
    if resolution < 32:
        problems.append(f"ReDO needs a resolution of 32 at least, got {resolution}")
    if num_regions < 2:
        problems.append(f"num_regions must be at least 2 (object, background), got {num_regions}")
    if mask_width < 4:
        problems.append(f"mask_width must be 4 at least, got {mask_width}")
    problems += [
        f"{name}_attention needs {name}_width=2 at least, got {others[f'{name}_width']}"
        for name in ("generator", "discriminator")
        if others[f"{name}_attention"] and others[f"{name}_width"] < 2
    ]
    return problems


def network_builders(
    *,
    resolution: int,
    num_regions: int,
    latent_dim: int,
    mask_width: int,
    mask_blocks: int,
    temperature: float,
    generator_width: int,
    generator_attention: bool,
    discriminator_width: int,
    discriminator_attention: bool,
    encoder_width: int | None,
    spectral_norm: SpectralNormOrder,
) -> dict[str, Callable[[], nn.Module]]:
    """What draws each network anew, by attribute of `ReDO`, in the order M, X, D, Z.

    Options are those of `ReDO`; without an `encoder_width` there is no Z.

    Raises:
        ValueError: Options do not fit together, see `check_options`.
    """
    if problems := check_options(
        resolution=resolution,
        num_regions=num_regions,
        mask_width=mask_width,
        generator_width=generator_width,
        generator_attention=generator_attention,
        discriminator_width=discriminator_width,
        discriminator_attention=discriminator_attention,
    ):
        raise ValueError("; ".join(problems))
    sizes: dict[str, Any] = {"resolution": resolution}
    latents: dict[str, Any] = {
        "num_regions": num_regions,
        "latent_dim": latent_dim,
        "norm_order": spectral_norm,
    }
    builders: dict[str, Callable[[], nn.Module]] = {
        "mask_net": partial(
            MaskNetwork,
            **sizes,
            num_regions=num_regions,
            width=mask_width,
            num_blocks=mask_blocks,
            temperature=temperature,
        ),
        "generators": partial(
            RegionGenerators,
            **sizes,
            **latents,
            width=generator_width,
            use_attention=generator_attention,
        ),
        "discriminator": partial(
            Discriminator,
            **sizes,
            norm_order=spectral_norm,
            width=discriminator_width,
            use_attention=discriminator_attention,
        ),
    }
    if encoder_width is not None:
        builders["encoder"] = partial(LatentEncoder, **sizes, **latents, width=encoder_width)
    return builders
