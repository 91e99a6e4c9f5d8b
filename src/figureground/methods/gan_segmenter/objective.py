"""What a direction is searched by: a lighter middle, a darker border, and edges that stay.

With x = G(z), x' = G(z + r v), grey values g, coordinates u, w in [-1, 1] and rho = |(u, w)|:

- `center`       mean g(x') C, C = 4 (rho - mean rho)                       `circle_map`
- `edges`        mean (E(x) - E(x'))^2, E the Sobel magnitude of g          `edge_strength`
- `lightness`    -mean g(x')
- `square`       as `center` with max(|u|, |w|) in the place of rho         `square_map`
- `edge_change`  mean |E(x) - E(x')|

All are minimised for a lighter foreground; the dark direction has the signs of `center`,
`lightness` and `square` turned. The last three had weight nought in the released code and have the
form given here in this suite only.

The paper's form has no grey values: `center` is -mean over pixels of the RGB sum times a map
that falls from 1 in the middle to -1 in the corners (`cone_map`), and E is the squared Sobel
response summed over RGB.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from figureground.core.bounds import NonNegativeFloat
from figureground.nn.precision import widen

Form = Literal["code", "paper"]

_GRAY = (0.2989, 0.5870, 0.1140)
_TINY = 1e-6  # Under the root of the Sobel magnitude.
_LEAST_WEIGHT = 1e-5  # Terms of smaller weight are not computed.
#: Weights of `center` and `edges` as each form was published.
_WEIGHTS: dict[Form, tuple[float, float]] = {"code": (2.0, 10.0), "paper": (5.0, 1.0)}


@dataclass(frozen=True)
class SearchObjective:
    """Weights of the terms.

    Attributes:
        form: That of the released `code`, or of the `paper`.
        center: Weight of the middle; None: 2 in the code's form, 5 in the paper's.
        edges: Weight of the edges; None: 10 and 1.
        lightness: Weight of the mean brightness.
        square: Weight of the middle by a square map.
        edge_change: Weight of the absolute change of edges.
    """

    form: Form = "code"
    center: NonNegativeFloat | None = None
    edges: NonNegativeFloat | None = None
    lightness: NonNegativeFloat = 0.0
    square: NonNegativeFloat = 0.0
    edge_change: NonNegativeFloat = 0.0

    @staticmethod
    def check_options(
        *, center: float | None, edges: float | None, lightness: float, square: float,
        edge_change: float, **_: object,
    ) -> list[str]:  # fmt: skip
        """Refuse weights that are all nought."""
        weights = (center, edges, lightness, square, edge_change)
        if all(weight is not None and weight <= _LEAST_WEIGHT for weight in weights):
            return ["all weights are 0, so there is nothing to search by; raise center and edges"]
        return []

    @property
    def weights(self) -> dict[str, float]:
        """Weights of all terms that are computed."""
        center, edges = _WEIGHTS[self.form]
        found = {
            "center": center if self.center is None else self.center,
            "edges": edges if self.edges is None else self.edges,
            "lightness": self.lightness,
            "square": self.square,
            "edge_change": self.edge_change,
        }
        return {name: weight for name, weight in found.items() if weight > _LEAST_WEIGHT}

    def terms(self, original: Tensor, shifted: Tensor, signs: Tensor) -> dict[str, Tensor]:
        """Weighted terms of M directions, whose sum is minimised.

        Args:
            original: x, (B, 3, H, W).
            shifted: x' of each direction, (M, B, 3, H, W).
            signs: 1 for directions that shall make the foreground lighter, -1 for darker, (M,).

        Returns:
            Each term by name, (M,).
        """
        # Squares of edges are small: autocasting would convolve in half precision.
        with torch.autocast(shifted.device.type, enabled=False):
            return self._terms(widen(original), widen(shifted), signs)

    def _terms(self, original: Tensor, shifted: Tensor, signs: Tensor) -> dict[str, Tensor]:
        signs = signs.to(shifted)
        found: dict[str, Tensor] = {}
        for name, weight in self.weights.items():
            if name in {"edges", "edge_change"}:
                change = self._edges(original) - self._edges(shifted.flatten(0, 1)).view(
                    *shifted.shape[:2], *shifted.shape[3:]
                )
                change = change.square() if name == "edges" else change.abs()
                found[name] = weight * change.mean(dim=(1, 2, 3))
            else:
                value = self._brightness(shifted) * self._map(name, shifted)
                found[name] = weight * signs * value.mean(dim=(1, 2, 3))
        return found

    def _brightness(self, image: Tensor) -> Tensor:
        return gray(image) if self.form == "code" else image.sum(dim=-3)

    def _map(self, name: str, like: Tensor) -> Tensor:
        height, width = like.shape[-2:]
        if name == "lightness":
            return like.new_full((1, 1), -1.0)
        if name == "square":
            return square_map(height, width).to(like)
        if self.form == "paper":
            return -cone_map(height, width).to(like)
        return circle_map(height, width).to(like)

    def _edges(self, image: Tensor) -> Tensor:
        if self.form == "code":
            return edge_strength(gray(image))
        return sum_of_squared_edges(image)


def gray(image: Tensor) -> Tensor:
    """Grey values (..., H, W) of pictures (..., 3, H, W)."""
    red, green, blue = image.unbind(dim=-3)
    return _GRAY[0] * red + _GRAY[1] * green + _GRAY[2] * blue


def circle_map(height: int, width: int) -> Tensor:
    """C (H, W): below nought in the middle, above it outside a circle, nought in the mean."""
    rho = torch.hypot(*_coordinates(height, width))
    return 4 * (rho - rho.mean())


def square_map(height: int, width: int) -> Tensor:
    """The same outside a square."""
    across, down = _coordinates(height, width)
    far = torch.maximum(across.abs(), down.abs())
    return 4 * (far - far.mean())


def cone_map(height: int, width: int) -> Tensor:
    """The paper's map (H, W): 1 in the middle, -1 in the corners."""
    down = torch.arange(height) - (height - 1) / 2
    across = torch.arange(width) - (width - 1) / 2
    distance = torch.hypot(down[:, None], across[None])
    alpha = math.hypot(height - 1, width - 1) / 4
    return 1 - distance / max(alpha, _TINY)


def edge_strength(values: Tensor) -> Tensor:
    """Sobel magnitude sqrt(gx^2 + gy^2 + 1e-6) of grey pictures (B, H, W)."""
    return (_squared_edges(values[:, None]).squeeze(1) + _TINY).sqrt()


def sum_of_squared_edges(image: Tensor) -> Tensor:
    """Squared Sobel response of pictures (B, 3, H, W), summed over colours: (B, H, W)."""
    return _squared_edges(image).sum(dim=1)


def _squared_edges(image: Tensor) -> Tensor:
    channels = image.shape[1]
    kernel = image.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
    kernels = torch.stack([kernel, kernel.T])[:, None].repeat(channels, 1, 1, 1)
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    edges = F.conv2d(padded, kernels, groups=channels)
    return edges.square().view(len(image), channels, 2, *image.shape[2:]).sum(dim=2)


def _coordinates(height: int, width: int) -> tuple[Tensor, Tensor]:
    down, across = torch.linspace(-1, 1, height), torch.linspace(-1, 1, width)
    return across[None].expand(height, width), down[:, None].expand(height, width)
