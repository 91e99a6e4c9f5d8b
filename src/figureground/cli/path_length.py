"""Perceptual path length of what a method draws, in the variants of StyleGAN2-ADA.

Karras et al. 2019: how fast pictures change along the paths between two latents. Paths run between
latents z, along great circles, or between the styles w that a network makes of them, straight.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from figureground.cli.drawn import Check
from figureground.core.bounds import PositiveInt
from figureground.core.errors import UserError
from figureground.core.protocols import LatentDecoder, StyleDecoder
from figureground.metrics.features import EfficientNetFeatures
from figureground.metrics.generation import PathLength, squared_distance
from figureground.nn.paths import slerp

PathSpace = Literal["z", "w"]
PathSampling = Literal["full", "end"]

_STEP = 1e-4  # Between two pictures of a path; the published one.


class PathScoring:
    """Measures the path length.

    Args:
        network: Whose features tell pictures apart.
        count: Steps that are measured.
        space: Where paths run: between latents `z` or styles `w`.
        sampling: Where on a path steps are taken: anywhere (`full`) or where it begins (`end`).
        crop: Whether only the part that `crop_face` leaves is compared.
        batch_size: Steps that are measured together.
    """

    def __init__(
        self,
        network: EfficientNetFeatures,
        count: PositiveInt,
        space: PathSpace = "z",
        sampling: PathSampling = "full",
        crop: bool = False,
        batch_size: PositiveInt = 32,
    ) -> None:
        self.network, self.count, self.batch_size = network, count, batch_size
        self.space, self.sampling, self.crop = space, sampling, crop

    @property
    def name(self) -> str:
        """Id of the score: which variant it is, unless it is the usual one."""
        parts: list[str] = [self.space, self.sampling, *(["crop"] if self.crop else [])]
        variant = [] if parts == ["z", "full"] else parts
        return "_".join(["ppl", *variant, self.network.suffix])

    def require_paths(self, method: Any) -> None:
        """Raise `UserError` if `method` has no styles but paths are to run between them."""
        if self.space == "w" and not (isinstance(method, StyleDecoder) and method.num_styles):
            raise UserError(
                f"{type(method).__name__} does not tell styles w that it draws from; use "
                "metrics.generation.path_space=z, or num_paths=0 to do without path lengths"
            )

    def measure(self, method: Any, seed: int, check: Check) -> dict[str, float]:
        """The path length by its id; nothing where a method does not tell its latents.

        Args:
            method: Draws.
            seed: Of the paths.
            check: Called before each batch, to stop by raising.

        Raises:
            UserError: See `require_paths`.
        """
        self.require_paths(method)
        if not isinstance(method, LatentDecoder):
            return {}
        metric = PathLength(_STEP)
        generator = torch.Generator().manual_seed(seed)
        for start in range(0, self.count, self.batch_size):
            check()
            size = min(self.batch_size, self.count - start)
            one, other = (method.latent(size, generator=generator) for _ in range(2))
            place = torch.rand(size, 1, generator=generator).to(one)
            if self.sampling == "end":
                place = torch.zeros_like(place)
            near = self._draw(method, one, other, (place, place + _STEP))
            maps = [self.network.extract_maps(image) for image in near]
            metric.update(squared_distance(*maps).cpu())
        return {self.name: float(metric.compute())}

    @torch.no_grad()
    def _draw(
        self, method: Any, one: Tensor, other: Tensor, places: tuple[Tensor, Tensor]
    ) -> list[Tensor]:
        """Pictures (B, 3, H, W) at two places (B, 1) on the paths between latents (B, D)."""
        if self.space == "w":
            one, other = method.styles(one), method.styles(other)
            layers = [method.decode_styles(one.lerp(other, place.unsqueeze(2))) for place in places]
        else:
            layers = [method.decode(slerp(one, other, place)) for place in places]
        pictures = [each.composite for each in layers]
        return [crop_face(each) for each in pictures] if self.crop else pictures


def crop_face(image: Tensor) -> Tensor:
    """Middle half (B, 3, H / 2, W / 2) of `image` (B, 3, H, W), an eighth of H below the centre.

    StyleGAN cuts out faces so, which leaves out hair and background.
    """
    eighth = image.shape[2] // 8
    return image[:, :, 3 * eighth : 7 * eighth, 2 * eighth : 6 * eighth]
