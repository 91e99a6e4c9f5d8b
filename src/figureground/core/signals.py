"""Stopping on request: a signal sets a flag, and long loops look at it where they can stop cleanly.

A loop runs inside `with watching() as stop:` and calls `stop.check()` after each item.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from figureground.core.errors import StoppedBySignalError

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)

Handler = Callable[[int, FrameType | None], Any] | int | None


class SignalWatch:
    """Remembers the first signal that asked this process to stop.

    A second SIGINT ends the process at once with code 130, without saving.

    Attributes:
        signum: Number of the signal, or None.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._process = os.getpid()

    def check(self, *, goes_on: bool = False) -> None:
        """Raise `StoppedBySignalError` if a signal has come in.

        Args:
            goes_on: Whether the same command takes up the work where it was, which is then said.
        """
        if self.signum is not None:
            raise StoppedBySignalError(self.signum, goes_on=goes_on)

    def install(self) -> dict[int, Handler]:
        """Become the handler of all `SIGNALS`; return who was before (for `restore`).

        Outside the main thread, where Python allows no handlers, nothing happens.
        """
        if threading.current_thread() is not threading.main_thread():
            return {}
        return {int(number): signal.signal(number, self._handle) for number in SIGNALS}

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        # Forked workers inherit this handler; they end with their parent.
        if os.getpid() != self._process:
            return
        if self.signum == signum == signal.SIGINT:
            os._exit(128 + signum)
        if self.signum is None:
            self.signum = signum
            # Logging and print may be what was interrupted; a plain write cannot collide.
            name = signal.Signals(signum).name
            hint = "; Ctrl-C again: stop at once, unsaved" if signum == signal.SIGINT else ""
            os.write(2, f"\n{name}: stopping at the next safe point{hint}\n".encode())


_current: SignalWatch | None = None


def current_watch() -> SignalWatch | None:
    """The watch of the innermost `watching` context, or None outside."""
    return _current


@contextmanager
def watching() -> Iterator[SignalWatch]:
    """Watch for signals within the context; the handlers from before come back afterwards.

    Contexts within one another share one watch, so that a signal seen by the outer one stops
    the inner loop.
    """
    global _current
    outer, watch = _current, _current or SignalWatch()
    _current = watch
    previous = watch.install()
    try:
        yield watch
    finally:
        restore(previous)
        _current = outer


def restore(handlers: dict[int, Handler]) -> None:
    """Put handlers back that `SignalWatch.install` replaced."""
    for number, handler in handlers.items():
        # None stands for a handler that Python did not install and cannot put back.
        signal.signal(number, signal.SIG_DFL if handler is None else handler)
