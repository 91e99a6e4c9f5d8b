"""Whatever stands in a file, no reader runs it, writes elsewhere or breaks (F65, F66)."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from audit import SECRET, audited
from cases import CASES, Case
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from lists import LISTS

from figureground.core.errors import FiguregroundError

_QUICK = 5
_ALL = {**CASES, **LISTS}


class Drawn:
    """A drawn content, printed in short: shared lists have no end, and weights are long."""

    def __init__(self, content: Any) -> None:
        self.content = content

    def __repr__(self) -> str:
        return reprlib.repr(self.content)[:2000]


@st.composite
def hidden(draw: st.DrawFn, hostile: st.SearchStrategy[Any]) -> Drawn:
    """Contents that are never printed in full."""
    return Drawn(draw(hostile))


def attempt(case: Case, content: Any, folder: Path) -> None:
    """Read it under audit: what is wrong is said in lines that can be printed, and no secret."""
    case.write(content)
    problem: FiguregroundError | None = None
    with audited(allowed=folder):
        try:
            case.read(content)
        except FiguregroundError as error:
            problem = error
    if problem is not None:
        assert problem.exit_code in {2, 3}, repr(problem)
        assert all(
            "".join(each.split()).isprintable() and each.splitlines() == [each]
            for each in problem.args
        ), problem.args
        assert SECRET not in str(problem)


def run_examples(count: int, case: Case, folder: Path) -> None:
    @settings(
        max_examples=count, deadline=None, database=None, derandomize=count <= _QUICK,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate],
    )  # fmt: skip
    @given(hidden(case.hostile))
    def never_obeyed(drawn: Drawn) -> None:
        attempt(case, drawn.content, folder)

    never_obeyed()


def prepare(make: Callable[[Path], Case], folder: Path) -> Case:
    """The case, after what is honest was read, which also lets modules be imported."""
    case = make(folder)
    case.write(case.honest)
    case.read(case.honest)
    return case


@pytest.mark.parametrize("name", _ALL)
def test_f65_f66_random_contents_are_read_or_refused(name: str, tmp_path: Path) -> None:
    run_examples(_QUICK, prepare(_ALL[name], tmp_path), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", _ALL)
def test_f65_f66_hundreds_of_random_contents_are_read_or_refused(name: str, tmp_path: Path) -> None:
    case = prepare(_ALL[name], tmp_path)
    run_examples(case.count, case, tmp_path)
