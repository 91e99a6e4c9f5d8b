"""Records kept as `.npz` files, one each, as DRC's authors unpack a TFRecord file of CLEVR."""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from figureground.core.errors import UnfitFileError
from figureground.core.presence import require_file
from figureground.data.samples import Pixels
from figureground.data.tfrecord import Example

_MOST = 2**22  # Numbers in an array: four times as many as the largest has.


class NpzRecord(Example):
    """An `Example` whose features are the arrays of a file, read when asked for.

    Nothing in the file is run, and no array is read that is larger than one of a record.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read_bytes(self, name: str) -> Pixels:
        """Numbers of array `name`, uint8 (N,).

        Raises:
            ValueError: There is no such array, or it does not hold bytes, or it is damaged.
        """
        return np.frombuffer(self._read(name, np.dtype(np.uint8)), np.uint8)

    def read_floats(self, name: str) -> npt.NDArray[np.float32]:
        """Numbers of array `name`, (N,).

        Raises:
            ValueError: As for `read_bytes`, for floats.
        """
        return np.frombuffer(self._read(name, np.dtype("<f4")), np.dtype("<f4"))

    def _read(self, name: str, expected: np.dtype[np.generic]) -> bytes:
        try:
            path = require_file(self.path)
            with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
                version = np.lib.format.read_magic(file)
                if version != (1, 0):
                    raise ValueError(f"has an array {name} of another format")
                shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
                size = math.prod(shape)
                if dtype != expected or fortran or size > _MOST or min(shape, default=0) < 0:
                    raise ValueError(f"has an array {name} of {dtype} {shape}")
                data: bytes = file.read(size * dtype.itemsize)
        except KeyError as error:
            raise ValueError(f"has no array {name}") from error
        except UnfitFileError:
            raise
        except (OSError, EOFError, zipfile.BadZipFile, struct.error, zlib.error) as error:
            raise ValueError(f"cannot be read ({type(error).__name__})") from error
        except (NotImplementedError, RuntimeError) as error:  # Packed or encrypted by others.
            raise ValueError(f"cannot be unpacked ({error})") from error
        except (MemoryError, IndexError, TypeError) as error:  # NumPy evaluates the header.
            raise ValueError(f"has an array {name} with an odd header") from error
        if len(data) < size * dtype.itemsize:
            raise ValueError(f"has an array {name} that is cut off")
        return data
