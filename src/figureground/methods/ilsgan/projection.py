"""The picture a layered generator can draw that comes nearest to a given one.

The search of StyleGAN2 (Karras et al. 2020, section 5 and appendix D), for two layers at once: the
mean style w_b of backgrounds, w_f of foregrounds and all maps of noise n move to minimise

    distance(composite(w_b + e_b, w_f + e_f, n), picture) + 1e5 L_noise(n),

- e ~ N(0, (0.05 s t^2)^2), s^2 = E |w - E w|^2 of the layer's mapping network; t falls from 1 to 0
  over three quarters of the steps                                    `Schedule.spread`
- Adam at a rate of 0.1, which rises over the first twentieth of the steps and falls along a cosine
  over the last quarter                                               `Schedule.rate`
- L_noise: squared correlations of each map with itself shifted by one pixel, at all sizes down to
  8 pixels; after each step maps get mean 0 and variance 1            `noise_correlation`

Pictures are searched side by side and share all random numbers, so none depends on the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from figureground.methods.ilsgan.networks import LayeredGenerator
from figureground.methods.ilsgan.perturbation import LayeredPicture
from figureground.metrics.generation import squared_distance
from figureground.nn.precision import widen

Features = Callable[[Tensor], list[Tensor]]
Report = Callable[[int, Tensor], object]
#: Buffers of a synthesis network by name: (B, 1, r, r) for maps of side r.
Noise = dict[str, Tensor]

_RATE, _RISE, _FALL = 0.1, 0.05, 0.25
_SPREAD, _SPREAD_UNTIL = 0.05, 0.75
_NOISE_WEIGHT = 1e5
_SMALLEST = 8  # Side of the smallest maps that are compared.
_STATISTICS = 10_000  # Latents that the mean style and its spread are measured on.
_REPORTS = 10


@dataclass(frozen=True)
class Schedule:
    """What changes over `steps` steps."""

    steps: int

    def rate(self, step: int) -> float:
        """Learning rate of step 0, 1, ..."""
        share = (step + 1) / self.steps
        fall = min(1.0, (1 - step / self.steps) / _FALL)
        return _RATE * min(1.0, share / _RISE) * (0.5 - 0.5 * math.cos(math.pi * fall))

    def spread(self, step: int) -> float:
        """Deviation of the noise on styles, as a share of theirs."""
        return _SPREAD * max(0.0, 1 - step / self.steps / _SPREAD_UNTIL) ** 2


def search_styles(
    network: LayeredGenerator,
    image: Tensor,
    *,
    steps: int,
    generator: torch.Generator | None = None,
    features: Features | None = None,
    report: Report | None = None,
) -> LayeredPicture:
    """Search styles and noise under which `network` draws `image`.

    Args:
        network: Its weights stay as they are.
        image: (B, 3, S, S), in [-1, 1].
        steps: See above; 1000 in the paper.
        generator: Source of all random numbers.
        features: Differentiable maps of pictures, to compare by; None compares pixels.
        report: Called ten times, with the steps done and the distances (B,).
    """
    schedule, count = Schedule(steps), len(image)
    means, spreads = _measure_styles(network, generator, image)
    styles = [mean.repeat(count, 1, 1).requires_grad_() for mean in means]
    noises = [_draw_noise(layer, count, generator, image) for layer in _syntheses(network)]
    maps = [each for noise in noises for each in noise.values()]
    compare = _comparison(image, features)
    optimizer = torch.optim.Adam([*styles, *maps], lr=_RATE, betas=(0.9, 0.999))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        errors = [schedule.spread(step) * spread for spread in spreads]
        moved = [
            style + error * _randn((1, 1, style.shape[2]), generator, image)
            for style, error in zip(styles, errors, strict=True)
        ]
        distance = compare(_draw(network, moved, noises).composite)
        loss = distance.sum() + _NOISE_WEIGHT * noise_correlation(maps)
        # Adam takes the same steps; half precision would lose gradients of means over pixels.
        gradients = torch.autograd.grad(image[0].numel() * loss, [*styles, *maps])
        for parameter, gradient in zip([*styles, *maps], gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
        _normalize(maps)
        if report is not None and ((step + 1) * _REPORTS) // steps > (step * _REPORTS) // steps:
            report(step + 1, distance.detach())
    with torch.no_grad():
        return _draw(network, styles, noises)


def pixel_pyramid(image: Tensor) -> list[Tensor]:
    """`image` (B, 3, S, S) at full, half, quarter ... size, down to 8 pixels."""
    levels = [image]
    while levels[-1].shape[-1] >= 2 * _SMALLEST:
        levels.append(F.avg_pool2d(levels[-1], 2))
    return levels


def noise_correlation(maps: list[Tensor]) -> Tensor:
    """Sum over `maps` (B, 1, r, r) and sizes of mean(n n_right)^2 + mean(n n_below)^2, a scalar."""
    total = maps[0].new_zeros(())
    for noise in maps:
        while True:
            for dimension in (2, 3):
                product = (noise * noise.roll(1, dimension)).mean(dim=(1, 2, 3))
                total = total + product.square().sum()
            if noise.shape[-1] <= _SMALLEST:
                break
            noise = 2 * F.avg_pool2d(noise, 2)  # Variance stays 1 where pixels are independent.
    return total


def _comparison(image: Tensor, features: Features | None) -> Callable[[Tensor], Tensor]:
    """Distance (B,) of other pictures from `image`."""
    if features is not None:
        with torch.no_grad():
            maps = features(image)
        return lambda other: squared_distance(features(other), maps)
    levels = pixel_pyramid(image)

    def compare(other: Tensor) -> Tensor:
        pairs = zip(pixel_pyramid(other), levels, strict=True)
        errors = [(one - two).square().mean(dim=(1, 2, 3)) for one, two in pairs]
        return torch.stack(errors).mean(dim=0)

    return compare


@torch.no_grad()
def _measure_styles(
    network: LayeredGenerator, generator: torch.Generator | None, like: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """Mean style (1, 1, W) and root mean squared distance from it, of each layer."""
    latent = _randn((_STATISTICS, network.mapping_background.latent_dim), generator, like)
    styles = [each[:, :1] for each in network.map(latent)]
    means = [style.mean(dim=0, keepdim=True) for style in styles]
    spreads = [
        (style - mean).square().sum(dim=2).mean().sqrt()
        for style, mean in zip(styles, means, strict=True)
    ]
    return means, spreads


def _syntheses(network: LayeredGenerator) -> tuple[nn.Module, nn.Module]:
    return network.synthesis_background, network.synthesis_foreground


def _draw(network: LayeredGenerator, styles: list[Tensor], noises: list[Noise]) -> LayeredPicture:
    """Layers under one style (B, 1, W) and given noise each."""
    num_styles = network.synthesis_background.num_styles
    color, layer = (
        widen(_synthesize(synthesis, style.expand(-1, num_styles, -1), noise))
        for synthesis, style, noise in zip(_syntheses(network), styles, noises, strict=True)
    )
    return LayeredPicture(color, layer[:, :3], layer[:, 3:].sigmoid())


def _synthesize(synthesis: nn.Module, styles: Tensor, noise: Mapping[str, Tensor]) -> Tensor:
    # The stored noise is a buffer: others take its place for this call.
    image: Tensor = functional_call(synthesis, dict(noise), (styles,), {"noise": "const"})
    return image


def _draw_noise(
    synthesis: nn.Module, count: int, generator: torch.Generator | None, like: Tensor
) -> Noise:
    """The same new noise for each of `count` pictures."""
    noise = {}
    for name, buffer in synthesis.named_buffers():
        if name.endswith("noise_const"):
            drawn = _randn((1, 1, *buffer.shape), generator, like)
            noise[name] = drawn.repeat(count, 1, 1, 1).requires_grad_()
    return noise


@torch.no_grad()
def _normalize(maps: list[Tensor]) -> None:
    for noise in maps:
        noise.sub_(noise.mean(dim=(1, 2, 3), keepdim=True))
        noise.mul_(noise.square().mean(dim=(1, 2, 3), keepdim=True).rsqrt())


def _randn(size: tuple[int, ...], generator: torch.Generator | None, like: Tensor) -> Tensor:
    device = None if generator is None else generator.device
    return torch.randn(size, generator=generator, device=device).to(like)
