"""What people pass on (cards, scores, checkpoints, dashboards) without places and secrets in it.

A place is an absolute path, or one that leads out of where the command runs: it becomes relative to
the run or to the working directory, or else a name. A secret is what an option named like one is
set to, or what a URL carries to log in.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from figureground.core.command_line import as_value

HIDDEN = "***"

#: Anywhere in a name, and as a word or the end of one.
_PARTS = r"passw|passphrase|passcode|secret|token|credential|api_?key|access_?key|private_?key"
_WORDS = (
    r"[a-z0-9]{0,20}key|pass|psk|creds?|pw|pwd|auth|authorization|bearer|cookie|jwt|sig|signature"
    r"|otp"
)
_SECRET = rf"{_PARTS}|(?<![a-z0-9])(?:{_WORDS})s?(?![a-z0-9])"
_IS_SECRET = re.compile(_SECRET, re.IGNORECASE)
_LOGIN = re.compile(r"(?<=://)[^\s/?#]*@")
#: `name=value` or `name: value` within a text, as in the query of a URL.
_PAIR = re.compile(
    rf"""(?P<name>(?:{_SECRET})[\w.-]{{0,40}}["']?\s{{0,9}}[=:]\s{{0,9}})(?!//)"""
    r"""(?:(?:bearer|basic)\s+)?(?:"[^"]*"|'[^']*'|[^\s,;&'"\[\]{}()]+)""",
    re.IGNORECASE,
)
_DRIVE = r"[A-Za-z]:[\\/]|\\\\"
_OUTSIDE = re.compile(rf"/|~|\.\.(?:/|$)|file:/|{_DRIVE}")
_HOME = re.compile(r"(?:/home|/Users|[A-Za-z]:\\Users)[\\/][^\\/]+")
_END = r"""[^\s,;'"\[\]{}()<>|]+"""
_WITHIN = re.compile(
    rf"(?:file:/+(?={_END})|(?<![\w./\\~}}<-])(?:~[\w.-]*/|/(?!/)|(?:\.\./)+|{_DRIVE})){_END}"
)


def is_secret(name: str) -> bool:
    """Whether an option of this name, such as `logger.wandb.apiKey`, is set to a secret."""
    return bool(_IS_SECRET.search(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)))


def publish(value: Any, name: str = "", base: Path | None = None) -> Any:
    """A plain value without places and secrets.

    Args:
        value: None, a number, a text, or lists and mappings of these.
        name: Of the option that it is of, with all above it.
        base: Run directory.
    """
    if value is None or isinstance(value, bool):
        return value
    if is_secret(name):
        return HIDDEN
    if isinstance(value, Mapping):
        # The names above have been looked at.
        return {key: publish(each, str(key), base) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [publish(each, base=base) for each in value]
    return publish_text(value, base) if isinstance(value, str) else value


def publish_text(text: str, base: Path | None = None) -> str:
    """A text, such as a path or a sentence, without places and secrets."""
    text = _PAIR.sub(rf"\g<name>{HIDDEN}", _LOGIN.sub(f"{HIDDEN}@", text))
    if is_place(text):
        return shorten(text, base)
    return _WITHIN.sub(lambda found: shorten(found[0], base), text)


def is_place(text: str) -> bool:
    """Whether a text is, as a whole, a path that tells where its owner keeps things."""
    leads_out = "/../" in text and os.path.normpath(text).startswith("../")
    return (bool(_OUTSIDE.match(text)) or leads_out) and "\n" not in text


def publish_override(text: str, base: Path | None = None) -> str:
    """An option as it stands on the command line; what has nothing to hide stays as it is."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    name, is_set, written = text.partition("=")
    if not is_set:
        return text
    if is_secret(name):
        return f"{name}={HIDDEN}"
    try:
        override = OverridesParser.create().parse_override(text)
    except Exception:  # Not for Hydra, after all.
        override = None
    if override is None or override.is_sweep_override():
        return f"{name}={','.join(publish_text(part, base) for part in written.split(','))}"
    value = override.value()
    shown = publish(value, base=base)
    return text if shown == value else f"{name}={as_value(shown)}"


def shorten(place: str, base: Path | None = None) -> str:
    """A path below the run or the working directory from there, another one's name."""
    place = place.removeprefix("file:")
    path = Path(os.path.normpath(place))
    if path.is_absolute():
        for folder in filter(None, (base, Path.cwd())):
            above = Path(os.path.abspath(folder))  # noqa: PTH100 - links stay as they are
            if len(above.parts) > 1 and path != above and path.is_relative_to(above):
                return str(path.relative_to(above))
    if str(path) == os.path.expanduser("~") or _HOME.fullmatch(str(path)):  # noqa: PTH111 - "~" if unknown
        return "~"  # The name of a home is that of its owner.
    # Elsewhere a backslash is a part of a name.
    names = re.split(r"[\\/]" if re.match(_DRIVE, place) else "/", str(path).rstrip("/"))
    return names[-1] or "/"
