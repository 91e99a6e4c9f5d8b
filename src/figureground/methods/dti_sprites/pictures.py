"""Sprites and scenes as tensors for grids."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from figureground.core.protocols import ObjectFacts
from figureground.core.types import Batch
from figureground.viz.charts import bar_chart
from figureground.viz.grids import from_uint8
from figureground.viz.overlays import label_colors

if TYPE_CHECKING:
    from figureground.methods.dti_sprites.module import DTISprites
    from figureground.methods.dti_sprites.scene import Scene

_LIGHT, _DARK, _SQUARE = 0.9, 0.7, 4  # Checkerboard: two greys, side of a square in pixels.


@torch.no_grad()
def scene_grids(method: DTISprites, batch: Batch) -> dict[str, Tensor]:
    """Draw what was learned and how pictures are explained.

    Args:
        method: Trained or training DTI-Sprites.
        batch: B pictures.

    Returns:
        `sprites`: all sprites on a checkerboard, framed in their colours, then the backgrounds,
        padded with white to a multiple of B; `scenes`: see `scene_titles`, layers on a
        checkerboard; both (N, 3, S, S) in [-1, 1]. `usage`: how often each sprite is chosen, as a
        bar chart (1, 3, H, W).
    """
    scene = method.analyze(batch.image)
    hard = scene.clamped(hard_occlusion=True)
    columns = [
        batch.image,
        scene.composite() * 2 - 1,
        paint(semantic_map(hard, method.model.num_choices), method.model.num_choices + 1),
        paint(instance_map(hard), method.num_layers + 1),
    ]
    columns += [
        on_checkerboard(scene.color[:, layer], scene.mask[:, layer])
        for layer in range(method.num_layers)
    ]
    return {
        "sprites": _sprite_sheet(method, len(batch)),
        "scenes": torch.stack(columns, dim=1).flatten(0, 1),
        "usage": _usage_chart(method),
    }


def scene_titles(num_layers: int) -> list[str]:
    """What the columns of `scenes` show; a sprite or layer has one colour in all pictures."""
    layers = [f"layer {number + 1}" for number in range(num_layers)]
    return ["input", "reconstruction", "semantic", "instances", *layers]


def instance_map(scene: Scene) -> Tensor:
    """Layer seen at each pixel from 1 on, 0 where none is, int64 (B, H, W)."""
    numbers = torch.arange(1, scene.mask.shape[1] + 1, device=scene.mask.device)
    return _label_map(scene, numbers.expand(len(scene.mask), -1), len(numbers))


def semantic_map(scene: Scene, num_choices: int) -> Tensor:
    """Sprite seen at each pixel from 1 on, 0 where none is, int64 (B, H, W)."""
    return _label_map(scene, scene.choice + 1, num_choices)


def describe_scene(scene: Scene, num_sprites: int) -> list[list[ObjectFacts]]:
    """Facts about background and layers; layers with the empty sprite are left out."""
    numbers = {name: value.tolist() for name, value in scene.parameters.items()}
    choices, grounds = scene.choice.tolist(), scene.ground.tolist()

    def gather(row: int, layer: int) -> dict[str, list[float]]:
        mine = {n: v[row] for n, v in numbers.items() if n.startswith("background.") == (layer < 0)}
        return {name: value[max(layer, 0)] for name, value in mine.items()}

    described = []
    for row, (choice, ground) in enumerate(zip(choices, grounds, strict=True)):
        facts = [
            ObjectFacts(layer + 1, sprite + 1, gather(row, layer))
            for layer, sprite in enumerate(choice)
            if sprite < num_sprites
        ]
        if scene.background is not None:
            facts.insert(0, ObjectFacts(0, ground + 1, gather(row, -1)))
        described.append(facts)
    return described


def _label_map(scene: Scene, labels: Tensor, highest: int) -> Tensor:
    """Numbers (B, L) of the layers laid out over the pixels, masks and occlusion cut at a half."""
    mask, hides = (scene.mask > 0.5).squeeze(2), scene.occlusion > 0.5
    covered = (hides[..., None, None] & mask.unsqueeze(2)).any(dim=1)  # (B, L, H, W)
    seen = mask & ~covered
    return (seen * labels[..., None, None]).sum(dim=1).clamp(0, highest)


def fill_background(scene: Scene, labels: Tensor, image: Tensor) -> Tensor:
    """Give pixels without a layer to the one whose colour is closest to `image` (B, 3, H, W)."""
    distance = (scene.color - image.unsqueeze(1)).square().sum(dim=2)
    return torch.where(labels == 0, distance.argmin(dim=1) + 1, labels)


def paint(labels: Tensor, count: int) -> Tensor:
    """Colours (B, 3, H, W) in [-1, 1] of an index map (B, H, W) below `count`."""
    palette = torch.from_numpy(label_colors(count)).to(labels.device)
    return (palette.float() / 127.5 - 1)[labels].movedim(3, 1)


def on_checkerboard(color: Tensor, alpha: Tensor) -> Tensor:
    """Lay colours (B, 3, H, W) with alpha (B, 1, H, W), both in [0, 1], on grey squares."""
    rows, columns = (torch.arange(n, device=color.device) // _SQUARE for n in color.shape[2:])
    odd = (rows.unsqueeze(1) + columns) % 2
    ground = torch.where(odd == 1, _LIGHT, _DARK).to(color)
    return (alpha * color + (1 - alpha) * ground) * 2 - 1


def _sprite_sheet(method: DTISprites, multiple: int) -> Tensor:
    bank = method.model.sprites
    size = (method.resolution, method.resolution)
    color, mask = (part.clamp(0, 1) for part in bank.raw())
    sheet = F.interpolate(on_checkerboard(color, mask), size)
    frame = torch.ones(size, dtype=torch.bool, device=sheet.device)
    frame[1:-1, 1:-1] = False
    names = torch.arange(1, len(sheet) + 1, device=sheet.device)[:, None, None].expand(-1, *size)
    sheet = torch.where(frame, paint(names, len(sheet) + 1), sheet)
    sheet = torch.cat([sheet, bank.background.clamp(0, 1) * 2 - 1])
    return F.pad(sheet, (0, 0, 0, 0, 0, 0, 0, -len(sheet) % multiple), value=1.0)


def _usage_chart(method: DTISprites) -> Tensor:
    shares = method.usage.recent().tolist()
    labels = [str(k + 1) for k in range(len(shares))]
    if method.model.has_empty:
        labels[-1] = "none"
    return from_uint8(bar_chart(shares, label_colors(len(shares) + 1)[1:], labels))[None]
