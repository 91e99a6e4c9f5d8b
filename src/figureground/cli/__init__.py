"""Commands. `run` turns a task into one: configuration, checks, exit codes, one-line errors."""

from __future__ import annotations

import errno
import importlib
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from figureground.core.command_line import shell
from figureground.core.config import config_dir
from figureground.core.errors import (
    ConfigError,
    DataError,
    FiguregroundError,
    StoppedBySignalError,
    SweepError,
    UserError,
    WriteError,
    exit_code_of,
)
from figureground.core.escaping import one_line, printable
from figureground.core.hints import nearest
from figureground.core.io import atomic_write
from figureground.core.signals import watching

COMMANDS = (
    *("train", "evaluate", "predict", "generate", "edit", "demo", "convert", "prepare"),
    "reproduce",
)

_FAILED_JOBS: list[str] = []
_FIRST_SWEEP_CODE, _MOST_COUNTED = 10, 9
_SHOWN = 100  # Characters of a name that is too long.


def main() -> None:
    """Entry of the console script: `figureground <command> [options]`."""
    command = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if command in {"--help", "-h"}:
        sys.stdout.write(
            "usage: figureground <command> [option=value ...]\n\n"
            f"commands: {', '.join(COMMANDS)}\n"
            "figureground <command> --help lists its options\n"
        )
        sys.exit(0)
    if command not in COMMANDS:
        say_error(UserError(f"no command '{command}'{nearest(command, COMMANDS)}"))
        sys.exit(2)
    del sys.argv[1]
    importlib.import_module(f"figureground.cli.{command}").main()


def run(task: Callable[[Any], Any], config_name: str) -> None:
    """Run `task` on the configuration that the command line describes, then exit.

    Exit codes: 0 done, 1 unforeseen (with traceback), 2 user, 3 data, 4 numbers, 5 writing, 130 /
    138 / 143 stopped by SIGINT / SIGUSR1 / SIGTERM, 10 + failed jobs of a sweep (at most 9).

    Args:
        task: Takes the composed configuration.
        config_name: Root file in the configuration folder, or in a folder of its own below.
    """
    import hydra

    if "--debug" in sys.argv:
        sys.argv.remove("--debug")
        os.environ["FIGUREGROUND_DEBUG"] = "1"
    # Hydra then hands errors on instead of printing and exiting by itself.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    for argument in sys.argv[1:]:
        if argument.startswith("paths.output_dir="):
            sys.argv.append(f"hydra.run.dir={argument.partition('=')[2]}")
    folder, name = _locate(config_name)
    command = hydra.main(version_base="1.3", config_path=folder, config_name=name)
    try:
        command(_as_job(task, config_name))()
    except KeyboardInterrupt:  # Before the job began, which watches for signals itself.
        sys.stderr.write("error: stopped by SIGINT\n")
        code = 128 + signal.SIGINT
    except Exception as error:
        code = _report(_explain_directory(error), config_name)
    else:
        code = 0
    _finish_sweep()
    if code:
        sys.exit(code)


def _locate(config_name: str) -> tuple[str, str]:
    """Folder and name of a root file; groups are looked for beside it."""
    folder, _, name = config_name.rpartition("/")
    return os.path.join(config_dir(), folder) if folder else config_dir(), name  # noqa: PTH118 - as Hydra takes it


def _finish_sweep() -> None:
    """Write the table of a sweep, whether or not jobs have failed."""
    module = sys.modules.get("figureground.cli.sweep_table")  # Loaded by Hydra, for sweeps alone.
    if module is not None:
        module.finish()


def _as_job(task: Callable[[Any], Any], config_name: str) -> Callable[[Any], Any]:
    """Make a failing job of a sweep leave `failed.txt` and let the others run."""

    def job(config: Any) -> Any:
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        is_alone = HydraConfig.get().mode != RunMode.MULTIRUN
        try:
            # One watch over everything: whatever is begun when a signal comes ends cleanly.
            with watching():
                return task(config)
        except StoppedBySignalError as error:
            say_error(error)
            sys.exit(error.code)  # Stops a whole sweep: Hydra collects ordinary errors only.
        except SweepError as error:
            say_error(error)
            sys.exit(error.exit_code)
        except Exception as error:
            if is_alone:  # Leaving here keeps Hydra from adding lines of its own.
                sys.exit(_report(error, config_name))
            folder = HydraConfig.get().runtime.output_dir
            _FAILED_JOBS.append(folder)
            with atomic_write(f"{folder}/failed.txt", "w") as file:
                file.write(_format_traceback(error))
            sys.stderr.write(f"error: {one_line(folder)}: {one_line(f'{error}')}\n")
            raise

    job.__name__ = getattr(task, "__name__", "job")
    return job


def _report(error: Exception, config_name: str) -> int:
    """Write `error` to the terminal and return the exit code."""
    if _FAILED_JOBS:
        failed = ", ".join(map(one_line, _FAILED_JOBS))
        sys.stderr.write(f"error: {len(_FAILED_JOBS)} jobs failed: {failed}\n")
        return _FIRST_SWEEP_CODE + min(len(_FAILED_JOBS), _MOST_COUNTED)
    error = explain_composition(error, config_name, sys.argv[1:])
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        error = DataError(f"{str(error.filename)[:_SHOWN]}... is longer than any name of a file")
    if os.environ.get("FIGUREGROUND_DEBUG") or not isinstance(error, FiguregroundError):
        sys.stderr.write(_format_traceback(error))
    if isinstance(error, FiguregroundError):
        say_error(error)
    return exit_code_of(error)


def say_error(error: FiguregroundError) -> None:
    """Write the message of `error`, which has escaped it, to the terminal."""
    sys.stderr.write(f"error: {error!s}\n")


def _format_traceback(error: Exception) -> str:
    return printable("".join(traceback.format_exception(error)))


def _explain_directory(error: Exception) -> Exception:
    """Say what to do where Hydra could not make the run directory, before the job started."""
    from hydra.errors import HydraException

    # Hydra's own errors about missing files are OSErrors too.
    if not isinstance(error, OSError) or isinstance(error, HydraException):
        return error
    reason = f"{error.filename or 'run directory'}: {error.strerror or error}"
    return WriteError(f"cannot make {reason}; choose another paths.output_dir=...")


def explain_composition(error: Exception, config_name: str, arguments: Sequence[str]) -> Exception:
    """Turn Hydra's complaints about the command line into one line with the nearest name.

    Args:
        error: Any other is returned as it is.
        config_name: As in `run`.
        arguments: The command line.
    """
    from hydra.errors import HydraException, MissingConfigException
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.rpartition("/")
        hint = nearest(name, list(error.options or []))
        return ConfigError(f"{group or 'config'}={name}: there is no such choice{hint}")
    if not isinstance(error, HydraException | OmegaConfBaseException):
        return error
    text = str(error)
    if found := re.search(r"Could not override '([^']+)'", text):
        options = _known_options(config_name, arguments)
        known, added = _list_nodes(options), shell(f"+{found[1]}")
        if found[1] in known:
            return ConfigError(f"{found[1]}: it takes new keys with a plus: {added}=...")
        # Most options of a step stand in no experiment, so a name like this one proves nothing.
        if (step := re.match(r"steps\.[\w-]+\.options(?=\.)", found[1])) and step[0] in known:
            return ConfigError(
                f"{found[1]}: the experiment sets no such option of this step; to add it, write "
                f"{added}=..."
            )
        if _is_argument(found[1], options):
            return ConfigError(
                f"{found[1]}: the files leave it at its default; to set it, write {added}=..."
            )
        hint = nearest(found[1], known)
        return ConfigError(f"{found[1]}: there is no such option{hint}")
    return ConfigError(" ".join(text.split()))


def _is_argument(option: str, options: Any) -> bool:
    """Whether `option` is an argument, absent from `options`, of what the node above it makes.

    Not of a name much like one that is there: that is a slip, to be said at once, and looking means
    to import the libraries of what is made.
    """
    import difflib
    import inspect

    from hydra.utils import get_object

    *above, name = option.split(".")
    for key in above:
        options = options.get(key) if isinstance(options, dict) else None
    if not isinstance(options, dict) or "_target_" not in options:
        return False
    if difflib.get_close_matches(name, options, n=1, cutoff=0.8):
        return False
    try:
        return name in inspect.signature(get_object(options["_target_"])).parameters
    except Exception:  # A hint is no reason for another error.
        return False


def _known_options(config_name: str, arguments: Sequence[str]) -> dict[Any, Any]:
    """All options under the group choices on the command line."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    choices = r"(method|data|generator|recipe|trainer|experiment|analysis)=[\w-]+"
    groups = [each for each in arguments if re.fullmatch(choices, each)]
    folder, name = _locate(config_name)
    with initialize_config_dir(folder, version_base="1.3"):
        try:
            config = compose(name, overrides=groups)
        except Exception:  # One problem at a time: a hint is no reason for another error.
            return {}
    plain = OmegaConf.to_container(config, resolve=False)
    return plain if isinstance(plain, dict) else {}


def _list_nodes(plain: Any, prefix: str = "") -> list[str]:
    """Paths of all options, groups of them too."""
    found = []
    for key, value in plain.items() if isinstance(plain, dict) else ():
        found += [f"{prefix}{key}", *_list_nodes(value, f"{prefix}{key}.")]
    return found
