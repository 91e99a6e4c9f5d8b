"""Pairs of real pictures and the masks that a trained network finds in them: self-training.

No label takes part: the teacher has learned from drawn pairs, and its pupil learns from what the
teacher makes of real pictures, which drawn ones never quite look like.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from rich.progress import track

from figureground.core.bounds import Bounds, Fraction, PositiveInt
from figureground.core.checkpoint import load_method
from figureground.core.errors import ConfigError, DataError
from figureground.core.protocols import Segmenter
from figureground.core.signals import watching
from figureground.data.batching import to_float
from figureground.data.samples import ImageDataset, Pixels, Sample
from figureground.data.shard_content import quantize_share

if TYPE_CHECKING:
    from figureground.data.cache import LazyStore, PixelStore
    from figureground.data.datamodule import ImageDataModule

_HALF = 128


class TaughtPairs:
    """Training pictures of `data` with masks of a teacher; the last ones for validation.

    All masks are found before training begins, and kept in memory.

    Args:
        ckpt: The teacher: a checkpoint of a method that segments.
        val_share: Share of the pictures that is kept for validation.
        area: Least and largest share of a picture that its mask may cover; others are left out.
        batch_size: Pictures that the teacher sees at once.
        device: Where it works; `auto` takes a GPU if there is one.

    Raises:
        CheckpointError: `ckpt` is not a checkpoint of this suite.
        ConfigError: It cannot segment, or there is no such device.
    """

    def __init__(
        self,
        ckpt: str,
        val_share: Annotated[float, Bounds(above=0, high=0.9)] = 0.1,
        area: Sequence[Fraction] = (0.01, 0.9),
        batch_size: PositiveInt = 32,
        device: str = "auto",
    ) -> None:
        name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        try:
            teacher = load_method(ckpt, "cpu").to(name)
        except (RuntimeError, AssertionError) as error:  # Said by torch of unknown devices.
            raise ConfigError(f"pairs.device={device} is not available; use auto or cpu") from error
        if not isinstance(teacher, Segmenter):
            raise ConfigError(
                f"pairs.ckpt={ckpt}: {type(teacher).__name__} cannot segment; expected a "
                "checkpoint of a method that does, such as segmenter"
            )
        self.teacher, self.ckpt, self.device = teacher, ckpt, torch.device(name)
        self.val_share, self.area, self.batch_size = val_share, tuple(area), batch_size

    @staticmethod
    def check_options(*, area: Sequence[float], **_: object) -> list[str]:
        """Refuse areas that no mask has."""
        if len(area) != 2 or area[0] >= area[1]:
            return [f"area={list(area)}: expected [least, largest], such as [0.01, 0.9]"]
        return []

    def attach(self, data: ImageDataModule) -> None:
        """Put the pairs in the place of the training set of `data`, which becomes `real`.

        Raises:
            DataError: There are no training pictures, or too few are left.
        """
        if "train" not in data.datasets:
            raise DataError(
                f"data={data.name} has no training pictures for pairs=taught to label; use other "
                "data, or drawn pairs: pairs=saved"
            )
        data.datasets["real"] = data.datasets["train"].without_masks()
        pictures = data.store("real")
        shares = self._teach(pictures)
        cover = (shares >= _HALF).mean(axis=(1, 2))
        kept = np.flatnonzero((cover >= self.area[0]) & (cover <= self.area[1])).tolist()
        num_train = len(kept) - round(len(kept) * self.val_share)
        if not 0 < num_train < len(kept):
            raise DataError(
                f"the masks that {self.ckpt} finds cover {self.area[0]:g} to {self.area[1]:g} of "
                f"{len(kept)} of {len(shares)} pictures (from {cover.min():.3g} to "
                f"{cover.max():.3g}), too few to learn from; widen pairs.area or train the teacher "
                "longer"
            )
        data.datasets["train"] = _Taught(pictures, shares, kept[:num_train])
        data.datasets["val_pairs"] = _Taught(pictures, shares, kept[num_train:])
        data.drawn = {"train", "val_pairs"}

    @torch.inference_mode()
    def _teach(self, pictures: PixelStore | LazyStore) -> npt.NDArray[np.uint8]:
        """Shares of the object times 255 in all pictures, (N, S, S)."""
        found = []
        starts = range(0, len(pictures), self.batch_size)
        with watching() as stop:
            for start in track(starts, "finding masks", disable=not sys.stderr.isatty()):
                stop.check()
                numbers = range(start, min(start + self.batch_size, len(pictures)))
                pixels = np.stack([pictures.load(number).image for number in numbers])
                found.append(self._segment(pixels))
        return np.concatenate(found)

    def _segment(self, pixels: Pixels) -> npt.NDArray[np.uint8]:
        image = to_float(pixels).to(self.device)
        size = (int(image.shape[2]), int(image.shape[3]))
        side = getattr(self.teacher, "resolution", size[0])
        fitted = image if size == (side, side) else _resize(image, (side, side))
        share = 1 - self.teacher.segment(fitted)[:, :1].float()  # Whatever is not background.
        share = share if size == (side, side) else _resize(share, size)
        return quantize_share(share[:, 0]).cpu().numpy()


class _Taught(ImageDataset):
    """Real pictures, each with its found mask."""

    def __init__(
        self,
        pictures: PixelStore | LazyStore,
        shares: npt.NDArray[np.uint8],
        numbers: Sequence[int],
    ) -> None:
        self.pictures, self.shares, self.numbers = pictures, shares, numbers
        self.keys = [pictures.keys[number] for number in numbers]

    def __getitem__(self, index: int) -> Sample:
        number = self.numbers[index]
        share = self.shares[number]
        mask = (share >= _HALF).astype(np.uint8)
        return Sample(self.pictures.load(number).image, self.keys[index], mask, soft=share)

    def files(self, index: int) -> tuple[Path, ...]:
        """None: masks are in memory."""
        return ()


def _resize(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return F.interpolate(maps, size, mode="bilinear", antialias=True)
