"""Drawn pictures with masks and layers in a few large files instead of millions of small ones.

A folder holds `pairs-000000.safetensors` and so on, and `pairs.json`, which says what they were
drawn from and how long each is. Picture i depends on (checkpoint, seed, i) alone (see `chunks`), so
neither the size of the shards nor where a killed run went on changes a byte of it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from figureground.core.errors import DataError, UserError
from figureground.core.io import RunLock, atomic_write, remove_stale
from figureground.core.signals import watching
from figureground.core.types import Layers
from figureground.data.chunks import CHUNK, Draw, chunk_seed, draw_chunk
from figureground.data.samples import Pixels

logger = logging.getLogger(__name__)

#: `nearest` is ILSGAN's (and L2IC's) rounding of colours, `down` gan-segmenter's.
Rounding = Literal["nearest", "down"]

MANIFEST = "pairs.json"
_FORMAT = 1
_PATTERN = "pairs-{:06d}.safetensors"


def quantize(color: Tensor, rounding: Rounding = "nearest") -> Tensor:
    """Turn colours in [-1, 1] into uint8, whatever lies outside being cut off."""
    half = 0.5 if rounding == "nearest" else 0.0
    return (color.float() * 127.5 + (127.5 + half)).clamp(0, 255).to(torch.uint8)


def quantize_share(share: Tensor) -> Tensor:
    """Turn shares in [0, 1] into uint8, rounded: a half becomes 128."""
    return (share.float() * 255 + 0.5).clamp(0, 255).to(torch.uint8)


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
        settings: What else tells these pictures apart, by name.
        overwrite: Remove pictures of other settings instead of refusing.
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
        settings: Mapping[str, str | float | None] | None = None,
        overwrite: bool = False,
    ) -> None:
        self.folder, self.layers, self.rounding, self.overwrite = (
            folder, layers, rounding, overwrite,
        )  # fmt: skip
        self.identity = {
            "format": _FORMAT, "checkpoint": checkpoint, "seed": seed, "shard_size": shard_size,
            "layers": layers, "rounding": rounding, "chunk": CHUNK, **(settings or {}),
        }  # fmt: skip
        self.seed, self.shard_size = seed, shard_size
        self._chunk: tuple[int, dict[str, Pixels]] = (-1, {})

    def write(self, draw: Draw, count: int) -> None:
        """Draw and write what is missing, shard by shard.

        Args:
            draw: Makes a chunk of pictures, see `chunks`; whatever it raises for the first one
                leaves the folder as it was.
            count: Pictures wanted; shards beyond are removed.

        Raises:
            UserError: The folder holds pictures of other settings.
            WriteError: A shard could not be written; those before are whole and listed.
        """
        with watching() as stop:
            self._draw(draw, 0)
            with RunLock(self.folder):
                self._write(draw, count, stop.check)

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
            drawn = []
            for chunk, places in _cut(first, first + length):
                check()
                arrays = self._draw(draw, chunk)
                drawn.append({part: array[places] for part, array in arrays.items()})
            done[number : number + 1] = [self._save(number, drawn)]
            self._list(done)
            logger.info("%s: %d of %d pictures", self.folder, first + length, count)

    def _take_up(self) -> list[dict[str, Any]]:
        """Shards written before with the same settings."""
        path = self.folder / MANIFEST
        if not path.is_file():
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
        for old in self.folder.glob(_PATTERN.replace("{:06d}", "[0-9]" * 6)):
            old.unlink()
        path.unlink()
        return []

    def _is_whole(self, record: dict[str, Any], length: int) -> bool:
        path = self.folder / record["file"]
        return record["count"] == length and find_shard_damage(path, record, verify=True) is None

    def _draw(self, draw: Draw, number: int) -> dict[str, Pixels]:
        """All parts of the pictures of a chunk; the last one is kept, for shards that end in it."""
        if self._chunk[0] != number:
            layers = draw_chunk(draw, self.seed, number)
            self._chunk = number, self._quantize(layers, chunk_seed(self.seed, number * CHUNK))
        return self._chunk[1]

    def _quantize(self, drawn: Layers, seed: int) -> dict[str, Pixels]:
        parts = {
            "image": quantize(drawn.composite, self.rounding).permute(0, 2, 3, 1),
            "mask": quantize_share(drawn.foreground[:, 0]),
        }
        if self.layers:
            color = quantize(drawn.color, self.rounding)
            parts["layers"] = torch.cat([color, quantize_share(drawn.alpha)], dim=2)
            parts["layers"] = parts["layers"].permute(0, 1, 3, 4, 2)  # (B, L, H, W, 4)
        arrays: dict[str, npt.NDArray[Any]] = {k: v.cpu().numpy() for k, v in parts.items()}
        arrays["seed"] = np.full(len(drawn), seed, np.int64)
        return arrays

    def _save(self, number: int, drawn: list[dict[str, Pixels]]) -> dict[str, Any]:
        # Contiguous: what is permuted would be saved in the order of its memory.
        arrays = {k: np.ascontiguousarray(np.concatenate([d[k] for d in drawn])) for k in drawn[0]}
        content = save(arrays)
        name = _PATTERN.format(number)
        with atomic_write(self.folder / name) as file:
            file.write(content)
        return {
            "file": name, "count": len(arrays["seed"]), "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }  # fmt: skip

    def _list(self, shards: list[dict[str, Any]]) -> None:
        with atomic_write(self.folder / MANIFEST, "w") as file:
            json.dump({**self.identity, "shards": shards}, file, indent=1)


def _cut(first: int, end: int) -> Iterator[tuple[int, slice]]:
    """Chunks that hold pictures `first` to `end` - 1, each with the places of these in it."""
    for number in range(first // CHUNK, -(-end // CHUNK)):
        start = number * CHUNK
        yield number, slice(max(first - start, 0), min(end - start, CHUNK))


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read `pairs.json`, which may come from anybody.

    Raises:
        DataError: It is missing, or not such a file.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text("utf-8"))
        if manifest["format"] != _FORMAT:
            raise ValueError(f"format {manifest['format']}")
        for number, record in enumerate(manifest["shards"]):
            # Names are made, not taken: a file must not lead out of its folder.
            if record["file"] != _PATTERN.format(number) or not isinstance(record["sha256"], str):
                raise ValueError(f"shard {number} is {record}")
            record["count"], record["size"] = int(record["count"]), int(record["size"])
    except OSError as error:
        raise DataError(
            f"{folder} has no {MANIFEST}; expected a folder written by: python src/generate.py "
            "ckpt=... format=shards count=10000 output=..."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is damaged or of another version ({error}); put the folder's own back, or "
            "write the pairs anew with generate"
        ) from error
    return dict(manifest)


def find_shard_damage(path: Path, record: dict[str, Any], verify: bool) -> str | None:
    """Say what is wrong with a shard's file, or None.

    Args:
        path: The file.
        record: Its entry in the manifest.
        verify: Whether to read it through and compare its checksum.
    """
    if not path.is_file():
        return "is missing"
    if (size := path.stat().st_size) != record["size"]:
        return f"has {size} bytes, expected {record['size']}"
    if verify:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != record["sha256"]:
                return "is damaged (its checksum differs)"
    return None


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
        with watching() as stop:
            for record in shards:
                stop.check()
                path = folder / record["file"]
                if problem := find_shard_damage(path, record, verify):
                    raise DataError(f"{path} {problem}; run generate again to write it anew")
        self.files = [folder / record["file"] for record in shards]
        self._ends = np.cumsum([record["count"] for record in shards], dtype=np.int64)
        self._open: dict[int, Any] = {}

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}  # Each worker opens its own.

    def read(self, index: int, part: str) -> Pixels:
        """Return `part` (image, mask, layers or seed) of picture `index`.

        Raises:
            DataError: The file does not hold what the manifest says.
        """
        number = int(np.searchsorted(self._ends, index, side="right"))
        place = index - (int(self._ends[number - 1]) if number else 0)
        try:
            if number not in self._open:
                self._open[number] = safe_open(self.files[number], "np")
            return np.asarray(self._open[number].get_slice(part)[place : place + 1][0])
        except (SafetensorError, OSError, IndexError) as error:
            raise DataError(
                f"{self.files[number]} cannot be read at picture {index}: {error}"
            ) from error
