r"""Text from files and names, made safe for where it is shown: a terminal, a log, Markdown.

Names stay readable in any language. What cannot be seen but acts (escape sequences, line breaks,
controls of direction and of width) is shown as Python would write it, such as `\x1b`.
"""

from __future__ import annotations

import html
import logging
import re
import unicodedata
from copy import copy
from pathlib import PurePath
from typing import Any

#: Letters and marks that show nothing by themselves.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_WORDS = re.compile(r"[\w./ :=+,()%-]*")  # Nothing of these means anything within backticks.
_MARKUP = re.compile(
    r"""[&<>"*`|~$@]|\\(?=[^\w\s])|(?<=\])\(|(?<!\w)_|_(?!\w)|:(?=//)|(?<=\bwww)\.""", re.IGNORECASE
)


def is_hidden(character: str) -> bool:
    """Whether a character acts on what shows it, or cannot be seen."""
    if character.isascii():
        return not character.isprintable()
    return bool(_INVISIBLE.match(character)) or not (
        character.isprintable() or unicodedata.category(character) == "Zs"
    )


def one_line(text: object) -> str:
    """`text` without anything that a terminal acts on, in one line."""
    return _escape(str(text), keep="")


def printable(text: str) -> str:
    """The same for text of several lines, which stay."""
    return _escape(text, keep="\n\t")


def _escape(text: str, keep: str) -> str:
    if text.isprintable() and text.isascii():
        return text
    return "".join(
        c.encode("unicode_escape").decode() if is_hidden(c) and c not in keep else c for c in text
    )


def markdown(text: object) -> str:
    """`text` as Markdown that shows it and does nothing else, also in a cell of a table."""
    return _MARKUP.sub(_as_entity, one_line(text))


def code(text: object) -> str:
    """The same as code, such as the name of a score."""
    shown = one_line(text)
    # Of what a pair of backticks cannot hold, such as one of them, even its links are made text.
    if shown.strip() == shown != "" and _WORDS.fullmatch(shown):
        return f"`{shown}`"
    return f"<code>{markdown(shown)}</code>"


def _as_entity(found: re.Match[str]) -> str:
    escaped = html.escape(found[0])
    return escaped if escaped != found[0] else f"&#{ord(found[0])};"


class LineFormatter(logging.Formatter):
    """Escapes what a record is filled with; the lines of the message itself stay."""

    def format(self, record: logging.LogRecord) -> str:
        """Format `record` for a terminal or a file."""
        record = copy(record)
        if isinstance(record.args, dict):
            record.args = {key: _as_argument(value) for key, value in record.args.items()}
        elif record.args:
            record.args = tuple(map(_as_argument, record.args))
        return printable(super().format(record))


def _as_argument(value: Any) -> Any:
    from figureground.core.errors import FiguregroundError

    is_text = isinstance(value, str | PurePath | BaseException)
    # Our own errors have escaped their parts, and may have several lines.
    return one_line(value) if is_text and not isinstance(value, FiguregroundError) else value
