"""Running measurements of soft region masks: areas, confidence, contact with the border."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_SMALLEST_VARIANCE = 1e-6  # Below this a mask is constant.
_BORDER_MEMORY = 0.99  # Weight of the past in the running mean that finds the background.


class RegionStatistics(nn.Module):
    """Follow soft masks over batches, without labels.

    The region that covers most of the picture's border is taken for the background: objects
    touch the border less than what is behind them. All state is in buffers, so it survives a
    checkpoint.

    Args:
        num_regions: K.
        resolution: Image side S.
    """

    def __init__(self, num_regions: int, resolution: int) -> None:
        super().__init__()
        self.num_regions = num_regions
        self.register_buffer("border_share", torch.zeros(num_regions))
        self.register_buffer("area_sum", torch.zeros(num_regions))
        self.register_buffer("confidence_sum", torch.zeros(()))
        self.register_buffer("mask_sum", torch.zeros(num_regions, resolution, resolution))
        self.register_buffer("square_sum", torch.zeros(num_regions))
        self.register_buffer("count", torch.zeros(()))
        self.border_share: Tensor
        self.area_sum: Tensor
        self.confidence_sum: Tensor
        self.mask_sum: Tensor
        self.square_sum: Tensor
        self.count: Tensor

    @torch.no_grad()
    def update(self, masks: Tensor) -> None:
        """Take in the masks (B, K, H, W) of one batch; one with non-finite values is left out."""
        is_finite = masks.isfinite().all()
        masks = torch.where(is_finite, masks.to(self.border_share.dtype), 0)
        self.area_sum += masks.mean(dim=(0, 2, 3))
        self.confidence_sum += masks.amax(dim=1).mean()
        self.mask_sum += masks.mean(dim=0)
        self.square_sum += masks.square().mean(dim=(0, 2, 3))
        self.count += is_finite
        rows, columns = masks[:, :, [0, -1]], masks[:, :, :, [0, -1]]
        border = (rows.mean(dim=(0, 2, 3)) + columns.mean(dim=(0, 2, 3))) / 2
        self.border_share.lerp_(border, (1 - _BORDER_MEMORY) * is_finite)

    @property
    def order(self) -> list[int]:
        """Regions with the background first, the others as they are numbered."""
        background = int(self.border_share.argmax())
        return [background, *(k for k in range(self.num_regions) if k != background)]

    def shares(self) -> Tensor | None:
        """Mean area (K,) of each region since the last `clear`, or None before any batch."""
        return self.area_sum / self.count if self.count else None

    def confidence(self) -> Tensor | None:
        """Mean probability of the most probable region since the last `clear`, or None."""
        return self.confidence_sum / self.count if self.count else None

    def dependence(self) -> Tensor | None:
        """How much masks depend on the picture, in [0, 1], or None before any batch.

        Share of the variance of mask values that lies between pictures at the same pixel: near 0
        for one stencil laid over every picture, near 1 for masks that follow what is in them.
        """
        if not self.count:
            return None
        square, mean_map = self.square_sum / self.count, self.mask_sum / self.count
        total = square - mean_map.mean(dim=(1, 2)).square()
        between = square - mean_map.square().mean(dim=(1, 2))
        return (between.sum() / total.sum().clamp(min=_SMALLEST_VARIANCE)).clamp(0, 1)

    def clear(self) -> None:
        """Start areas, confidence and dependence anew; what is known of the border stays."""
        for buffer in (
            self.area_sum,
            self.confidence_sum,
            self.mask_sum,
            self.square_sum,
            self.count,
        ):
            buffer.zero_()

    def reset_parameters(self) -> None:
        """Forget everything."""
        self.clear()
        self.border_share.zero_()
