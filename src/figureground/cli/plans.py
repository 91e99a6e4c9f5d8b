"""Checks of what `reproduce` is to do, all of them before its first step begins."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from figureground.cli import COMMANDS, explain_composition
from figureground.cli.check import check_options
from figureground.cli.composing import composed, config_folders
from figureground.cli.records import Record, is_finished
from figureground.cli.references import find_references
from figureground.cli.steps import SNAPSHOT, read_steps, split_steps
from figureground.core.config import config_dir, flatten
from figureground.core.errors import FiguregroundError
from figureground.core.hints import nearest
from figureground.core.promised import promising

#: Root of the command, in a folder of its own: its experiments are others than those of `train`.
ROOT = "reproduce/reproduce"

_CALLED = tuple(command for command in COMMANDS if command != "reproduce")
_NAME = re.compile(r"[A-Za-z][\w-]*")
_KEYS = ("command", "options", "result", "scores")


def find_problems(
    steps: Mapping[str, Any],
    snapshots: Mapping[str, Any] | None,
    curves: Mapping[str, Any],
    paths: Mapping[str, Any],
    chain: Mapping[str, Any] | None = None,
) -> list[str]:
    """Say what is wrong with a plan: the steps by themselves first, then their commands' options.

    Args:
        steps: The node `steps`.
        snapshots: The node `snapshots`.
        curves: The node `curves`.
        paths: The node `paths`.
        chain: The node `chain`, whose options are named where a step's came from there.

    Returns:
        One line for each problem; of the commands' options, those of the first step that has any.
    """
    if not any(steps.values()):
        known = sorted(
            each.stem for each in (Path(config_dir()) / "reproduce/experiment").glob("*")
        )
        return [f"there are no steps; add experiment=..., one of {', '.join(known)}"]
    problems = _check_steps(steps, with_snapshots=snapshots is not None)
    if snapshots is not None:
        problems += _check_snapshots(snapshots, curves, steps)
    return problems or _check_commands(steps, snapshots, Path(paths["output_dir"]), chain or {})


def _check_steps(steps: Mapping[str, Any], *, with_snapshots: bool) -> list[str]:
    problems: list[str] = []
    earlier: list[str] = [SNAPSHOT] if with_snapshots else []
    for name, node in steps.items():
        place = f"steps.{name}"
        if node is None:
            continue
        if not _NAME.fullmatch(str(name)) or name == SNAPSHOT:
            problems.append(f"{place}: a step's name is letters, digits, - and _, not '{SNAPSHOT}'")
        elif not isinstance(node, dict):
            problems.append(f"{place}={node}: expected null or a node with {', '.join(_KEYS)}")
        elif (others := _defined(steps, but=name)) and not node.keys() & {"command", "result"}:
            hint = nearest(place, [f"steps.{other}" for other in others])
            problems.append(f"{place}: there is no such step{hint}")
        else:
            found = _find_problems_of_node(place, node)
            problems += found or _find_problems_of_references(place, node, earlier)
        earlier.append(str(name))
    return problems


def _defined(steps: Mapping[str, Any], *, but: str) -> list[str]:
    """Names of all other steps that say what is done."""
    return [
        str(name)
        for name, node in steps.items()
        if name != but and isinstance(node, dict) and "command" in node
    ]


def _check_snapshots(
    snapshots: Mapping[str, Any], curves: Mapping[str, Any], steps: Mapping[str, Any]
) -> list[str]:
    problems = []
    if not isinstance(snapshots.get("folder"), str):
        problems.append("snapshots.folder is not set; add the folder that holds the snapshots")
    for key, may_miss in (("every", False), ("up_to", True)):
        value = snapshots.get(key)
        if not (value is None and may_miss) and (type(value) is not int or value < 1):
            problems.append(f"snapshots.{key}={value}: expected a whole number >= 1")
    problems += [
        f"snapshots.folder refers to '{each.name}', which is no step"
        for each in find_references(str(snapshots.get("folder")))
        if steps.get(each.name) is None
    ]
    if f"{{{SNAPSHOT}}}" not in str(steps):
        problems.append(f"snapshots: no step refers to {{{SNAPSHOT}}}")
    for title, curve in curves.items():
        if not isinstance(curve, dict) or curve.keys() != {"step", "score"}:
            problems.append(f"curves.{title}={curve}: expected a node with step and score")
        elif curve["step"] not in steps:
            hint = nearest(str(curve["step"]), list(steps))
            problems.append(f"curves.{title}: there is no step '{curve['step']}'{hint}")
    return problems


def _check_commands(
    steps: Mapping[str, Any],
    snapshots: Mapping[str, Any] | None,
    output: Path,
    chain: Mapping[str, Any],
) -> list[str]:
    """Compose the options of every step still to be taken, as its command would."""
    read = read_steps(steps, output)
    once, repeated = split_steps(read, str((snapshots or {}).get("folder", "")))
    pending = [step for step in once if not is_finished(step, Record.read(step.folder))]
    # Which snapshots there will be is not known yet; options are the same for all.
    pending += [step.at(output, Path("0.ckpt")) for step in repeated]
    folders = {step.name: step.folder for step in read}
    more = tuple(config_folders())
    with promising(step.folder for step in pending):
        for step in pending:
            if problem := _refusal(step.command, tuple(step.arguments(folders)), more):
                where = ", or ".join([f"steps.{step.name}.options", *_find_sources(problem, chain)])
                return [f"step '{step.name}': {problem} (options of this step: {where})"]
    return []


def _find_sources(problem: str, chain: Mapping[str, Any]) -> list[str]:
    """Options of `chain` with a value that `problem` is about, or with none where it misses one."""
    return [
        f"chain.{key}"
        for key, value in chain.items()
        if (value is None and "is not set" in problem)
        or (isinstance(value, str) and re.search(f"[=:] ?{re.escape(value)} ", problem))
    ]


def _find_problems_of_node(place: str, node: Mapping[str, Any]) -> list[str]:
    problems = [
        f"{place}.{key}: there is no such option{nearest(str(key), _KEYS)}"
        for key in node
        if key not in _KEYS
    ]
    command = str(node.get("command"))
    if command not in _CALLED:
        known = ", ".join(_CALLED)
        problems.append(f"{place}.command={command}: expected one of {known}")
    if not isinstance(node.get("result"), str):
        problems.append(f"{place}.result is not set; add the file that proves it finished")
    if not isinstance(node.get("options") or {}, dict):
        problems.append(f"{place}.options={node['options']}: expected a node of option: value")
    if not isinstance(node.get("scores") or [], list):
        problems.append(f"{place}.scores={node['scores']}: expected a list of patterns")
    return problems


def _find_problems_of_references(
    place: str, node: Mapping[str, Any], earlier: Sequence[str]
) -> list[str]:
    return [
        f"{place}.options.{option}={value} refers to '{each.name}', which is no earlier step"
        f"{nearest(each.name, earlier)}"
        for option, value in flatten(node.get("options") or {}).items()
        for each in find_references(str(value))
        if each.name not in earlier
    ]


@cache  # Options are checked before the run directory is made, and once more in the job.
def _refusal(command: str, arguments: tuple[str, ...], more: tuple[str, ...]) -> str | None:
    """What `command` would say against its options, or None."""
    try:
        with composed(command, arguments, more) as config:
            check_options(config)
    except Exception as error:
        explained = explain_composition(error, command, arguments)
        if isinstance(explained, FiguregroundError):
            return str(explained)
        raise
    return None
