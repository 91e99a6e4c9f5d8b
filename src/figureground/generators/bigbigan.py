"""BigBiGAN's generator (Donahue and Simonyan 2019) as ported to PyTorch: ImageNet at 128 pixels.

It draws without classes. The port puts it into a network with classes, whose class vectors are all
the same, so class 0 stands for all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from figureground.core.bounds import Count, NonNegativeFloat, PositiveInt
from figureground.core.checkpoint import ConvertedWeights
from figureground.generators.base import GeneratorCard, select_state
from figureground.generators.blocks import CHANNEL_MULTIPLES
from figureground.generators.renaming import Table, rename, require_keys
from figureground.generators.resnet import ResNetGenerator
from figureground.generators.spectral import ORIGINAL, SpectralGenerator

#: Channels as in its line, but for 64 pixels.
MULTIPLES = CHANNEL_MULTIPLES | {64: (16, 16, 8, 4, 2)}
#: Their names, patterns, and ours; indices of layers are ours already.
TABLE: Table = (
    (r"^shared\.", "embedding."),
    (r"^linear\.", "first."),
    (r"^output_layer\.0\.gain$", "norm.weight"),
    (r"^output_layer\.0\.", "norm."),
    (r"^output_layer\.2\.", "to_rgb."),
    (r"\.bn(\d)\.", r".norm\1."),
    (r"\.gain\.", ".scale."),
    (r"\.bias\.", ".shift."),
    (r"\.stored_mean$", ".mean"),
    (r"\.stored_var$", ".variance"),
    (r"\.conv_sc\.", ".shortcut."),
    (r"\.theta\.", ".query."),
    (r"\.phi\.", ".key."),
    (r"\.g\.", ".value."),
    (r"\.o\.", ".output."),
    (r"\.gamma$", ".gate"),
    (r"\.u0$", ".parametrizations.weight.0.u"),
)
_OUTPUT_EPS = 1e-5  # The ported code leaves the last normalisation at its default.


class BigBiGAN(SpectralGenerator):
    """BigBiGAN's generator.

    Args:
        resolution: Side of the pictures.
        width: Channels at full resolution (at 64 pixels half of them, at 32 a quarter).
        latent_dim: Size of a latent, a multiple of the number of blocks plus 1.
        embedding_dim: Size of the class vector.
        embedding_rows: Class vectors in the file, of which the first is used.
        attention_after: Number of blocks before self-attention.
        truncation: Below 1 latents are likelier and pictures less varied.
        fold: Whether spectral norm is computed once, while reading, rather than at each call.
        weights: `BigBiGAN_x1.pth` of the project, a converted file, or None for random weights.
    """

    card = GeneratorCard(
        family="BigBiGAN",
        project="BigGANsAreWatching",
        files="BigBiGAN_x1.pth",
        licence="none stated by the project; ask its authors",
        note="A port of the TensorFlow Hub module bigbigan-resnet50, averaged weights; no encoder.",
    )

    def __init__(
        self,
        *,
        resolution: PositiveInt = 128,
        width: PositiveInt = 96,
        latent_dim: PositiveInt = 120,
        embedding_dim: PositiveInt = 128,
        embedding_rows: PositiveInt = 1000,
        attention_after: Count | None = 4,
        truncation: NonNegativeFloat = 1.0,
        fold: bool = True,
        weights: str | None = None,
    ) -> None:
        super().__init__(resolution=resolution, latent_dim=latent_dim, truncation=truncation)
        self.fold = fold
        self.network = ResNetGenerator(
            multiples=MULTIPLES[resolution],
            width=width,
            latent_dim=latent_dim,
            num_classes=embedding_rows,
            embedding_dim=embedding_dim,
            attention_after=attention_after,
            output_eps=_OUTPUT_EPS,
        )
        self.initialise(weights)

    @staticmethod
    def find_problems(**options: Any) -> list[str]:
        """Check the resolution, and that the latent divides into chunks."""
        resolution, latent_dim = options.get("resolution", 128), options.get("latent_dim", 120)
        if resolution not in MULTIPLES:
            known = ", ".join(map(str, MULTIPLES))
            return [f"resolution={resolution} is unknown to BigBiGAN; expected {known}"]
        chunks = len(MULTIPLES[resolution])
        problems = []
        if latent_dim % chunks:
            problems.append(
                f"latent_dim={latent_dim} does not divide into {chunks} chunks, one for each block "
                "and one for the 4x4 maps"
            )
        attention = options.get("attention_after", 4)
        if attention is not None and not 1 <= attention < chunks:
            problems.append(f"attention_after={attention} must be from 1 to {chunks - 1}")
        return problems

    def paint(self, vector: Tensor, label: Tensor | None) -> Tensor:
        """See `ImageGenerator.paint`."""
        label = vector.new_zeros(len(vector)).long() if label is None else label
        image: Tensor = self.network(vector, label)
        return image

    @classmethod
    def rename(cls, content: Any) -> ConvertedWeights:
        """See `SpectralGenerator.rename`."""
        theirs = select_state(content)
        expected = ("shared.weight", "linear.u0", "output_layer.0.gain")
        require_keys(theirs, expected, "BigBiGAN's generator")
        attention = _find_attention(theirs)
        state = rename(_join_lists(theirs, attention), TABLE)
        for key in [key for key in state if key.endswith(".0.u")]:
            name = key.removesuffix(".parametrizations.weight.0.u")
            state[name + ORIGINAL] = state.pop(f"{name}.weight")
            state[key] = state[key].flatten()
        num_blocks = len({key.split(".")[1] for key in theirs if key.startswith("blocks.")})
        multiples = MULTIPLES.get(4 * 2**num_blocks, (1,))
        rows, embedding_dim = state["embedding.weight"].shape
        options = {
            "resolution": 4 * 2**num_blocks,
            "width": len(state["norm.weight"]) // multiples[-1],
            "latent_dim": state["first" + ORIGINAL].shape[1] * (num_blocks + 1),
            "embedding_dim": embedding_dim,
            "embedding_rows": rows,
            "attention_after": attention,
        }
        return ConvertedWeights(options, state, ["network"])


def _find_attention(state: Mapping[str, Tensor]) -> int | None:
    """Number of blocks up to attention, which shares a list with the block before it."""
    found = [re.match(r"blocks\.(\d+)\.1\.gamma$", key) for key in state]
    return next((int(match[1]) + 1 for match in found if match), None)


def _join_lists(state: Mapping[str, Tensor], attention: int | None) -> dict[str, Tensor]:
    """Give attention an index of its own, scalars one axis; drop what is logged only."""
    joined = {}
    for key, tensor in state.items():
        if match := re.match(r"blocks\.(\d+)\.(\d)\.", key):
            index, place = int(match[1]), int(match[2])
            index += place + int(attention is not None and index >= attention)
            key = f"layers.{index}.{key[match.end() :]}"
        if not key.endswith(".sv0"):
            joined[key] = tensor.reshape(1) if tensor.dim() == 0 else tensor
    return joined
