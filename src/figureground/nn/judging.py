"""What a discriminator sees: pictures after adaptive augmentation, in groups."""

from __future__ import annotations

from torch import Tensor, nn

from figureground.nn.ada import AdaController, AugmentPipe
from figureground.nn.precision import widen
from figureground.nn.stylegan2_discriminator import score_in_groups


class Judging:
    """Part of a module whose discriminator sees pictures after augmentation.

    Attributes:
        discriminator: D.
        group_size: Pictures that D compares with each other.
        boundary: Score between "looks made" and "looks real".
        augmentation: What changes pictures before D sees them, if anything does.
        controller: Steers its strength, or None.
    """

    discriminator: nn.Module
    group_size: int
    boundary: float = 0.0
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
            self.controller.observe(score_real.detach() - self.boundary)

    def steer_augmentation(self, iteration: int, batch_size: int) -> Tensor | None:
        """Move the strength if it is time.

        Args:
            iteration: Counted from 1.
            batch_size: Pictures in a batch of all processes.

        Returns:
            The strength, a scalar of 0 or more: a controller may push it above 1, where every
            operation fires, as in the published code. None without augmentation.
        """
        if self.augmentation is None:
            return None
        if self.controller is not None:
            self.controller.update(self.augmentation, iteration, batch_size)
        return self.augmentation.p

    def reset_augmentation(self) -> None:
        """Start from the first strength, and forget the scores."""
        if self.augmentation is not None:
            self.augmentation.p.fill_(self._first_strength)
        if self.controller is not None:
            self.controller.sign_sum.zero_()
            self.controller.count.zero_()


def check_augmentation(
    augmentation: AugmentPipe | None, controller: AdaController | None
) -> list[str]:
    """Say so if there is nothing for a controller to steer."""
    if controller is None or augmentation is not None:
        return []
    return ["a controller needs an augmentation to steer; set controller=null"]
