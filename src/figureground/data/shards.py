"""Drawn pictures with masks and layers in a few large files instead of millions of small ones.

A folder holds `pairs-000000.safetensors` and so on, and `pairs.json`, which says what they were
drawn from and how long each is. Picture i depends on (checkpoint, seed, i) alone (see `chunks`), so
neither the size of the shards nor where a killed run went on changes a byte of it.

Parts of a shard: `image` (N, H, W, 3); `mask` (N, H, W), the share of everything but the background
times 255, or, where all of a shard are 0 or 255, `mask_bits` (N, H, W / 8); `layers`
(N, L, H, W, 4) if wanted; `seed` (N,) of the chunk; `label` (N,) of generators with classes.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from figureground.core.errors import DataError, UserError
from figureground.core.io import RunLock, atomic_write, remove_stale, require_room
from figureground.core.passages import Passage, Passages, add, subtract
from figureground.core.presence import exists, require_file
from figureground.core.signals import watching
from figureground.core.types import Layers
from figureground.data.chunks import CHUNK, Draw, chunk_seed, draw_chunk
from figureground.data.listed import require_inside
from figureground.data.samples import Pixels
from figureground.data.shard_content import (
    BITS,
    Rounding,
    pack,
    quantize,
    quantize_share,
    shrink,
    unpack,
)
from figureground.data.shard_manifest import (
    FORMAT,
    MANIFEST,
    find_shard_damage,
    lay_out_rates,
    list_files,
    name_shard,
    read_manifest,
    sum_accepted,
)

logger = logging.getLogger(__name__)

_RGB = 3


class _Chunk(NamedTuple):
    """Pictures drawn together, and what filters let through meanwhile."""

    number: int
    parts: dict[str, Pixels]
    accepted: Passages


class ShardWriter:
    """Writes pictures 0 to `count` - 1 of one generator and seed into a folder.

    A run that was killed goes on at the first shard that is not whole.

    Args:
        folder: Where the shards go.
        checkpoint: What tells apart the generator's weights.
        seed: Seed of all pictures.
        shard_size: Pictures per shard.
        layers: Whether to keep every layer (RGB and visible share) beside picture and mask.
        rounding: Of colours.
        resolution: Side that larger pictures and masks are shrunk to, as they would be when read
            (see `fitting`); None keeps them as drawn. Layers are not shrunk.
        settings: What else tells these pictures apart, by name.
        overwrite: Remove pictures of other settings instead of refusing.
        count_passed: Tells what the filters of whatever draws have let through so far; the list
            then keeps it of each shard, and of all.
    """

    def __init__(
        self,
        folder: Path,
        *,
        checkpoint: str,
        seed: int,
        shard_size: int = 1000,
        layers: bool = True,
        rounding: Rounding = "nearest",
        resolution: int | None = None,
        settings: Mapping[str, str | float | None] | None = None,
        overwrite: bool = False,
        count_passed: Callable[[], Passages] = dict,
    ) -> None:
        if layers and resolution is not None:
            raise ValueError("layers are kept as drawn; give layers=False with a resolution")
        self.folder, self.layers, self.rounding, self.resolution = (
            folder, layers, rounding, resolution,
        )  # fmt: skip
        self.overwrite = overwrite
        self.identity = {
            "format": FORMAT, "checkpoint": checkpoint, "seed": seed, "shard_size": shard_size,
            "layers": layers, "rounding": rounding, "resolution": resolution, "chunk": CHUNK,
            **(settings or {}),
        }  # fmt: skip
        self.seed, self.shard_size = seed, shard_size
        self._count_passed = count_passed
        self._chunk = _Chunk(-1, {}, {})

    def write(self, draw: Draw, count: int) -> None:
        """Draw and write what is missing, shard by shard.

        Args:
            draw: Makes a chunk of pictures, see `chunks`; whatever it raises for the first one
                leaves the folder as it was.
            count: Pictures wanted; shards beyond are removed.

        Raises:
            UserError: The folder holds pictures of other settings.
            WriteError: There is no room for all; or a shard could not be written, and those before
                are whole and listed.
        """
        with watching() as stop:
            self._require_room(self._draw(draw, 0), count)
            with RunLock(self.folder):
                self._write(draw, count, partial(stop.check, goes_on=True))

    def _require_room(self, chunk: _Chunk, count: int) -> None:
        """Raise `WriteError` unless `count` pictures like those of `chunk` fit on the disk."""
        each = sum(part.nbytes for part in pack(chunk.parts).values()) / CHUNK
        # What is there is gone on with, or makes room.
        needed = count * each - sum(path.stat().st_size for path in list_files(self.folder))
        if needed <= 0:
            return
        free = require_room(self.folder, needed, f"{count} pairs", "output")
        logger.info(
            "%s: %d pairs of %.1f kB need %.1f MB more, %.1f MB are free",
            self.folder, count, each / 1e3, needed / 1e6, free / 1e6,
        )  # fmt: skip

    def _write(self, draw: Draw, count: int, check: Callable[[], object]) -> None:
        remove_stale(self.folder)
        done = self._take_up()
        num_shards = -(-count // self.shard_size)
        for surplus in done[num_shards:]:
            (self.folder / surplus["file"]).unlink(missing_ok=True)
        del done[num_shards:]
        self._list(done)
        for number in range(num_shards):
            first = number * self.shard_size
            length = min(self.shard_size, count - first)
            if number < len(done) and self._is_whole(done[number], length):
                continue
            drawn, accepted = [], []
            for number_of_chunk, places in _cut(first, first + length):
                check()
                chunk = self._draw(draw, number_of_chunk)
                drawn.append({part: array[places] for part, array in chunk.parts.items()})
                if places.start == 0:  # Of two shards with a part of it, the first counts it.
                    accepted.append(chunk.accepted)
            done[number : number + 1] = [self._save(number, drawn, add(*accepted))]
            self._list(done)
            logger.info("%s: %d of %d pictures", self.folder, first + length, count)

    def _take_up(self) -> list[dict[str, Any]]:
        """Shards written before with the same settings."""
        path = self.folder / MANIFEST
        if not exists(path):
            return []
        try:
            before = read_manifest(self.folder)
            if all(before.get(key) == value for key, value in self.identity.items()):
                return list(before["shards"])
        except DataError as error:
            if not self.overwrite:
                raise UserError(
                    f"{error}; what is in the folder cannot be told without it, so add "
                    "overwrite=true to draw all anew, or choose another output=..."
                ) from error
            before = {}
        if not self.overwrite:
            differing = [k for k, v in self.identity.items() if before.get(k) != v]
            raise UserError(
                f"{self.folder} holds pairs of another {', '.join(differing)}; add overwrite=true "
                "to replace them, or choose another output=..."
            )
        for old in list_files(self.folder):
            old.unlink()
        path.unlink()
        return []

    def _is_whole(self, record: dict[str, Any], length: int) -> bool:
        path = self.folder / record["file"]
        return record["count"] == length and find_shard_damage(path, record, verify=True) is None

    def _draw(self, draw: Draw, number: int) -> _Chunk:
        """Draw a chunk, or return the last one, for shards that end in it."""
        if self._chunk.number != number:
            before = self._count_passed()
            layers = draw_chunk(draw, self.seed, number)
            parts = self._quantize(layers, chunk_seed(self.seed, number * CHUNK))
            self._chunk = _Chunk(number, parts, subtract(self._count_passed(), before))
        return self._chunk

    def _quantize(self, drawn: Layers, seed: int) -> dict[str, Pixels]:
        image = quantize(drawn.composite, self.rounding).permute(0, 2, 3, 1).cpu().numpy()
        mask = quantize_share(drawn.foreground[:, 0]).cpu().numpy()
        if self.resolution is not None:
            image, mask = shrink(image, mask, self.resolution)
        arrays: dict[str, npt.NDArray[Any]] = {"image": image, "mask": mask}
        if self.layers:
            color = quantize(drawn.color, self.rounding)
            layers = torch.cat([color, quantize_share(drawn.alpha)], dim=2)
            arrays["layers"] = layers.permute(0, 1, 3, 4, 2).cpu().numpy()  # (B, L, H, W, 4)
        arrays["seed"] = np.full(len(drawn), seed, np.int64)
        if drawn.label is not None:
            arrays["label"] = drawn.label.cpu().numpy()
        return arrays

    def _save(
        self, number: int, drawn: list[dict[str, Pixels]], accepted: Passages
    ) -> dict[str, Any]:
        # Contiguous: what is permuted would be saved in the order of its memory.
        arrays = {k: np.ascontiguousarray(np.concatenate([d[k] for d in drawn])) for k in drawn[0]}
        content = save(pack(arrays))
        name = name_shard(number)
        with atomic_write(self.folder / name) as file:
            file.write(content)
        return {
            "file": name, "count": len(arrays["seed"]), "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            **({"accepted": accepted} if accepted else {}),
        }  # fmt: skip

    def _list(self, shards: list[dict[str, Any]]) -> None:
        content: dict[str, Any] = {**self.identity, "shards": shards}
        if accepted := sum_accepted(content):
            content["accepted"] = lay_out_rates(accepted)
        with atomic_write(self.folder / MANIFEST, "w") as file:
            json.dump(content, file, indent=1)


def _cut(first: int, end: int) -> Iterator[tuple[int, slice]]:
    """Chunks that hold pictures `first` to `end` - 1, each with the places of these in it."""
    for number in range(first // CHUNK, -(-end // CHUNK)):
        start = number * CHUNK
        yield number, slice(max(first - start, 0), min(end - start, CHUNK))


class ShardReader:
    """Reads pictures and masks by index from memory-mapped shards.

    Args:
        folder: Where they are.
        verify: Whether to compare checksums first, some seconds per gigabyte.

    Raises:
        DataError: A shard is missing, cut short or damaged.
    """

    def __init__(self, folder: Path, verify: bool = True) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder)
        self.has_layers = bool(self.manifest.get("layers"))
        shards = self.manifest["shards"]
        entries = ((record["file"], (folder / record["file"],)) for record in shards)
        require_inside(folder / MANIFEST, folder, entries)
        with watching() as stop:
            for record in shards:
                stop.check()
                path = folder / record["file"]
                if problem := find_shard_damage(path, record, verify):
                    raise DataError(f"{path} {problem}; run generate again to write it anew")
        self.files = [folder / record["file"] for record in shards]
        self._ends = np.cumsum([record["count"] for record in shards], dtype=np.int64)
        self._open: dict[int, _ShardFile] = {}

    @property
    def accepted(self) -> dict[str, Passage]:
        """What each filter let through when they were drawn, see `core.passages`; or nothing."""
        return sum_accepted(self.manifest)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}  # Each worker opens its own.

    def read(self, index: int, part: str) -> Pixels:
        """Return `part` (image, mask, layers, seed or label) of picture `index`.

        Raises:
            DataError: The file does not hold what the manifest says, or not that part.
        """
        number = int(np.searchsorted(self._ends, index, side="right"))
        place = index - (int(self._ends[number - 1]) if number else 0)
        try:
            if number not in self._open:
                self._open[number] = _ShardFile(self.files[number])
            return self._open[number].read(place, part)
        except (SafetensorError, OSError, IndexError, ValueError) as error:
            raise DataError(
                f"{self.files[number]} cannot be read at picture {index}: {error}"
            ) from error


class _ShardFile:
    """One memory-mapped shard."""

    def __init__(self, path: Path) -> None:
        self._content: Any = safe_open(require_file(path), "np")

    def read(self, place: int, part: str) -> Pixels:
        """Return `part` of the picture at `place`.

        Raises:
            ValueError: It is of another type or shape; a file may come from anybody.
        """
        _, *shape = self._content.get_slice("image").get_shape()
        if part == "mask":
            shape = shape[:2]
            if BITS in self._content.keys():  # noqa: SIM118 - no mapping
                return unpack(self._cut(place, BITS), (shape[0], shape[1]))
        found = self._cut(place, part)
        if part in {"image", "mask"}:
            is_right = found.dtype == np.uint8 and list(found.shape) == shape
            if not is_right or (part == "image" and shape[2:] != [_RGB]):
                raise ValueError(f"its {part} is {found.dtype} {found.shape}")
        return found

    def _cut(self, place: int, part: str) -> Pixels:
        return np.asarray(self._content.get_slice(part)[place : place + 1][0])
