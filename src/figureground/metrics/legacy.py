"""Scores as L2IC's released code computes them, with its slips, to compare with its figures only.

- FID `fid/double_scaled`: pictures in [-1, 1] are scaled by 2 x - 1 once more before Inception,
  real and drawn ones alike; covariances are divided by n - 1.
- IS `is/minmax`: torchvision's Inception for ImageNet (1000 classes, not the network of FID) sees
  each picture stretched to its own smallest and largest value, without ImageNet's means.

Left out are the rows that its arrays of features were never filled with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from figureground.core.bounds import PositiveInt
from figureground.core.errors import UserError
from figureground.metrics.features import Features, InceptionFeatures, read_weights
from figureground.metrics.generation import FrechetDistance, InceptionScore

_SIDE = 299
_SHAPE = (1000, 2048)  # Of the last weights of the network for ImageNet.


class DoubleScaledFeatures:
    """What the network of FID sees in pictures that are scaled once too often.

    Args:
        inception: The network.
    """

    suffix, num_middle = "double_scaled", 0

    def __init__(self, inception: InceptionFeatures) -> None:
        self.inception, self.num_features = inception, inception.num_features
        self.checksum = f"{inception.checksum}-double-scaled"

    @torch.no_grad()
    def extract(self, image: Tensor) -> Features:
        """Features of `image` (B, 3, H, W) in [-1, 1]."""
        large = F.interpolate(image.float(), (_SIDE, _SIDE), mode="bilinear", align_corners=False)
        return Features(self.inception.network(2 * large - 1))

    def to(self, device: torch.device) -> Any:
        """Move the weights."""
        self.inception.to(device)
        return self


class StretchedClassifier(nn.Module):
    """Torchvision's Inception for ImageNet on pictures that are stretched one by one.

    Args:
        weights: File of its weights, such as inception_v3_google-0cc3c7bd.pth.

    Raises:
        UserError: It is another one.
    """

    def __init__(self, weights: str) -> None:
        super().__init__()
        state = read_weights(weights)
        shape = tuple(getattr(state.get("fc.weight"), "shape", ()))
        if shape != _SHAPE:
            raise UserError(
                f"{weights} is not torchvision's Inception for ImageNet; expected a file such as "
                "inception_v3_google-0cc3c7bd.pth"
            )
        from torchvision.models import inception_v3

        # The head for training is in the file, and idle here.
        network = inception_v3(weights=None, aux_logits=False, init_weights=False)
        network.load_state_dict({k: v for k, v in state.items() if not k.startswith("AuxLogits")})
        self.network: nn.Module = network
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """Class probabilities (B, 1000) of `image` (B, 3, H, W), of any range."""
        stretched = stretch_range(image.float())
        large = F.interpolate(stretched, (_SIDE, _SIDE), mode="bilinear", align_corners=False)
        probabilities: Tensor = self.network(large).softmax(dim=1)
        return probabilities


class LegacyScores:
    """The scores above of what is drawn, picture by picture.

    Args:
        features: Sees pictures scaled twice; None leaves that FID out.
        classifier: Sees pictures stretched; None leaves that IS out.
        num_splits: Of the Inception score.
    """

    def __init__(
        self,
        features: DoubleScaledFeatures | None,
        classifier: nn.Module | None,
        num_splits: PositiveInt = 10,
    ) -> None:
        self.features, self.classifier = features, classifier
        self.frechet = None
        if features is not None:
            self.frechet = FrechetDistance(features.num_features, correction=1)
        self.inception = InceptionScore(num_splits)

    def take_real(self, pooled: Tensor) -> None:
        """Take in features (B, D) of real pictures."""
        if self.frechet is not None:
            self.frechet.update(pooled.cpu(), real=True)

    def take_drawn(self, image: Tensor) -> None:
        """Take in drawn pictures (B, 3, H, W) in [-1, 1]."""
        if self.features is not None and self.frechet is not None:
            self.frechet.update(self.features.extract(image).pooled.cpu(), real=False)
        if self.classifier is not None:
            self.inception.update(self.classifier(image).cpu())

    def compute(self) -> dict[str, float]:
        """Scores by id."""
        found: dict[str, float] = {}
        if self.frechet is not None:
            found["fid/double_scaled"] = float(self.frechet.compute())
        if self.classifier is not None:
            mean, spread = self.inception.compute()
            found |= {"is/minmax": float(mean), "is/minmax/std": float(spread)}
        return found


def stretch_range(image: Tensor) -> Tensor:
    """Stretch each of (B, 3, H, W) to [0, 1] and round to the bytes of a PNG file."""
    low, high = torch.aminmax(image.flatten(1), dim=1, keepdim=True)
    low, high = low[..., None, None], high[..., None, None]
    stretched = (image - low) / (high - low).clamp(min=1e-5)
    return (255 * stretched + 0.5).floor().clamp(0, 255) / 255


def find_wrong_legacy(
    inception: str | None, double_scaled: bool, imagenet_inception: str | None
) -> list[str]:
    """Problems of options that are about these scores."""
    problems = []
    if double_scaled and inception is None:
        problems.append(
            "double_scaled=true is about the published network; name its weights: "
            "metrics.generation.inception=..."
        )
    if imagenet_inception is not None and not Path(imagenet_inception).is_file():
        problems.append(f"imagenet_inception={imagenet_inception} is not a file; expected weights")
    return problems
