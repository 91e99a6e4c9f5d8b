"""Which networks each paper has, and which options fit them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from torch import nn

from figureground.methods.l2ic.ancestors import C3Generator, ComGANGenerator, DSComGANGenerator
from figureground.methods.l2ic.blocks import initialise
from figureground.methods.l2ic.discriminator import ClusterDiscriminator, Judge
from figureground.methods.l2ic.generator import CompositionGenerator
from figureground.methods.l2ic.weights import Weights

Architecture = Literal["l2ic", "c3gan", "ds_comgan", "comgan"]
Builders = dict[str, Callable[[], nn.Module]]

#: Terms that need a network or an output that not all papers have.
_NEEDS: dict[str, tuple[Architecture, ...]] = {
    "info": ("l2ic", "c3gan"),
    "masked_info": ("l2ic", "c3gan"),
    "swap": ("l2ic",),
    "view": ("l2ic", "c3gan"),
    "cluster_head": ("l2ic",),
    "entropy": ("l2ic", "c3gan"),
    "layer_codes": ("ds_comgan",),
    "sketch": ("ds_comgan",),
}


def network_builders(
    architecture: Architecture,
    resolution: int,
    *,
    latent_dim: int,
    generator_width: int,
    discriminator_width: int,
    reader_width: int,
    num_categories: int,
    num_backgrounds: int,
    num_blocks: Sequence[int],
    variation_dim: int,
) -> Builders:
    """Functions that make the networks anew, initialised.

    Returns:
        `generator`, `discriminator` and `readers`, the latter a `ModuleDict` that is empty but for
        DS-ComGAN; see `L2IC` for the arguments.
    """
    sizes: dict[str, Any] = {
        "latent_dim": latent_dim,
        "width": generator_width,
        "num_blocks": tuple(num_blocks),
    }
    codes: dict[str, Any] = {"num_categories": num_categories, "num_backgrounds": num_backgrounds}
    generators: dict[Architecture, Callable[[], nn.Module]] = {
        "l2ic": partial(CompositionGenerator, resolution, **sizes, **codes),
        "c3gan": partial(
            C3Generator,
            resolution,
            **sizes,
            num_categories=num_categories,
            variation_dim=variation_dim,
        ),
        "ds_comgan": partial(DSComGANGenerator, resolution, **sizes, **codes),
        "comgan": partial(ComGANGenerator, resolution, **sizes),
    }
    sorts = architecture in {"l2ic", "c3gan"}
    discriminator: Callable[[], nn.Module] = partial(Judge, resolution, width=discriminator_width)
    if sorts:
        discriminator = partial(
            ClusterDiscriminator,
            resolution,
            width=discriminator_width,
            num_categories=num_categories,
            has_cluster_head=architecture == "l2ic",
        )
    lengths = {"foreground": num_categories, "background": num_backgrounds}

    def make_readers() -> nn.Module:
        named = lengths if architecture == "ds_comgan" else {}
        return nn.ModuleDict(
            {n: Judge(resolution, width=reader_width, num_codes=k) for n, k in named.items()}
        )

    builders = {
        "generator": generators[architecture],
        "discriminator": discriminator,
        "readers": make_readers,
    }
    return {name: partial(_make, build) for name, build in builders.items()}


def _make(build: Callable[[], nn.Module]) -> nn.Module:
    network = build()
    initialise(network)
    return network


def check_setup(
    *,
    architecture: Architecture,
    resolution: int,
    batch_size: int,
    generator_width: int,
    num_categories: int,
    num_backgrounds: int | None,
    num_blocks: Sequence[int],
    perturbation: str,
    weights: Any,
    background_drawing: str = "tied",
    background_latent: str = "shared",
    **others: Any,
) -> list[str]:
    """Problems of options that are fine one by one but not together."""
    problems = []
    if batch_size < 2:
        problems.append(
            "networks normalise over the batch and pictures are compared with others of it, so "
            f"data.batch_size must be 2 at least, got {batch_size}"
        )
    if generator_width % 4:
        problems.append(
            "layers are drawn from a quarter of generator_width, which must be a multiple of 4, "
            f"got {generator_width}"
        )
    if len(num_blocks) != 3:
        problems.append(
            "num_blocks must be three numbers, of foreground, mask and background, got "
            f"{list(num_blocks)}"
        )
    if num_categories < 2 and architecture != "comgan":
        problems.append(
            f"num_categories must be 2 at least, got {num_categories}; for pictures without "
            "categories set architecture=comgan, which has no codes"
        )
    is_tied = background_drawing == "tied" and architecture in {"l2ic", "ds_comgan"}
    if is_tied and num_categories % min(num_backgrounds or 1, num_categories):
        problems.append(
            f"num_backgrounds={num_backgrounds} does not divide num_categories={num_categories}: "
            "backgrounds would go with unequal numbers of categories; take a divisor, or "
            "background_drawing=independent"
        )
    if (num_backgrounds or 1) > num_categories and background_drawing == "tied":
        problems.append(
            "each background belongs to one or more categories, so num_backgrounds must be "
            f"num_categories ({num_categories}) at most, got {num_backgrounds}; more need "
            "background_drawing=independent"
        )
    if perturbation != "none" and architecture not in {"l2ic", "c3gan"}:
        problems.append(
            f"perturbation={perturbation} needs architecture=l2ic or c3gan; set it to none"
        )
    if background_latent == "exchanged" and background_drawing == "tied":
        problems.append(
            "background_latent=exchanged puts the background of another picture behind a "
            "foreground, so none can belong to a category; set background_drawing=independent"
        )
    return problems + _weight_problems(architecture, weights)


def _weight_problems(architecture: Architecture, weights: Any) -> list[str]:
    """Terms that the networks of `architecture` cannot give; `weights` are they or their node."""

    def weight(name: str) -> float:
        given = weights if isinstance(weights, Mapping) else vars(weights)
        value = given.get(name, getattr(Weights, name))
        return value if isinstance(value, int | float) else 0.0  # Said where it is checked.

    problems = [
        f"weights.{name}={weight(name):g} needs architecture={' or '.join(able)}; set it to 0"
        for name, able in _NEEDS.items()
        if architecture not in able and weight(name) > 0
    ]
    low, high = (weight(f"area_{end}") for end in ("low", "high"))
    if weight("area") > 0 and low > high:
        problems.append(f"weights.area_low={low:g} is above weights.area_high={high:g}")
    return problems
