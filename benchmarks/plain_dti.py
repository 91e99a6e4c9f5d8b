"""DTI-Sprites as plainly as it can be written: what `dti_step` times our step against.

The order of work is the authors': every layer owns a perceptron for every sprite, run and warped in
a loop; all L x K transformed sprites are stacked and kept with their gradients; the greedy search
makes a whole composition, a product over all pairs of layers, for every candidate of every layer in
every sweep; the composition with gradients weighs the stack by one-hot choices; one Adam visits the
shared encoder once for each network that owns it. Nothing is slowed on purpose: a layer's
transformation takes all its sprites in one call, the search keeps what is already chosen, and
memory format and optimiser are the defaults.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

_COUNTS = {"identity": 0, "color": 6, "position": 3, "similarity": 4, "projective": 9}


class PlainDTI(nn.Module):
    """Sprites, encoder, predictors, and one training iteration with everything active.

    Args:
        settings: Those arguments of our `DTISprites` that concern this step, by name.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.settings = settings
        side, num_layers = settings["resolution"], settings["num_layers"]
        num, size = settings["num_sprites"], settings["sprite_size"]
        num_grounds = settings["num_backgrounds"]
        self.num_choices = num + settings["empty_sprite"]
        self.color = nn.Parameter(torch.empty(num, 3, *size))
        self.mask = nn.Parameter(torch.empty(num, 1, *size))
        self.background = nn.Parameter(torch.empty(num_grounds, 3, side, side))
        self.trunk, width = _build_trunk(settings["encoder"])
        rows, columns = self.pool = settings["encoder_pool"]
        num_features, full = width * rows * columns, (side, side)
        self.of_sprites = nn.ModuleList(
            nn.ModuleList(
                _Sequence(settings["sprite_transform"], num_features, size, "zeros")
                for _ in range(self.num_choices)
            )
            for _ in range(num_layers)
        )
        self.of_layers = nn.ModuleList(
            _Sequence(settings["layer_transform"], num_features, full, "zeros")
            for _ in range(num_layers)
        )
        self.of_backgrounds = nn.ModuleList(
            _Sequence(settings["background_transform"], num_features, full, "border")
            for _ in range(num_grounds)
        )
        self.occluder: nn.Sequential | None = None
        if settings["occlusion"] == "predicted":
            self.occluder = _perceptron(num_features, num_layers * (num_layers - 1) // 2)

    # -- weights -----------------------------------------------------------------------------

    @torch.no_grad()
    def pair_up(self, state: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """Our tensors beside the plain ones of the same shape: name -> (plain, ours)."""
        pairs = {
            name: (getattr(self, name).data, state[f"model.sprites.{name}"])
            for name in ("color", "mask", "background")
        }
        for key, tensor in self.trunk.state_dict().items():
            pairs[f"trunk.{key}"] = (tensor, state[f"model.encoder.trunk.{key}"])
        sprites = [sequence for layer in self.of_sprites for sequence in layer]
        for group, sequences in (
            ("sprite", sprites), ("layer", self.of_layers), ("background", self.of_backgrounds)
        ):  # fmt: skip
            for row, sequence in enumerate(sequences):
                for number, predictor in sequence.predictors.items():
                    prefix = f"model.{group}_group.regressors.{number}"
                    pairs |= _pair_perceptron(predictor, state, prefix, row)
        if self.occluder is not None:
            pairs |= _pair_perceptron(self.occluder, state, "model.occlusion_predictor", 0)
        return pairs

    def take_weights(self, state: Mapping[str, Tensor]) -> None:
        """Copy weights and running statistics from the state dict of our `DTISprites`."""
        for plain, ours in self.pair_up(state).values():
            plain.copy_(ours)

    def build_optimizer(self, lr: float) -> torch.optim.Adam:
        """One Adam with two groups; the second lists the encoder once for each of its owners."""
        owners = [layer for layer in self.of_sprites if any(s.predictors for s in layer)]
        groups = [*owners, self.of_layers, *([self.of_backgrounds] if self.of_backgrounds else [])]
        chained = [p for g in groups for p in [*self.trunk.parameters(), *g.parameters()]]
        if self.occluder is not None:
            chained += self.occluder.parameters()
        with warnings.catch_warnings(action="ignore"):  # of parameters that are listed repeatedly
            return torch.optim.Adam(
                [
                    {"params": [self.color, self.mask, self.background], "weight_decay": 0.0},
                    {"params": chained, "weight_decay": 1e-6},
                ],
                lr=lr,
                foreach=False,  # Several visits to one tensor must come one after the other.
            )

    # -- one iteration -----------------------------------------------------------------------

    def train_once(
        self, optimizer: torch.optim.Adam, image: Tensor, noise: Tensor
    ) -> tuple[float, Tensor]:
        """Loss and choices (B, L) for `image` (B, 3, H, W) in [0, 1], `noise` (K, 1, H, W)."""
        optimizer.zero_grad()
        features = F.adaptive_avg_pool2d(self.trunk(image), self.pool).flatten(1)
        layers, masks = self._transform(features, noise)
        ground = self._transform_background(features, len(image))
        occlusion = self._occlude(features, ground is not None)
        with torch.no_grad():
            choice = self._search(image, layers, masks, ground, occlusion)
        one_hot = F.one_hot(choice, self.num_choices).permute(1, 2, 0)[..., None, None, None]
        chosen = (layers * one_hot).sum(dim=1), (masks * one_hot).sum(dim=1)
        loss = F.mse_loss(_compose(*chosen, ground, occlusion), image)
        loss.backward()
        optimizer.step()
        return float(loss.detach()), choice

    def _transform(self, features: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """All sprites in all layers: colours (L, K, B, 3, H, W), masks (L, K, B, 1, H, W)."""
        count, num_choices = len(features), self.num_choices
        sprites = torch.cat([_clamp(self.color), self.mask, torch.ones_like(self.mask)], dim=1)
        if num_choices > len(sprites):
            sprites = torch.cat([sprites, torch.zeros_like(sprites[:1])])
        placed = []
        for of_sprite, of_layer in zip(self.of_sprites, self.of_layers, strict=True):
            own = [
                transform(sprite.expand(count, -1, -1, -1), features)
                for transform, sprite in zip(of_sprite, sprites, strict=True)
            ]
            placed.append(of_layer(torch.cat(own), features).unflatten(0, (num_choices, count)))
        layers, masks, canvas = torch.stack(placed).split([3, 1, 1], dim=3)
        return layers, _clamp(masks + canvas * noise.unsqueeze(1))

    def _transform_background(self, features: Tensor, count: int) -> Tensor | None:
        if not self.of_backgrounds:
            return None
        (transform,) = self.of_backgrounds
        return transform(_clamp(self.background).expand(count, -1, -1, -1), features)

    def _occlude(self, features: Tensor, has_ground: bool) -> Tensor:
        """d[j, l] (L, L, B), or (L + 1, L + 1, B) with the background as first layer."""
        num_layers, count = len(self.of_layers), len(features)
        matrix = features.new_ones(num_layers, num_layers, count)
        if self.occluder is None:
            matrix = _lower(matrix)
        else:
            lower = torch.zeros_like(matrix)
            rows, columns = torch.tril_indices(num_layers, num_layers, -1)
            lower[rows, columns] = torch.sigmoid(self.occluder(features)).mT
            matrix = lower + _lower(1 - lower).transpose(0, 1)
        if has_ground:
            matrix = F.pad(matrix, (0, 0, 1, 0, 1, 0))
            matrix[1:, 0] = 1
        return matrix

    def _search(
        self, image: Tensor, layers: Tensor, masks: Tensor, ground: Tensor | None, occlusion: Tensor
    ) -> Tensor:
        """Choices (B, L): every candidate of every layer in every sweep, fully composed."""
        num_layers, num_choices, count = layers.shape[:3]
        color, mask = torch.zeros_like(layers[:, 0]), torch.zeros_like(masks[:, 0])
        choice = torch.zeros(count, num_layers, dtype=torch.long)
        rows = torch.arange(count)
        for _ in range(self.settings["greedy_sweeps"]):
            for layer in range(num_layers):
                errors = []
                for k in range(num_choices):
                    color[layer], mask[layer] = layers[layer, k], masks[layer, k]
                    made = _compose(color, mask, ground, occlusion)
                    error = (made - image).square().flatten(1).mean(dim=1)
                    is_empty = self.settings["empty_sprite"] and k == num_choices - 1
                    errors.append(error + (0 if is_empty else self.settings["empty_penalty"]))
                choice[:, layer] = best = torch.stack(errors).argmin(dim=0)
                color[layer], mask[layer] = layers[layer, best, rows], masks[layer, best, rows]
        return choice


def _compose(color: Tensor, mask: Tensor, ground: Tensor | None, occlusion: Tensor) -> Tensor:
    """Composite (B, 3, H, W) of layers (L, B, 3, H, W) with masks (L, B, 1, H, W)."""
    if ground is not None:
        color = torch.cat([ground.unsqueeze(0), color])
        mask = torch.cat([torch.ones_like(mask[:1]), mask])
    left = 1 - occlusion[..., None, None, None] * mask.unsqueeze(1)  # (L + 1, L + 1, B, 1, H, W)
    return (left.prod(dim=0) * mask * color).sum(dim=0)


class _Sequence(nn.Module):
    """Transformations with a predictor each, one after the other."""

    def __init__(self, sequence: str, num_features: int, size: Sequence[int], padding: str) -> None:
        super().__init__()
        self.names, self.size, self.padding = sequence.split("_"), size, padding
        self.predictors = nn.ModuleDict(
            {
                str(number): _perceptron(num_features, _COUNTS[name])
                for number, name in enumerate(self.names)
                if _COUNTS[name]
            }
        )

    def forward(self, image: Tensor, features: Tensor) -> Tensor:
        """Transform N pictures (N * B, C, h, w) by what is predicted from features (B, F)."""
        for number, predictor in self.predictors.items():
            beta = predictor(features)
            beta = beta.repeat(len(image) // len(beta), 1)
            name = self.names[int(number)]
            image = _recolor(image, beta) if name == "color" else self._warp(name, image, beta)
        return image

    def _warp(self, name: str, image: Tensor, beta: Tensor) -> Tensor:
        is_projective = name == "projective"
        if is_projective:
            grid = _projective_grid(beta, self.size)
        else:
            matrix = _position_matrix(beta) if name == "position" else _similarity_matrix(beta)
            grid = F.affine_grid(matrix, [len(beta), 1, *self.size], align_corners=False)
        return F.grid_sample(image, grid, padding_mode=self.padding, align_corners=is_projective)


def _recolor(image: Tensor, beta: Tensor) -> Tensor:
    weight, shift = beta.view(-1, 3, 2)[..., None, None].unbind(dim=2)
    return torch.cat([_clamp((1 + weight) * image[:, :3] + shift), image[:, 3:]], dim=1)


def _position_matrix(beta: Tensor) -> Tensor:
    scale, x, y = beta.unbind(dim=1)
    scale, zero = 1 + scale.exp(), torch.zeros_like(scale)
    return torch.stack([scale, zero, x, zero, scale, y], dim=1).view(-1, 2, 3)


def _similarity_matrix(beta: Tensor) -> Tensor:
    a, b, x, y = beta.unbind(dim=1)
    return torch.stack([1 + a, -b, x, b, 1 + a, y], dim=1).view(-1, 2, 3)


def _projective_grid(beta: Tensor, size: Sequence[int]) -> Tensor:
    matrix = torch.eye(3).to(beta) + beta.view(-1, 3, 3)
    height, width = (torch.linspace(-1, 1, length, dtype=beta.dtype) for length in size)
    y, x = torch.meshgrid(height, width, indexing="ij")
    points = torch.stack([x, y, torch.ones_like(x)], dim=-1).flatten(0, 1)
    mapped = points @ matrix.transpose(1, 2)
    depth = mapped[..., 2:]
    depth = torch.where(depth.abs() > 1e-8, depth, torch.ones_like(depth))
    return (mapped[..., :2] / depth).view(-1, *size, 2)


def _clamp(x: Tensor) -> Tensor:
    return x.clamp(0, 1) + 0.01 * (x.clamp(max=0) + (x - 1).clamp(min=0))


def _lower(matrix: Tensor) -> Tensor:
    """Keep what is strictly below the diagonal of the first two dimensions of (L, L, B)."""
    return matrix * matrix.new_ones(matrix.shape[:2]).tril(-1).unsqueeze(2)


def _perceptron(num_in: int, num_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(num_in, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, num_out)
    )


def _pair_perceptron(
    plain: nn.Module, state: Mapping[str, Tensor], prefix: str, row: int
) -> dict[str, tuple[Tensor, Tensor]]:
    pairs = {}
    linears = [module for module in plain.modules() if isinstance(module, nn.Linear)]
    for number, linear in enumerate(linears):
        weight, bias = state[f"{prefix}.weights.{number}"], state[f"{prefix}.biases.{number}"]
        name = f"{prefix}.{row}.{number}"
        pairs[f"{name}.weight"] = (linear.weight.data, weight[row].mT)
        pairs[f"{name}.bias"] = (linear.bias.data, bias[row, 0])
    return pairs


def _build_trunk(name: str) -> tuple[nn.Sequential, int]:
    if name == "resnet18":
        network = torchvision.models.resnet18(weights=None)
        return nn.Sequential(*list(network.children())[:-2]), 512
    stages = [
        nn.Sequential(_Block(num_in, num_out), *(_Block(num_out, num_out) for _ in range(4)))
        for num_in, num_out in ((16, 16), (16, 32), (32, 64))
    ]
    first = nn.Conv2d(3, 16, 3, padding=1, bias=False)
    return nn.Sequential(first, nn.BatchNorm2d(16), nn.ReLU(), *stages), 64


class _Block(nn.Module):
    """Basic block of ResNet-32; it halves the picture where the width doubles."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.stride, self.half = num_out // num_in, (num_out - num_in) // 2
        self.conv1 = nn.Conv2d(num_in, num_out, 3, self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(num_out)
        self.conv2 = nn.Conv2d(num_out, num_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(num_out)

    def forward(self, image: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(image)))))
        small = image[:, :, :: self.stride, :: self.stride]
        return F.relu(out + F.pad(small, (0, 0, 0, 0, self.half, self.half)))
