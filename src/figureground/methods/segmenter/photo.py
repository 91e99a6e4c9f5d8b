"""What happens to photographs and not to drawn pictures: mild changes of colour, zoom, and JPEG.

Trained on these, a network minds less that its pairs were drawn. JPEG is that of the standard
(ITU T.81): blocks of 8 x 8, cosine transform, the tables of its annex K scaled by the quality as
libjpeg scales them, colour differences at half the resolution.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_BLOCK = 8
_QUALITY = (30, 95)
_JITTER = 0.2  # Of brightness, contrast and saturation, relative.
_ZOOM = 0.5  # Largest, in octaves: up to 1.41 nearer.
_PROBABILITY = 0.5  # Of flip and of JPEG.
_LUMA = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    *(17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99),
    *(24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99),
    *(99,) * 32,
)
# From RGB to luma and differences of colour (BT.601).
_COLORS = (
    (0.299, 0.587, 0.114),
    (-0.168736, -0.331264, 0.5),
    (0.5, -0.418688, -0.081312),
)


def draw_view(count: int, side: int) -> Tensor:
    """Draw flips and zooms into random places of pictures of this side.

    Returns:
        (B, 3, 3), from output to input coordinates.
    """
    flip = torch.where(torch.rand(count) < _PROBABILITY, -1.0, 1.0)
    scale = 2 ** (-_ZOOM * torch.rand(count))
    # Nothing beyond the middle of the outermost pixels is seen.
    shift = (2 * torch.rand(2, count) - 1) * (1 - scale) * (1 - 1 / side)
    matrix = torch.zeros(count, 3, 3)
    matrix[:, 0, 0], matrix[:, 1, 1], matrix[:, 2, 2] = flip * scale, scale, 1
    matrix[:, 0, 2], matrix[:, 1, 2] = shift
    return matrix


def jitter(image: Tensor) -> Tensor:
    """Change brightness, contrast and saturation of (B, 3, H, W) in [-1, 1] a little."""
    light, contrast, saturation = 1 + _JITTER * (2 * torch.rand(3, len(image), 1, 1, 1) - 1)
    weights = image.new_tensor(_COLORS[0]).view(1, 3, 1, 1)
    image = (image + 1) * light.to(image) - 1
    mean = (image * weights).sum(dim=1, keepdim=True).mean(dim=(2, 3), keepdim=True)
    image = mean + (image - mean) * contrast.to(image)
    gray = (image * weights).sum(dim=1, keepdim=True)
    changed: Tensor = gray + (image - gray) * saturation.to(image)
    return changed.clamp(-1, 1)


def compress_some(image: Tensor) -> Tensor:
    """Compress every other picture of (B, 3, H, W) in [-1, 1] by a random quality."""
    low, high = _QUALITY
    quality = torch.randint(low, high + 1, (len(image),))
    chosen = torch.rand(len(image)) < _PROBABILITY
    if not chosen.any():
        return image
    found = image.clone()
    place = chosen.to(image.device)
    found[place] = compress(image[place], quality[chosen])
    return found


def compress(image: Tensor, quality: Tensor) -> Tensor:
    """What JPEG leaves of pictures.

    Args:
        image: (B, 3, H, W) in [-1, 1].
        quality: From 1 to 100, (B,) int64.

    Returns:
        (B, 3, H, W) in [-1, 1], of whole grey levels.
    """
    pixels = (image.float() * 127.5 + 127.5).round().clamp(0, 255)
    colors = pixels.new_tensor(_COLORS)
    planes = (colors @ pixels.flatten(2)).view_as(pixels)
    luma, chroma = planes[:, :1], planes[:, 1:]
    size = (int(image.shape[2]), int(image.shape[3]))
    luma = _quantize(luma - 128, _table(_LUMA, quality).to(pixels)) + 128
    small = F.avg_pool2d(chroma, 2, ceil_mode=True, count_include_pad=False)
    chroma = _quantize(small, _table(_CHROMA, quality).to(pixels))
    wide = F.interpolate(chroma, scale_factor=2.0, mode="bilinear", align_corners=False)
    chroma = wide[:, :, : size[0], : size[1]]
    back: Tensor = torch.linalg.inv(colors) @ torch.cat([luma, chroma], dim=1).flatten(2)
    levels = back.view_as(pixels).round().clamp(0, 255)
    return (levels / 127.5 - 1).to(image)


def _table(base: tuple[int, ...], quality: Tensor) -> Tensor:
    """Steps of the 64 coefficients, (B, 8, 8)."""
    q = quality.view(-1, 1, 1)
    scale = torch.where(q < 50, 5000 // q.clamp(min=1), 200 - 2 * q)
    steps: Tensor = (torch.tensor(base).view(1, 8, 8) * scale + 50) // 100
    return steps.clamp(1, 255)


def _quantize(plane: Tensor, table: Tensor) -> Tensor:
    """Round the cosine coefficients of the blocks of (B, C, H, W) to multiples of (B, 8, 8)."""
    height, width = plane.shape[2:]
    padded = F.pad(plane, (0, -width % _BLOCK, 0, -height % _BLOCK), mode="replicate")
    shape = padded.shape
    blocks = padded.unfold(2, _BLOCK, _BLOCK).unfold(3, _BLOCK, _BLOCK)  # (B, C, h, w, 8, 8)
    basis = _basis().to(plane)
    steps = table[:, None, None, None]
    coefficients = (basis @ blocks @ basis.T / steps).round() * steps
    restored = basis.T @ coefficients @ basis
    return restored.transpose(3, 4).reshape(shape)[:, :, :height, :width]


def _basis() -> Tensor:
    """Orthonormal cosines, (8, 8)."""
    number = torch.arange(_BLOCK, dtype=torch.float64)
    basis = torch.cos(math.pi / _BLOCK * number[:, None] * (number + 0.5)) * 0.5
    basis[0] /= math.sqrt(2)
    return basis
