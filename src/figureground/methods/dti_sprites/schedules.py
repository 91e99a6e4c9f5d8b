"""Learning rates over iterations, and which options go together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch.optim import Optimizer

from figureground.methods.dti_sprites.transforms import parse_sequence

_MOST_COMBINATIONS = 64  # Compositions per picture that the exhaustive search may try.
_RESIZING = {"affine", "position", "similarity", "projective", "tps"}


class Milestones:
    """Learning rates that drop by a factor at each milestone, sprites and predictors apart.

    Stateless: rates follow from the iteration, so resuming needs nothing stored.

    Args:
        milestones: Iterations after which rates drop.
        sprite_gamma: Factor for the first optimiser.
        predictor_gamma: Factor for the others.
    """

    def __init__(
        self, milestones: Sequence[int], sprite_gamma: float, predictor_gamma: float
    ) -> None:
        self.milestones = sorted(milestones)
        self.gammas = (sprite_gamma, predictor_gamma)

    def factor(self, iteration: int, number: int) -> float:
        """Factor of optimiser `number` at `iteration`, counted from 1."""
        drops = sum(iteration > milestone for milestone in self.milestones)
        return float(self.gammas[min(number, 1)] ** drops)

    def apply(self, optimizers: Sequence[Optimizer], iteration: int) -> None:
        """Set the rates of `iteration`."""
        for number, optimizer in enumerate(optimizers):
            for group in optimizer.param_groups:
                base = group.setdefault("initial_lr", group["lr"])
                group["lr"] = base * self.factor(iteration, number)


def count_owners(
    num_layers: int, sprite: str, layer: str, background: str, num_backgrounds: int
) -> int:
    """Networks that own the shared encoder in the released code, one per transformed group.

    Its optimiser steps the encoder once for each of them.
    """
    owners = num_layers * (sprite != "identity") + (layer != "identity")
    return owners + (num_backgrounds > 0 and background != "identity")


def check_setup(
    *,
    resolution: int,
    num_sprites: int,
    num_layers: int,
    num_backgrounds: int,
    sprite_size: Sequence[int] | None,
    sprite_transform: str,
    layer_transform: str,
    background_transform: str,
    sprite_milestones: Sequence[int],
    layer_milestones: Sequence[int],
    background_milestones: Sequence[int],
    selection: str,
    empty_sprite: bool,
    empty_penalty: float,
    shadows: bool,
    reassign_every: int,
    frequency_penalty: float,
    binary_penalty: float,
    metrics: Mapping[str, object] | None = None,
    **_: object,
) -> list[str]:
    """Problems of options that are fine one by one but not together."""
    problems: list[str] = []
    for name, text, milestones in (
        ("sprite", sprite_transform, sprite_milestones),
        ("layer", layer_transform, layer_milestones),
        ("background", background_transform, background_milestones),
    ):
        problems += _check_sequence(name, text, milestones)
    problems += _check_search(
        selection, num_layers, num_sprites + empty_sprite, max(num_backgrounds, 1)
    )
    problems += _check_clusters(metrics, num_sprites, empty_sprite)
    problems += _check_empty(selection, empty_sprite, empty_penalty)
    problems += _check_prediction(selection, reassign_every, frequency_penalty + binary_penalty)
    if shadows and not num_backgrounds:
        problems.append("shadows=true needs a background to fall on; use num_backgrounds=1")
    return problems + _check_size(sprite_size, resolution, layer_transform, layer_milestones)


def _check_search(
    selection: str, num_layers: int, num_choices: int, num_backgrounds: int
) -> list[str]:
    combinations = num_backgrounds * num_choices**num_layers
    if selection == "exhaustive" and num_layers > 1 and combinations > _MOST_COMBINATIONS:
        return [
            f"selection=exhaustive would try {combinations} combinations per picture "
            f"({num_layers} layers); expected one layer, or selection=greedy"
        ]
    if selection != "exhaustive" and num_backgrounds > 1:
        return [
            f"selection={selection} knows one background, got num_backgrounds={num_backgrounds}; "
            "use selection=exhaustive or one background"
        ]
    return []


def _check_empty(selection: str, empty_sprite: bool, empty_penalty: float) -> list[str]:
    if not empty_penalty:
        return []
    if not empty_sprite:
        return [
            f"empty_penalty={empty_penalty} spares layers that stay empty, which none may; add "
            "empty_sprite=true or use empty_penalty=0"
        ]
    if selection == "exhaustive":
        return [
            f"empty_penalty={empty_penalty} has no part in selection=exhaustive; use "
            "selection=greedy or empty_penalty=0"
        ]
    return []


def _check_clusters(
    metrics: Mapping[str, object] | None, num_sprites: int, empty_sprite: bool
) -> list[str]:
    """Whether every choice, that of the empty sprite included, has a cluster of its own."""
    node = (metrics or {}).get("clustering")
    # A node of a configuration, or what was made of it.
    if isinstance(node, Mapping):
        count = node.get("num_clusters")
    else:
        count = getattr(node, "num_clusters", None)
    wanted = num_sprites + empty_sprite
    if not isinstance(count, int) or count >= wanted:
        return []
    clusters = f"{num_sprites} sprites" + (" and the empty one" if empty_sprite else "")
    return [
        f"metrics.clustering.num_clusters={count}, but {clusters} are clusters of their own; use "
        f"method.metrics.clustering.num_clusters={wanted}"
    ]


def _names_of(text: str) -> list[str]:
    try:
        return parse_sequence(text)
    except ValueError:
        return []  # Which `_check_sequence` has reported.


def _check_sequence(name: str, text: str, milestones: Sequence[int]) -> list[str]:
    try:
        names = parse_sequence(text)
    except ValueError as error:
        return [f"{name}_transform={error}"]
    problems = []
    if "morphological" in names:
        problems.append(
            f"{name}_transform={text}: morphological works on single-channel pictures, these have "
            "three channels and a mask; leave it out"
        )
    if milestones and len(milestones) != len(names) - 1:
        problems.append(
            f"{name}_milestones={list(milestones)} names {len(milestones)} transformations, but "
            f"{text} has {len(names) - 1} after its first; give one iteration for each, or none"
        )
    if list(milestones) != sorted(milestones):
        problems.append(f"{name}_milestones={list(milestones)}: expected increasing iterations")
    return problems


def _check_prediction(selection: str, reassign_every: int, penalties: float) -> list[str]:
    if selection == "predicted" and reassign_every:
        return [
            f"selection=predicted balances usage by frequency_penalty, got reassign_every="
            f"{reassign_every}; add reassign_every=0"
        ]
    if selection != "predicted" and penalties:
        return [
            "frequency_penalty and binary_penalty act on predicted choices, got selection="
            f"{selection}; use selection=predicted or leave them at 0"
        ]
    return []


def _check_size(
    sprite_size: Sequence[int] | None,
    resolution: int,
    layer_transform: str,
    layer_milestones: Sequence[int],
) -> list[str]:
    if sprite_size is None or list(sprite_size) == [resolution, resolution]:
        return []
    if len(sprite_size) != 2:
        return [f"sprite_size={list(sprite_size)}: expected height and width"]
    names = _names_of(layer_transform)
    begins = [0, *layer_milestones] if layer_milestones else [0] * len(names)
    placing = [begin for name, begin in zip(names, begins, strict=False) if name in _RESIZING]
    problem = (
        f"sprite_size={list(sprite_size)} differs from resolution={resolution}, so "
        "layer_transform must place sprites on the picture"
    )
    if not placing:
        return [f"{problem}; expected one such as color_position"]
    if min(placing):
        return [
            f"{problem} from the first iteration on, but {layer_transform} with layer_milestones="
            f"{list(layer_milestones)} does so after iteration {min(placing)} only; put what "
            "places them first, or set its milestone to 0"
        ]
    return []
