"""What a checkpoint of this suite has to hold, and of which types, before anything looks at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from figureground.core.bounds import Count
from figureground.core.command_line import option
from figureground.core.errors import CheckpointError, FiguregroundError
from figureground.core.hints import find_mismatch
from figureground.core.plain import copy_containers, copy_options, summarize

Converted = TypeVar("Converted")

#: Of the checkpoint as a whole, where they are there; Lightning restores them.
_SECTIONS: dict[str, Any] = {
    "loops": dict[str, Any],
    "callbacks": dict[str, Any],
    "optimizer_states": list[dict[str, Any]],
    "lr_schedulers": list[dict[str, Any]],
    "epoch": Count,
    "global_step": Count,
}
#: Of its section `figureground`, where they are there.
_FACTS: dict[str, Any] = {
    "version": str,
    "restarts": list[dict[str, Any]],
    "skipped": dict[str, Any],
    "method": dict[str, Any],
    "data": dict[str, Any],
    "missing": list[str],
}


@contextmanager
def explaining_damage(path: str | Path) -> Iterator[None]:
    """Turn what the odd content of a file provokes, whatever it is, into one line.

    Args:
        path: The file that is read inside.

    Raises:
        CheckpointError: In the place of any unforeseen error.
    """
    try:
        yield
    except FiguregroundError:
        raise
    except Exception as error:
        reason = summarize(error) or type(error).__name__
        raise CheckpointError(
            f"{path} is damaged, or not what it should be ({type(error).__name__}: {reason}); use "
            "the original"
        ) from error


def explained(convert: Callable[[Path], Converted]) -> Callable[[Path], Converted]:
    """Decorate what reads the file at a path, so that it raises `CheckpointError` or less."""

    @wraps(convert)
    def converted(path: Path) -> Converted:
        with explaining_damage(path):
            return convert(path)

    return converted


def read_content(content: object, path: Path) -> dict[str, Any]:
    """Copy what was read into exact containers, and check all that this suite relies on.

    Args:
        content: As `torch.load` gives it.
        path: The file, for messages.

    Returns:
        The checkpoint, whose section `figureground` holds plain values only.

    Raises:
        CheckpointError: It is none, of another format, or a part has another type.
    """
    try:
        checkpoint = copy_containers(content, "the checkpoint")
        _check_kind(checkpoint, path)
        section = checkpoint["figureground"]
        checkpoint["figureground"] = section = copy_options(section, "figureground")
    except CheckpointError as error:
        named = str(error).startswith(str(path))
        raise error if named else CheckpointError(f"{path}: {error}") from error
    problems = [
        f"{name}: {problem}"
        for place, hints in ((checkpoint, _SECTIONS), (section, _FACTS))
        for name, hint in hints.items()
        if name in place and (problem := find_mismatch(place[name], hint))
    ]
    if problems := problems or _find_odd_values(checkpoint, section):
        raise CheckpointError(
            f"{path} is damaged, or made by something else ({problems[0]}); use another checkpoint"
        )
    return checkpoint  # type: ignore[no-any-return]  # a dict, as just checked


def require_resumable(checkpoint: Mapping[str, Any], path: str | Path) -> None:
    """Raise `CheckpointError` unless a run can go on with what `read_content` has returned."""
    if "optimizer_states" not in checkpoint:
        raise CheckpointError(
            f"{path} has weights but no state of optimisers, as what convert writes and "
            "snapshots that are kept, so no run can go on with it; to start a new run from "
            f"these weights, give {option('init', path)} instead of ckpt"
        )
    # Lightning would begin anew at whatever is not there.
    loop = checkpoint.get("loops", {}).get("fit_loop")
    progress = loop.get("epoch_loop.batch_progress") if isinstance(loop, dict) else None
    if not isinstance(progress, dict):
        raise CheckpointError(
            f"{path} is damaged: it does not say how far its run has come; resume from another one"
        )


def require_state(owner: object, state: Mapping[str, Any], hints: Mapping[str, Any]) -> None:
    """Raise `CheckpointError` unless what a checkpoint has of `owner` has these types.

    Args:
        owner: What takes up the state.
        state: From name to value.
        hints: From name to annotation.
    """
    for name, hint in hints.items():
        problem = "is missing" if name not in state else find_mismatch(state[name], hint)
        if problem:
            raise CheckpointError(
                f"the checkpoint is damaged: {name} of {type(owner).__name__}: {problem}; resume "
                "from another one"
            )


def _check_kind(checkpoint: object, path: Path) -> None:
    from figureground import __version__
    from figureground.core.method import CHECKPOINT_FORMAT

    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        raise CheckpointError(f"{path} is not a checkpoint of this suite (no `state_dict`)")
    section = checkpoint.get("figureground")
    if not isinstance(section, dict):
        kind = "a plain Lightning" if "pytorch-lightning_version" in checkpoint else "a foreign"
        raise CheckpointError(
            f"{path} is {kind} checkpoint without the section `figureground`; if these are the "
            "authors' weights, convert them first: python src/convert.py --help"
        )
    version = section.get("format")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise CheckpointError(f"{path} has an unreadable format number: {str(version)[:80]!r}")
    if version > CHECKPOINT_FORMAT:
        raise CheckpointError(
            f"{path} has format {version}, written by figureground "
            f"{str(section.get('version'))[:80]}; "
            f"{__version__} reads up to {CHECKPOINT_FORMAT}: pip install --upgrade figureground"
        )


def _find_odd_counters(node: Any, place: str) -> list[str]:
    """Leaves of Lightning's progress of loops that are no counters and no flags."""
    if isinstance(node, dict):
        return [odd for k, v in node.items() for odd in _find_odd_counters(v, f"{place}.{k}")]
    if isinstance(node, list):
        return [odd for each in node for odd in _find_odd_counters(each, f"{place}[]")]
    if node is None or isinstance(node, bool) or find_mismatch(node, Count) is None:
        return []
    return [f"{place}: expected a counter"]


def _find_odd_values(checkpoint: Mapping[str, Any], section: Mapping[str, Any]) -> list[str]:
    """What is wrong within parts whose own types are right."""
    state = checkpoint["state_dict"].items()
    odd = [
        f"state_dict.{k}: expected a tensor under a name"
        for k, v in state
        if not isinstance(k, str) or not isinstance(v, Tensor)
    ]
    for number, record in enumerate(section.get("restarts", ())):
        if problem := find_mismatch(record.get("iteration"), Count):
            odd.append(f"restarts[{number}].iteration: {problem}")
    odd += _find_odd_counters(checkpoint.get("loops", {}), "loops")
    for player, count in section.get("skipped", {}).items():
        if problem := find_mismatch(count, Count):
            odd.append(f"skipped.{player}: {problem}")
    return odd
