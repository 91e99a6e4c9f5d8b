"""What hostile files name: whoever calls it, or only resolves it into a text, leaves a trace."""

from __future__ import annotations

from typing import Any

CALLS: list[Any] = []


def touch(*args: Any, **options: Any) -> str:
    """Leave a trace."""
    CALLS.append((args, options))
    return "touched"


class Thing:
    """Leaves a trace when it is made."""

    def __init__(self, *args: Any, **options: Any) -> None:
        touch(*args, **options)
