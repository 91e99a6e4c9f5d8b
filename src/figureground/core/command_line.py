"""Commands that are printed to be pasted: quoted for Hydra, then for a shell."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import groupby
from typing import Any, Literal

from figureground.core.escaping import is_hidden

_NO_TEXT = frozenset({"null", "true", "false"})


def quote(text: str, mark: Literal["'", '"'] = "'") -> str:
    """Quote a value so that Hydra takes it as it is, as text."""
    if re.fullmatch(r"[\w./-]+", text, re.ASCII) and not _is_no_text(text):
        return text
    # Backslashes count before a mark alone; what looks like a reference is to stay text.
    text = re.sub(rf"(\\*)({mark}|\Z)", lambda m: m[1] * 2 + ("\\" if m[2] else "") + m[2], text)
    return mark + re.sub(r"(\\*)\$\{", r"\1\1\\${", text) + mark


def _is_no_text(text: str) -> bool:
    if text.lower() in _NO_TEXT:
        return True
    with suppress(ValueError):
        float(text)
        return True
    return False


def as_value(value: Any, write: Callable[[str], str] = quote) -> str:
    """Write a plain value as it stands on a command line of Hydra.

    Args:
        value: None, a number, a text, or lists and dicts of these.
        write: What quotes a text.
    """
    if isinstance(value, str):
        return write(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{','.join(as_value(each, write) for each in value)}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{k}:{as_value(v, write)}' for k, v in value.items())}}}"
    return str(value)


def shell(text: str, hidden: str = "") -> str:
    r"""Quote `text` for a shell; what cannot be seen is written as `$'\x1b'`.

    Args:
        text: One word of a command.
        hidden: Further characters to write so.
    """
    runs = groupby(text, lambda c: is_hidden(c) or c in hidden)
    return "".join(
        f"$'{_as_bytes(run)}'" if is_hex else shlex.quote("".join(run)) for is_hex, run in runs
    ) or shlex.quote(text)


def _as_bytes(characters: Iterable[str]) -> str:
    # Names of files that are no UTF-8 come with their odd bytes as surrogates.
    found = [
        c.encode("utf-8", "surrogateescape" if "\udc80" <= c <= "\udcff" else "surrogatepass")
        for c in characters
    ]
    return "".join(f"\\x{byte:02x}" for byte in b"".join(found))


def option(name: str, value: object) -> str:
    """`name=value` as it is pasted into a shell, such as `weights='"my file.pth"'`."""
    quoted = quote(str(value), mark='"')
    return f"{shell(name)}={shell(quoted)}"


def join(words: Iterable[str], hidden: str = "") -> str:
    """A whole command from its words, see `shell`."""
    return " ".join(shell(word, hidden) for word in words)
