"""L2IC's generator: one trunk, and branches that draw mask, foreground and background from it.

h = trunk(z), h_c = join(h, c), m = mask(h_c), F = foreground(h_c), B = background(h, b). Another b
leaves mask and foreground as they are. The mask has fewer residual blocks than the foreground: that
keeps it from the trivial ends, all or nothing, where gradients vanish.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from figureground.methods.l2ic.blocks import (
    GatedConv,
    Head,
    JoinedConv,
    ResidualBlock,
    Start,
)
from figureground.methods.l2ic.codes import Codes
from figureground.methods.l2ic.composition import ComposedPicture

_TRUNK_SIDE = 32  # Where branches begin, in pictures of twice that side and more.


class Trunk(nn.Module):
    """Latents to maps that all layers share.

    Args:
        latent_dim: D.
        width: Channels at the end; twice as many before each enlargement.
        num_doublings: Times that 4x4 maps are enlarged.
    """

    def __init__(self, latent_dim: int, width: int, num_doublings: int) -> None:
        super().__init__()
        widths = [width * 2**step for step in reversed(range(num_doublings + 1))]
        self.start = Start(latent_dim, widths[0])
        self.enlarge = nn.ModuleList(GatedConv(one, other, 2) for one, other in pairwise(widths))

    def forward(self, latent: Tensor) -> Tensor:
        """Map (B, D) to (B, width, 4 * 2**num_doublings, the same)."""
        return self.stages(latent)[-1]

    def stages(self, latent: Tensor) -> list[Tensor]:
        """Maps of each size, from 4x4 on."""
        maps: list[Tensor] = [self.start(latent)]
        for step in self.enlarge:
            maps.append(step(maps[-1]))
        return maps


class Branch(nn.Module):
    """Maps to one layer at full resolution.

    Args:
        width: Channels that come in; the layer is drawn from a quarter.
        num_residuals: Residual blocks at full resolution.
        num_doublings: Times that the maps are enlarged, once at least.
        num_out: 1 for a mask in [0, 1], 3 for colours in [-1, 1].
        num_codes: Length of a code that joins the maps; 0 for none.
    """

    def __init__(
        self, width: int, num_residuals: int, num_doublings: int, num_out: int, num_codes: int = 0
    ) -> None:
        super().__init__()
        if num_codes:
            self.enter: nn.Module = JoinedConv(width, num_codes, 2 * width, code_first=True)
        else:
            self.enter = GatedConv(width, 2 * width)
        self.enlarge = nn.Sequential(
            GatedConv(2 * width, width, 2),
            *(GatedConv(width, width, 2) for _ in range(num_doublings - 1)),
        )
        self.residuals = nn.Sequential(*(ResidualBlock(width) for _ in range(num_residuals)))
        self.leave = GatedConv(width, width // 4)
        self.head = Head(width // 4, num_out)

    def forward(self, features: Tensor, *code: Tensor) -> Tensor:
        """Map (B, width, h, w), and codes (B,) int64 if it takes any, to (B, num_out, S, S)."""
        entered = self.residuals(self.enlarge(self.enter(features, *code)))
        layer: Tensor = self.head(self.leave(entered))
        return layer


class CompositionGenerator(nn.Module):
    """Codes to composed pictures.

    Args:
        resolution: Side S, a power of two.
        latent_dim: D.
        width: Channels where branches begin.
        num_categories: K, length of c.
        num_backgrounds: Length of b.
        num_blocks: Residual blocks of foreground, mask and background.
    """

    codes: ClassVar = ("z", "c", "b")  # That can be set.

    def __init__(
        self,
        resolution: int,
        *,
        latent_dim: int = 100,
        width: int = 64,
        num_categories: int,
        num_backgrounds: int,
        num_blocks: Sequence[int] = (3, 1, 1),
    ) -> None:
        super().__init__()
        side = min(_TRUNK_SIDE, resolution // 2)
        doublings = (resolution // side).bit_length() - 1
        foreground, mask, background = num_blocks
        self.trunk = Trunk(latent_dim, width, (side // 4).bit_length() - 1)
        self.join = JoinedConv(width, num_categories, width)
        self.mask = Branch(width, mask, doublings, 1)
        self.foreground = Branch(width, foreground, doublings, 3)
        self.background = Branch(width, background, doublings, 3, num_backgrounds)

    def forward(self, codes: Codes, other_background: Tensor | None = None) -> ComposedPicture:
        """Draw pictures.

        Args:
            codes: Of B pictures; `variation` is not used.
            other_background: Codes (B,) int64 of further backgrounds to paint without gradients.
                Only that branch is run for them: nothing else changes.
        """
        features = self.trunk(codes.latent)
        joined = self.join(features, codes.category)
        picture = ComposedPicture(
            self.mask(joined),
            self.foreground(joined),
            self.background(features, codes.background),
        )
        if other_background is not None:
            with torch.no_grad():
                picture.other_background = self.background(features, other_background)
        return picture
