"""The objectives of both players: which terms there are, and their weighted sum.

With the weights of `Weights`, s(u, E) the similarities of embeddings and centroids:

- D minimises  game(x, x^) + info CE(s(x^), c) + swap NTXent(x^, x^') + view NTXent(x, x_aug)
               + cluster_head CC(x, x_aug)          L2IC
               + masked_info CE(s(m x^), c) + entropy (H_each - H_mean)          C3-GAN
               + sketch game(x, sketch)             DS-ComGAN
- G minimises  game(x^) + info CE(s(x^), c) + masked_info CE(s(m x^), c) + binarity H(m)
               + area hinge(m) + layer_codes (CE(F, c) + CE(B, b)) + sketch game(sketch)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from figureground.losses.adversarial import (
    hinge_fake,
    hinge_generator,
    hinge_real,
    logistic_discriminator_losses,
    logistic_generator_loss,
)
from figureground.methods.l2ic.codes import Codes
from figureground.methods.l2ic.composition import ComposedPicture
from figureground.methods.l2ic.discriminator import ClusterDiscriminator, Judge
from figureground.methods.l2ic.losses import (
    area_hinge,
    assignment_entropies,
    category_loss,
    cluster_contrast,
    mask_entropy,
    pair_contrast,
)
from figureground.methods.l2ic.views import augment_view
from figureground.methods.l2ic.weights import Weights
from figureground.nn.precision import widen

#: `logistic` is cross-entropy on the sigmoid of scores.
Game = Literal["logistic", "hinge"]
Terms = dict[str, Tensor]


@dataclass(frozen=True)
class Objective:
    """Both players' objective.

    Attributes:
        weights: Of the terms; those of weight 0 are not computed.
        game: Form of the adversarial terms.
        temperature: Of similarities and contrasts.
    """

    weights: Weights
    game: Game
    temperature: float

    def total(self, terms: Terms) -> Tensor:
        """Sum of terms, each times its weight."""
        return torch.stack([getattr(self.weights, name) * x for name, x in terms.items()]).sum()

    def of_discriminator(
        self,
        judge: ClusterDiscriminator | Judge,
        real: Tensor,
        picture: ComposedPicture,
        codes: Codes,
    ) -> tuple[Terms, Tensor]:
        """Terms that D minimises, and embeddings of the made pictures, (B, E) without gradient.

        Args:
            judge: D.
            real: x, (B, 3, S, S).
            picture: Made pictures; gradients end at them.
            codes: What they were drawn from.
        """
        used = self.weights.in_use()
        seen, fake = judge(real), judge(picture.composite.detach())
        terms = {"adversarial": self._judge_loss(seen.score, fake.score)}
        if picture.sketch is not None and "sketch" in used:
            # The authors score real pictures once more beside the second kind of made ones.
            sketch = judge(picture.sketch.detach())
            terms["sketch"] = self._judge_loss(seen.score, sketch.score)
        if not isinstance(judge, ClusterDiscriminator):
            return terms, fake.info.detach()
        where, tau = widen(judge.centroids), self.temperature
        if "info" in used:
            terms["info"] = category_loss(fake.info, where, codes.category, tau)
        if "masked_info" in used:
            cut = judge(picture.cutout.detach())
            terms["masked_info"] = category_loss(cut.info, where, codes.category, tau)
        if "swap" in used and picture.swapped is not None:
            swapped = judge(picture.swapped)
            terms["swap"] = pair_contrast(fake.info, swapped.info, tau)
        if used & {"view", "cluster_head"}:
            view = judge(augment_view(real))
            if "view" in used:
                terms["view"] = pair_contrast(seen.info, view.info, tau)
            if "cluster_head" in used:
                terms["cluster_head"] = cluster_contrast(seen.cluster, view.cluster)
        if "entropy" in used:
            terms["entropy"] = sum(
                assignment_entropies(seen.info, where, tau), seen.info.new_zeros(())
            )
        return terms, fake.info.detach()

    def of_generator(
        self,
        judge: ClusterDiscriminator | Judge,
        readers: nn.ModuleDict,
        picture: ComposedPicture,
        codes: Codes,
    ) -> Terms:
        """Terms that G minimises, and with it DS-ComGAN's `readers` of layers' codes."""
        used, weights = self.weights.in_use(), self.weights
        fake = judge(picture.composite)
        terms = {"adversarial": self._maker_loss(fake.score)}
        if isinstance(judge, ClusterDiscriminator):
            where, tau = widen(judge.centroids), self.temperature
            if "info" in used:
                terms["info"] = category_loss(fake.info, where, codes.category, tau)
            if "masked_info" in used:
                cut = judge(picture.cutout)
                terms["masked_info"] = category_loss(cut.info, where, codes.category, tau)
        if "binarity" in used:
            terms["binarity"] = mask_entropy(picture.mask)
        if "area" in used:
            terms["area"] = area_hinge(picture.mask, weights.area_low, weights.area_high)
        if "layer_codes" in used:
            front = readers["foreground"](picture.foreground).info
            back = readers["background"](picture.background).info
            terms["layer_codes"] = F.cross_entropy(front, codes.category) + F.cross_entropy(
                back, codes.background
            )
        if picture.sketch is not None and "sketch" in used:
            terms["sketch"] = self._maker_loss(judge(picture.sketch).score)
        return terms

    def _judge_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        if self.game == "hinge":
            return hinge_real(real) + hinge_fake(fake)
        return sum(logistic_discriminator_losses(real, fake), real.new_zeros(()))

    def _maker_loss(self, fake: Tensor) -> Tensor:
        return hinge_generator(fake) if self.game == "hinge" else logistic_generator_loss(fake)
