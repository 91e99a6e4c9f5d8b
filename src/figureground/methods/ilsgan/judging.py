"""What the discriminator sees: pictures after adaptive augmentation, in groups."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from figureground.methods.ilsgan.statistics import LayerScoring
from figureground.nn.ada import AdaController, AugmentPipe
from figureground.nn.precision import widen
from figureground.nn.stylegan2_discriminator import StyleDiscriminator


class Judging(LayerScoring):
    """A method whose discriminator sees pictures after augmentation.

    Attributes:
        discriminator: D.
        group_size: Pictures that D compares with each other.
        augmentation: What changes pictures before D sees them, if anything does.
        controller: Steers its strength, or None.
    """

    discriminator: StyleDiscriminator
    group_size: int
    augmentation: AugmentPipe | None
    controller: AdaController | None

    def set_augmentation(
        self, augmentation: AugmentPipe | None, controller: AdaController | None
    ) -> None:
        """Take both, and note the strength to start from."""
        self.augmentation, self.controller = augmentation, controller
        self._first_strength = 0.0 if augmentation is None else float(augmentation.p)

    def judge(self, image: Tensor, *, twice: bool = False) -> Tensor:
        """Scores (B,) of pictures (B, 3, S, S) after augmentation.

        Args:
            image: The pictures.
            twice: Whether they will be differentiated twice, which compiled networks cannot be.
        """
        image = image if self.augmentation is None else self.augmentation(image)
        network = self.discriminator.forward if twice else self.discriminator
        return widen(score_in_groups(network, image, self.group_size))

    def score(self, image: Tensor) -> Tensor:
        """How real D finds pictures (B, 3, S, S) as they are: (B,), larger for more real."""
        return widen(score_in_groups(self.discriminator, image, self.group_size))

    def observe(self, score_real: Tensor) -> None:
        """Let the controller know scores (B,) of real pictures."""
        if self.controller is not None:
            self.controller.observe(score_real.detach())

    def steer_augmentation(self, batch_size: int) -> None:
        """Move the strength if it is time, and log it; `batch_size` is that of all processes."""
        if self.augmentation is None:
            return
        if self.controller is not None:
            self.controller.update(self.augmentation, self.iteration, batch_size)
        self.log("train/augment", self.augmentation.p)

    def reset_augmentation(self) -> None:
        """Start from the first strength, and forget the scores."""
        if self.augmentation is not None:
            self.augmentation.p.fill_(self._first_strength)
        if self.controller is not None:
            self.controller.sign_sum.zero_()
            self.controller.count.zero_()


def score_in_groups(judge: Callable[[Tensor], Tensor], image: Tensor, size: int = 4) -> Tensor:
    """Scores (B,) of any number of pictures (B, 3, S, S).

    Pictures are compared in groups of `size`; the last one is filled up with pictures from the
    start.
    """
    rest = len(image) % size if len(image) > size else 0
    missing = image[: size - rest]  # There are more than `size`.
    filled = torch.cat([image, missing]) if rest else image
    return judge(filled)[: len(image)]
