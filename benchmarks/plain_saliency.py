"""F over thresholds and pairs on disk as the published scripts take them, written from the spec.

Section 6 of the spec of gan-segmenter for scores (a loop over thresholds for each picture),
sections 3 and 5 for pairs (a call of the generator for each shift, a loop over masks for components
and over pictures for histograms, a JPEG and a PNG file for each pair).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage
from torch import Tensor

_GRAY = (0.2989, 0.5870, 0.1140)


def f_measure(found: Tensor, truth: Tensor) -> Tensor:
    """F with beta^2 = 0.3 of bool masks of one picture."""
    hits = (found & truth).float().sum()
    precision = hits / found.float().sum() if found.any() else torch.tensor(1.0)
    recall = hits / truth.float().sum() if truth.any() else torch.tensor(1.0)
    below = 0.3 * precision + recall
    return 1.3 * precision * recall / below if below > 0 else torch.tensor(0.0)


def max_f(probabilities: list[Tensor], masks: list[Tensor]) -> float:
    """Maximum over the thresholds k / 255, k = 1 .. 254, of the mean over pictures (H, W)."""
    curve = torch.zeros(254)
    for share, mask in zip(probabilities, masks, strict=True):
        truth = mask > 0.5
        curve += torch.stack([f_measure(share > k / 255, truth) for k in range(1, 255)])
    return float((curve / len(masks)).max())


def gray(image: Tensor) -> Tensor:
    """Grey values (B, H, W) of (B, 3, H, W)."""
    return sum(weight * image[:, channel] for channel, weight in enumerate(_GRAY))


def clean(masks: Tensor, threshold: float) -> Tensor:
    """Components above a share of the largest one, mask by mask, component by component."""
    kept = []
    for mask in masks:
        labels, count = ndimage.label(mask.numpy(), np.ones((3, 3)))
        sizes = [int((labels == number).sum()) for number in range(1, count + 1)]
        out = np.zeros_like(labels, dtype=bool)
        for number, size in enumerate(sizes, start=1):
            if size / max(sizes) > threshold:
                out |= labels == number
        kept.append(torch.from_numpy(out))
    return torch.stack(kept)


def has_peaks(image: Tensor, bins: int = 12) -> bool:
    """Whether the smoothed histogram of one picture (3, H, W) has two maxima or more."""
    histogram = torch.histc(image, bins, -1, 1)
    smooth = F.conv1d(histogram.view(1, 1, -1), torch.ones(1, 1, 3), padding=1).flatten().tolist()
    peaks = 0
    for place, value in enumerate(smooth):
        before = smooth[place - 1] if place else -1
        after = smooth[place + 1] if place + 1 < len(smooth) else -1
        peaks += value >= before and value >= after
    return peaks >= 2


def draw(
    paint: Callable[[Tensor], Tensor], latent: Tensor, light: Tensor, dark: Tensor, step: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures, masks and which pass the filters, of both directions."""
    image, bright, dim = (paint(latent), paint(latent + step * light), paint(latent + step * dark))
    sides = [clean(gray(bright) > gray(image), 0.2), clean(gray(image) > gray(dim), 0.2)]
    mask = clean(gray(bright - dim) > 0, 0.2)
    keep = []
    for number in range(len(image)):
        areas = [float(side[number].float().mean()) for side in sides]
        fits = all(0 <= area <= 0.5 for area in areas)
        keep.append(fits and has_peaks(bright[number]) and has_peaks(dim[number]))
    return image, mask, torch.tensor(keep)


def write(folder: Path, image: Tensor, mask: Tensor, first: int) -> None:
    """A JPEG and a PNG file for each pair."""
    for number, (picture, object_) in enumerate(zip(image, mask, strict=True), start=first):
        pixels = ((0.5 * picture + 0.5).clamp(0, 1) * 255).to(torch.uint8).permute(1, 2, 0).numpy()
        name = f"{number:08d}-seed_0-class_000"
        Image.fromarray(pixels).save(folder / f"{name}.jpg")
        Image.fromarray((object_.numpy() * 255).astype(np.uint8)).save(folder / f"{name}.png")
