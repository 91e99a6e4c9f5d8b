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
from figureground.nn.ada import AdaController, AugmentPipe
from figureground.nn.judging import check_augmentation
from figureground.nn.optimizers import LazyAdam, OptimizerFactory
from figureground.nn.style_blocks import LowPrecision, check_blocks
from figureground.nn.stylegan2 import StyleGenerator
from figureground.nn.stylegan2_discriminator import GROUP_SIZE, StyleDiscriminator, check_groups

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
    *, network: Network, resolution: int, latent_dim: int, **options: Any
) -> Builders:
    """Functions that make both networks anew, by name; arguments are those of `GAN`."""
    if network == "sngan":
        return {
            "generator": partial(
                ConvGenerator, resolution, latent_dim=latent_dim, width=options["width"]
            ),
            "discriminator": partial(
                ConvDiscriminator,
                resolution,
                width=options["discriminator_width"],
                use_spectral_norm=options["spectral_norm"],
            ),
        }
    shared = ("channel_base", "conv_clamp", "low_precision_blocks", "low_precision")
    sizes = {name: options[name] for name in shared} | {"channel_max": options["max_width"]}
    return {
        "generator": partial(
            StyleGenerator,
            resolution,
            latent_dim=latent_dim,
            style_dim=options["style_width"],
            mapping_depth=options["mapping_depth"],
            **sizes,
        ),
        "discriminator": partial(
            StyleDiscriminator,
            resolution,
            architecture=options["discriminator_architecture"],
            group_size=options["group_size"],
            **sizes,
        ),
    }


def usual_optimizer(network: Network, every: int) -> OptimizerFactory:
    """Adam as published for a player with a penalty each `every` iterations, 0 for none."""
    if network == "sngan":
        return partial(torch.optim.Adam, lr=2e-4, betas=(0.5, 0.999))
    return partial(LazyAdam, every=every)


def check_setup(
    *,
    resolution: int,
    batch_size: int,
    network: Network = "stylegan2",
    loss: Game | None = None,
    channel_base: int = 16384,
    conv_clamp: float | None = 256.0,
    low_precision_blocks: int = 0,
    low_precision: LowPrecision = "float16",
    group_size: int = GROUP_SIZE,
    spectral_norm: bool = True,
    weight_clip: float | None = None,
    augmentation: AugmentPipe | None = None,
    controller: AdaController | None = None,
    **_: Any,
) -> list[str]:
    """Problems of options that are fine one by one but not together."""
    problems = []
    loss = loss or PUBLISHED[network].loss
    is_normed = network == "sngan" and spectral_norm
    if network == "stylegan2":
        problems += check_groups(batch_size, group_size)
        problems += check_blocks(
            resolution,
            channel_base=channel_base,
            conv_clamp=conv_clamp,
            low_precision_blocks=low_precision_blocks,
            low_precision=low_precision,
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
    problems += check_augmentation(augmentation, controller)
    if controller is not None and augmentation is not None and GAMES[loss].boundary is None:
        problems.append(
            f"loss={loss} has no score between real and drawn that a controller could go by; "
            "set controller=null"
        )
    return problems
