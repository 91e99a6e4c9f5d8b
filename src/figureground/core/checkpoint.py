"""Checkpoints that are either whole or absent, are checked when read, and run no code when opened.

Beside each lies its manifest, see `core.manifest`.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import torch
from pytorch_lightning.plugins import CheckpointIO
from torch import Tensor, nn
from torchmetrics import Metric

from figureground.core.budget import allocation_budget
from figureground.core.content import read_content, require_resumable
from figureground.core.errors import CheckpointError, UserError
from figureground.core.io import atomic_write
from figureground.core.manifest import (
    add_records,
    claimed_iteration,
    find_damage,
    keep,
    manifest_of,
)
from figureground.core.plain import copy_containers, summarize
from figureground.core.rebuild import build_trusted, change_trusted, find_class
from figureground.core.released import require_no_bomb

if TYPE_CHECKING:
    from figureground.core.method import Method

logger = logging.getLogger(__name__)

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"

_MOST_NESTED = 4  # Checkpoints that are generators of one another.
_nested: ContextVar[int] = ContextVar("nested checkpoints", default=0)
_OWN_KEYS = ("format", "version", "restarts", "skipped")  # Of the section, not of `origin`.


@dataclass(frozen=True)
class ConvertedWeights:
    """What a foreign file holds, in our terms.

    Attributes:
        options: Constructor arguments of the method that the file determines.
        state_dict: Part of its state dict.
        networks: Our names of the networks that were in the file.
        optional: Parts of the state dict that the method may be built without, by their first name.
    """

    options: dict[str, Any]
    state_dict: dict[str, Tensor]
    networks: list[str]
    optional: frozenset[str] = frozenset()


class VerifiedCheckpointIO(CheckpointIO):
    """Lightning plug-in that writes and reads checkpoints by the rules of this module.

    Args:
        resumes: Whether it reads only what runs go on with, so that weights alone are refused.
    """

    def __init__(self, *, resumes: bool = False) -> None:
        self.resumes = resumes

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None
    ) -> None:
        """Write `checkpoint`, open what was written, and only then replace what is at `path`.

        What was `last.ckpt` before stays as `previous.ckpt`.

        Raises:
            WriteError: The file could not be written; what was at `path` is untouched.
            TypeError: The state holds more than tensors and plain containers.
        """
        path = Path(path)
        with atomic_write(path) as file:
            record = _write(checkpoint, file)
            _check_opens(Path(file.name))
            if path.name == LAST and path.exists() and find_damage(path) is None:
                keep(path, path.with_name(PREVIOUS))
            add_records(path, [record])

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read and check the checkpoint at `path`; never opened with `weights_only=False`.

        Raises:
            CheckpointError: See `read_checkpoint`; also if runs cannot go on with it but should.
        """
        checkpoint = read_checkpoint(path, map_location or "cpu")
        if self.resumes:
            require_resumable(checkpoint, path)
        return checkpoint

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete the checkpoint at `path` and its manifest."""
        for file in (Path(path), manifest_of(Path(path))):
            file.unlink(missing_ok=True)


def read_checkpoint(path: str | Path, map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """Read a checkpoint of this suite, after checking that it is whole.

    Args:
        path: The file.
        map_location: Device for its tensors.

    Returns:
        The checkpoint, with its section `figureground` in a format this version knows.

    Raises:
        CheckpointError: The file is missing, damaged, holds code, or is something else.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(
            f"{path} is not a file; expected a checkpoint, such as "
            "outputs/latest/checkpoints/last.ckpt"
        )
    if problem := find_damage(path):
        raise CheckpointError(f"{path} {problem}; use another checkpoint, such as {PREVIOUS}")
    try:
        require_no_bomb(path)
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # Whatever a crafted file provokes means the same.
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f" ({named[1]})" if named else ""
        raise CheckpointError(
            f"{path} holds more than tensors and plain values{what}; it was refused and nothing "
            "in it was run. Expected a checkpoint written by train or convert"
        ) from error
    return read_content(checkpoint, path)


def load_method(
    path: str | Path,
    map_location: str | torch.device = "cpu",
    *,
    metrics: Mapping[str, Mapping[str, Any]] | None = None,
) -> Method:
    """Rebuild a trained method from its checkpoint, ready to use.

    Args:
        path: A checkpoint written by `train` or `convert`.
        map_location: Device of the method.
        metrics: Other options of its metrics than those it was trained with, such as
            `{"segmentation": {"average": "batch"}}`.

    Returns:
        The method in evaluation mode.

    Raises:
        ConfigError: The method has no such metrics, or they have no such options.
        CheckpointError: See `read_checkpoint`; also if the weights do not fit the method that the
            file describes, or if it describes something that is not a method of this suite.
    """
    checkpoint = read_checkpoint(path, map_location)
    section = checkpoint["figureground"]
    node = section.get("method")
    if not isinstance(node, dict) or "_target_" not in node:
        raise CheckpointError(f"{path} does not say how its method was built (no section `method`)")
    # Here because core.method imports this module.
    from figureground.core.method import Method
    from figureground.core.places import find_places

    if not find_class(node["_target_"], Method) and find_class(node["_target_"], nn.Module):
        raise CheckpointError(f"{path} describes {node['_target_']}, which is not a method")
    if metrics:
        changed = change_trusted(node.get("metrics") or {}, metrics, Metric, "metrics")
        node = {**node, "metrics": changed}
    node = find_places(node, Path(path))
    try:
        with _one_more_within(path), allocation_budget(Path(path), node):
            method: Method = build_trusted(node, Method)
    except UserError as error:
        raise CheckpointError(f"{path} cannot be rebuilt: {error}") from error
    check_fits(method, checkpoint["state_dict"], path)
    # Before the weights: what the method was built with is compared with what was stored.
    method.on_load_checkpoint(checkpoint)
    load_state(method, checkpoint["state_dict"], path)
    method.origin = {key: value for key, value in section.items() if key not in _OWN_KEYS}
    return method.to(map_location).eval()


@contextmanager
def _one_more_within(path: str | Path) -> Iterator[None]:
    """Refuse checkpoints whose generator is a checkpoint whose generator, and so on, is itself."""
    depth = _nested.get()
    if depth >= _MOST_NESTED:
        raise CheckpointError(
            f"{path} is the generator of a checkpoint that is one itself, {depth} times; does it "
            "name itself?"
        )
    token = _nested.set(depth + 1)
    try:
        yield
    finally:
        _nested.reset(token)


def load_state(module: nn.Module, state: Mapping[str, Any], source: str | Path) -> None:
    """Load a state dict from a file, if it fits as a whole.

    Raises:
        CheckpointError: It has other keys, shapes or kinds of numbers; see `check_fits`.
    """
    check_fits(module, state, source)
    try:
        module.load_state_dict(dict(state))
    except Exception as error:  # Such as tensors of kinds that cannot be copied.
        raise CheckpointError(f"{source} cannot be loaded: {summarize(error)}") from error


def require_network(method: object, name: str, source: str | Path) -> None:
    """Raise `CheckpointError` if network `name` of `method` was not in the file of its authors.

    Args:
        method: What was loaded from `source`.
        name: `generator` or another attribute; methods without such a one are fine.
        source: For the message.
    """
    if name in getattr(method, "origin", {}).get("missing", ()):
        raise CheckpointError(
            f"{source} was converted from a file without the {name}, so the weights of this are "
            "random; convert the files of all networks together"
        )


def check_fits(module: nn.Module, state: Mapping[str, Any], source: str | Path) -> None:
    """Raise `CheckpointError` unless `state` has just the keys and shapes of `module`.

    Args:
        module: What the state is for; untouched.
        state: State dict.
        source: Where it comes from, for the message.
    """
    expected = module.state_dict()
    problems = [f"{key} is missing" for key in expected if key not in state]
    problems += [f"{key} is not part of the method" for key in state if key not in expected]
    for key, tensor in expected.items():
        if key in state:
            found = tuple(state[key].shape) if isinstance(state[key], Tensor) else "no tensor"
            if isinstance(tensor, Tensor) and found != tuple(tensor.shape):
                problems.append(f"{key} is {found}, expected {tuple(tensor.shape)}")
            elif isinstance(tensor, Tensor) and state[key].is_complex() and not tensor.is_complex():
                problems.append(f"{key} is complex")
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CheckpointError(
            f"{source} does not fit {type(module).__name__} as configured: "
            f"{'; '.join(problems[:3])}{more}. Use the method, resolution and widths it was "
            "trained with (they are in its run's .hydra/config.yaml)"
        )


def iteration_of(checkpoint: Mapping[str, Any]) -> int:
    """Batches trained on when `checkpoint` was saved; 0 if it did not come from training."""
    loops = checkpoint.get("loops", {}).get("fit_loop", {})
    progress = loops.get("epoch_loop.batch_progress", {})
    return int(progress.get("total", {}).get("processed", 0))


def find_resumable(directory: str | Path) -> Path:
    """Find the checkpoint in `directory` that has come furthest and is whole.

    Order is by iteration: clocks jump. Damaged files are named in one warning.

    Raises:
        CheckpointError: There is none.
    """
    directory = Path(directory)
    rank = {LAST: 2, PREVIOUS: 1}
    candidates = sorted(
        directory.glob("*.ckpt"),
        key=lambda path: (claimed_iteration(path), rank.get(path.name, 0)),
        reverse=True,
    )
    problems: list[str] = []
    for path in candidates:
        problem = find_damage(path)
        if problem is None:
            if problems:
                logger.warning("%s; using %s instead", "; ".join(problems), path)
            return path
        problems.append(f"{path} {problem}")
    found = "; ".join(problems) or "there is no *.ckpt file"
    raise CheckpointError(
        f"nothing to resume from in {directory}: {found}. Give a run directory with checkpoints, "
        "or start anew with ckpt=null"
    )


class _HashingWriter:
    """File that also sums up what passes through."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.size, self.digest = file, 0, hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            self.file.write(data)
        except OSError as error:
            self.error = error
            raise
        self.digest.update(data)
        self.size += memoryview(data).nbytes
        return memoryview(data).nbytes

    def flush(self) -> None:
        self.file.flush()


def _write(checkpoint: Mapping[str, Any], file: IO[bytes]) -> dict[str, Any]:
    """Serialise `checkpoint` and return its record for the manifest."""
    writer = _HashingWriter(file)
    try:
        torch.save(dict(checkpoint), writer)  # type: ignore[arg-type]  # needs no more of a file
        writer.flush()
    except RuntimeError as error:
        # torch.save reports a full disk as "unexpected pos".
        raise (writer.error or error) from error
    return {
        "size": writer.size,
        "sha256": writer.digest.hexdigest(),
        "iteration": iteration_of(checkpoint),
        "format": checkpoint.get("figureground", {}).get("format"),
    }


def _check_opens(path: Path) -> None:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        copy_containers(content, "the checkpoint")  # Stricter than torch: no sets, for instance.
    except Exception as error:
        raise TypeError(
            "the state to save holds more than tensors and plain containers, so nobody could open "
            f"it safely: {error}"
        ) from error
