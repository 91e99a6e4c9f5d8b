"""Values that cross the border between data, methods and metrics.

Images are float32 in [-1, 1], (B, C, H, W). Index masks are int64 (B, H, W) with 0 = background and
`VOID` = unlabelled.
Layers are stacked back to front, unless `Layers.order` says otherwise; layer 0 is the background.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor

#: Index of pixels of a mask that nobody has labelled: no score and no loss counts them.
VOID = 255


@dataclass(slots=True)
class TensorRecord:
    """A record of tensors that moves between devices as one.

    To be treated as immutable. It is not frozen, because Lightning's precision plug-ins (64-true,
    bf16-true) convert batches by setting fields on copies.
    """

    def to(self, *args: object, **kwargs: object) -> Self:
        """Return a copy with `Tensor.to(*args, **kwargs)` applied to every tensor."""
        return self._map(lambda tensor: tensor.to(*args, **kwargs))

    def widen(self) -> Self:
        """Return a copy whose numbers of half precision are float32; all others stay."""
        half = (torch.float16, torch.bfloat16)
        return self._map(lambda tensor: tensor.float() if tensor.dtype in half else tensor)

    def pin_memory(self) -> Self:
        """Return a copy in page-locked memory."""
        return self._map(Tensor.pin_memory)

    def __len__(self) -> int:
        """Number of samples B, the first size of the first tensor."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                return value.shape[0]
        raise TypeError(f"{type(self).__name__} holds no tensor")

    def _map(self, function: object) -> Self:
        changes = {
            field.name: function(value)  # type: ignore[operator]  # a callable of one tensor
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **changes)


@dataclass(slots=True)
class Batch(TensorRecord):
    """Images as a loader hands them to a method.

    Attributes:
        image: (B, 3, H, W), in [-1, 1].
        key: B names that stay the same between runs.
        mask: (B, H, W) int64, 0 = background, `VOID` = unlabelled, or None. Never present in
            training, except for methods that learn from given masks. An image that is all void has
            no score of its mask, but may have one of its label.
        label: (B,) int64 or None.
        classes: Class of each object 1, 2, ... of the mask, (B, N) int64, 0 where there is no such
            object; or None.
        soft_mask: Share of the object in each pixel, (B, H, W), in [0, 1], where a generator drew
            the pictures or a dataset knows it; `mask` is 1 where it is at least a half, or `VOID`,
            where the share means nothing. Or None.
    """

    image: Tensor
    key: tuple[str, ...]
    mask: Tensor | None = None
    label: Tensor | None = None
    classes: Tensor | None = None
    soft_mask: Tensor | None = None

    @property
    def class_mask(self) -> Tensor | None:
        """Class of each pixel, (B, H, W) int64, 0 = background, or `VOID`; None without classes."""
        if self.mask is None or self.classes is None:
            return None
        table = torch.nn.functional.pad(self.classes, (1, 0))  # Object 0 is the background.
        void = self.mask == VOID
        found = table.gather(1, self.mask.masked_fill(void, 0).flatten(1)).view_as(self.mask)
        return found.masked_fill(void, VOID)


@dataclass(slots=True)
class Layers(TensorRecord):
    """A picture as a stack of layers, back to front.

    Attributes:
        color: (B, L, 3, H, W), in [-1, 1]; of drawn layers also beyond, to be cut when written.
        alpha: Share of each layer in each pixel, (B, L, 1, H, W); sums to one over L.
        opacity: Each layer alone, also where others hide it, (B, L, 1, H, W); None where a method
            knows only what is seen.
        order: Numbers of the layers from back to front, (B, L) int64; None: as they are stacked.
        label: Class that each picture was drawn of, (B,) int64; None if there are no classes.
    """

    color: Tensor
    alpha: Tensor
    opacity: Tensor | None = None
    order: Tensor | None = None
    label: Tensor | None = None

    @property
    def composite(self) -> Tensor:
        """The picture, (B, 3, H, W): the sum of the layers weighted by their shares."""
        if self.color.stride(1) == 0:  # All are one picture in memory, and shares sum to one.
            return self.color[:, 0]
        return (self.alpha * self.color).sum(dim=1)

    @property
    def segmentation(self) -> Tensor:
        """Layer with the largest share at each pixel, (B, H, W) int64."""
        return self.alpha.squeeze(2).max(dim=1).indices

    @property
    def foreground(self) -> Tensor:
        """Share of everything but the background, (B, 1, H, W)."""
        return 1 - self.alpha[:, 0]


@dataclass(slots=True)
class Latent(TensorRecord):
    """What a generator paints a picture from.

    Attributes:
        vector: (B, D), or (B, N, D) where each of N layers has its own.
        label: Class of each sample, (B,) int64; None for generators without classes.
    """

    vector: Tensor
    label: Tensor | None = None


def check_image(image: Tensor, resolution: int | None = None) -> None:
    """Raise `ValueError` unless `image` is a float tensor (B, C, H, W), of one size if given."""
    if resolution is not None and image.shape[2:] != (resolution, resolution):
        raise ValueError(
            f"expected images of {resolution}x{resolution} pixels, got {tuple(image.shape)}"
        )
    if image.ndim != 4 or not torch.is_floating_point(image):
        raise ValueError(
            f"expected float images (B, C, H, W), got {image.dtype} {tuple(image.shape)}"
        )
