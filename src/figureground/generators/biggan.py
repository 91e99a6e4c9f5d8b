"""BigGAN-deep (Brock et al. 2019) as ported to PyTorch: ImageNet at 128, 256 and 512 pixels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from figureground.core.bounds import Count, Fraction, PositiveInt, Resolution
from figureground.core.checkpoint import ConvertedWeights
from figureground.generators.base import GeneratorCard, select_state
from figureground.generators.blocks import CHANNEL_MULTIPLES, ConditionalBatchNorm
from figureground.generators.deep import DeepGenerator, stage_shapes
from figureground.generators.renaming import HOOKED_NORM, Table, count_layers, rename, require_keys
from figureground.generators.spectral import SpectralGenerator

#: Channels of the released sizes.
MULTIPLES = {side: CHANNEL_MULTIPLES[side] for side in (128, 256, 512)}
_MOST_BLOCKS = 64
#: Their names, patterns, and ours.
TABLE: Table = (
    (r"^embeddings\.", "embedding."),
    (r"^generator\.gen_z\.", "first."),
    (r"^generator\.bn\.", "norm."),
    (r"^generator\.conv_to_rgb\.", "to_rgb."),
    (r"^generator\.layers\.", "layers."),
    *((rf"\.(bn|conv)_{i}\.", rf".\g<1>{i + 1}.") for i in range(4)),
    (r"\.bn(\d)\.", r".norm\1."),
    (r"\.offset\.", ".shift."),
    (r"\.running_means$", ".mean"),
    (r"\.running_vars$", ".variance"),
    (r"\.snconv1x1_theta\.", ".query."),
    (r"\.snconv1x1_phi\.", ".key."),
    (r"\.snconv1x1_g\.", ".value."),
    (r"\.snconv1x1_o_conv\.", ".output."),
    (r"\.gamma$", ".gate"),
    *HOOKED_NORM,
)


class BigGANDeep(SpectralGenerator):
    """A BigGAN-deep generator.

    Truncation shrinks latents and also picks the statistics of all normalisations, which are stored
    for 51 truncations from 0 to 1.

    Args:
        resolution: Side of the pictures.
        width: Channels at full resolution.
        latent_dim: Size of a latent.
        num_classes: Classes of the condition.
        embedding_dim: Size of the class vector.
        attention_after: Number of blocks before self-attention.
        shapes: Of the blocks, (doubles, channels before, after) in multiples of `width`; None for
            the published ones.
        truncation: Above 0, at most 1. May be set later too.
        num_levels: Truncations that statistics are stored for.
        legacy_interpolation: Between two stored truncations, weigh their statistics the wrong way
            round, as the ported code does. At the published 0.4 there is nothing to weigh.
        fold: Whether spectral norm is computed once, while reading, rather than at each call.
        weights: `pytorch_model.bin` of the project, a converted file, or None for random weights.
    """

    card = GeneratorCard(
        family="BigGAN-deep",
        project="pytorch-pretrained-BigGAN",
        files="pytorch_model.bin of biggan-deep-128, biggan-deep-256 or biggan-deep-512",
        licence="MIT, that of the project",
        note="A port of three TensorFlow Hub modules. At the usual truncation latents are about 4 "
        "long, less than the step of 5 of gan-segmenter.",
    )
    is_prior_bounded = True
    untold = ("resolution", "shapes")

    def __init__(
        self,
        *,
        resolution: Resolution,
        width: PositiveInt = 128,
        latent_dim: PositiveInt = 128,
        num_classes: PositiveInt = 1000,
        embedding_dim: PositiveInt = 128,
        attention_after: Count | None = 8,
        shapes: Sequence[tuple[bool, int, int]] | None = None,
        truncation: Fraction = 0.4,
        num_levels: PositiveInt = 51,
        legacy_interpolation: bool = False,
        fold: bool = True,
        weights: str | None = None,
    ) -> None:
        super().__init__(
            resolution=resolution,
            latent_dim=latent_dim,
            num_classes=num_classes,
            truncation=truncation,
        )
        self.legacy_interpolation = legacy_interpolation
        self.num_levels = num_levels
        self.fold = fold
        self.network = DeepGenerator(
            shapes=stage_shapes(MULTIPLES[resolution]) if shapes is None else shapes,
            width=width,
            latent_dim=latent_dim,
            num_classes=num_classes,
            embedding_dim=embedding_dim,
            attention_after=attention_after,
            rgb_channels=width,
            num_levels=num_levels,
        )
        self.initialise(weights)

    @staticmethod
    def find_problems(**options: Any) -> list[str]:
        """Check that the block list belongs to the resolution, and the truncation."""
        resolution, shapes = options.get("resolution", 128), options.get("shapes")
        problems = []
        if shapes is None and resolution not in MULTIPLES:
            known = ", ".join(map(str, MULTIPLES))
            problems.append(f"resolution={resolution} has no published blocks; expected {known}")
        if shapes is not None and 4 * 2 ** sum(bool(shape[0]) for shape in shapes) != resolution:
            problems.append(f"shapes do not lead from 4 to resolution={resolution} pixels")
        if shapes is not None and len(shapes) > _MOST_BLOCKS:
            problems.append(f"shapes lists {len(shapes)} blocks; expected at most {_MOST_BLOCKS}")
        attention = options.get("attention_after", 8)
        stages = shapes or stage_shapes(MULTIPLES.get(resolution, ()))
        if stages and attention is not None and attention >= len(stages):
            problems.append(f"attention_after={attention} must be from 0 to {len(stages) - 1}")
        if options.get("truncation", 1.0) == 0:
            problems.append("truncation=0 leaves one picture; expected above 0, at most 1")
        return problems

    def paint(self, vector: Tensor, label: Tensor | None) -> Tensor:
        """See `ImageGenerator.paint`."""
        level = self._find_level()
        for module in self.network.modules():
            if isinstance(module, ConditionalBatchNorm):
                module.level = level
        image: Tensor = self.network(vector, label)
        return image

    def _find_level(self) -> tuple[int, float]:
        """Stored statistics for the truncation, and the share of the next ones."""
        # Beyond a millionth, a remainder is rounding and the row is exact.
        place = round(min(self.truncation, 1.0) * (self.num_levels - 1), 6)
        row = int(place)
        share = place - row
        return row, 1 - share if self.legacy_interpolation and share else share

    @classmethod
    def rename(cls, content: Any) -> ConvertedWeights:
        """See `SpectralGenerator.rename`."""
        theirs = select_state(content)
        expected = ("embeddings.weight", "generator.gen_z.weight_orig", "generator.bn.weight")
        require_keys(theirs, expected, "a BigGAN-deep generator")
        state = rename(theirs, TABLE)
        state["embedding.weight"] = state["embedding.weight"].T
        for key in ("first.bias", "first.parametrizations.weight.original"):
            state[key] = _move_channels_first(state[key])
        left = "first.parametrizations.weight.0.u"
        state[left] = _move_channels_first(state[left])
        num_classes, embedding_dim = state["embedding.weight"].shape
        num_blocks = count_layers(theirs, r"generator\.layers\.(\d+)\.bn_0\.")
        gates = (re.match(r"layers\.(\d+)\.gate$", key) for key in state)
        condition = state["first.parametrizations.weight.original"].shape[1]
        options: dict[str, Any] = {
            "width": len(state["norm.weight"]),
            "latent_dim": condition - embedding_dim,
            "num_classes": num_classes,
            "embedding_dim": embedding_dim,
            "attention_after": next((int(gate[1]) for gate in gates if gate), None),
            "num_levels": len(state["norm.mean"]),
        }
        # Doublings leave no trace in weights; the published lists have one in two blocks.
        by_length = {len(stage_shapes(value)): key for key, value in MULTIPLES.items()}
        if num_blocks in by_length:
            options["resolution"] = by_length[num_blocks]
        return ConvertedWeights(options, state, ["network"])


def _move_channels_first(tensor: Tensor) -> Tensor:
    """Reorder outputs of the dense layer from (4, 4, C) to (C, 4, 4); other axes stay."""
    return tensor.reshape(16, -1, *tensor.shape[1:]).transpose(0, 1).flatten(0, 1)
