"""DCGAN (Radford et al. 2016): transposed convolutions with batch normalisation.

The family of the one real pretrained generator that a package index carries (64-pixel faces).
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from figureground.core.bounds import NonNegativeFloat, PositiveInt, Resolution
from figureground.core.checkpoint import ConvertedWeights
from figureground.core.errors import CheckpointError
from figureground.generators.base import GeneratorCard, ImageGenerator, select_state

_KERNEL = 4


class DCGAN(ImageGenerator):
    """A DCGAN generator: 1x1 -> 4x4 -> 8x8 -> ... -> R x R, each step halving the channels.

    Args:
        resolution: Side R of the pictures.
        latent_dim: Size of z.
        width: Channels before the last layer.
        truncation: Below 1, z comes from a normal distribution cut off at 2, times this.
        weights: The authors' file, a converted one, or None for random weights.
    """

    card = GeneratorCard(
        family="DCGAN",
        project="gan-face-generate (package index, version 1.1.1)",
        files="weights.tar",
        licence="MIT; trained on DigiFace-1M, which is for non-commercial research",
        note="64-pixel faces before blurred scenes; a file of PyTorch whatever its ending says.",
    )

    def __init__(
        self,
        *,
        resolution: Resolution = 64,
        latent_dim: PositiveInt = 100,
        width: PositiveInt = 64,
        truncation: NonNegativeFloat = 1.0,
        weights: str | None = None,
    ) -> None:
        super().__init__(resolution=resolution, latent_dim=latent_dim, truncation=truncation)
        steps = resolution.bit_length() - 3  # Doublings from 4 pixels on.
        widths = [latent_dim, *(width * 2**n for n in reversed(range(steps))), 3]
        layers: list[nn.Module] = []
        for number, (before, after) in enumerate(pairwise(widths)):
            stride, padding = (1, 0) if number == 0 else (2, 1)
            layers.append(nn.ConvTranspose2d(before, after, _KERNEL, stride, padding, bias=False))
            is_last = number == len(widths) - 2
            layers += [nn.Tanh()] if is_last else [nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        self.main = nn.Sequential(*layers)
        self.initialise(weights)

    def paint(self, vector: Tensor, label: Tensor | None) -> Tensor:
        """See `ImageGenerator.paint`."""
        image: Tensor = self.main(vector[:, :, None, None])
        return image

    @classmethod
    def convert(cls, content: Any) -> ConvertedWeights:
        """Read a state dict, alone or under `netG_state_dict`."""
        theirs = select_state(content, "netG_state_dict", "netG", "state_dict")
        state = {key.removeprefix("module."): tensor for key, tensor in theirs.items()}
        kernels = [
            state[key]
            for key in sorted(state, key=_position)
            if re.fullmatch(r"main\.\d+\.weight", key) and state[key].dim() == _KERNEL
        ]
        is_dcgan = all(tensor.shape[2:] == (_KERNEL, _KERNEL) for tensor in kernels)
        if len(kernels) < 2 or not is_dcgan or kernels[-1].shape[1] != 3:
            raise CheckpointError("it has no transposed 4x4 convolutions of a DCGAN")
        options = {
            "resolution": 2 ** (len(kernels) + 1),
            "latent_dim": kernels[0].shape[0],
            "width": kernels[-1].shape[0],
        }
        return ConvertedWeights(options, state, ["main"])


def _position(key: str) -> int:
    found = re.match(r"main\.(\d+)\.", key)
    return int(found[1]) if found else -1
