"""A plain L2IC training step: the released operators one by one, without Lightning.

Written from a description of the released code, whose step itself is not public: the objective is
our reconstruction of it. In it, one-hot codes are tiled over maps and convolved with them, the
picture before another background is rendered whole, centroids are made of an identity matrix, and
similarities class by class in a loop. Only the augmented view is shared with our side. Random
numbers are drawn in our order, so equal seeds mean equal steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from figureground.methods.l2ic.views import augment_view

_PLAYERS = ("generator.", "discriminator.")
_TAU, _LEAK, _SCALE = 0.1, 0.2, 4.0


class PlainL2IC:
    """Networks as a flat table of weights, and one iteration of both players.

    Args:
        state: State dict of our method.
        num_categories: K, of backgrounds as well.
        adam: Options of both optimisers.
    """

    def __init__(
        self,
        state: Mapping[str, Tensor],
        *,
        num_categories: int,
        adam: Mapping[str, Any],
    ) -> None:
        self.num_categories = num_categories
        self.weights: dict[str, Tensor] = {}
        self.buffers: dict[str, Tensor] = {}
        for name, tensor in state.items():
            if name.startswith(_PLAYERS):
                copied = tensor.detach().clone(memory_format=torch.contiguous_format)
                is_buffer = "running_" in name or "num_batches" in name
                (self.buffers if is_buffer else self.weights)[name] = copied
        owned = [[w for k, w in self.weights.items() if k.startswith(p)] for p in _PLAYERS]
        for weights in owned:
            for weight in weights:
                weight.requires_grad_(True)
        self.optimizers = [torch.optim.Adam(weights, **adam) for weights in owned]
        self.latent_dim = self.weights["generator.trunk.start.linear.weight"].shape[1]

    def train_once(self, real: Tensor) -> dict[str, float]:
        """One iteration on real pictures (B, 3, R, R); its losses by our names."""
        count, k = len(real), self.num_categories
        z = _SCALE * torch.randn(count, self.latent_dim)
        category = torch.randint(k, (count,))
        other = torch.randperm(k)[:count]
        other = torch.cat([other, torch.randint(k, (count - len(other),))])
        codes = F.one_hot(category, k).float()
        fake = self.compose(z, codes, codes)
        with torch.no_grad():
            swapped = self.compose(z, codes, F.one_hot(other, k).float())
        losses = self._step_discriminator(real, fake.detach(), swapped, category)
        return losses | self._step_generator(fake, category)

    def compose(self, z: Tensor, c: Tensor, b: Tensor) -> Tensor:
        """Pictures of z (B, D) and one-hot c, b (B, K)."""
        flat = z @ self.weights["generator.trunk.start.linear.weight"].T
        maps = F.glu(self.normalize(flat, "generator.trunk.start.norm"), dim=1)
        maps = maps.view(len(z), -1, 4, 4)
        for number in range(self._count("generator.trunk.enlarge")):
            maps = self.gated(maps, f"generator.trunk.enlarge.{number}", 2)
        joined = self.gated(torch.cat([maps, tile(c, maps)], dim=1), "generator.join")
        mask = self.branch(joined, "mask").sigmoid()
        front = self.branch(joined, "foreground").tanh()
        ground = self.branch(torch.cat([tile(b, maps), maps], dim=1), "background").tanh()
        return mask * front + (1 - mask) * ground

    def branch(self, maps: Tensor, name: str) -> Tensor:
        """A layer before what bounds it."""
        place = f"generator.{name}"
        maps = self.gated(maps, f"{place}.enter")
        for number in range(self._count(f"{place}.enlarge")):
            maps = self.gated(maps, f"{place}.enlarge.{number}", 2)
        for number in range(self._count(f"{place}.residuals")):
            block = f"{place}.residuals.{number}"
            inner = self.gated(maps, f"{block}.gated")
            inner = F.conv2d(inner, self.weights[f"{block}.conv.weight"], padding=1)
            maps = maps + self.normalize(inner, f"{block}.norm")
        maps = self.gated(maps, f"{place}.leave")
        return F.conv2d(maps, self.weights[f"{place}.head.0.weight"], padding=1)

    def gated(self, maps: Tensor, name: str, scale: int = 1) -> Tensor:
        """Enlarge, convolve, normalise, gate."""
        if scale > 1:
            maps = F.interpolate(maps, scale_factor=scale, mode="nearest")
        maps = F.conv2d(maps, self.weights[f"{name}.conv.weight"], padding=1)
        return F.glu(self.normalize(maps, f"{name}.norm"), dim=1)

    def normalize(self, maps: Tensor, name: str) -> Tensor:
        """Batch normalisation in training."""
        return F.batch_norm(
            maps, self.buffers[f"{name}.running_mean"], self.buffers[f"{name}.running_var"],
            self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], training=True,
        )  # fmt: skip

    def judge(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Embeddings (B, E), probabilities of clusters (B, K), scores (B,), centroids (K, E)."""
        w, place = self.weights, "discriminator"
        maps = F.leaky_relu(F.conv2d(image, w[f"{place}.base.convs.0.weight"], None, 2, 1), _LEAK)
        last = self._count(f"{place}.base.convs") - 1
        for number in range(1, last + 1):
            stride = 1 if number == last else 2
            maps = F.conv2d(maps, w[f"{place}.base.convs.{number}.weight"], None, stride, 1)
            maps = F.leaky_relu(self.normalize(maps, f"{place}.base.norms.{number - 1}"), _LEAK)
        inner = F.conv2d(maps, w[f"{place}.info.conv.weight"], padding=1)
        inner = F.leaky_relu(self.normalize(inner, f"{place}.info.norm"), _LEAK)
        info = F.conv2d(
            inner, w[f"{place}.info.last.weight"], w[f"{place}.info.last.bias"], stride=4
        ).flatten(1)
        pooled = F.conv2d(maps, w[f"{place}.cluster.project.weight"], padding=1)
        pooled = F.adaptive_avg_pool2d(pooled, 1).flatten(1)
        hidden = F.relu(self._dense(pooled, f"{place}.cluster.hidden"))
        cluster = self._dense(hidden, f"{place}.cluster.last").softmax(dim=1)
        score = F.conv2d(
            maps, w[f"{place}.realness.weight"], w[f"{place}.realness.bias"], stride=4
        ).flatten()
        centroids = self._dense(torch.eye(self.num_categories), f"{place}.embedding")
        return info, cluster, score, centroids

    def _step_discriminator(
        self, real: Tensor, fake: Tensor, swapped: Tensor, category: Tensor
    ) -> dict[str, float]:
        seen, one, real_score, _ = self.judge(real)
        info, _, fake_score, centroids = self.judge(fake)
        other = self.judge(swapped)[0]
        view, two, _, _ = self.judge(augment_view(real))
        terms = {
            "adversarial": cross_entropy(real_score, 1) + cross_entropy(fake_score, 0),
            "info": F.cross_entropy(compare(info, centroids), category),
            "swap": contrast(info, other, _TAU),
            "view": contrast(seen, view, _TAU),
            "cluster_head": contrast(one.T, two.T, 1.0)
            + negative_entropy(one)
            + negative_entropy(two),
        }
        return self._descend(1, terms)

    def _step_generator(self, fake: Tensor, category: Tensor) -> dict[str, float]:
        info, _, score, centroids = self.judge(fake)
        terms = {
            "adversarial": cross_entropy(score, 1),
            "info": F.cross_entropy(compare(info, centroids), category),
        }
        return self._descend(0, terms)

    def _descend(self, player: int, terms: dict[str, Tensor]) -> dict[str, float]:
        self.optimizers[player].zero_grad()
        weights = {"info": 5.0}
        torch.stack([weights.get(name, 1.0) * x for name, x in terms.items()]).sum().backward()
        self.optimizers[player].step()
        return {f"{_PLAYERS[player][:-1]}/{name}": x.item() for name, x in terms.items()}

    def _dense(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _count(self, place: str) -> int:
        """Numbered parts below `place`."""
        start = place.count(".") + 1
        return len({k.split(".")[start] for k in self.weights if k.startswith(f"{place}.")})


def tile(code: Tensor, maps: Tensor) -> Tensor:
    """Repeat codes (B, K) at each pixel of `maps`: (B, K, H, W)."""
    return code[:, :, None, None].repeat(1, 1, *maps.shape[2:])


def compare(info: Tensor, centroids: Tensor) -> Tensor:
    """Cosines over the temperature, class by class, (B, K)."""
    columns = [F.cosine_similarity(info, each.unsqueeze(0), dim=1) for each in centroids]
    return torch.stack(columns, dim=1) / _TAU


def contrast(one: Tensor, other: Tensor, temperature: float) -> Tensor:
    """NT-Xent: the positive first, then all others but the vector itself."""
    both = F.normalize(torch.cat([one, other]), dim=1)
    size, half = len(both), len(one)
    cosines = both @ both.T
    itself = torch.eye(size, dtype=torch.bool)
    positive = torch.eye(size).roll(half, dims=1).bool()
    first = cosines[positive].view(size, 1)
    rest = cosines[~(itself | positive)].view(size, -1)
    logits = torch.cat([first, rest], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(size, dtype=torch.long))


def negative_entropy(probabilities: Tensor) -> Tensor:
    """Sum of p ln p of the mean of (N, K)."""
    mean = probabilities.mean(dim=0)
    return (mean * mean.log()).sum()


def cross_entropy(score: Tensor, target: int) -> Tensor:
    """Binary cross-entropy of probabilities, which are sigmoids of scores."""
    return F.binary_cross_entropy(score.sigmoid(), torch.full_like(score, float(target)))
