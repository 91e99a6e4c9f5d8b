"""A method of this suite that draws from latents, as a generator of its whole pictures.

`layers` gives what the pictures are made of, which other generators cannot say.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from figureground.core.bounds import NonNegativeFloat
from figureground.core.checkpoint import LAST, ConvertedWeights, load_method
from figureground.core.errors import CheckpointError, UserError
from figureground.core.promised import is_promised
from figureground.core.protocols import LatentDecoder, StyleDecoder, TruncatedDecoder
from figureground.core.types import Latent, Layers
from figureground.generators.base import GeneratorCard, ImageGenerator
from figureground.generators.styles import LatentSpace


class CheckpointGenerator(ImageGenerator):
    """What a run of `train` has learned to draw.

    Args:
        weights: A checkpoint, or a run directory, of which `checkpoints/last.ckpt` is taken.
        truncation: Latents are pulled to the mean picture by this; 1 for not at all.
        latent_space: "z": latents are what the method draws from; "w": the styles it maps them to,
            a vector for each layer (N, W), where it has some.
    """

    card = GeneratorCard(
        family="a method of this suite",
        project="figureground",
        files="checkpoints/last.ckpt of a run of train",
        licence="that of the pictures it was trained on",
    )

    def __init__(
        self,
        *,
        weights: str,
        truncation: NonNegativeFloat = 1.0,
        latent_space: LatentSpace = "z",
    ) -> None:
        path = find_checkpoint(weights)
        method = load_method(path)
        name = type(method).__name__
        if not isinstance(method, LatentDecoder):
            raise UserError(
                f"{path} holds {name}, which has no latents that whole pictures are drawn from; "
                "use a checkpoint of a method that has, such as ilsgan"
            )
        if truncation != 1 and not isinstance(method, TruncatedDecoder):
            raise UserError(f"{path} holds {name}, which has no mean picture; use truncation=1")
        drawn = method.latent(1, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            resolution = method.decode(drawn).color.shape[-1]
            if latent_space == "w":
                drawn = _require_styles(method, path).styles(drawn)
        super().__init__(resolution=resolution, latent_dim=drawn.shape[-1], truncation=truncation)
        self.method, self.latent_space, self._shape = method, latent_space, tuple(drawn.shape[1:])
        self.eval().requires_grad_(False)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(D,) of z, or (N, W) of styles."""
        return self._shape

    @property
    def can_truncate(self) -> bool:
        """Whether the method knows a mean picture."""
        return isinstance(self.method, TruncatedDecoder)

    @classmethod
    def check_options(cls, *, weights: str | None = None, **options: Any) -> list[str]:
        """Say that there is no checkpoint, or nothing."""
        if weights is None:
            return ["weights is not set; expected a checkpoint or a run directory of train"]
        if is_promised(weights):
            return []
        try:
            find_checkpoint(weights)
        except CheckpointError as error:
            return [str(error)]
        return []

    @classmethod
    def find_file(cls, weights: str | Path) -> Path:
        """The last checkpoint of a run directory; see `ImageGenerator.find_file`."""
        return find_checkpoint(str(weights))

    def _draw_vector(self, count: int, generator: torch.Generator | None) -> Tensor:
        drawn = self._decoder.latent(count, generator=generator)
        styles = self._style_decoder
        return drawn if styles is None else styles.styles(drawn, truncation=self.truncation)

    def layers(self, latent: Latent) -> Layers:
        """The layers of the pictures of `latent`."""
        vector = latent.vector.to(self.device)
        if (styles := self._style_decoder) is not None:
            return styles.decode_styles(vector)
        if self.truncation == 1:
            return self._decoder.decode(vector)
        if not isinstance(self._decoder, TruncatedDecoder):
            raise ValueError("truncation must be 1 where there is no mean picture")
        return self._decoder.decode_truncated(vector, self.truncation)

    def paint(self, vector: Tensor, label: Tensor | None) -> Tensor:
        """See `ImageGenerator.paint`."""
        return self.layers(Latent(vector)).composite

    @property
    def _style_decoder(self) -> StyleDecoder | None:
        """What maps and paints styles, None where latents are no styles."""
        method: object = self.method
        return method if self.latent_space == "w" and isinstance(method, StyleDecoder) else None

    @property
    def _decoder(self) -> LatentDecoder:
        if not isinstance(self.method, LatentDecoder):
            raise TypeError(f"{type(self.method).__name__} has no latents")
        return self.method

    @classmethod
    def convert(cls, content: Any) -> ConvertedWeights:
        """Never: checkpoints are read by `core.checkpoint.load_method`."""
        raise CheckpointError("it is no checkpoint of this suite")


def _require_styles(method: object, path: Path) -> StyleDecoder:
    """The method, if it has styles; otherwise `UserError`."""
    if isinstance(method, StyleDecoder) and method.num_styles:
        return method
    raise UserError(
        f"{path} holds {type(method).__name__}, which has no styles; use generator.latent_space=z, "
        "or a checkpoint of ilsgan, or of gan with network=stylegan2"
    )


def find_checkpoint(place: str) -> Path:
    """The checkpoint `place`, or the last one of a run directory.

    Raises:
        CheckpointError: There is none.
    """
    path = Path(place)
    if path.is_dir():
        for candidate in (path / "checkpoints" / LAST, path / LAST):
            if candidate.is_file():
                return candidate
        raise CheckpointError(
            f"{place} has no checkpoints/{LAST}; expected a run directory of train"
        )
    if not path.is_file():
        raise CheckpointError(f"{place} does not exist; expected a checkpoint or a run of train")
    return path
