"""From latents to style vectors, their average, and mixing them (StyleGAN2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from figureground.nn.equalized import EqualizedLinear, normalize_second_moment
from figureground.nn.precision import widen


class MappingNetwork(nn.Module):
    """Map a latent (and a class) to style vectors, and keep their running average.

    z and the embedded class are normalised and joined, then pass dense layers with leaky ReLU.

    Args:
        latent_dim: Size of z; 0 to map a class alone.
        style_dim: Size of w.
        num_styles: How often w is repeated, once per layer it will modulate.
        num_classes: Classes of the condition; 0 for none.
        depth: Number of dense layers.
        lr_multiplier: Learning rate relative to that of other layers.
        average_decay: Share of the old average of w kept per update; None to keep no average.
    """

    w_avg: Tensor

    def __init__(
        self,
        latent_dim: int,
        style_dim: int,
        num_styles: int,
        *,
        num_classes: int = 0,
        depth: int = 8,
        lr_multiplier: float = 0.01,
        average_decay: float | None = 0.995,
    ) -> None:
        super().__init__()
        if latent_dim == num_classes == 0:
            raise ValueError("latent_dim and num_classes are both 0; there is nothing to map")
        self.latent_dim = latent_dim
        self.num_classes = num_classes
        self.num_styles = num_styles
        self.depth = depth
        self.average_decay = average_decay
        if num_classes:
            self.embed = EqualizedLinear(num_classes, style_dim)
        width = latent_dim + (style_dim if num_classes else 0)
        for number in range(depth):
            layer = EqualizedLinear(
                width if number == 0 else style_dim,
                style_dim,
                activation="lrelu",
                lr_multiplier=lr_multiplier,
            )
            self.add_module(f"fc{number}", layer)
        if average_decay is not None:
            self.register_buffer("w_avg", torch.zeros(style_dim))

    def forward(
        self,
        z: Tensor | None,
        label: Tensor | None = None,
        *,
        truncation: float = 1.0,
        cutoff: int | None = None,
        update_average: bool = False,
    ) -> Tensor:
        """Return style vectors (B, num_styles, style_dim).

        Args:
            z: Latents (B, latent_dim); None if latent_dim is 0.
            label: int64 classes (B,), or their weights (B, num_classes); for conditional networks.
            truncation: Styles are pulled to their average: w_avg + truncation * (w - w_avg).
            cutoff: Only the first `cutoff` styles are pulled; None for all.
            update_average: Whether this batch moves the average (once per training step).
        """
        w = self._join(z, label)
        for number in range(self.depth):
            w = self.get_submodule(f"fc{number}")(w)
        if update_average:
            self._update_average(w)
        styles = w[:, None].repeat(1, self.num_styles, 1)
        if truncation == 1:
            return styles
        share = styles.new_ones(self.num_styles, 1)
        share[:cutoff] = truncation
        return self.w_avg + share * (styles - self.w_avg)

    def _join(self, z: Tensor | None, label: Tensor | None) -> Tensor:
        parts = []
        if self.latent_dim:
            if z is None or z.shape[1:] != (self.latent_dim,):
                shape = None if z is None else tuple(z.shape)
                raise ValueError(f"z must be (B, {self.latent_dim}), got {shape}")
            parts.append(normalize_second_moment(widen(z)))
        if self.num_classes:
            if label is None:
                raise ValueError(f"the network has {self.num_classes} classes and needs a label")
            if label.dim() == 1:
                label = F.one_hot(label, self.num_classes)
            parts.append(normalize_second_moment(self.embed(label.to(self.embed.weight.dtype))))
        return torch.cat(parts, dim=1)

    @torch.no_grad()
    def _update_average(self, w: Tensor) -> None:
        if self.average_decay is None:
            raise ValueError("this mapping network keeps no average (average_decay is None)")
        self.w_avg.lerp_(w.mean(dim=0).to(self.w_avg), 1 - self.average_decay)


def draw_mixing_cutoff(
    num_styles: int, probability: float, generator: torch.Generator | None = None
) -> int:
    """Draw from where on styles are replaced: 1 to num_styles - 1, or num_styles for "nowhere".

    Args:
        num_styles: Style vectors per sample.
        probability: Chance that any are replaced, in [0, 1].
        generator: Source of the draw (on any device); None for the global generator.
    """
    device = None if generator is None else generator.device
    coin = torch.rand((), generator=generator, device=device).item()
    cutoff = torch.randint(1, num_styles, (), generator=generator, device=device).item()
    return int(cutoff) if coin < probability else num_styles


def mix_styles(styles: Tensor, others: Tensor, cutoff: int) -> Tensor:
    """Join the first `cutoff` of `styles` and the rest of `others`, all (B, num_styles, D)."""
    return torch.cat([styles[:, :cutoff], others[:, cutoff:]], dim=1)
