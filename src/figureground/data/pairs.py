"""Pairs of pictures and masks drawn by a generator: from files, or while training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol, cast, overload

import torch
from torch.utils.data import IterableDataset

from figureground.core.bounds import Bounds, Count, PositiveInt
from figureground.core.checkpoint import load_method, require_network
from figureground.core.errors import ConfigError, DataError
from figureground.core.presence import is_file
from figureground.core.protocols import LayerGenerator
from figureground.core.seeds import mix_seed
from figureground.core.types import Batch, Layers
from figureground.data.drawn_pictures import LIST, PictureReader
from figureground.data.fitting import fit_pair, fit_pixels
from figureground.data.samples import ImageDataset, Pixels, Sample
from figureground.data.shard_content import quantize, quantize_share
from figureground.data.shard_manifest import MANIFEST
from figureground.data.shards import ShardReader
from figureground.nn.precision import Precision, computing_in

if TYPE_CHECKING:
    from figureground.data.datamodule import ImageDataModule

_HALF = 128  # Shares of the object are a half from here on.
_TRAINING, _VALIDATION = 0, 1  # Streams of pictures that never meet.


class PairSource(Protocol):
    """Where a method that learns from masks gets its training pairs."""

    def attach(self, data: ImageDataModule) -> None:
        """Put the pairs in the place of the training set of `data`, some aside for validation."""
        ...


class PairReader(Protocol):
    """Written pairs by index.

    Attributes:
        has_layers: Whether all layers were written beside picture and mask.
    """

    has_layers: bool

    def __len__(self) -> int:
        """How many there are."""
        ...

    def read(self, index: int, part: str) -> Pixels:
        """Return `part` of pair `index`.

        image (H, W, 3); mask (H, W), a share times 255; or layers (L, H, W, 4), colours and share.
        """
        ...


def open_pairs(folder: Path, verify: bool) -> PairReader:
    """Open what `generate` has written into `folder`, shards or PNG files.

    Raises:
        DataError: A file is missing, cut short or damaged.
    """
    is_shards = is_file(folder / MANIFEST) or not is_file(folder / LIST)
    return ShardReader(folder, verify) if is_shards else PictureReader(folder, verify)


class SavedPairs:
    """Pairs that `generate` has written, the last ones for validation.

    Args:
        root: Their folder.
        val_share: Share of the pairs that is kept for validation.
        verify: Whether to compare all checksums first (or to read all PNG files), some seconds
            per gigabyte; that all files are there, and shards of the right size, is always seen.

    Raises:
        DataError: Files are missing, cut short or damaged.
    """

    def __init__(
        self,
        root: str,
        val_share: Annotated[float, Bounds(above=0, high=0.9)] = 0.1,
        verify: bool = True,
    ) -> None:
        self.reader = open_pairs(Path(root), verify)
        self.num_train = len(self.reader) - round(len(self.reader) * val_share)
        if not 0 < self.num_train < len(self.reader):
            raise DataError(
                f"{root} has {len(self.reader)} pairs, too few to keep {val_share:g} of them for "
                "validation; run generate with a larger count"
            )

    def attach(self, data: ImageDataModule) -> None:
        """Put the pairs in the place of the training set of `data`, which becomes `real`."""
        count = len(self.reader)
        _keep_real(data)
        data.datasets["train"] = _Stored(self.reader, range(self.num_train), data.resolution)
        data.datasets["val_pairs"] = _Stored(
            self.reader, range(self.num_train, count), data.resolution
        )
        data.drawn = {"train", "val_pairs"}


class LivePairs:
    """Pairs drawn while training, batch b by (seed, b) alone, so a resumed run sees the same.

    Args:
        ckpt: Checkpoint of the generator, whose weights never change.
        seed: Seed of all pairs.
        val_count: Pairs drawn once for validation.
        device: Where to draw; `auto` is where training runs.
        precision: What to draw in, see `nn.precision.computing_in`; that of training is the
            trainer's.

    Raises:
        CheckpointError: `ckpt` is not a checkpoint of this suite, or was converted from files
            without the generator.
        ConfigError: It cannot draw pictures, or there is no such device.
    """

    def __init__(
        self,
        ckpt: str,
        seed: Count = 0,
        val_count: PositiveInt = 256,
        device: str = "auto",
        precision: Precision = "32-true",
    ) -> None:
        try:
            method = load_method(ckpt, "cpu").to("cpu" if device == "auto" else device)
        except (RuntimeError, AssertionError) as error:  # Said by torch of unknown devices.
            raise ConfigError(f"pairs.device={device} is not available; use auto or cpu") from error
        if not isinstance(method, LayerGenerator):
            raise ConfigError(
                f"pairs.ckpt={ckpt}: {type(method).__name__} cannot draw pictures; expected a "
                "checkpoint of a method that generates"
            )
        if not method.draws_layers:
            raise ConfigError(
                f"pairs.ckpt={ckpt}: {type(method).__name__} draws pictures without masks; "
                "expected a checkpoint of a method that draws layers, such as ilsgan"
            )
        require_network(method, "generator", f"pairs.ckpt={ckpt}")
        self.generator: LayerGenerator = method.requires_grad_(False)
        self.method, self.follows = method, device == "auto"
        self.seed, self.val_count, self.precision = seed, val_count, precision
        self._data: ImageDataModule | None = None

    def attach(self, data: ImageDataModule) -> None:
        """Let `data` train on drawn batches and validate on the same few pairs."""
        _keep_real(data)
        data.live, self._data = self, data
        data.datasets["val_pairs"] = _Drawn(self, data.resolution)
        data.drawn = {"val_pairs"}

    def batches(
        self, data: ImageDataModule, start: Callable[[], int], rank: int
    ) -> IterableDataset[Batch]:
        """Training batches without end.

        Args:
            data: Tells size and number of the pictures.
            start: Tells the number of the first batch when an iterator is made.
            rank: This process's number.
        """
        return _LiveBatches(self, data.batch_size, data.resolution, start, rank)

    @torch.no_grad()  # Not inference mode: its tensors could not be trained on.
    def draw(self, count: int, *position: int) -> Layers:
        """Draw `count` pictures by the seed and `position`."""
        trainer = self._data.trainer if self._data is not None else None
        if self.follows and trainer is not None:
            # Only now is it known which of several GPUs this process has.
            self.method.to(trainer.strategy.root_device)
        chance = torch.Generator().manual_seed(mix_seed(self.seed, *position))
        with computing_in(self.precision, self.method.device):
            return self.generator.sample(count, generator=chance).widen()


def _keep_real(data: ImageDataModule) -> None:
    """Keep the real training pictures for methods that look at them beside pairs, without masks."""
    if "train" in data.datasets:
        data.datasets["real"] = data.datasets["train"].without_masks()


class _LiveBatches(IterableDataset[Batch]):
    def __init__(
        self,
        pairs: LivePairs,
        batch_size: int,
        resolution: int,
        start: Callable[[], int],
        rank: int,
    ) -> None:
        self.pairs, self.batch_size, self.resolution = pairs, batch_size, resolution
        self.start, self.rank = start, rank

    def __iter__(self) -> Iterator[Batch]:
        number = self.start()
        while True:
            layers = self.pairs.draw(self.batch_size, _TRAINING, number, self.rank)
            image, share = fit_pair(
                layers.composite.clamp(-1, 1),
                layers.foreground[:, 0].clamp(0, 1),
                self.resolution,
            )
            keys = tuple(f"live-{number}-{place}" for place in range(self.batch_size))
            yield Batch(image, keys, (share >= 0.5).long(), soft_mask=share)
            number += 1


class _Names(Sequence[str]):
    """Names of millions of pairs without keeping them."""

    def __init__(self, indices: range) -> None:
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> _Names: ...
    def __getitem__(self, place: int | slice) -> str | _Names:
        if isinstance(place, slice):
            return _Names(self.indices[place])
        return f"pair-{self.indices[place]:08d}"


class _Pairs(ImageDataset):
    """Pairs at one size."""

    def __init__(self, indices: range, resolution: int) -> None:
        self.indices, self.resolution = indices, resolution
        self.keys = _Names(indices)

    def read(self, index: int) -> tuple[Pixels, Pixels]:
        """Picture (H, W, 3) and share of the object times 255 (H, W), both uint8."""
        raise NotImplementedError

    def __getitem__(self, index: int) -> Sample:
        image, share = self.read(self.indices[index])
        if image.shape[:2] != (self.resolution, self.resolution):
            image, share = fit_pixels(image, share, self.resolution)
        mask = (share >= _HALF).astype("uint8")
        return Sample(image, self.keys[index], mask, soft=share)


class _Stored(_Pairs):
    """Written pairs."""

    def __init__(self, reader: PairReader, indices: range, resolution: int) -> None:
        super().__init__(indices, resolution)
        self.reader = reader

    def read(self, index: int) -> tuple[Pixels, Pixels]:
        """Picture and share, from the files."""
        return self.reader.read(index, "image"), self.reader.read(index, "mask")


class _Drawn(_Pairs):
    """Pairs drawn when first looked at and kept, as uint8."""

    _CHUNK = 32  # Pictures drawn at once, whatever the batch size, so that they stay the same.

    def __init__(self, source: LivePairs, resolution: int) -> None:
        super().__init__(range(source.val_count), resolution)
        self.source = source
        self._kept: dict[int, tuple[Pixels, Pixels]] = {}

    def read(self, index: int) -> tuple[Pixels, Pixels]:
        """Picture and share, drawn with those around them."""
        if index not in self._kept:
            chunk = index // self._CHUNK
            layers = self.source.draw(self._CHUNK, _VALIDATION, chunk)
            images = quantize(layers.composite).permute(0, 2, 3, 1).cpu().numpy()
            shares = quantize_share(layers.foreground[:, 0]).cpu().numpy()
            for place, pair in enumerate(zip(images, shares, strict=True)):
                self._kept[chunk * self._CHUNK + place] = cast("tuple[Pixels, Pixels]", pair)
        return self._kept[index]
