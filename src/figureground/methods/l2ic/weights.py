"""Weights of all terms, which make one objective L2IC's, C3-GAN's or DS-ComGAN's."""

from __future__ import annotations

from dataclasses import dataclass, fields

from figureground.core.bounds import Fraction, NonNegativeFloat


@dataclass(frozen=True)
class Weights:
    """Weight of each term; 0 leaves it out. x is real, x^ made, x^' has another background.

    L2IC's own are reconstructed: its release has no step. Evidence is in brackets.

    Attributes:
        adversarial: Of the game between generator and discriminator. [certain]
        info: Categories of x^ by centroids, for both. [form certain, weight C3-GAN's]
        masked_info: The same of m x^. [C3-GAN]
        swap: x^ and x^' are pairs, for the discriminator. [strong: x^' is drawn without gradient]
        view: x and an augmented view of it are pairs. [strong: the view is loaded]
        cluster_head: Contrastive clustering of x and its view by the head for it. [form inferred]
        entropy: Centroids of x are clear each, and all in use together. [C3-GAN]
        binarity: Against grey masks. [L2IC has the class and does not use it; C3-GAN]
        area: Against masks of too small or large an area. [C3-GAN]
        layer_codes: Codes are to be read off whole layers. [DS-ComGAN]
        sketch: Game for the picture decoded from the features of all layers. [DS-ComGAN]
        area_low: Area that masks should have at least,
        area_high: and at most, for `area`.
    """

    adversarial: NonNegativeFloat = 1.0
    info: NonNegativeFloat = 5.0
    masked_info: NonNegativeFloat = 0.0
    swap: NonNegativeFloat = 1.0
    view: NonNegativeFloat = 1.0
    cluster_head: NonNegativeFloat = 1.0
    entropy: NonNegativeFloat = 0.0
    binarity: NonNegativeFloat = 0.0
    area: NonNegativeFloat = 0.0
    layer_codes: NonNegativeFloat = 0.0
    sketch: NonNegativeFloat = 0.0
    area_low: Fraction = 0.1
    area_high: Fraction = 0.9

    def in_use(self) -> set[str]:
        """Names of terms whose weight is not 0."""
        names = {field.name for field in fields(self)} - {"area_low", "area_high"}
        return {name for name in names if getattr(self, name) > 0}
