"""`evaluate` of several checkpoints: a table of the scores that all of them have."""

from __future__ import annotations

import logging

import pytest

from figureground.cli.evaluate import _summarise


def test_scores_that_only_some_have_are_named_and_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    averaged = {"test/acc": 0.2, "test/raw/acc": 0.1}  # One keeps an average of its weights.
    for runs in ([averaged, {"test/acc": 0.4}], [{"test/acc": 0.4}, averaged]):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            table = _summarise(runs)
        assert set(table) == {"test/acc"}
        assert table["test/acc"]["mean"] == pytest.approx(0.3)
        assert "not every checkpoint has them: test/raw/acc" in caplog.text
    caplog.clear()
    assert set(_summarise([averaged])) == set(averaged)
    assert not caplog.text
