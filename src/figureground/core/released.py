"""Reads files of released weights of any kind without running what is in them.

Known by content, not by name: safetensors, files of `torch.save` (old and new), and pickles of
whole modules as StyleGAN2-ADA and what grew from it write them. Such a pickle stores each module as
a call that would compile source text found in the file; here that call gives back its argument, a
plain dict, of which `collect_module` takes parameters and buffers. Whatever else a file asks for by
name is refused.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from safetensors import safe_open
from torch import Tensor

from figureground.core.archives import require_sound
from figureground.core.errors import CheckpointError, RefusedFileError
from figureground.core.plain import strip_attributes
from figureground.core.presence import is_file, open_file, require_file

_NUMBERS = {
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "scalar"),  # Before NumPy 2,
    ("numpy._core.multiarray", "scalar"),  # and since.
}
#: Start of files of torch.save before torch 1.6.
TORCH_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_MOST_RATIO, _MOST_UNPACKED = 20, 2**27  # Of a ZIP; beyond both it is a bomb.
_SHOWN = 200  # Characters of a reason.
_MOST_MODULES = 10_000  # Of one stored network.
#: Types that a stored configuration names; `__builtin__` holds them in older files.
_TYPES = {"dict", "list", "tuple", "str", "unicode", "bytes", "int", "long", "float", "bool"}


def read_released(path: str | Path, ignored: Collection[str] = ()) -> Any:
    """Read a file of weights; nothing in it is run.

    Args:
        path: The file.
        ignored: Packages whose objects, such as the configuration beside the weights, are read as
            nothing rather than refused; nothing of them is imported.

    Returns:
        What it holds: a dict of tensors for safetensors, otherwise what was saved, with stored
        modules as dicts (see `collect_module`).

    Raises:
        CheckpointError: It is missing.
        RefusedFileError: It is of no known kind, damaged, or holds more than weights.
    """
    path = Path(path)
    if not is_file(path):
        raise CheckpointError(f"{str(path)[:200]!r} is not a file")
    with open_file(path) as file:
        head = file.read(16)
    try:
        if zipfile.is_zipfile(path):
            content = _read_archive(path, ignored)
        elif head.startswith(TORCH_MAGIC):
            content = _load_tensors(path, ignored)
        elif head[8:9] == b"{":
            return _read_safetensors(path)
        elif head[:1] == b"\x80":
            content = read_pickle(path)
        else:
            raise ValueError(
                "it is neither safetensors nor saved by PyTorch nor a pickle of protocol 2 on"
            )
        strip_attributes(content)
        require_stored(content)
    except Exception as error:  # Whatever a crafted file provokes means the same.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if named := _global_in(str(error)):
            reason = f"it asks for {named}"
        reason = "".join(filter(str.isprintable, reason))[:_SHOWN]  # The file may have named it.
        raise RefusedFileError(
            f"{path} cannot be read as weights ({reason}); it was refused and nothing in it was "
            "run. Expected tensors and plain values"
        ) from error
    return content


def read_metadata(path: str | Path) -> dict[str, str]:
    """Texts that stand in the header of a safetensors file; none for other files."""
    path = Path(path)
    try:
        with open_file(path) as file:
            if file.read(9)[8:] != b"{":
                return {}
        with safe_open(path, "pt") as tensors:
            return dict(tensors.metadata() or {})
    except Exception:  # `read_released` says what is wrong.
        return {}


def read_pickle(path: Path) -> Any:
    """Read a pickle of tensors, plain values and stored modules.

    Raises:
        Exception: Of any kind; the file is damaged or asks for anything else by name.
    """
    with open_file(path) as file:
        _require_small_memo(file, path.stat().st_size)
        file.seek(0)
        content = _Reader(file).load()
    strip_attributes(content)
    return content


def collect_module(module: Any, prefix: str = "") -> dict[str, Tensor]:
    """Gather parameters and buffers of a stored module and of those inside it.

    Args:
        module: As `read_released` gives it.
        prefix: Of the names.

    Returns:
        Its state dict.

    Raises:
        CheckpointError: It is not a stored module.
    """
    return _collect(module, prefix, iter(range(_MOST_MODULES)))


def _collect(module: Any, prefix: str, numbers: Iterator[int]) -> dict[str, Tensor]:
    if next(numbers, None) is None:  # Shared ones count each time, in a chain 2^n times.
        raise CheckpointError(f"not a stored network (more than {_MOST_MODULES} modules)")
    try:
        inner = module["state"]
        found = {
            f"{prefix}{key}": tensor.detach()
            for group in ("_parameters", "_buffers")
            for key, tensor in inner[group].items()
            if tensor is not None
        }
        for key, child in inner["_modules"].items():
            found |= _collect(child, f"{prefix}{key}.", numbers)
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"not a stored network ({prefix or 'its top'} lacks {error})"
        ) from error
    return found


class _Reader(pickle.Unpickler):
    """Unpickler that makes tensors and plain containers only."""

    def find_class(self, module: str, name: str) -> Any:
        """Stand-ins for what a file names; nothing is imported on its behalf."""
        allowed: dict[tuple[str, str], Callable[..., Any]] = {
            ("torch_utils.persistence", "_reconstruct_persistent_obj"): _identity,
            ("collections", "OrderedDict"): OrderedDict,
            ("builtins", "set"): set,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
            ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
            ("torch.storage", "_load_from_bytes"): _load_storage,
        }
        if name == "EasyDict" and module in {"dnnlib.util", "dnnlib"}:
            return dict
        if (module, name) in _NUMBERS:
            return _Nothing  # Options hold some, weights none.
        if module.startswith("dnnlib.tflib"):
            raise pickle.UnpicklingError("it is of the TensorFlow version, which cannot be read")
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return allowed[module, name]


class _Forgetful(pickle.Unpickler):
    """Unpickler of torch's files; objects of some packages become nothing."""

    ignored: ClassVar[tuple[str, ...]] = ()

    def __init__(self, file: Any, **options: Any) -> None:
        start = file.tell()
        _require_small_memo(file, file.seek(0, io.SEEK_END), start)
        file.seek(start)
        super().__init__(file, **options)

    def find_class(self, module: str, name: str) -> Any:
        """What stands for `module.name`; nothing is imported on a file's behalf."""
        if module == "torch._utils" and name in {"_rebuild_tensor_v2", "_rebuild_parameter"}:
            return _rebuild_tensor if name == "_rebuild_tensor_v2" else _rebuild_parameter
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        is_type = module in {"builtins", "__builtin__"} and name in _TYPES
        others = {
            ("torch", "device"), ("collections", "defaultdict"), ("_codecs", "encode"), *_NUMBERS,
        }  # fmt: skip
        if is_type or (module, name) in others or module.partition(".")[0] in self.ignored:
            return _Nothing
        raise pickle.UnpicklingError(f"GLOBAL {module}.{name}")


class _Nothing:
    """Stands for objects that are left out, whatever these are made of."""

    def __new__(cls, *_: Any, **__: Any) -> _Nothing:
        """Take any arguments."""
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Take nothing over."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Take nothing over."""

    def append(self, value: Any) -> None:
        """Take nothing over."""

    def extend(self, values: Any) -> None:
        """Take nothing over."""


def _identity(meta: Any) -> Any:
    return meta


def _rebuild_tensor(
    storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> Tensor:
    # Torch would make room for whatever is claimed.
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    stored = storage._untyped_storage.nbytes() // storage.dtype.itemsize
    count: int = math.prod(size)
    if min((offset, *size, *stride)) < 0 or (count and last >= stored):
        raise pickle.UnpicklingError(f"a tensor claims {count} elements that are not stored")
    tensor: Tensor = torch._utils._rebuild_tensor_v2(  # type: ignore[no-untyped-call]  # torch's
        storage, offset, size, stride, False, OrderedDict()
    )
    return tensor


def _rebuild_parameter(data: Tensor, *_: Any) -> Tensor:
    return data


def _load_storage(data: bytes) -> Any:
    if not data.startswith(TORCH_MAGIC):  # Storages are pickled so; an archive could be a bomb.
        raise pickle.UnpicklingError("a storage is not as PyTorch writes it")
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _require_small_memo(file: Any, size: int, start: int = 0) -> None:
    """Refuse numbers of remembered objects beyond the file's size, which take memory at once."""
    file.seek(start)
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name in {"LONG_BINPUT", "PUT"} and int(argument or 0) > size:
            raise pickle.UnpicklingError(f"it claims to hold {argument} objects")


def require_no_bomb(path: Path) -> None:
    """Raise `ValueError` if `path` is a ZIP that holds far more than its size, or hides what.

    Nothing is unpacked for that.
    """
    if not zipfile.is_zipfile(require_file(path)):
        return
    unpacked = sum(entry.file_size for entry in require_sound(path))
    if unpacked > max(_MOST_RATIO * path.stat().st_size, _MOST_UNPACKED):
        raise ValueError(f"it claims to unpack to {unpacked} bytes")


def _read_archive(path: Path, ignored: Collection[str]) -> Any:
    require_no_bomb(path)
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        # Either sign would make torch run what is in the file.
        if any("/code/" in m.filename or "constants.pkl" in m.filename for m in members):
            raise ValueError("it is a TorchScript program")
        if broken := archive.testzip():  # torch.load itself checks no sums.
            raise ValueError(f"it is damaged in {broken}")
    return _load_tensors(path, ignored)


def _load_tensors(path: Path, ignored: Collection[str]) -> Any:
    with warnings.catch_warnings(action="ignore"):  # Old files are what is expected here.
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            if not ignored:
                raise
        # This unpickler decides what is made, and it makes tensors and containers only.
        unpickler = type("Unpickler", (_Forgetful,), {"ignored": tuple(ignored)})

        def load(file: Any, **options: Any) -> Any:
            return unpickler(file, **options).load()

        reader = SimpleNamespace(Unpickler=unpickler, load=load, __name__="reader")
        return torch.load(path, map_location="cpu", pickle_module=reader, weights_only=False)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, "pt") as tensors:
        return {key: tensors.get_tensor(key) for key in tensors.keys()}  # noqa: SIM118 - no dict


def _global_in(message: str) -> str | None:
    """Name of what torch refused, in the words of its message."""
    _, found, rest = message.partition("GLOBAL ")
    return rest.split()[0] if found else None


def require_stored(content: Any) -> None:
    """Refuse tensors with more elements than the file holds: copies would take any memory."""
    for tensor in _tensors(content):
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ValueError(f"a tensor claims {tensor.numel()} elements that are not stored")


def _tensors(content: Any) -> Iterator[Tensor]:
    """All tensors anywhere in plain containers."""
    waiting, seen = [content], set()
    while waiting:
        item = waiting.pop()
        if isinstance(item, Tensor):
            yield item
        elif isinstance(item, Mapping | list | tuple) and id(item) not in seen:
            seen.add(id(item))  # A pickle may hold itself.
            waiting.extend(item.values() if isinstance(item, Mapping) else item)
