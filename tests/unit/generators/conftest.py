"""What tests of released files share."""

from __future__ import annotations

import pytest

from containers import provide_persistence


@pytest.fixture
def persistence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The authors' packages, as far as writing a container needs them."""
    provide_persistence(monkeypatch)
