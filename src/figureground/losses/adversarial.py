"""Adversarial objectives on discriminator scores (B,); larger scores mean "looks real".

Hinge (Lim & Ye 2017), logistic, also called non-saturating (Goodfellow et al. 2014), least squares
(Mao et al. 2017) and Wasserstein (Arjovsky et al. 2017), with the penalties that go with the
logistic one: R1 (Mescheder et al. 2018) and path length (Karras et al. 2020). `GAMES` has them all
by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def hinge_real(score: Tensor) -> Tensor:
    """Hinge term of real pictures: mean of max(0, 1 - D(x)) (Lim & Ye 2017)."""
    return F.relu(1 - score).mean()


def hinge_fake(score: Tensor) -> Tensor:
    """Hinge term of made pictures: mean of max(0, 1 + D(x))."""
    return F.relu(1 + score).mean()


def hinge_generator(score: Tensor) -> Tensor:
    """What the generator of a hinge game minimises: minus the mean of D(x)."""
    return -score.mean()


def logistic_generator_loss(logits: Tensor) -> Tensor:
    """What the generator of a logistic game minimises: mean of softplus(-D(x))."""
    return F.softplus(-logits).mean()


def logistic_discriminator_losses(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Terms of the discriminator: means of softplus(-D(real)) and of softplus(D(fake))."""
    return F.softplus(-real).mean(), F.softplus(fake).mean()


def least_squares_discriminator_losses(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Half the mean squared distances of D(real) from 1 and of D(fake) from 0."""
    return (real - 1).square().mean() / 2, fake.square().mean() / 2


def least_squares_generator_loss(score: Tensor) -> Tensor:
    """Half the mean squared distance of D(fake) from 1."""
    return (score - 1).square().mean() / 2


def wasserstein_discriminator_losses(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Means of -D(real) and of D(fake); means something only where D is bounded in its slope."""
    return -real.mean(), fake.mean()


def hinge_discriminator_losses(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Terms of the discriminator: `hinge_real` and `hinge_fake`."""
    return hinge_real(real), hinge_fake(fake)


Game = Literal["logistic", "hinge", "least_squares", "wasserstein"]


class Objectives(NamedTuple):
    """What both players of a game minimise.

    Attributes:
        discriminator: Its terms for scores of real and of made pictures, each (B,).
        generator: Of scores (B,) of made pictures.
        boundary: Score between "looks made" and "looks real"; None where there is none.
    """

    discriminator: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    generator: Callable[[Tensor], Tensor]
    boundary: float | None


#: Games by name. Minus the mean of D(x) is G's part in two of them.
GAMES: dict[Game, Objectives] = {
    "logistic": Objectives(logistic_discriminator_losses, logistic_generator_loss, 0.0),
    "hinge": Objectives(hinge_discriminator_losses, hinge_generator, 0.0),
    "least_squares": Objectives(
        least_squares_discriminator_losses, least_squares_generator_loss, 0.5
    ),
    "wasserstein": Objectives(wasserstein_discriminator_losses, hinge_generator, None),
}


def r1_penalty(logits: Tensor, image: Tensor) -> Tensor:
    """Squared norm of the gradient of each score by its own real picture.

    The usual objective adds gamma / 2 times the mean over the batch.

    Args:
        logits: (B,), computed from `image`.
        image: (B, C, H, W), requires grad.

    Returns:
        (B,), with a graph for the second derivative.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), image, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3))


def usual_r1_gamma(resolution: int, batch_size: int) -> float:
    """Weight of R1 that StyleGAN2-ADA found for pictures of a side and pictures in a step."""
    return 0.0002 * resolution**2 / batch_size


class PathLengthPenalty(nn.Module):
    """Keep steps of equal length in style space equally visible (Karras et al. 2020, section 3.2).

    With noise n ~ N(0, 1) / sqrt(H W) a sample's length is l = |d sum(x n) / dw|, where |.| is the
    norm over the style's entries, mean-squared over its layers. The penalty is the mean of
    (l - a)^2, a being the running mean of l; StyleGAN2 weighs it with 2.

    Args:
        decay: Share of the new mean that enters the running one per call.
    """

    mean_length: Tensor

    def __init__(self, decay: float = 0.01) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("mean_length", torch.zeros(()))

    @staticmethod
    def num_pictures(batch_size: int) -> int:
        """Pictures to take for a batch of `batch_size`: half, which is StyleGAN2's economy."""
        return max(1, batch_size // 2)

    def reset_parameters(self) -> None:
        """Forget the running mean."""
        self.mean_length.zero_()

    def forward(
        self, image: Tensor, styles: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Update the running mean and return the penalty, a scalar.

        Args:
            image: (B, C, H, W), made from `styles`.
            styles: (B, num_styles, D), requires grad.
            generator: Source of n (on any device); None for the global generator.
        """
        device = image.device if generator is None else generator.device
        noise = torch.randn(image.shape, generator=generator, device=device).to(image)
        noise = noise / (image.shape[2] * image.shape[3]) ** 0.5
        (gradient,) = torch.autograd.grad((image * noise).sum(), styles, create_graph=True)
        length = gradient.square().sum(dim=2).mean(dim=1).sqrt()  # (B,)
        with torch.no_grad():
            self.mean_length.lerp_(length.mean().to(self.mean_length), self.decay)
        # A copy, so that the next call may move the mean before this one's backward pass.
        return (length - self.mean_length.clone()).square().mean()
