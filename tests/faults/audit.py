"""Records what reading a file makes Python do: an audit hook, canaries, and calls to import.

Audit hooks see whatever runs in this process, also in code of others: modules that are loaded, code
that is compiled and run, processes, sockets, libraries, files that are opened to be written. A hook
cannot be taken away again, so there is one, which looks only within `audited`.
"""

from __future__ import annotations

import ast
import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any
from unittest import mock

import figureground

#: What the environment holds that no file may read.
SECRET = "s3cret-of-the-environment"
_VARIABLE = "FG_CANARY"
_PACKAGE = str(Path(figureground.__file__).parent)
_EXECUTED = ("exec", "compile", "import", "pickle.find_class", "code.__new__")
_OUTSIDE = (
    "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile",
    "subprocess.Popen", "pty.spawn", "socket.", "webbrowser.open", "urllib.Request", "ctypes.",
    "os.putenv", "os.unsetenv", "smtplib.", "ftplib.", "http.client.", "sqlite3.",
)  # fmt: skip
_CHANGES = (
    "os.remove", "os.rename", "os.link", "os.symlink", "os.mkdir", "os.rmdir", "os.truncate",
    "os.chmod", "os.chown", "os.utime", "shutil.", "tempfile.",
)  # fmt: skip
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass
class Audit:
    """What has been seen.

    Attributes:
        allowed: Folder below which files may be written, or None.
        events: What a file must not make happen, in words.
        imported: Names that somebody asked `importlib` for.
        called: What the canaries were called with.
    """

    allowed: Path | None = None
    events: list[str] = field(default_factory=list)
    imported: list[str] = field(default_factory=list)
    called: list[Any] = field(default_factory=list)

    def require_quiet(self) -> None:
        """Raise `AssertionError` if anything was run, written or asked for by name."""
        strangers = [
            name for name in self.imported if not name.startswith(("figureground", "torch"))
        ]
        seen = {"called": self.called, "happened": self.events, "asked for": strangers}
        found = {what: sorted(set(map(str, each)))[:5] for what, each in seen.items() if each}
        assert not found, found


_current: list[Audit] = []


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if not _current:
        return
    audit = _current.pop()  # What the hook itself does is not looked at.
    try:
        if problem := _judge(event, args, audit):
            audit.events.append(problem)
    finally:
        _current.append(audit)


sys.addaudithook(_hook)


def _judge(event: str, args: tuple[Any, ...], audit: Audit) -> str | None:
    """Say what is wrong with an event, or None."""
    if event == "open":
        path, mode, flags = args
        is_written = (isinstance(mode, str) and set(mode) & set("wax+")) or flags & _WRITING
        return f"open {path} {mode}" if is_written and not _is_below(path, audit) else None
    if event.startswith(_CHANGES):
        return f"{event}{args}" if not _is_below(args[0] if args else None, audit) else None
    if event.startswith(_OUTSIDE):
        return f"{event}{str(args)[:200]}"
    if event not in _EXECUTED or _is_ours(event, args):
        return None
    return f"{event}{str(args)[:200]}"


def _is_ours(event: str, args: tuple[Any, ...]) -> bool:
    """Whether code is of this package or of a module that it imports, or an annotation of it."""
    if event == "import" and str(args[0]).split(".")[0] in sys.modules:
        return True  # A part of what is loaded anyway.
    named = args[0].co_filename if event == "exec" and isinstance(args[0], CodeType) else args[-1]
    if isinstance(named, str | bytes) and os.fsdecode(named).startswith((_PACKAGE, *_LIBRARIES)):
        return True
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        if code.co_filename in _INTERPRETERS or code is _LITERALS:
            return True
        frame = frame.f_back
    return False


def _is_below(path: object, audit: Audit) -> bool:
    if not isinstance(path, str | bytes | os.PathLike):
        return False
    place = Path(os.fsdecode(path)).absolute()
    is_cached = place.is_relative_to(_PACKAGE) and place.parent.name == "__pycache__"
    return is_cached or (audit.allowed is not None and place.is_relative_to(audit.allowed))


def _file_of(module: str) -> str:
    return str(importlib.import_module(module).__file__)


#: Modules that compile text of our own sources: annotations, dataclasses, named tuples.
_INTERPRETERS = frozenset(map(_file_of, ("typing", "dataclasses", "collections", "inspect")))
#: Reads the headers of arrays, and runs nothing.
_LITERALS = ast.literal_eval.__code__
#: Modules that may be loaded late, `encodings` for the text of any file.
_LIBRARIES = tuple(
    str(Path(_file_of(name)).parent) for name in ("torch", "torchmetrics", "encodings")
)


class _Environment(dict[str, str]):
    """The environment, with a variable that nobody may ask for: no audit event tells of it."""

    def __init__(self, audit: Audit) -> None:
        super().__init__({**os.environ, _VARIABLE: SECRET})
        self.audit = audit

    def _note(self, key: object) -> None:
        if key == _VARIABLE:
            self.audit.events.append(f"the environment was asked for {key}")

    def __getitem__(self, key: str) -> str:
        self._note(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self._note(key)
        return super().__contains__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """As of any mapping."""
        self._note(key)
        return super().get(key, default)


@contextmanager
def audited(allowed: Path | None = None) -> Iterator[Audit]:
    """Record what happens in this context, and then require that nothing has.

    Args:
        allowed: Folder below which files may be written; None for nowhere.

    Raises:
        AssertionError: Something was run, written or asked for by name.
    """
    import canary

    audit = Audit(None if allowed is None else allowed.absolute())
    canary.CALLS.clear()
    real = importlib.import_module

    def recorded(name: str, package: str | None = None) -> Any:
        audit.imported.append(name)
        return real(name, package)

    with (
        mock.patch.object(importlib, "import_module", recorded),
        mock.patch.object(os, "environ", _Environment(audit)),
    ):
        _current.append(audit)
        try:
            yield audit
        finally:
            _current.remove(audit)
    audit.called.extend(canary.CALLS)
    audit.require_quiet()
