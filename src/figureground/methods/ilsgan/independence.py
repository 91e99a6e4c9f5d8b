"""Independence of layers: bounds on what the hidden part of one layer tells of the other.

Zou, Yang, Ye, Wang, Zhang, "ILSGAN: Independent Layer Synthesis for Unsupervised
Foreground-Background Segmentation", AAAI 2023. With background b, foreground f and mask m, the
hidden background x = b m should tell nothing of the visible foreground y = f m, and the hidden
foreground x = f (1 - m) nothing of the visible background y = b (1 - m). The mutual information
of each pair is bounded from above by CLUB (Cheng et al., ICML 2020),

    E[log q(x_i | y_i)] - E[log q(x_p(i) | y_i)],

p being one shuffle of the batch per pair and q a fixed (`club_bound`) or learned density.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from figureground.core.bounds import NonNegativeFloat
from figureground.methods.ilsgan.perturbation import LayeredPicture
from figureground.methods.ilsgan.pixelcnn import PixelDensity

Kind = Literal[
    "distance",
    "free_distance",
    "laplace",
    "normal",
    "learned_laplace",
    "learned_normal",
    "learned_pixelcnn",
]
Family = Literal["laplace", "normal"]
Pairs = Literal["both", "whole", "foreground_given_background", "background_given_foreground"]
Negatives = Literal["permutation", "derangement"]
Reduction = Literal["mean", "sum"]
#: Mean and logarithm of the scale of x given y, each like y; or a density of whole pictures.
Density = Callable[[Tensor], tuple[Tensor, Tensor]] | PixelDensity

_LOG_TWO_PI = 1.8378770664093453
_FIXED = ("laplace", "normal")
_DENSE = (*_FIXED, "learned_laplace", "learned_normal", "learned_pixelcnn")
#: Switches that do not count with every kind: their values that are off, and the kinds they count
#: with.
_SWITCHES: dict[str, tuple[object, tuple[str, ...]]] = {
    "detach_condition": (False, _DENSE),
    # With `free_distance` the mask cancels out, with `distance` it is cut anyway.
    "detach_mask": (False, _DENSE),
    "negative_weight": (1.0, _FIXED),
    "reduction": ("mean", _FIXED),
    "negatives": ("permutation", _DENSE),
}


@dataclass(frozen=True)
class Independence:
    """Which of the published forms of the loss; the defaults are those of the paper.

    Attributes:
        kind: `laplace` and `normal` fix q with mean y and scale 1; `learned_laplace` and
            `learned_normal` learn both, `learned_pixelcnn` a density that draws pixel by pixel;
            `distance` only drives overlapping layers apart; `free_distance` lets gradients through
            both sides of it.
        pairs: `both` directions on hidden and visible parts, `whole` layers with one pair, or one
            direction the other way about: a visible layer given the other one.
        mask_condition: In these one-sided forms, whether the given layer is its visible part only.
            This and the switches below are refused where they do not count.
        detach_condition: Cut the gradients of y.
        detach_mask: Cut the gradients of m.
        negative_weight: Factor of the shuffled term of the fixed densities.
        reduction: The fixed densities' `mean` over everything, or `sum` over pixels and channels.
        negatives: Any `permutation` (published), or a `derangement`, which pairs nothing with
            itself.
    """

    kind: Kind = "laplace"
    pairs: Pairs = "both"
    mask_condition: bool = True
    detach_condition: bool = False
    detach_mask: bool = False
    negative_weight: NonNegativeFloat = 1.0
    reduction: Reduction = "mean"
    negatives: Negatives = "permutation"

    def __post_init__(self) -> None:
        if problems := self.check_options(**asdict(self)):
            raise ValueError("; ".join(problems))

    @staticmethod
    def check_options(
        *, kind: str, pairs: str, mask_condition: bool = True, **switches: Any
    ) -> list[str]:
        """Problems of options that are fine one by one but not together."""
        problems = []
        if kind.endswith("distance") and pairs != "both":
            problems.append(f"pairs={pairs} is for densities; kind={kind} knows no pairs")
        if not mask_condition and not pairs.endswith("ground"):
            problems.append(
                "mask_condition=false counts with pairs=foreground_given_background and "
                f"background_given_foreground only, got pairs={pairs}"
            )
        for name, (off, kinds) in _SWITCHES.items():
            if switches.get(name, off) != off and kind not in kinds:
                value = str(switches[name]).lower()
                problems.append(
                    f"{name}={value} counts with kind={', '.join(kinds)} only, got kind={kind}"
                )
        if switches.get("detach_mask") and pairs == "whole":
            problems.append("detach_mask=true does nothing with pairs=whole, which has no mask")
        return problems

    @property
    def family(self) -> Family:
        """Family of the density q."""
        return "normal" if self.kind.endswith("normal") else "laplace"

    @property
    def is_learned(self) -> bool:
        """Whether q has weights."""
        return self.kind.startswith("learned")

    @property
    def is_autoregressive(self) -> bool:
        """Whether q draws pixel by pixel."""
        return self.kind == "learned_pixelcnn"

    @property
    def num_densities(self) -> int:
        """Densities to learn, one for each pair."""
        return (2 if self.pairs == "both" else 1) if self.is_learned else 0


def independence_loss(
    picture: LayeredPicture, options: Independence, densities: Sequence[Density] = ()
) -> Tensor:
    """Sum of the bounds over all pairs, a scalar that may be negative.

    Args:
        picture: Layers before the perturbation.
        options: See there.
        densities: One for each pair if they are learned.
    """
    mask = picture.mask.detach() if options.detach_mask else picture.mask
    picture = LayeredPicture(keep_inside(picture.background), keep_inside(picture.foreground), mask)
    if options.kind.endswith("distance"):
        is_free = options.kind == "free_distance"
        return layer_distance(picture, stop_gradients=not is_free)
    total = mask.new_zeros(())
    for number, (x, y) in enumerate(make_pairs(picture, options)):
        y = y.detach() if options.detach_condition else y
        negatives = draw_negatives(len(x), options.negatives).to(x.device)
        if options.is_learned:
            density = densities[number]
            if isinstance(density, PixelDensity):
                total = total + density.bound(x, y, negatives)
                continue
            mean, log_scale = density(y)
            # Halved also for Laplace densities, and summed: as released.
            total = total + 0.5 * club_bound(
                x, mean, negatives, options.family, log_scale=log_scale, reduction="sum"
            )
            continue
        bound = club_bound(
            x, y, negatives, options.family,
            negative_weight=options.negative_weight, reduction=options.reduction,
        )  # fmt: skip
        total = total + (bound if options.family == "laplace" else 0.5 * bound)
    return total


def likelihood_loss(
    picture: LayeredPicture, options: Independence, densities: Sequence[Density]
) -> Tensor:
    """What learned densities minimise: their negative log-likelihood, summed over pixels and pairs.

    Arguments are those of `independence_loss`.
    """
    total = picture.mask.new_zeros(())
    pairs = make_pairs(picture, options)
    for (x, y), density in zip(pairs, densities, strict=True):
        if isinstance(density, PixelDensity):
            total = total + density.likelihood_loss(x, y)
            continue
        mean, log_scale = density(y)
        terms = _error(x, mean, options.family) * (-log_scale).exp() + log_scale
        if options.family == "normal":
            # As released: the halves of the other two terms of the logarithm are left out.
            terms = terms + 0.5 * _LOG_TWO_PI
        total = total + terms.flatten(1).sum(dim=1).mean()
    return total


def make_pairs(picture: LayeredPicture, options: Independence) -> list[tuple[Tensor, Tensor]]:
    """Pairs (x, y) of (B, 3, H, W) of which x should tell nothing of y."""
    background, foreground, mask = picture.background, picture.foreground, picture.mask
    if options.pairs == "whole":
        return [(background, foreground)]
    if options.pairs == "both":
        return [
            (background * mask, foreground * mask),
            (foreground * (1 - mask), background * (1 - mask)),
        ]
    visible_foreground, visible_background = foreground * mask, background * (1 - mask)
    if options.pairs == "foreground_given_background":
        given = visible_background if options.mask_condition else background
        return [(visible_foreground, given)]
    given = visible_foreground if options.mask_condition else foreground
    return [(visible_background, given)]


def club_bound(
    x: Tensor,
    mean: Tensor,
    negatives: Tensor,
    family: Family,
    *,
    log_scale: Tensor | None = None,
    negative_weight: float = 1.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Sampled CLUB bound without the density's constants: - e(x_i) + w e(x_p(i)).

    e is |x - mean| / scale (`laplace`) or (x - mean)^2 / scale (`normal`).

    Args:
        x: (B, ...).
        mean: Of the density given y_i, like x.
        negatives: The shuffle p, (B,) int64.
        family: See above.
        log_scale: Logarithm of the scale, like x; None is 0.
        negative_weight: Factor w.
        reduction: `mean` over everything, or `sum` over all but the batch.
    """
    positive, negative = _error(x, mean, family), _error(x[negatives], mean, family)
    difference = negative_weight * negative - positive
    if log_scale is not None:
        difference = difference * (-log_scale).exp()
    if reduction == "mean":
        return difference.mean()
    return difference.flatten(1).sum(dim=1).mean()


def layer_distance(picture: LayeredPicture, *, stop_gradients: bool = True) -> Tensor:
    """Minus the absolute difference of layers: b where it is hidden, f where it is hidden.

    Pixels outside (-1, 1) count as no distance. With `stop_gradients` only the hidden layer moves;
    without, both layers and the mask do, and both layers must be inside.
    """
    background, foreground, mask = picture.background, picture.foreground, picture.mask
    inside_b, inside_f = is_inside(background), is_inside(foreground)
    if not stop_gradients:
        distance = (background - foreground).abs() * (inside_b & inside_f)
        return -(distance * mask).mean() - (distance * (1 - mask)).mean()
    mask = mask.detach()
    hidden_b = (background - foreground.detach()).abs() * mask * inside_b
    hidden_f = (foreground - background.detach()).abs() * (1 - mask) * inside_f
    return -hidden_b.mean() - hidden_f.mean()


def keep_inside(color: Tensor) -> Tensor:
    """Cut gradients where values leave (-1, 1): the bounds grow with contrast without end."""
    return torch.where(is_inside(color), color, color.detach())


def is_inside(color: Tensor) -> Tensor:
    """Which values can be seen, bool like `color`."""
    return color.detach().abs() < 1


def draw_negatives(count: int, kind: Negatives = "permutation") -> Tensor:
    """Shuffle of 0 ... count - 1, (count,) int64, from the global generator of the CPU."""
    order = torch.randperm(count)
    if kind == "permutation":
        return order
    negatives = torch.empty_like(order)
    negatives[order] = order.roll(1)  # One cycle through all: nobody stays in place.
    return negatives


def _error(x: Tensor, mean: Tensor, family: Family) -> Tensor:
    return (x - mean).abs() if family == "laplace" else (x - mean).square()
