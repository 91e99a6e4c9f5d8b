"""Whatever stands in a stored configuration, nothing it names is resolved or called (F52, F65)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from audit import SECRET, audited
from hostile import TEXTS, configurations, hide, wind
from hypothesis import HealthCheck, given, settings

from faults import METHODS, build_tiny
from figureground.cli.convert import _read_options as read_options
from figureground.core import checkpoint as checkpoints
from figureground.core.checkpoint import ConvertedWeights, load_method
from figureground.core.errors import FiguregroundError

_Load = Callable[[Any], object]


@pytest.fixture(scope="module")
def stored() -> list[dict[str, Any]]:
    """Configurations as checkpoints of every method hold them."""
    return [json.loads(json.dumps(build_tiny(name)[0].origin["method"])) for name in METHODS]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Load]:
    """Load a method of a stored configuration; the file itself is read once for all."""
    path = tmp_path_factory.mktemp("stored") / "crafted.ckpt"
    torch.save({"state_dict": {}}, path)
    content: dict[str, Any] = {}

    def read(node: Any) -> object:
        section = {"format": 1, "version": "0", "restarts": [], "skipped": {}, "method": node}
        content.clear()
        content.update({"state_dict": {}, "figureground": section})
        return load_method(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints.torch, "load", lambda *_, **__: content)
        patch.setattr(checkpoints, "find_damage", lambda _: None)
        yield read


def attempt(load: _Load, node: Any) -> None:
    """Load it under audit: it ends in one line, which tells no secret."""
    with audited(), pytest.raises(FiguregroundError) as caught:  # Without weights none is made.
        load(node)
    assert caught.value.exit_code in {2, 3}
    assert str(caught.value).isprintable(), str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.fixture(scope="module")
def warm(load: _Load, stored: list[dict[str, Any]]) -> None:
    """Let every module be imported that honest configurations need."""
    for node in stored:
        with pytest.raises(FiguregroundError):
            load(node)


def run_examples(count: int, load: _Load, stored: list[dict[str, Any]]) -> None:
    @settings(
        max_examples=count, deadline=None, database=None, derandomize=count < 1000,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(configurations(stored))
    def never_resolved(node: Any) -> None:
        attempt(load, node)

    never_resolved()


@pytest.mark.usefixtures("warm")
def test_f52_f65_nothing_in_a_stored_configuration_is_resolved(
    load: _Load, stored: list[dict[str, Any]]
) -> None:
    run_examples(40, load, stored)


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_f52_f65_nothing_in_thousands_of_stored_configurations_is_resolved(
    load: _Load, stored: list[dict[str, Any]]
) -> None:
    run_examples(6000, load, stored)


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("text", TEXTS, ids=lambda text: ascii(text)[:30])
def test_f65_texts_that_a_library_would_resolve_stay_texts(
    load: _Load, stored: list[dict[str, Any]], text: str
) -> None:
    (redo,) = (node for node in stored if node["_target_"].endswith("ReDO"))
    for name in ("redraw", "metrics", "mask_optimizer", "latent_dim"):
        attempt(load, {**redo, name: text})


@pytest.mark.usefixtures("warm")
def test_f65_containers_cannot_hide_what_is_in_them(
    load: _Load, stored: list[dict[str, Any]]
) -> None:
    for node in stored:
        evil = {"_target_": "canary.touch", "x": 1}
        for group in ({"x": evil}, hide({"x": evil}), [evil], (evil,), wind(evil, 1)):
            attempt(load, {**node, "metrics": group})
            attempt(load, hide({**node, "metrics": group}))
        attempt(load, {**node, "metrics": wind("a", 40)})


@pytest.mark.parametrize("text", [text for text in TEXTS if "${" in text], ids=ascii)
def test_f65_options_out_of_the_weights_of_others_stay_plain(text: str, tmp_path: Path) -> None:
    for options in ({"a": text}, {"a": [1, text]}, {text: 1}, {"a": {"_target_": "canary.touch"}}):
        found = ConvertedWeights(options, {}, [])
        with audited(), pytest.raises(FiguregroundError, match="x.pkl"):
            read_options(found, str(tmp_path / "x.pkl"))
