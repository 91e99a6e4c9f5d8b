"""A picture taken apart: which sprite in each layer, where, and in front of what.

Letters: B pictures, L layers, K sprites to choose from (the empty one is the last).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from figureground.core.types import Layers
from figureground.methods.dti_sprites.composition import add_background, compose, visibility
from figureground.methods.dti_sprites.parts import Betas


@dataclass(slots=True)
class Scene:
    """What a picture was taken apart into.

    Attributes:
        choice: Sprite of each layer, int64 (B, L); the empty one is number K - 1.
        ground: Background, int64 (B,).
        color: (B, L, 3, H, W), before any mask.
        mask: (B, L, 1, H, W).
        background: (B, 3, H, W), or None without backgrounds.
        occlusion: (B, L, L), d[j, l] is how much layer j hides layer l.
        changes: Share of choices that each sweep of the greedy search changed.
        parameters: After training, the numbers behind what was chosen, by group and module:
            (B, L, d), of backgrounds (B, 1, d).
        probabilities: Of the sprites in each layer, (L, B, K), if they are predicted.
    """

    choice: Tensor
    ground: Tensor
    color: Tensor
    mask: Tensor
    background: Tensor | None
    occlusion: Tensor
    changes: list[float] = field(default_factory=list)
    parameters: dict[str, Tensor] = field(default_factory=dict)
    probabilities: Tensor | None = None

    def layers(self) -> tuple[Tensor, Tensor, Tensor]:
        """Colours, masks and occlusion with the background, if there is one, as first layer."""
        if self.background is None:
            return self.color, self.mask, self.occlusion
        color = torch.cat([self.background.unsqueeze(1), self.color], dim=1)
        mask = torch.cat([torch.ones_like(self.mask[:, :1]), self.mask], dim=1)
        return color, mask, add_background(self.occlusion)

    def composite(self) -> Tensor:
        """The picture these layers make, (B, 3, H, W)."""
        return compose(*self.layers())

    def clamped(self, hard_occlusion: bool = False) -> Scene:
        """The same with all values in [0, 1], for showing."""
        occlusion = self.occlusion
        return replace(
            self,
            color=self.color.clamp(0, 1),
            mask=self.mask.clamp(0, 1),
            background=None if self.background is None else self.background.clamp(0, 1),
            occlusion=(occlusion > 0.5).to(occlusion) if hard_occlusion else occlusion,
        )

    def as_layers(self) -> Layers:
        """Background and layers for showing, in [-1, 1], with all of what is hidden."""
        # The more a layer hides of the others, the further in front it is.
        order = self.occlusion.sum(dim=2).argsort(dim=1, stable=True)
        return Layers(
            self.stack() * 2 - 1,
            self.shares().unsqueeze(2),
            F.pad(self.mask, (0, 0, 0, 0, 0, 0, 1, 0), value=1.0),
            F.pad(order + 1, (1, 0)),
        )

    def mix(self, ground: Tensor, order: Tensor, layers: Tensor) -> Scene:
        """New scenes of parts of these.

        Args:
            ground: Which scene gives the background, (N,).
            order: Which gives the occlusion, (N,).
            layers: Which gives each layer, (N, L).
        """
        own = torch.arange(layers.shape[1], device=layers.device)
        return Scene(
            choice=self.choice[layers, own],
            ground=self.ground[ground],
            color=self.color[layers, own],
            mask=self.mask[layers, own],
            background=None if self.background is None else self.background[ground],
            occlusion=self.occlusion[order],
        )

    def shares(self) -> Tensor:
        """Visible shares (B, L + 1, H, W) that sum to one, the background first."""
        seen = visibility(self.mask, self.occlusion).squeeze(2)
        ground = (1 - self.mask.squeeze(2)).prod(dim=1, keepdim=True)
        shares = torch.cat([ground, seen], dim=1)
        # Soft occlusion does not share out overlaps exactly.
        return shares / shares.sum(dim=1, keepdim=True).clamp(min=1e-6)

    def stack(self) -> Tensor:
        """Colours (B, L + 1, 3, H, W) with the background, or black, first."""
        ground = self.background
        if ground is None:
            ground = torch.zeros_like(self.color[:, 0])
        return torch.cat([ground.unsqueeze(1), self.color], dim=1)


@dataclass(slots=True)
class Fit:
    """What training keeps of a scene: its layers, many times larger, are gone.

    Attributes:
        choice: As in `Scene`.
        changes: As in `Scene`.
        made: The composite (B, 3, H, W).
        probabilities: As in `Scene`.
    """

    choice: Tensor
    changes: list[float]
    made: Tensor
    probabilities: Tensor | None = None

    def composite(self) -> Tensor:
        """The picture that was made, (B, 3, H, W)."""
        return self.made


@dataclass(slots=True)
class Plan:
    """What is known of a batch before its layers are drawn.

    Attributes:
        features: Of the pictures, (B, F).
        betas: Parameters of the active transformations, see `SceneModel._predict`.
        occlusion: (B, L, L).
        stack: Sprites to draw from, see `SpriteBank.stack`.
        noise: On masks, or None.
        choice: As in `Scene`.
        ground: As in `Scene`.
        changes: As in `Scene`.
        probabilities: As in `Scene`.
        drawn: One-hot choices (L, B, K) that carry gradients, in training if they are predicted.
    """

    features: Tensor
    betas: dict[str, Betas]
    occlusion: Tensor
    stack: Tensor
    noise: Tensor | None
    choice: Tensor
    ground: Tensor
    changes: list[float]
    probabilities: Tensor | None = None
    drawn: Tensor | None = None
