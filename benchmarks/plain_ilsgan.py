"""A plain ILSGAN training step: the published operators one by one, without Lightning.

Written from a description of the released code. In it, demodulation squares one kernel per sample,
filters insert zeros and drop pixels, pictures are shifted in a loop, and the discriminator's two
terms are differentiated one after the other. Only what has no plain form is shared with our side:
the random matrices of the augmentation, and sampling that can be differentiated twice. Random
numbers are drawn in our order, so equal seeds mean equal steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from figureground.nn.augment_matrices import (
    Dice,
    color_matrix,
    geometry_matrix,
    scale_2d,
    translate_2d,
)
from figureground.nn.grid_sample import grid_sample
from figureground.nn.wavelets import SYM6, low_pass

_OPERATIONS = (
    *("xflip", "rotate90", "xint", "scale", "rotate", "aniso", "xfrac"),
    *("brightness", "contrast", "lumaflip", "hue", "saturation"),
)
_PLAYERS = ("generator.", "discriminator.")
_CLAMP, _GAIN, _EPS = 256.0, math.sqrt(2), 1e-8
Padding = tuple[int, int, int, int]


class PlainILSGAN:
    """Networks as a flat table of weights, and one iteration of all phases.

    Args:
        state: State dict of our method.
        resolution: Side of the pictures.
        lr: Learning rate of both optimisers.
        betas: Theirs.
        p: Strength of the augmentation.
        gamma: Weight of the gradient penalty.
    """

    def __init__(
        self,
        state: Mapping[str, Tensor],
        *,
        resolution: int,
        lr: float,
        betas: tuple[float, float],
        p: float,
        gamma: float,
    ) -> None:
        self.resolution, self.p, self.gamma = resolution, p, gamma
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.kernel, self.wavelet = torch.outer(taps, taps), low_pass(SYM6)
        self.weights: dict[str, Tensor] = {}
        self.buffers: dict[str, Tensor] = {}
        for name, tensor in state.items():
            if name.startswith(_PLAYERS):
                is_buffer = name.endswith(("w_avg", "noise_const"))
                copied = tensor.detach().clone(memory_format=torch.contiguous_format)
                (self.buffers if is_buffer else self.weights)[name] = copied
        self.average = {k: v.clone() for k, v in self.weights.items() if k.startswith("generator.")}
        self.kept = {k: v.clone() for k, v in self.buffers.items()}
        self.optimizers = [torch.optim.Adam(self._owned(x), lr, betas) for x in _PLAYERS]
        first = "generator.mapping_background.fc"
        self.depth = sum(k.startswith(first) and k.endswith("weight") for k in self.weights)
        self.latent_dim = self.weights[f"{first}0.weight"].shape[1]

    def train_once(self, real: Tensor, number: int, sigma: float, decay: float) -> dict[str, float]:
        """Iteration `number` (from 0) on real pictures (B, 3, R, R); its losses."""
        losses = self._step_generator(len(real), sigma) | self._step_discriminator(real)
        if number % 16 == 0:
            image = real.detach().requires_grad_()
            score = self.judge(image)
            (gradient,) = torch.autograd.grad(score.sum(), image, create_graph=True)
            penalty = self.gamma / 2 * gradient.square().sum(dim=(1, 2, 3))
            self._descend(1, [(16 * (penalty + 0 * score)).mean()])
        with torch.no_grad():
            for name, average in self.average.items():
                average.copy_(self.weights[name].lerp(average, decay))
            for name, kept in self.kept.items():
                kept.copy_(self.buffers[name])
        return losses

    def _owned(self, player: str) -> list[Tensor]:
        return [tensor for name, tensor in self.weights.items() if name.startswith(player)]

    def _require(self, player: int) -> None:
        for number, prefix in enumerate(_PLAYERS):
            for tensor in self._owned(prefix):
                tensor.requires_grad_(number == player)

    def _descend(self, player: int, losses: list[Tensor]) -> None:
        self.optimizers[player].zero_grad(set_to_none=True)
        for loss in losses:
            loss.backward()
        self._clean_and_step(player)

    def _clean_and_step(self, player: int) -> None:
        for tensor in self._owned(_PLAYERS[player]):
            if tensor.grad is not None:
                torch.nan_to_num(tensor.grad, nan=0, posinf=1e5, neginf=-1e5, out=tensor.grad)
        self.optimizers[player].step()

    def _step_generator(self, count: int, sigma: float) -> dict[str, float]:
        self._require(0)
        background, foreground, mask, moved, moved_mask = self.draw(count)
        composite = (1 - moved_mask) * background + moved_mask * moved
        adversarial = F.softplus(-self.judge(composite)).mean()
        binarity = torch.minimum(moved_mask, 1 - moved_mask).mean(dim=(1, 2, 3)).mean()
        size = (0.25 - moved_mask.mean(dim=(1, 2, 3))).clamp(min=0).mean()
        independence = _independence(background, foreground, mask)
        loss = adversarial + 2 * binarity + 2 * size + sigma * independence
        self._descend(0, [loss])
        return {"generator": float(loss), "independence": float(independence)}

    def _step_discriminator(self, real: Tensor) -> dict[str, float]:
        self._require(1)
        with torch.no_grad():
            background, _, _, moved, moved_mask = self.draw(len(real))
            composite = (1 - moved_mask) * background + moved_mask * moved
        self.optimizers[1].zero_grad(set_to_none=True)
        fake = F.softplus(self.judge(composite)).mean()
        fake.backward()
        true = F.softplus(-self.judge(real)).mean()
        true.backward()
        self._clean_and_step(1)
        return {"fake": float(fake), "real": float(true)}

    # -- generator ---------------------------------------------------------------------------

    def draw(self, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Background, foreground, mask; foreground and mask after the shift."""
        draws = torch.rand(count, 2) * 2 - 1
        latent = torch.randn(count, self.latent_dim)
        styles = [self.map(f"generator.mapping_{x}", latent) for x in ("background", "foreground")]
        background = self.synthesize("generator.synthesis_background", styles[0])
        layer = self.synthesize("generator.synthesis_foreground", styles[1])
        foreground, mask = layer[:, :3], layer[:, 3:].sigmoid()
        moved = _shift(
            torch.cat([foreground, mask], dim=1), (draws * 0.125 * self.resolution).round().long()
        )
        return background, foreground, mask, moved[:, :3], moved[:, 3:]

    def map(self, name: str, latent: Tensor) -> Tensor:
        """Styles (B, W) of latents (B, D); moves their average."""
        w = latent * (latent.square().mean(dim=1, keepdim=True) + _EPS).rsqrt()
        for number in range(self.depth):
            w = self._dense(f"{name}.fc{number}", w, 0.01, is_linear=False)
        average = self.buffers[f"{name}.w_avg"]
        average.copy_(w.detach().mean(dim=0).lerp(average, 0.995))
        return w

    def synthesize(self, name: str, style: Tensor) -> Tensor:
        """Pictures under styles (B, W), the same style for every layer."""
        features = self.weights[f"{name}.b4.const"].repeat(len(style), 1, 1, 1)
        image: Tensor | None = None
        side = 4
        while side <= self.resolution:
            block = f"{name}.b{side}"
            if side > 4:
                features = self._layer(f"{block}.conv0", features, style, up=2)
            features = self._layer(f"{block}.conv1", features, style)
            weight = self.weights[f"{block}.torgb.weight"]
            styles = self._dense(f"{block}.torgb.affine", style) / math.sqrt(weight.shape[1])
            part = F.conv2d(features * styles[:, :, None, None], weight)
            part = part + self.weights[f"{block}.torgb.bias"].view(1, -1, 1, 1)
            part = part.clamp(-_CLAMP, _CLAMP)
            if image is None:
                image = part
            else:
                image = _filter(image, self.kernel, up=2, pad=(2, 1, 2, 1), gain=4) + part
            side *= 2
        assert image is not None
        return image

    def _layer(self, name: str, features: Tensor, style: Tensor, up: int = 1) -> Tensor:
        weight, styles = self.weights[f"{name}.weight"], self._dense(f"{name}.affine", style)
        factor = demodulate(weight, styles)
        side = features.shape[2] * up
        noise = torch.randn(len(style), 1, side, side) * self.weights[f"{name}.noise_strength"]
        features = features * styles[:, :, None, None]
        if up == 1:
            features = F.conv2d(features, weight, padding=1)
        else:
            features = F.conv_transpose2d(features, weight.transpose(0, 1), stride=2)
            features = _filter(features, self.kernel, pad=(1, 1, 1, 1), gain=4)
        features = torch.addcmul(noise, features, factor[:, :, None, None])
        return _activate(features + self.weights[f"{name}.bias"].view(1, -1, 1, 1))

    def _dense(self, name: str, x: Tensor, multiplier: float = 1, is_linear: bool = True) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        weight = weight * (multiplier / math.sqrt(weight.shape[1]))
        x = torch.addmm((bias * multiplier)[None], x, weight.T)
        return x if is_linear else F.leaky_relu(x, 0.2) * _GAIN

    # -- discriminator -----------------------------------------------------------------------

    def judge(self, image: Tensor) -> Tensor:
        """Scores (B,) of pictures after augmentation."""
        features = self.augment(image)
        features = self._convolve("fromrgb", features, self.resolution)
        side, gain = self.resolution, math.sqrt(0.5)
        while side > 4:
            past = self._convolve("skip", features, side, down=2, gain=gain, is_linear=True)
            features = self._convolve("conv0", features, side)
            features = past + self._convolve("conv1", features, side, down=2, gain=gain)
            side //= 2
        group = min(4, len(features))
        parts = features.reshape(group, -1, *features.shape[1:])
        parts = parts - parts.mean(dim=0)
        deviation = (parts.square().mean(dim=0) + _EPS).sqrt().mean(dim=(1, 2, 3))
        plane = deviation.repeat(group)[:, None, None, None].expand(-1, 1, 4, 4)
        features = self._convolve("conv", torch.cat([features, plane], dim=1), 4)
        features = self._dense("discriminator.b4.fc", features.flatten(1), is_linear=False)
        return self._dense("discriminator.b4.out", features).squeeze(1)

    def _convolve(
        self,
        name: str,
        x: Tensor,
        side: int,
        down: int = 1,
        gain: float = 1,
        is_linear: bool = False,
    ) -> Tensor:
        name = f"discriminator.b{side}.{name}"
        weight, bias = self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias")
        size = weight.shape[-1]
        weight = weight / math.sqrt(weight[0].numel())
        if down == 1:
            x = F.conv2d(x, weight, padding=size // 2)
        elif size == 1:
            x = F.conv2d(_filter(x, self.kernel, down=2, pad=(1, 1, 1, 1)), weight)
        else:
            x = F.conv2d(_filter(x, self.kernel, pad=(2, 2, 2, 2)), weight, stride=2)
        x = x if bias is None else x + bias.view(1, -1, 1, 1)
        return x * gain if is_linear else _activate(x, gain)

    def augment(self, image: Tensor) -> Tensor:
        """Pictures under random geometry and colours."""
        count, _, height, width = image.shape
        dice = Dice(count, self.p)
        inverse = geometry_matrix(dice, _OPERATIONS, height, width)
        colors = color_matrix(dice, _OPERATIONS)
        assert inverse is not None
        assert colors is not None
        taps = len(self.wavelet)
        reach = 2 * (taps // 4)
        left, right, top, bottom = _margins(inverse, height, width, reach)
        image = F.pad(image, (left, right, top, bottom), mode="reflect")
        inverse = translate_2d((left - right) / 2, (top - bottom) / 2) @ inverse
        before, after = (taps + 1) // 2, taps // 2 - 1
        image = _filter(image, self.wavelet, up=2, pad=(before, after) * 2, gain=4)
        inverse = scale_2d(2, 2) @ inverse @ scale_2d(0.5, 0.5)
        inverse = translate_2d(-0.5, -0.5) @ inverse @ translate_2d(0.5, 0.5)
        size = [count, 3, 2 * (height + reach), 2 * (width + reach)]
        inverse = (
            scale_2d(2 / image.shape[3], 2 / image.shape[2])
            @ inverse
            @ scale_2d(size[3] / 2, size[2] / 2)
        )
        image = grid_sample(image, F.affine_grid(inverse[:, :2], size, align_corners=False))
        image = _filter(
            image, self.wavelet.flip(0), down=2, pad=(after - reach,) * 4
        )  # Flipped: correlation.
        pixels = colors[:, :3, :3] @ image.flatten(2) + colors[:, :3, 3:]
        return pixels.view(count, 3, height, width)


def demodulate(weight: Tensor, styles: Tensor) -> Tensor:
    """Factors (B, Cout) from one kernel per sample, (B, Cout, Cin, k, k)."""
    kernels = weight[None] * styles[:, None, :, None, None]
    return (kernels.square().sum(dim=(2, 3, 4)) + _EPS).rsqrt()


def _activate(x: Tensor, gain: float = 1) -> Tensor:
    return (F.leaky_relu(x, 0.2) * (_GAIN * gain)).clamp(-_CLAMP * gain, _CLAMP * gain)


def _filter(
    x: Tensor, kernel: Tensor, *, up: int = 1, down: int = 1, pad: Padding, gain: float = 1
) -> Tensor:
    """Insert zeros, pad or cut, convolve each channel, drop pixels."""
    count, channels, height, width = x.shape
    x = F.pad(x.view(count, channels, height, 1, width, 1), (0, up - 1, 0, 0, 0, up - 1))
    x = F.pad(x.reshape(count, channels, height * up, width * up), pad)
    kernel = (kernel * gain ** (kernel.dim() / 2)).flip(tuple(range(kernel.dim())))
    shapes = [kernel[None], kernel[:, None]] if kernel.dim() == 1 else [kernel]
    for part in shapes:
        x = F.conv2d(x, part[None, None].repeat(channels, 1, 1, 1), groups=channels)
    return x[:, :, ::down, ::down]


def _margins(inverse: Tensor, height: int, width: int, reach: int) -> tuple[int, int, int, int]:
    x, y = (width - 1) / 2, (height - 1) / 2
    corners = torch.tensor([[-x, -y, 1], [x, -y, 1], [x, y, 1], [-x, y, 1]])
    found = (inverse @ corners.T)[:, :2].permute(1, 0, 2).flatten(1)
    found = torch.cat([-found, found]).max(dim=1).values
    found = found + torch.tensor([reach - x, reach - y] * 2)
    limit = torch.tensor([width - 1.0, height - 1.0] * 2)
    left, top, right, bottom = found.clamp(min=0).minimum(limit).ceil().int().tolist()
    return left, right, top, bottom


def _shift(image: Tensor, shift: Tensor) -> Tensor:
    side = image.shape[2]
    moved = []
    for picture, (x, y) in zip(image, shift.tolist(), strict=True):
        wide = F.pad(picture, (max(x, 0), max(-x, 0), max(y, 0), max(-y, 0)))
        top, left = max(-y, 0), max(-x, 0)
        moved.append(wide[:, top : top + side, left : left + side])
    return torch.stack(moved)


def _independence(background: Tensor, foreground: Tensor, mask: Tensor) -> Tensor:
    cut: Callable[[Tensor], Tensor] = lambda x: torch.where(x.abs() < 1, x, x.detach())  # noqa: E731
    background, foreground = cut(background), cut(foreground)
    total = torch.zeros(())
    for x, y in (
        (background * mask, foreground * mask),
        (foreground * (1 - mask), background * (1 - mask)),
    ):
        order = torch.randperm(len(x))
        total = total - (x - y).abs().mean() + (x[order] - y).abs().mean()
    return total
