"""Self-Conditioned GAN (Liu et al. 2020) and its unconditional twin: ImageNet at 128 pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from figureground.core.bounds import Count, NonNegativeFloat, PositiveInt
from figureground.core.checkpoint import ConvertedWeights
from figureground.generators.base import GeneratorCard, ImageGenerator, select_state
from figureground.generators.blocks import keep_variance
from figureground.generators.plain_resnet import PlainResNetGenerator
from figureground.generators.renaming import Table, rename, require_keys, whole_network

#: Their names, patterns, and ours.
TABLE: Table = (
    (r"^get_latent\.embedding\.", "embedding."),
    (r"^fc\.", "first."),
    (r"^conv_img\.", "to_rgb."),
    (r"^resnet_(\d)_(\d)\.", r"layers.\1.\2."),
    (r"\.conv_1\.", ".conv2."),
    (r"\.conv_0\.", ".conv1."),
    (r"\.conv_s\.", ".shortcut."),
)
_SMALLEST = 32  # The network doubles its maps five times.


class SelfConditionedGAN(ImageGenerator):
    """A generator trained on clusters that its discriminator found, or on none.

    Args:
        resolution: Side of the pictures, a multiple of 32.
        width: Channels at full resolution.
        latent_dim: Size of a latent.
        num_classes: Clusters; 0 for the unconditional network.
        embedding_dim: Size of the cluster vector.
        truncation: Below 1 latents are likelier and pictures less varied.
        weights: `selfcondgan_i_model.pt` or `uncondgan_i_model.pt` of the project (the live
            generator in it, as published), a converted file, or None for random weights.
    """

    card = GeneratorCard(
        family="Self-Conditioned GAN",
        project="self-conditioned-gan",
        files="selfcondgan_i_model.pt or uncondgan_i_model.pt",
        licence="MIT, that of the project",
    )

    def __init__(
        self,
        *,
        resolution: PositiveInt = 128,
        width: PositiveInt = 64,
        latent_dim: PositiveInt = 256,
        num_classes: Count = 100,
        embedding_dim: PositiveInt = 256,
        truncation: NonNegativeFloat = 1.0,
        weights: str | None = None,
    ) -> None:
        super().__init__(
            resolution=resolution,
            latent_dim=latent_dim,
            num_classes=num_classes,
            truncation=truncation,
        )
        self.network = PlainResNetGenerator(
            resolution=resolution,
            width=width,
            latent_dim=latent_dim,
            num_classes=num_classes,
            embedding_dim=embedding_dim,
        )
        if weights is None:
            keep_variance(self.network)
        self.initialise(weights)

    @staticmethod
    def find_problems(**options: Any) -> list[str]:
        """Check the resolution."""
        resolution = options.get("resolution", 128)
        if resolution % _SMALLEST:
            return [f"resolution={resolution} must be a multiple of {_SMALLEST}"]
        return []

    def paint(self, vector: Tensor, label: Tensor | None) -> Tensor:
        """See `ImageGenerator.paint`."""
        image: Tensor = self.network(vector, label)
        return image

    @classmethod
    def convert(cls, content: Any) -> ConvertedWeights:
        """Read the live generator of a training checkpoint, or a state dict of one network."""
        theirs = select_state(content, "generator", "generator_test")
        expected = ("fc.weight", "resnet_0_0.conv_0.weight", "conv_img.weight")
        require_keys(theirs, expected, "a generator of Self-Conditioned GAN")
        state = rename(theirs, TABLE)
        with whole_network(cls.card.family):
            options = _infer_options(state)
        state = {f"network.{key}": tensor for key, tensor in state.items()}
        return ConvertedWeights(options, state, ["network"])


def _infer_options(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read sizes off the weights."""
    embedding = state.get("embedding.weight")
    width = state["to_rgb.weight"].shape[1]
    outputs, inputs = state["first.weight"].shape
    options = {
        "resolution": math.isqrt(outputs // (16 * width)) * _SMALLEST,
        "width": width,
        "latent_dim": inputs - (0 if embedding is None else embedding.shape[1]),
        "num_classes": 0 if embedding is None else len(embedding),
    }
    if embedding is not None:
        options["embedding_dim"] = embedding.shape[1]
    return options
