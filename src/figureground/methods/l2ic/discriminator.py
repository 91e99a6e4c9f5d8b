"""Networks that look at pictures: L2IC's discriminator, which also sorts, and ComGAN's judges."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from figureground.core.types import TensorRecord
from figureground.methods.l2ic.losses import cosines
from figureground.nn.precision import widen
from figureground.nn.strided import LEAK, PictureBase


@dataclass(slots=True)
class Judgement(TensorRecord):
    """What a network finds in B pictures.

    Attributes:
        score: How real they look, before any sigmoid, (B,); empty without such a head.
        info: Where they lie among the centroids, or logits of codes, (B, E); empty likewise.
        cluster: Probabilities of clusters by the head of its own, (B, K); empty likewise.
    """

    score: Tensor
    info: Tensor
    cluster: Tensor


class VectorHead(nn.Module):
    """4x4 maps (B, C, 4, 4) to vectors (B, size): a 3x3 convolution, and one over all that is."""

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.last = nn.Conv2d(width, size, 4, 4)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, 4, 4) to (B, size)."""
        vector: Tensor = self.last(F.leaky_relu(self.norm(self.conv(features)), LEAK))
        return vector.flatten(1)


class ClusterHead(nn.Module):
    """4x4 maps (B, C, 4, 4) to probabilities (B, K) of clusters."""

    def __init__(self, width: int, num_clusters: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.hidden = nn.Linear(width, width)
        self.last = nn.Linear(width, num_clusters)

    def forward(self, features: Tensor) -> Tensor:
        """Probabilities, which sum to one."""
        pooled = self.project(features).mean(dim=(2, 3))
        return widen(self.last(F.relu(self.hidden(pooled)))).softmax(dim=1)


class ClusterDiscriminator(nn.Module):
    """Tells real from made, and where among K centroids a picture lies.

    Args:
        resolution: Side S.
        width: Channels after the first convolution; embeddings have eight times as many entries.
        num_categories: K.
        has_cluster_head: Whether there is a head for clusters besides; C3-GAN has none.
    """

    def __init__(
        self,
        resolution: int,
        *,
        width: int = 64,
        num_categories: int,
        has_cluster_head: bool = True,
    ) -> None:
        super().__init__()
        size = 8 * width
        self.base = PictureBase(resolution, width)
        self.info = VectorHead(size, size)
        self.cluster = ClusterHead(size, num_categories) if has_cluster_head else None
        self.realness = nn.Conv2d(size, 1, 4, 4)
        self.embedding = nn.Linear(num_categories, size)

    @property
    def centroids(self) -> Tensor:
        """E: what the dense layer makes of each one-hot code, (K, 8 * width)."""
        return self.embedding.weight.T + self.embedding.bias

    def forward(self, image: Tensor) -> Judgement:
        """Look at (B, 3, S, S)."""
        features = self.base(image)
        score = widen(self.realness(features)).flatten()
        # Cosines are divided by a small temperature, which half precision does not survive.
        with torch.autocast(features.device.type, enabled=False):
            info = widen(self.info(features.to(self.embedding.weight.dtype)))
        cluster: Tensor = info[:, :0] if self.cluster is None else self.cluster(features)
        return Judgement(score, info, cluster)

    def find_clusters(self, info: Tensor) -> Tensor:
        """Centroid of the largest cosine with each of `info` (B, 8 * width): (B,) int64."""
        return cosines(info, self.centroids).argmax(dim=1)


class Judge(nn.Module):
    """One of ComGAN's networks: says how real a picture is, or which code it was drawn from.

    Args:
        resolution: Side S.
        width: Channels after the first convolution.
        num_codes: Length of the code to tell; 0 to say how real it is.
    """

    def __init__(self, resolution: int, *, width: int, num_codes: int = 0) -> None:
        super().__init__()
        self.base = PictureBase(resolution, width)
        self.reads_codes = num_codes > 0
        self.head: nn.Module = (
            VectorHead(8 * width, num_codes) if num_codes else nn.Conv2d(8 * width, 1, 4, 4)
        )

    def forward(self, image: Tensor) -> Judgement:
        """Look at (B, 3, S, S); `info` are logits of codes."""
        found = widen(self.head(self.base(image))).flatten(1)  # (B, num_codes or 1)
        none = found[:, :0]
        if self.reads_codes:
            return Judgement(none.flatten(), found, none)
        return Judgement(found[:, 0], none, none)
