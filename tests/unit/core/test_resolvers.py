"""Functions of configuration files, by the values they are to give."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from figureground.cli.settings import Settings
from figureground.core.config import check
from figureground.core.resolvers import batches, scaled, up_to


@pytest.mark.parametrize(("number", "value"), [(16, "a"), (64, "a"), (65, "b"), (128, "b")])
def test_value_is_that_of_the_next_limit(number: int, value: str) -> None:
    assert up_to(number, {128: "b", 64: "a"}) == value


def test_number_above_all_limits_is_refused() -> None:
    config = OmegaConf.create({"extra": {"a": 256, "b": "${up_to:${extra.a},{64:1,128:2}}"}})
    (problem,) = check(config, Settings)
    assert "extra.b" in problem
    assert "there is no value for 256; the largest limit is 128" in problem


def test_batches_hold_the_pictures() -> None:
    assert batches(25_000, 32) == 781_250
    assert batches(0.001, 64) == 1
    with pytest.raises(ValueError, match="whole number of pictures"):
        batches(1, 0)


def test_lengths_are_scaled_and_whole_ones_stay_whole() -> None:
    assert scaled(20.0, 128, 64) == 10.0
    assert scaled(5.0, 28, 28) == 5.0
    assert (scaled(28, 64, 32), scaled(24, 35, 17), scaled(1, 128, 16)) == (14, 12, 1)
    assert isinstance(scaled(28, 64, 32), int)
