"""How many candidates filters have let through, filter by filter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

#: Name under which all filters together are counted.
ALL = "all"


class Passage(NamedTuple):
    """What one filter has done.

    Attributes:
        seen: Candidates that came to it.
        passed: Those it let through.
    """

    seen: int
    passed: int

    @property
    def rate(self) -> float:
        """Share that passed, of those that came."""
        return self.passed / max(self.seen, 1)


#: By the name of the filter, in their order, `ALL` among them.
Passages = Mapping[str, Passage]


def add(*counts: Passages) -> dict[str, Passage]:
    """Sum counts, name by name."""
    found: dict[str, Passage] = {}
    for each in counts:
        for name, (seen, passed) in each.items():
            before = found.get(name, Passage(0, 0))
            found[name] = Passage(before.seen + seen, before.passed + passed)
    return found


def subtract(now: Passages, before: Passages) -> dict[str, Passage]:
    """What `now` has counted since `before`."""
    return add(now, {name: Passage(-seen, -passed) for name, (seen, passed) in before.items()})


def describe(counts: Passages) -> str:
    """All rates in one line."""
    each = [f"{name} {passage.rate:.3f}" for name, passage in counts.items() if name != ALL]
    seen, passed = counts[ALL]
    return f"{passed} of {seen} candidates kept ({', '.join(each) or 'no filter is on'})"
