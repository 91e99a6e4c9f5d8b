"""Which networks a GAN is made of, what each is published with, and what does not go together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import nn

from figureground.losses.adversarial import GAMES, Game
from figureground.methods.gan.sngan import ConvDiscriminator, ConvGenerator
from figureground.nn.optimizers import OptimizerFactory, lazy_adam
from figureground.nn.stylegan2 import StyleGenerator
from figureground.nn.stylegan2_discriminator import GROUP_SIZE, StyleDiscriminator

Network = Literal["stylegan2", "sngan"]
Builders = dict[str, Callable[[], nn.Module]]


@dataclass(frozen=True)
class Published:
    """What a network is published with.

    Attributes:
        latent_dim: Size of latents.
        loss: The game.
        r1_every: Iterations between two gradient penalties, 0 for none.
    """

    latent_dim: int
    loss: Game
    r1_every: int


PUBLISHED: dict[Network, Published] = {
    "stylegan2": Published(512, "logistic", 16),
    "sngan": Published(128, "hinge", 0),
}


def network_builders(
    network: Network,
    resolution: int,
    latent_dim: int,
    *,
    width: int,
    discriminator_width: int,
    use_spectral_norm: bool,
    style_width: int,
    mapping_depth: int,
    **sizes: Any,
) -> Builders:
    """Functions that make both networks anew; `sizes` are those that StyleGAN2's have in common."""
    if network == "sngan":
        return {
            "generator": partial(ConvGenerator, resolution, latent_dim=latent_dim, width=width),
            "discriminator": partial(
                ConvDiscriminator,
                resolution,
                width=discriminator_width,
                use_spectral_norm=use_spectral_norm,
            ),
        }
    return {
        "generator": partial(
            StyleGenerator,
            resolution,
            latent_dim=latent_dim,
            style_dim=style_width,
            mapping_depth=mapping_depth,
            **sizes,
        ),
        "discriminator": partial(StyleDiscriminator, resolution, **sizes),
    }


def usual_optimizer(network: Network, every: int) -> OptimizerFactory:
    """Adam as published for a player with a penalty each `every` iterations, 0 for none."""
    if network == "sngan":
        return partial(torch.optim.Adam, lr=2e-4, betas=(0.5, 0.999))
    return lazy_adam(every)


def check_setup(
    *,
    resolution: int,
    batch_size: int,
    network: Network = "stylegan2",
    loss: Game | None = None,
    channel_base: int = 16384,
    spectral_norm: bool = True,
    weight_clip: float | None = None,
    **others: Any,
) -> list[str]:
    """Problems of options that are fine one by one but not together."""
    problems = []
    loss = loss or PUBLISHED[network].loss
    is_normed = network == "sngan" and spectral_norm
    if network == "stylegan2":
        if batch_size % min(GROUP_SIZE, batch_size):
            problems.append(
                "the discriminator compares pictures by fours, so data.batch_size must be a "
                f"multiple of {GROUP_SIZE}, got {batch_size}"
            )
        if channel_base < resolution:
            problems.append(
                f"channel_base must be the resolution ({resolution}) at least, or the largest "
                f"maps have no channels; got {channel_base}"
            )
    if loss == "wasserstein" and not is_normed and weight_clip is None:
        problems.append(
            "loss=wasserstein needs a discriminator whose slope is bounded; set weight_clip=0.01, "
            "or network=sngan with spectral_norm=true"
        )
    if weight_clip is not None and is_normed:
        problems.append(
            "weight_clip does nothing to weights under spectral norm; set weight_clip=null or "
            "spectral_norm=false"
        )
    if others.get("controller") is not None:
        if others.get("augmentation") is None:
            problems.append("a controller needs an augmentation to steer; set controller=null")
        elif GAMES[loss].boundary is None:
            problems.append(
                f"loss={loss} has no score between real and drawn that a controller could go by; "
                "set controller=null"
            )
    return problems
