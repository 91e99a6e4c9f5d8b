"""Several processes of one run: who writes, and how they fail together."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from figureground.core.errors import PeerFailedError, StoppedBySignalError, exit_code_of

FAILURE = "failure.json"  # What ended a run of several processes, in its directory.
_RANKS = ("LOCAL_RANK", "NODE_RANK", "RANK", "SLURM_PROCID")


@contextmanager
def failing_together(folder: Path) -> Iterator[None]:
    """End every process of a run with the failure of the one that failed first.

    The others notice a lost connection only; what it was they read from a file in `folder`.

    Raises:
        PeerFailedError: Another process failed before this one.
    """
    try:
        yield
    except StoppedBySignalError:  # Processes stop together by agreement.
        raise
    except Exception as error:
        import torch

        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            raise
        rank = torch.distributed.get_rank()
        report = {"rank": rank, "code": exit_code_of(error), "message": _describe(error)}
        try:
            # Only one can create the file, and only the first failure is worth telling.
            with (folder / FAILURE).open("x", encoding="utf-8") as file:
                file.write(json.dumps(report))
        except FileExistsError:
            with suppress(OSError, ValueError):
                first = json.loads((folder / FAILURE).read_text("utf-8"))
                if first["rank"] != rank:
                    raise PeerFailedError(**first) from error
        except OSError:  # The directory is gone; each tells its own.
            pass
        raise


def forget_failure(folder: Path) -> None:
    """Remove what an earlier attempt left in `folder`."""
    with suppress(OSError):
        (folder / FAILURE).unlink()


def is_first_process() -> bool:
    """Whether this process is the one that writes, as launchers say by environment variables."""
    return all(int(os.environ.get(name, "0")) == 0 for name in _RANKS)


def _describe(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
