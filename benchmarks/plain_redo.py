"""ReDO at 128 pixels as plainly as it can be written: what `redo_step` times our step against.

The update order is the authors': nothing is frozen, so the generator step computes D's gradients
and throws them away; D sees real and redrawn pictures in separate calls; maps are upsampled before
a convolution and pooled after one; conditions are convolutions of 1x1 maps; attention is written
out; memory format and optimisers are the defaults. Modules are named as in
`figureground.methods.redo`, so that `take_weights` can copy from there.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_EPS = 1e-12


class PlainReDO(nn.Module):
    """The four networks with two regions, and one training iteration.

    Args:
        generator_width: Base width of X; the other networks have 64.
        latent_dim: Size of each region's latent.
        latent_weight: Weight of the latent error.
    """

    def __init__(
        self, generator_width: int = 32, latent_dim: int = 32, latent_weight: float = 5.0
    ) -> None:
        super().__init__()
        self.latent_dim, self.latent_weight = latent_dim, latent_weight
        self.mask_net = _MaskNetwork(64, 3)
        self.generators = _Generators(generator_width, latent_dim)
        self.discriminator = _Critic(64, 1, use_attention=True)
        self.encoder = _Critic(64, 2 * latent_dim, use_attention=False)

    def take_weights(self, state: dict[str, Tensor]) -> None:
        """Copy weights and singular vectors from the state dict of our `ReDO`."""
        plain = {
            key.replace("parametrizations.weight.original", "weight").replace(
                "parametrizations.weight.0.", ""
            ): tensor
            for key, tensor in state.items()
        }
        self.load_state_dict({key: plain[key] for key in self.state_dict()})

    def build_optimizers(self) -> dict[str, torch.optim.Adam]:
        """One Adam per network, with the published settings."""
        decays = {"mask_net": 1e-4}
        rates = {"mask_net": 1e-5}
        return {
            name: torch.optim.Adam(
                network.parameters(),
                lr=rates.get(name, 1e-4),
                betas=(0.0, 0.9),
                weight_decay=decays.get(name, 0.0),
            )
            for name, network in self.named_children()
        }

    def train_once(
        self, optimizers: dict[str, torch.optim.Adam], image: Tensor, real: Tensor, latent: Tensor
    ) -> dict[str, float]:
        """One iteration on `image`, `real` (B, 3, 128, 128) and `latent` (B, 2, D)."""
        for optimizer in optimizers.values():
            optimizer.zero_grad()
        paints, redrawn = self._draw(image, latent)
        adversarial = -self.discriminator(redrawn).mean()
        estimate = self.encoder(paints.sum(dim=1)).view_as(latent)
        error = F.mse_loss(estimate, latent)
        (adversarial + self.latent_weight * error).backward()
        for name in ("mask_net", "generators", "encoder"):
            optimizers[name].step()
        optimizers["discriminator"].zero_grad()
        with torch.no_grad():
            redrawn = self._draw(image, latent)[1]
        hinge_real = F.relu(1 - self.discriminator(real)).mean()
        hinge_fake = F.relu(1 + self.discriminator(redrawn)).mean()
        (hinge_real + hinge_fake).backward()
        optimizers["discriminator"].step()
        terms = {"adversarial": adversarial, "latent": error, "real": hinge_real}
        return {name: float(term) for name, term in (terms | {"fake": hinge_fake}).items()}

    def _draw(self, image: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
        masks = self.mask_net(image).unsqueeze(2)
        paints = self.generators(masks, latent)
        return paints, (paints + (1 - masks) * image.unsqueeze(1)).flatten(0, 1)


class _NormedConv(nn.Conv2d):
    """Convolution under spectral norm: a train-mode forward renews v, then u, then divides."""

    def __init__(self, num_in: int, num_out: int, size: int, bias: bool = True) -> None:
        super().__init__(num_in, num_out, size, padding=size // 2, bias=bias)
        self.register_buffer("u", F.normalize(torch.randn(num_out), dim=0))
        self.register_buffer("v", F.normalize(torch.randn(num_in * size**2), dim=0))

    def forward(self, image: Tensor) -> Tensor:
        matrix = self.weight.flatten(1)
        if self.training:
            with torch.no_grad():
                self.v.copy_(F.normalize(matrix.mT @ self.u, dim=0, eps=_EPS))
                self.u.copy_(F.normalize(matrix @ self.v, dim=0, eps=_EPS))
        sigma = torch.dot(self.u.clone(), matrix @ self.v.clone())
        return F.conv2d(image, self.weight / sigma, self.bias, padding=self.padding)


class _Attention(nn.Module):
    """SAGAN attention with pooled keys and values."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = _NormedConv(width, width // 8, 1, bias=False)
        self.key = _NormedConv(width, width // 8, 1, bias=False)
        self.value = _NormedConv(width, width // 2, 1, bias=False)
        self.output = _NormedConv(width // 2, width, 1, bias=False)
        self.gate = nn.Parameter(torch.zeros(1))

    def forward(self, features: Tensor) -> Tensor:
        queries = self.query(features).flatten(2)
        keys = F.max_pool2d(self.key(features), 2).flatten(2)
        values = F.max_pool2d(self.value(features), 2).flatten(2)
        weights = torch.softmax(keys.mT @ queries, dim=1)  # (B, H*W/4, H*W)
        attended = (values @ weights).unflatten(2, features.shape[-2:])
        return features + self.gate * self.output(attended)


class _MaskBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.InstanceNorm2d(width, affine=True),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )
        self.norm = nn.InstanceNorm2d(width, affine=True)

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.norm(self.body(features) + features))


class _MaskGrow(nn.Module):
    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(num_in, num_out, 3, padding=1, bias=False)
        self.norm = nn.InstanceNorm2d(num_out, affine=True)

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(_double(features))))


class _MaskNetwork(nn.Module):
    def __init__(self, width: int, num_blocks: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        sizes = [(3, width // 4, 7, 1), (width // 4, width // 2, 3, 2), (width // 2, width, 3, 2)]
        for num_in, num_out, size, stride in sizes:
            mode = "reflect" if size == 7 else "zeros"
            layers += [
                nn.Conv2d(num_in, num_out, size, stride, size // 2, bias=False, padding_mode=mode),
                nn.InstanceNorm2d(num_out, affine=True),
                nn.ReLU(),
            ]
        self.stem = nn.Sequential(*layers)
        self.blocks = nn.Sequential(*(_MaskBlock(width) for _ in range(num_blocks)))
        self.pyramid = nn.ModuleList(
            nn.Sequential(nn.AvgPool2d(32 // d), nn.Conv2d(width, 1, 1)) for d in (1, 2, 3, 6)
        )
        width += 4
        self.grow = nn.Sequential(_MaskGrow(width, width // 2), _MaskGrow(width // 2, width // 4))
        self.head = nn.Conv2d(width // 4, 1, 7, padding=3, padding_mode="reflect")

    def forward(self, image: Tensor) -> Tensor:
        features = self.blocks(self.stem(image))
        maps = [F.interpolate(level(features), (32, 32), mode="bilinear") for level in self.pyramid]
        region = torch.sigmoid(self.head(self.grow(torch.cat([features, *maps], dim=1))))
        return torch.cat([region, 1 - region], dim=1)


class _ConditionalNorm(nn.Module):
    def __init__(self, width: int, latent_dim: int) -> None:
        super().__init__()
        self.gamma = nn.Conv2d(latent_dim, width, 1)
        self.beta = nn.Conv2d(latent_dim, width, 1)

    def forward(self, features: Tensor, latent: Tensor) -> Tensor:
        return F.instance_norm(features) * self.gamma(latent) + self.beta(latent)


class _PaintBlock(nn.Module):
    def __init__(self, num_in: int, num_out: int, latent_dim: int) -> None:
        super().__init__()
        self.norm_a = _ConditionalNorm(num_in, latent_dim)
        self.conv_a = _NormedConv(num_in + 1, num_out, 3, bias=False)
        self.norm_b = _ConditionalNorm(num_out, latent_dim)
        self.conv_b = _NormedConv(num_out, num_out, 3)
        self.shortcut = _NormedConv(num_in, num_out, 1)

    def forward(self, features: Tensor, mask: Tensor, latent: Tensor) -> Tensor:
        hidden = torch.cat([F.relu(self.norm_a(features, latent)), mask], dim=1)
        hidden = self.conv_a(_double(hidden))
        hidden = self.conv_b(F.relu(self.norm_b(hidden, latent)))
        return hidden + self.shortcut(_double(features))


class _Generator(nn.Module):
    def __init__(self, width: int, latent_dim: int) -> None:
        super().__init__()
        widths = [16 * width, 16 * width, 8 * width, 4 * width, 2 * width, width]
        self.dense = nn.Linear(latent_dim, 4 * 4 * widths[0])
        self.blocks = nn.ModuleList(
            _PaintBlock(num_in, num_out, latent_dim) for num_in, num_out in pairwise(widths)
        )
        self.attention = _Attention(2 * width)
        self.norm = _ConditionalNorm(width, latent_dim)
        self.head = _NormedConv(width + 1, 3, 3)

    def forward(self, mask: Tensor, latent: Tensor) -> Tensor:
        condition = latent[:, :, None, None]
        features = self.dense(latent).unflatten(1, (-1, 4, 4))
        for number, block in enumerate(self.blocks):
            if number == 4:
                features = self.attention(features)
            features = block(features, F.avg_pool2d(mask, 32 // 2**number), condition)
        features = torch.cat([F.relu(self.norm(features, condition)), mask], dim=1)
        return torch.tanh(self.head(features)) * mask


class _Generators(nn.Module):
    def __init__(self, width: int, latent_dim: int) -> None:
        super().__init__()
        self.regions = nn.ModuleList(_Generator(width, latent_dim) for _ in range(2))

    def forward(self, masks: Tensor, latents: Tensor) -> Tensor:
        paints = [paint(masks[:, k], latents[:, k]) for k, paint in enumerate(self.regions)]
        return torch.stack(paints, dim=1)


class _CriticBlock(nn.Module):
    def __init__(self, num_in: int, num_out: int, is_first: bool = False) -> None:
        super().__init__()
        self.is_first = is_first
        self.conv_a = _NormedConv(num_in, num_out, 3)
        self.conv_b = _NormedConv(num_out, num_out, 3)
        self.shortcut = _NormedConv(num_in, num_out, 1)

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.conv_a(features if self.is_first else F.relu(features))
        hidden = F.avg_pool2d(self.conv_b(F.relu(hidden)), 2)
        return hidden + self.shortcut(F.avg_pool2d(features, 2))


class _CriticEnd(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_a = _NormedConv(width, width, 3)
        self.conv_b = _NormedConv(width, width, 3)

    def forward(self, features: Tensor) -> Tensor:
        return self.conv_b(F.relu(self.conv_a(F.relu(features)))) + features


class _Trunk(nn.Module):
    def __init__(self, width: int, use_attention: bool) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width, 16 * width]
        self.blocks = nn.ModuleList([_CriticBlock(3, width, is_first=True)])
        self.blocks.extend(_CriticBlock(num_in, num_out) for num_in, num_out in pairwise(widths))
        self.last = _CriticEnd(widths[-1])
        self.attention = _Attention(width) if use_attention else None

    def forward(self, image: Tensor) -> Tensor:
        features = self.blocks[0](image)
        if self.attention is not None:
            features = self.attention(features)
        for block in self.blocks[1:]:
            features = block(features)
        return self.last(features).sum(dim=(2, 3))


class _Critic(nn.Module):
    """D with one output, Z with one per latent entry."""

    def __init__(self, width: int, num_outputs: int, use_attention: bool) -> None:
        super().__init__()
        self.trunk = _Trunk(width, use_attention)
        self.head = nn.Linear(16 * width, num_outputs)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.trunk(image))


def _double(features: Tensor) -> Tensor:
    return F.interpolate(features, scale_factor=2.0)
