"""DS-ComGAN's segmentation loss: masks of real pictures are to look like a generator's masks.

With masks m of drawn pictures, p of the same pictures, q of real ones, and a judge D of masks:

- the network minimises  2 |p - m| + softplus(-D(p)) + softplus(-D(q))      `network_terms`
- D minimises            2 softplus(-D(m)) + softplus(D(p)) + softplus(D(q))   `judge_terms`

Where m is void, neither it nor p counts: D sees both as ground there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from figureground.core.seeds import mix_seed
from figureground.data.datamodule import ImageDataModule
from figureground.losses.adversarial import (
    logistic_discriminator_losses,
    logistic_generator_loss,
)
from figureground.methods.segmenter.losses import mask_distance
from figureground.nn.precision import widen
from figureground.nn.strided import PictureBase

_DISTANCE_WEIGHT = 2.0


class MaskJudge(nn.Module):
    """Says how real a mask looks.

    Args:
        resolution: Side S, a power of two.
        width: Channels after the first convolution.
    """

    def __init__(self, resolution: int, width: int = 32) -> None:
        super().__init__()
        self.base = PictureBase(resolution, width)
        self.head = nn.Conv2d(8 * width, 1, 4, 4)

    def forward(self, mask: Tensor) -> Tensor:
        """Scores (B,) of masks (B, S, S) in [0, 1], larger for more real."""
        image = mask.unsqueeze(1).expand(-1, 3, -1, -1)
        return widen(self.head(self.base(image))).flatten()


def judge_terms(judge: MaskJudge, mask: Tensor, drawn: Tensor, real: Tensor) -> dict[str, Tensor]:
    """What the judge minimises.

    Args:
        judge: D.
        mask: m, (B, S, S).
        drawn: p, no gradient passes.
        real: q, likewise.
    """
    terms = {}
    for name, found in (("drawn", drawn), ("real", real)):
        losses = logistic_discriminator_losses(judge(mask), judge(found.detach()))
        terms[f"judge/{name}"] = torch.stack(losses).sum()
    return terms


def network_terms(
    judge: MaskJudge, mask: Tensor, drawn: Tensor, real: Tensor, void: Tensor | None = None
) -> dict[str, Tensor]:
    """What the network minimises: terms as of `judge_terms`, from logits (B, S, S) of p and q.

    `void` are pixels where m is not known, (B, S, S) bool.
    """
    p, q = widen(drawn).sigmoid(), widen(real).sigmoid()
    if void is not None:
        p = p.masked_fill(void, 0)
    return {
        "distance": _DISTANCE_WEIGHT * mask_distance(drawn, mask, void),
        "game/drawn": logistic_generator_loss(judge(p)),
        "game/real": logistic_generator_loss(judge(q)),
    }


def real_pictures(data: ImageDataModule, count: int, *position: int) -> Tensor:
    """Real training pictures (count, 3, S, S) of `data`, drawn by its seed and `position`.

    Those that pairs have taken the place of; without pairs, the training set. Masks are left out.
    """
    split = "real" if "real" in data.datasets else "train"
    chance = torch.Generator().manual_seed(mix_seed(data.seed, *position))
    chosen = torch.randint(len(data.store(split)), (count,), generator=chance)
    return data.batch(split, chosen.tolist()).image
