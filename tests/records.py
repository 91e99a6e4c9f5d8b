"""TFRecord files of DeepMind's multi-object sets, made here."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from figureground.data.tfrecord import masked_crc32c

Features = Mapping[str, bytes | list[float]]


def _field(number: int, content: bytes) -> bytes:
    length, size = b"", len(content)
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def encode(features: Features, one_by_one: bool = True) -> bytes:
    """Write an `Example`; byte strings one per byte, as DeepMind's files have them, or whole."""
    entries = b""
    for name, values in features.items():
        if isinstance(values, bytes):
            parts = [bytes([byte]) for byte in values] if one_by_one else [values]
            feature = _field(1, b"".join(_field(1, part) for part in parts))
        else:
            feature = _field(2, _field(1, struct.pack(f"<{len(values)}f", *values)))
        entries += _field(1, _field(1, name.encode()) + _field(2, feature))
    return _field(1, entries)


def frame(data: bytes) -> bytes:
    head = struct.pack("<Q", len(data))
    sums = (struct.pack("<I", masked_crc32c(part)) for part in (head, data))
    return head + next(sums) + data + next(sums)


def write_records(path: Path, records: list[bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(b"".join(map(frame, records)), 1))
    return path


def clevr_record(classes: npt.NDArray[np.integer], number: int) -> bytes:
    """A record of the size of CLEVR's with `number` squares."""
    instances = np.zeros((240, 320), np.uint8)
    for k in range(number):
        instances[60 + 20 * (k // 3) : 75 + 20 * (k // 3), 90 + 30 * (k % 3) :][:, :20] = k + 1
    masks = (instances == np.arange(11)[:, None, None]).astype(np.uint8) * 255
    there = np.arange(11) <= number
    codes = np.where(there & (np.arange(11) > 0), np.resize(classes, 11), 1) - 1
    image = np.repeat(instances[..., None] * np.uint8(40), 3, axis=2)
    features: Features = {
        "image": image.tobytes(),
        "mask": masks.tobytes(),
        "shape": (codes // 2 + 1).astype(np.uint8).tobytes(),
        "material": (codes % 2 + 1).astype(np.uint8).tobytes(),
        "visibility": there.astype(float).tolist(),
    }
    return encode(features, one_by_one=False)
