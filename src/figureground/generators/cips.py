"""CIPS (Anokhin et al. 2021): each pixel on its own, from its place and a style.

A pixel's features are the sine of a linear map of its coordinates, and a learned vector of its
place; modulated 1x1 convolutions turn them into colour. "skip" sums colours of several depths,
"res" has residual blocks and one colour at the end.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from figureground.core.bounds import Depth, NonNegativeFloat, PositiveInt, Resolution
from figureground.core.checkpoint import ConvertedWeights
from figureground.core.errors import CheckpointError
from figureground.generators.base import GeneratorCard, select_state
from figureground.generators.sampling import draw_normal
from figureground.generators.styles import LatentSpace, StyleImageGenerator
from figureground.nn.equalized import (
    ACTIVATION_GAIN,
    EqualizedConv2d,
    EqualizedLinear,
    activate,
    normalize_second_moment,
)
from figureground.nn.modulation import NoiseMode, modulated_conv2d

CIPSArchitecture = Literal["skip", "res"]

_LR_MULTIPLIER = 0.01  # Of the mapping network.
_MEAN_SAMPLES = 4096  # Styles that the mean is taken over; the released code takes 100, unseeded.
_FULL_WIDTH_SIDE = 32  # Up to here widths are the largest.

#: Patterns of their keys -> ours, tried one after the other.
TABLE = (
    (r"^lff\.ffm\.conv\.", "waves."),
    (r"^emb\.input$", "places"),
    (r"^style\.(\d+)\.", r"mapping.\1."),
    (r"^to_rgb_last\.", "to_rgbs.0."),
    (r"\.skip\.0\.", ".skip."),
    (r"\.conv\.modulation\.", ".affine."),
    (r"\.conv\.weight$", ".weight"),
    (r"\.noise\.weight$", ".noise_strength"),
    (r"\.activate\.bias$", ".bias"),
)


def channel_width(side: int, largest: int, multiplier: int, architecture: CIPSArchitecture) -> int:
    """Channels of the layers that a network of `side` pixels would end with."""
    if side <= _FULL_WIDTH_SIDE:
        return largest
    # Residual networks of 512 and 1024 pixels end twice as wide as the others.
    wider = 2 if architecture == "res" and side > 256 else 1
    return multiplier * wider * 16384 // side


class PixelLayer(nn.Module):
    """Modulated 1x1 convolution; for features also noise, bias and leaky ReLU, else bias alone.

    Args:
        in_channels: Channels of the incoming map.
        out_channels: Channels of the result.
        style_dim: Size of a style.
        noise: Constant noise (R, R), for features; None for colours.
    """

    noise_const: Tensor | None

    def __init__(
        self, in_channels: int, out_channels: int, style_dim: int, noise: Tensor | None = None
    ) -> None:
        super().__init__()
        self.affine = EqualizedLinear(style_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1))
        self.weight_gain = 1 / math.sqrt(in_channels)
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.register_buffer("noise_const", noise, persistent=False)
        if noise is not None:
            self.noise_strength = nn.Parameter(torch.zeros(1))

    def forward(self, features: Tensor, style: Tensor, noise: NoiseMode = "none") -> Tensor:
        """Map (B, in_channels, R, R) under (B, style_dim) to (B, out_channels, R, R)."""
        is_feature = self.noise_const is not None
        gain = ACTIVATION_GAIN["lrelu"] if is_feature else 1.0
        result = modulated_conv2d(
            features,
            self.weight * self.weight_gain,
            self.affine(style),
            demodulate=is_feature,
            noise=self._noise(noise, features),
            gain=gain,
        )
        result = result + (self.bias * gain).to(result.dtype)[:, None, None]
        return activate(result, "lrelu") if is_feature else result

    def _noise(self, mode: NoiseMode, features: Tensor) -> Tensor | None:
        if self.noise_const is None or mode == "none":
            return None
        if mode == "const":
            return self.noise_const * self.noise_strength
        return torch.randn_like(features[:, :1]) * self.noise_strength


class PixelBlock(nn.Module):
    """Two layers and a way past them: (f(x) + skip(x)) / sqrt(2).

    Args:
        in_channels: Channels of the incoming map.
        out_channels: Channels of the result; where they differ the skip is a 1x1 convolution.
        style_dim: Size of a style.
        noises: Constant noise of the two layers.
    """

    def __init__(
        self, in_channels: int, out_channels: int, style_dim: int, noises: tuple[Tensor, Tensor]
    ) -> None:
        super().__init__()
        self.conv1 = PixelLayer(in_channels, out_channels, style_dim, noises[0])
        self.conv2 = PixelLayer(out_channels, out_channels, style_dim, noises[1])
        changes = in_channels != out_channels
        self.skip = (
            EqualizedConv2d(in_channels, out_channels, 1, use_bias=False) if changes else None
        )

    def forward(self, features: Tensor, style: Tensor, noise: NoiseMode = "none") -> Tensor:
        """Map (B, in_channels, R, R) under (B, style_dim) to (B, out_channels, R, R)."""
        past = features if self.skip is None else self.skip(features)
        result = self.conv2(self.conv1(features, style, noise), style, noise)
        joined: Tensor = (result + past) / math.sqrt(2)
        return joined


class CIPS(StyleImageGenerator):
    """A CIPS generator.

    Args:
        resolution: Side of the pictures.
        latent_dim: Size of z and of w.
        width: Waves, and learned values, of a pixel's place.
        mapping_depth: Dense layers from z to w.
        channel_max: Channels of the first layers.
        channel_multiplier: Of the channels of later ones.
        architecture: "skip" or "res".
        latent_space: "w": latents are styles; "z": what these are mapped from.
        truncation: Styles are pulled to their mean by this; 1 for not at all.
        noise_mode: "const" paints equal pictures of equal latents, "random" as the authors' code
            does, "none".
        weights: `*.pt` of the authors, a converted file, or None for random weights.
    """

    card = GeneratorCard(
        family="CIPS",
        project="CIPS",
        files="churches_g_ema.pt",
        licence="MIT, that of the project",
    )

    def __init__(
        self,
        *,
        resolution: Resolution,
        latent_dim: PositiveInt = 512,
        width: PositiveInt = 512,
        mapping_depth: Depth = 8,
        channel_max: PositiveInt = 512,
        channel_multiplier: PositiveInt = 2,
        architecture: CIPSArchitecture = "skip",
        latent_space: LatentSpace = "w",
        truncation: NonNegativeFloat = 0.7,
        noise_mode: NoiseMode = "const",
        weights: str | None = None,
    ) -> None:
        super().__init__(
            resolution=resolution,
            latent_dim=latent_dim,
            style_dim=latent_dim,
            latent_space=latent_space,
            truncation=truncation,
        )
        self.noise_mode: NoiseMode = noise_mode
        self.architecture = architecture
        self.mean_style: Tensor | None = None
        self.waves = nn.Conv2d(2, width, 1)
        self.places = nn.Parameter(torch.randn(1, width, resolution, resolution))
        dense = {
            str(number + 1): EqualizedLinear(
                latent_dim, latent_dim, activation="lrelu", lr_multiplier=_LR_MULTIPLIER
            )
            for number in range(mapping_depth)
        }
        self.mapping = nn.ModuleDict(dense)
        depth = resolution.bit_length() - 2
        widths = [
            channel_width(2 ** (n + 2), channel_max, channel_multiplier, architecture)
            for n in range(depth)
        ]
        (self._add_blocks if architecture == "res" else self._add_layers)(widths, 2 * width)
        self.initialise(weights)

    def _add_layers(self, widths: list[int], in_channels: int) -> None:
        """Pairs of layers, with a colour after each pair."""
        size = self.latent_dim
        self.conv1 = PixelLayer(in_channels, widths[0], size, self._fixed_noise(0))
        previous = [widths[0], *widths]
        self.linears = nn.ModuleList(
            PixelLayer(
                previous[n // 2] if n % 2 == 0 else widths[n // 2],
                widths[n // 2],
                size,
                self._fixed_noise(n + 1),
            )
            for n in range(2 * len(widths))
        )
        self.to_rgbs = nn.ModuleList(PixelLayer(width, 3, size) for width in widths)

    def _add_blocks(self, widths: list[int], in_channels: int) -> None:
        """Residual blocks, with a colour after the last."""
        size = self.latent_dim
        self.linears = nn.ModuleList(
            [PixelLayer(in_channels, widths[0], size, self._fixed_noise(0))]
        )
        for n, (past, width) in enumerate(zip([widths[0], *widths], widths, strict=False)):
            noises = (self._fixed_noise(2 * n + 1), self._fixed_noise(2 * n + 2))
            self.linears.append(PixelBlock(past, width, size, noises))
        self.to_rgbs = nn.ModuleList([PixelLayer(widths[-1], 3, size)])

    def _fixed_noise(self, number: int) -> Tensor:
        size = (self.resolution, self.resolution)
        if torch.get_default_device().type == "meta":
            return torch.empty(size)
        chance = torch.Generator().manual_seed(number)
        return torch.randn(size, generator=chance, device="cpu")

    def map(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Truncated styles (B, latent_dim) of z (B, latent_dim)."""
        return self.truncate(self._map_all(z))

    def truncate(self, styles: Tensor) -> Tensor:
        """Pull styles (B, latent_dim) to their mean by `truncation`."""
        if self.truncation == 1:
            return styles
        if self.mean_style is None:
            chance = torch.Generator().manual_seed(0)
            with torch.no_grad():
                z = draw_normal(_MEAN_SAMPLES, self.latent_dim, generator=chance)
                self.mean_style = self._map_all(z.to(styles)).mean(dim=0)
        mean = self.mean_style.to(styles)
        return mean + self.truncation * (styles - mean)

    def _map_all(self, z: Tensor) -> Tensor:
        styles = normalize_second_moment(z)
        for layer in self.mapping.values():
            styles = layer(styles)
        return styles

    def paint_styles(self, styles: Tensor) -> Tensor:
        """Pictures (B, 3, R, R) of styles (B, latent_dim); the range has no limits."""
        features = self._place_features().expand(len(styles), -1, -1, -1)
        if self.architecture == "res":
            for layer in self.linears:
                features = layer(features, styles, self.noise_mode)
            colour: Tensor = self.to_rgbs[0](features, styles)
            return colour
        features = self.conv1(features, styles, self.noise_mode)
        total: Tensor | None = None
        for number, to_rgb in enumerate(self.to_rgbs):
            for layer in self.linears[2 * number : 2 * number + 2]:
                features = layer(features, styles, self.noise_mode)
            part = to_rgb(features, styles)
            total = part if total is None else total + part
        if total is None:
            raise RuntimeError("no layer painted a picture")
        return total

    def _place_features(self) -> Tensor:
        """Waves and learned values of all places, (1, 2 * width, R, R)."""
        line = torch.linspace(-1, 1, self.resolution, dtype=torch.float32).to(self.places)
        rows, columns = torch.meshgrid(line, line, indexing="ij")
        # The ends of the line are the picture's corners, not centres of pixels, so the values that
        # were learned for pixels are read in between.
        grid = torch.stack([columns, rows], dim=-1)[None]
        places = F.grid_sample(
            self.places, grid, mode="bilinear", padding_mode="border", align_corners=False
        )
        waves = torch.sin(self.waves(grid.permute(0, 3, 1, 2)))
        return torch.cat([waves, places], dim=1)

    @classmethod
    def convert(cls, content: Any) -> ConvertedWeights:
        """Read a state dict of the authors' `CIPSskip` or `CIPSres`."""
        theirs = select_state(content, "g_ema")
        options = _infer_options(theirs)
        state = {}
        for key, tensor in theirs.items():
            for pattern, replacement in TABLE:
                key = re.sub(pattern, replacement, key)
            is_kernel = tensor.dim() == 5 and key.endswith(".weight")
            is_colour_bias = key.startswith("to_rgbs.") and key.endswith(".bias")
            flat = tensor.flatten() if is_colour_bias and tensor.dim() == 4 else tensor
            state[key] = flat[0] if is_kernel else flat
        return ConvertedWeights(options, state, ["generator"])


def _infer_options(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read sizes off the weights.

    Raises:
        CheckpointError: They are not of CIPS.
    """
    places, first = state.get("emb.input"), state.get("style.1.weight")
    has_waves = "lff.ffm.conv.weight" in state
    if places is None or first is None or not has_waves or places.dim() != 4:
        raise CheckpointError("it has no coordinate embedding and styles of CIPS")
    is_residual = "to_rgb_last.bias" in state
    head = "linears.0.conv.weight" if is_residual else "conv1.conv.weight"
    if head not in state:
        raise CheckpointError(f"it lacks {head} of CIPS")
    options: dict[str, Any] = {
        "resolution": places.shape[-1],
        "latent_dim": first.shape[0],
        "width": places.shape[1],
        "mapping_depth": sum(bool(re.fullmatch(r"style\.\d+\.bias", key)) for key in state),
        "channel_max": state[head].shape[1],
        "architecture": "res" if is_residual else "skip",
    }
    last = state.get("to_rgb_last.conv.weight" if is_residual else _last_colour(state))
    unit = channel_width(places.shape[-1], 0, 1, options["architecture"])
    if last is not None and unit:  # Small networks have no width that depends on it.
        options["channel_multiplier"] = last.shape[2] // unit
    return options


def _last_colour(state: Mapping[str, Tensor]) -> str:
    colours = [key for key in state if re.fullmatch(r"to_rgbs\.\d+\.conv\.weight", key)]
    return max(colours, key=lambda key: int(key.split(".")[1]), default="")
