"""ILSGAN's steps: compiled networks, path length, and what overflow does to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.plugins import MixedPrecision
from tiny import Run
from torch import Tensor
from torch.testing import assert_close

from faults import build_tiny
from figureground.core.checkpoint import VerifiedCheckpointIO
from figureground.core.errors import NumericalError
from figureground.methods.ilsgan import ILSGAN

SMALL = (
    "data.resolution=16", "method.channel_base=64", "method.mapping_depth=1",
    "method.augmentation=null", "method.controller=null", "data.val.count=4",
)  # fmt: skip


def make_run(
    folder: Path, *options: str, iterations: int = 2, prepare: Callable[[Any], object] = id,
    plugin: Any = None,
) -> Run:  # fmt: skip
    def make() -> Any:
        method, data = build_tiny("ilsgan", *SMALL, *options)
        prepare(method)
        return method, data

    plugins = [VerifiedCheckpointIO(), *([plugin] if plugin else [])]
    return Run(folder, iterations=iterations, every=9, validate_every=9, make=make, plugins=plugins)


def weights(part: Run) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in part.method.named_parameters()}


def test_compiled_networks_run_in_all_steps_but_penalties(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def watch(run: Any, **options: Any) -> Callable[..., Any]:
        assert options == {"mode": "max-autotune"}

        def compiled(*args: Any, **kwargs: Any) -> Any:
            calls.append(type(run.__self__).__name__)
            return run(*args, **kwargs)

        return compiled

    monkeypatch.setattr(torch, "compile", watch)
    options = ("method.path_length_weight=2", "method.r1_every=1")
    plain = make_run(tmp_path / "plain", *options, iterations=1).start()
    compiled = make_run(
        tmp_path / "compiled", *options, iterations=1,
        prepare=lambda method: method.compile_networks(mode="max-autotune"),
    )  # fmt: skip
    monkeypatch.setattr(compiled.trainer, "limit_val_batches", 0)
    compiled.start()
    # For each player both layers; D sees pictures of G's step, new ones and real ones.
    layers, judge = ["SynthesisNetwork"] * 2, ["StyleDiscriminator"]
    assert calls == [*layers, *judge, *layers, *judge * 2]
    assert_close(weights(compiled), weights(plain), rtol=0, atol=0)
    assert compiled.method.state_dict().keys() == plain.method.state_dict().keys()


@pytest.mark.slow
# torch's own question of a tensor that a graph is fed with.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_compile_trains_with_penalties_that_differentiate_twice(tmp_path: Path) -> None:
    options = ("method.path_length_weight=2", "method.r1_every=1")
    plain = make_run(tmp_path / "plain", *options, iterations=1).start()
    compiled = make_run(
        tmp_path / "compiled", *options, iterations=1,
        prepare=lambda method: method.compile_networks(backend="aot_eager", fullgraph=True),
    ).start()  # fmt: skip
    assert_close(weights(compiled), weights(plain), rtol=1e-3, atol=1e-4)


def test_path_length_steps_by_itself_now_and_then(tmp_path: Path) -> None:
    part = make_run(
        tmp_path, "method.path_length_weight=2", "method.path_length_every=2", iterations=3
    ).start()
    rows = [row for _, row in part.rows.rows if "train/path_length_penalty" in row]
    assert len(rows) == 2
    assert part.method.path_length.mean_length > 0  # type: ignore[union-attr]
    # G and D every time, D's penalty the first time, G's at the first and third.
    assert part.trainer.global_step == 3 * 2 + 1 + 2
    assert part.method.origin["sigma"] == 0.2  # Snapshots are chosen by it.
    part.method.reset_parameters()
    assert part.method.path_length.mean_length == 0  # type: ignore[union-attr]


def test_without_path_length_there_is_nothing_of_it() -> None:
    method: Any = build_tiny("ilsgan", *SMALL)[0]
    assert method.path_length is None
    assert not [key for key in method.state_dict() if "path_length" in key]


class Scaled(MixedPrecision):
    """A scaler without half precision."""

    def __init__(self) -> None:
        super().__init__("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**10))

    @contextmanager
    def forward_context(self) -> Iterator[None]:
        yield


def overflow(method: ILSGAN) -> None:
    method.generator.mapping_background.fc0.weight.register_hook(lambda grad: grad * torch.inf)


def test_scaler_sees_what_overflows_before_it_is_cleaned(tmp_path: Path) -> None:
    plugin = Scaled()
    part = make_run(
        tmp_path, "method.clean_gradients=true", iterations=1, prepare=overflow, plugin=plugin
    )
    before = weights(part)
    part.start()
    assert plugin.scaler is not None
    assert plugin.scaler.get_scale() == 2.0**9
    after = weights(part)
    for name in before:
        if name.startswith("generator."):
            assert_close(after[name], before[name], rtol=0, atol=0)
    assert part.method.skipped["generator"] == 0


def test_without_scaler_it_is_cleaned_and_the_step_taken(tmp_path: Path) -> None:
    part = make_run(tmp_path, "method.clean_gradients=true", iterations=1, prepare=overflow)
    before = weights(part)
    part.start()
    assert all(value.isfinite().all() for value in weights(part).values())
    assert not torch.equal(
        weights(part)["generator.synthesis_background.b16.conv1.weight"],
        before["generator.synthesis_background.b16.conv1.weight"],
    )
    (count,) = (
        row[name] for _, row in part.rows.rows if (name := "train/cleaned_gradients") in row
    )
    assert count > 0


def test_loss_that_is_not_finite_is_never_cleaned_away(tmp_path: Path) -> None:
    def spoil(method: ILSGAN) -> None:
        method.binarity_weight = float("nan")

    part = make_run(tmp_path, "method.clean_gradients=true", iterations=9, prepare=spoil)
    before = weights(part)
    with pytest.raises(NumericalError, match="the generator's loss or gradient was not finite 3"):
        part.start()
    name = "generator.synthesis_background.b16.conv1.weight"
    assert torch.equal(weights(part)[name], before[name])
