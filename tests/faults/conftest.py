"""Fixtures of the fault tests."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
from short import short
from tiny import Run

Finished = Callable[[str], Run]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The uninterrupted short run of a method by its name; each is made once and only read."""

    @functools.cache
    def make(method: str) -> Run:
        return short(tmp_path_factory.mktemp(method), method).start()

    return make
