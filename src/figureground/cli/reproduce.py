"""`reproduce`: steps that belong together, one after the other, in one directory.

Every step is a command in a process of its own: nothing of one (random states, memory of a GPU,
handlers, Hydra's state) reaches the next, a step that is killed for memory leaves this process to
say so, and what is written is what the same commands by hand would have written.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from figureground.cli import analysis, plans, run
from figureground.cli.check import check_job
from figureground.cli.composing import config_folders
from figureground.cli.records import Record, forget, is_finished
from figureground.cli.steps import Step, followers, read_steps, split_steps
from figureground.cli.summaries import write_summary
from figureground.cli.sweep_table import write_table
from figureground.core.command_line import join
from figureground.core.config import to_plain
from figureground.core.errors import ConfigError, StepError, StoppedBySignalError, UserError
from figureground.core.hints import nearest
from figureground.core.io import RunLock
from figureground.core.signals import SIGNALS, SignalWatch, watching

logger = logging.getLogger(__name__)

_POLL = 0.2  # seconds


def main() -> None:
    """Entry of the command."""
    run(reproduce, plans.ROOT)


def reproduce(config: DictConfig) -> None:
    """Take every step of `steps` that has not finished yet, then print one table of all.

    A step that was stopped goes on where it was. Steps that refer to `{snapshot}` are taken once
    for every checkpoint kept over training, and their scores are drawn as curves.
    """
    check_job(config)
    plain = to_plain(config)
    output = Path(plain["paths"]["output_dir"])
    steps = read_steps(plain["steps"], output)
    with RunLock(output), watching() as stop:
        source = str((plain["snapshots"] or {}).get("folder", ""))
        _redo(plain["redo"], steps, output, source)
        once, repeated = split_steps(steps, source)
        finished = _take_all(once, {}, {}, stop)
        if repeated:
            _analyse(plain, output, repeated, finished, stop)
            return
        head, rows = lay_out(once, finished)
        write_table(output, head, rows)
        write_summary(output, plain, [(step, finished[step.name]) for step in once])
        (output / "failed.txt").unlink(missing_ok=True)  # Of an earlier try in a sweep.


def _analyse(
    plain: Mapping[str, Any],
    output: Path,
    repeated: Sequence[Step],
    finished: Mapping[str, Record],
    stop: SignalWatch,
) -> None:
    """Take the steps of every snapshot, then write their scores as table, JSON and curves."""
    folders = {step.name: step.folder for step in read_steps(plain["steps"], output)}
    points = []
    for number, snapshot in analysis.find_snapshots(plain["snapshots"], folders):
        logger.info("snapshot %d: %s", number, snapshot)
        own = [step.at(output, snapshot) for step in repeated]
        points.append((number, _take_all(own, finished, folders, stop)))
    analysis.write(output, plain["curves"], repeated, points)


def lay_out(
    steps: Sequence[Step], finished: Mapping[str, Record]
) -> tuple[list[str], list[list[str]]]:
    """Heading and rows of the table: a row for each score, and one for a step without any."""
    rows = []
    for step in steps:
        record = finished[step.name]
        first = [step.name, step.command, f"{record.seconds:.0f}"]
        shown = [[name, f"{value:.4f}"] for name, value in step.shown(record.scores).items()]
        for number, cells in enumerate(shown or [["", ""]]):
            rows.append([*(["", "", ""] if number else first), *cells])
    return ["step", "command", "seconds", "score", "value"], rows


def _redo(name: str | None, steps: Sequence[Step], output: Path, source: str) -> None:
    """Remove what step `name` and those made from it have left, if the user asks for it."""
    if name is None:
        return
    names = [step.name for step in steps]
    if name not in names:
        raise ConfigError(f"redo={name}: there is no such step{nearest(name, names)}")
    _, repeated = split_steps(steps, source)
    for step in followers(steps, name, source):
        taken = [step]
        if step in repeated:
            taken = [step.at(output, path) for path in sorted((output / "snapshots").glob("*"))]
        for each in taken:
            if forget(each, stopped=step.name != name):
                logger.info("redo=%s: removed %s", name, each.folder)


def _take_all(
    steps: Sequence[Step],
    earlier: Mapping[str, Record],
    earlier_folders: Mapping[str, Path],
    stop: SignalWatch,
) -> dict[str, Record]:
    """Take the steps that have not finished; return what all of them have left."""
    finished = dict(earlier)
    folders = {**earlier_folders, **{step.name: step.folder for step in steps}}
    for step in steps:
        stop.check()
        record = Record.read(step.folder)
        _refuse_other(step, record, finished)
        if record is not None and is_finished(step, record):
            logger.info("step '%s' has finished before: %s", step.name, step.folder)
        else:
            record = _take(step, finished, folders, stop)
        finished[step.name] = record
    return finished


def _refuse_other(step: Step, record: Record | None, finished: Mapping[str, Record]) -> None:
    """Raise if what the step has left is not what it is to be now."""
    if record is None:
        return
    difference = record.find_changed_input(step, finished)
    # With options of its own choice a stopped step can go on: its command says what it allows.
    if difference is None and is_finished(step, record):
        difference = record.find_changed_options(step)
    if difference is not None:
        raise UserError(
            f"step '{step.name}' {difference}; use the same, or add redo={step.name} to take it "
            "and all that follows from it again"
        )


def _take(
    step: Step, finished: Mapping[str, Record], folders: Mapping[str, Path], stop: SignalWatch
) -> Record:
    """Call the command of one step and wait for it."""
    for name, path in step.find_inputs(folders):
        if not path.exists():
            raise UserError(
                f"step '{step.name}' needs {path}, which is not there; add redo={name} to take "
                f"step '{name}' again"
            )
    record = Record.begin(step, finished)
    arguments = step.arguments(folders)
    if step.command == "train" and list(step.folder.glob("checkpoints/*.ckpt")):
        arguments.append("ckpt=last")
    logger.info("step '%s': figureground %s %s", step.name, step.command, join(arguments))
    began, worked = time.monotonic(), _read_processor()
    code = _call([step.command, *arguments], stop)
    record.spend(step.folder, time.monotonic() - began, _read_processor() - worked)
    if code:
        _explain(step, code, stop)
    if not (step.folder / step.result).exists():
        raise StepError(
            step.name, 1, f"ended well but left no {step.folder / step.result}, its `result`"
        )
    record.finish(step)
    return record


def _call(arguments: Sequence[str], stop: SignalWatch) -> int:
    """Run a command in a process of its own; return its exit code."""
    package = Path(__file__).resolve().parents[2]
    paths = [str(package), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    folders = [part for each in config_folders() for part in ("--config-dir", each)]
    # Flags first: Hydra takes options in one piece.
    command = [sys.executable, "-m", "figureground", arguments[0], *folders, *arguments[1:]]
    with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL) as process:
        try:
            asked = False
            while process.poll() is None:
                if stop.signum is not None and not asked:
                    # Not SIGINT: a terminal sends that to both, and twice means at once, unsaved.
                    process.terminate()
                    asked = True
                try:
                    process.wait(_POLL)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            if process.poll() is None:
                process.terminate()
    return process.returncode


def _read_processor() -> float:
    """Seconds that processors have spent on the commands called so far."""
    times = os.times()
    return times.children_user + times.children_system


def _explain(step: Step, code: int, stop: SignalWatch) -> None:
    """Raise the error that a step's exit code means."""
    signum = -code if code < 0 else code - 128
    if stop.signum is not None or signum in SIGNALS:
        logger.info("step '%s' was stopped; the same command goes on with it", step.name)
        raise StoppedBySignalError(stop.signum or signum)
    if code == -signal.SIGKILL:
        raise StepError(step.name, 128 - code, "was killed; most often memory has run out")
    raise StepError(
        step.name, code, "failed, see above; mend it and give the same command to go on"
    )
