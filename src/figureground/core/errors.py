"""Errors a user can act on, each with the exit code its kind ends a command with.

A message says what is wrong, what was expected and what to do, in one line where it can. Whatever
stands in one from a file or a name is escaped here, so that it can be printed anywhere.
"""

from __future__ import annotations

import importlib
import signal
from types import ModuleType
from typing import ClassVar

from figureground.core.escaping import one_line

_INDENT = "\n       "  # As far as `error: `.


class FiguregroundError(Exception):
    """Base of all errors with a meaning; `exit_code` is what a command ends with.

    Args:
        lines: The message: mostly one line, whatever stands in it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, *lines: str) -> None:
        super().__init__(*map(one_line, lines))

    def __str__(self) -> str:
        return _INDENT.join(self.args)

    def __format__(self, spec: str) -> str:
        """The message as a part of another one, in one line."""
        return format("; ".join(self.args), spec)


class UserError(FiguregroundError):
    """Something the user typed or pointed at cannot work."""

    exit_code = 2


class ConfigError(UserError):
    """One or more options are unknown, of the wrong type or out of range."""


class CheckpointError(UserError):
    """A file is not a checkpoint, is damaged, or belongs to something else."""


class RefusedFileError(CheckpointError):
    """A file of weights holds more than weights, or is damaged; nothing in it was run."""


class DataError(FiguregroundError):
    """A picture, mask or list is missing, broken or does not fit."""

    exit_code = 3


class UnfitFileError(DataError, OSError):
    """A pipe, a socket or a device stands where a file was expected, or one of an absurd size."""


class NumericalError(FiguregroundError):
    """Training produced non-finite numbers or collapsed, beyond what may be skipped."""

    exit_code = 4


class WriteError(FiguregroundError):
    """Results cannot be written: no space, no permission, or a bad path."""

    exit_code = 5


class SweepError(ConfigError):
    """An option is wrong that all jobs of a sweep share, so none of them needs to run."""


class StoppedBySignalError(FiguregroundError):
    """The run was asked to stop.

    Args:
        signum: The signal's number; the exit code is 128 + `signum`, as shells have it.
        has_saved: Whether a checkpoint was written on the way out.
        goes_on: Whether the same command takes up the work where it was.
    """

    def __init__(self, signum: int, *, has_saved: bool = False, goes_on: bool = False) -> None:
        after = "; the same command goes on where it was" if goes_on else ""
        after = " after saving; ckpt=last goes on" if has_saved else after
        super().__init__(f"stopped by {signal.Signals(signum).name}{after}")
        self.signum = signum

    @property
    def code(self) -> int:
        """Exit code of the process: 130, 138 or 143 on Linux."""
        return 128 + self.signum


class PeerFailedError(FiguregroundError):
    """Another process of the same run has failed.

    Args:
        rank: Which.
        code: The exit code it ends with, and this process too.
        message: What it said.
    """

    def __init__(self, rank: int, code: int, message: str) -> None:
        super().__init__(f"process {rank} failed, so all stop: {message}")
        self.code = code


class StepError(FiguregroundError):
    """A step of several has failed.

    Args:
        step: Its name.
        code: The exit code that it ended with, and this command ends with.
        message: What happened and what to do.
    """

    def __init__(self, step: str, code: int, message: str) -> None:
        super().__init__(f"step '{step}' {message}")
        self.code = code


def exit_code_of(error: BaseException) -> int:
    """Exit code a command ends with after `error`; 1 for anything unforeseen."""
    if isinstance(error, StoppedBySignalError | PeerFailedError | StepError):
        return error.code
    return error.exit_code if isinstance(error, FiguregroundError) else 1


def require(module: str, *, extra: str) -> ModuleType:
    """Import an optional dependency or say which extra installs it.

    Args:
        module: Import name.
        extra: Name of the extra in `pyproject.toml`.

    Raises:
        UserError: The module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"{module} is not installed; this feature needs it: pip install 'figureground[{extra}]'"
        ) from error
