"""Sprites predicted instead of tried out, an option of later work (arXiv 2604.19480).

Each layer has a perceptron that gives every sprite a probability, p_lk. In training one is drawn by
the straight-through Gumbel-softmax, so cost grows with L and not with sweeps over candidates; after
training the most probable one is taken. Letters as in `networks`.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from figureground.methods.dti_sprites.transforms import Perceptrons, StackedPerceptrons
from figureground.nn.precision import widen


class SelectionPredictor(nn.Module):
    """Which sprite each layer shows, from the features of a picture.

    Args:
        num_layers: L.
        num_choices: K, the empty sprite included.
        num_features: Length of the feature vectors.
        perceptrons: Shape of the predictors.
        temperature: Of the Gumbel-softmax; low ones give gradients closer to a choice, but noisier.
    """

    def __init__(
        self,
        num_layers: int,
        num_choices: int,
        num_features: int,
        perceptrons: Perceptrons,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.perceptrons = StackedPerceptrons(num_layers, num_features, num_choices, perceptrons)
        self.temperature = temperature

    def forward(self, features: Tensor, draw: bool, may_be_empty: bool) -> tuple[Tensor, Tensor]:
        """Choose for features (B, F).

        Args:
            features: Of the pictures.
            draw: Whether to draw with gradients, rather than take the most probable.
            may_be_empty: Whether the last sprite may be chosen.

        Returns:
            One-hot choices and probabilities, both (L, B, K).
        """
        logits = widen(self.perceptrons(features))
        if not may_be_empty:
            logits = logits[..., :-1]
        if draw:
            chosen = F.gumbel_softmax(logits, self.temperature, hard=True)
        else:
            chosen = F.one_hot(logits.argmax(dim=-1), logits.shape[-1]).to(logits)
        shares = logits.softmax(dim=-1)
        if not may_be_empty:
            chosen, shares = F.pad(chosen, (0, 1)), F.pad(shares, (0, 1))
        return chosen, shares


def lack_of_use(probabilities: Tensor, floor: float) -> Tensor:
    """How far sprites are below their share, sum_k max(0, floor - mean_b sum_l p_lk).

    Args:
        probabilities: Of sprites, without the empty one, (L, B, K).
        floor: Share of the pictures that each shall be used in.
    """
    usage = probabilities.sum(dim=0).mean(dim=0)
    return (floor - usage).clamp(min=0).sum()


def indecision(probabilities: Tensor) -> Tensor:
    """How far choices are from certain: mean density of Beta(2, 2), 6 p (1 - p)."""
    return (6 * probabilities * (1 - probabilities)).mean()


def occupancy(probabilities: Tensor) -> Tensor:
    """Layers that show something, mean_b sum_l (1 - p_l,empty); the empty sprite is the last."""
    return (1 - probabilities[..., -1]).sum(dim=0).mean()
