"""Checkpoints with parts of the wrong type end in one line with exit code 2 or 3 (F66)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback
from tiny import Run

from faults import build_tiny
from figureground.callbacks.resume_check import ResumeCheck
from figureground.cli.train import _explained_restoring as explained_restoring
from figureground.core.checkpoint import VerifiedCheckpointIO, load_method
from figureground.core.errors import CheckpointError

_Change = Callable[[dict[str, Any]], object]

#: Changes of a checkpoint, and what is said of them.
ODD: dict[str, tuple[_Change, str]] = {
    "no class of ours": (
        lambda c: c["figureground"].update(method={"_target_": "torch.nn.Linear"}),
        r"describes torch\.nn\.Linear, which is not a method",
    ),
    "abstract class": (
        lambda c: c["figureground"].update(method={"_target_": "figureground.core.method.Method"}),
        "is not allowed in a file",
    ),
    "partial method": (lambda c: c["figureground"]["method"].update(_partial_=True), "_partial_"),
    "unknown option": (lambda c: c["figureground"]["method"].update(nope=1), "no such option"),
    "text for a number": (
        lambda c: c["figureground"]["method"].update(latent_dim="x"), "expected a whole number"
    ),
    "node for a number": (
        lambda c: c["figureground"]["method"].update(latent_dim={"_target_": "torch.optim.Adam"}),
        "is not allowed in a file",
    ),
    "a billion blocks": (
        lambda c: c["figureground"]["method"].update(mask_blocks=10**9), "from 0 to 256"
    ),
    "a googol": (lambda c: c["figureground"]["method"].update(mask_width=10**100), "64 bits"),
    "tensor": (
        lambda c: c["figureground"]["method"].update(latent_dim=torch.zeros(2)), "of type Tensor"
    ),
    "set": (lambda c: c["figureground"]["method"].update(latent_dim={1, 2}), "of type set"),
    "bytes key": (lambda c: c["figureground"]["method"].update({b"x": 1}), "key of type bytes"),
    "list of metrics": (lambda c: c["figureground"]["method"].update(metrics=[1]), "expected"),
    "number as metric": (
        lambda c: c["figureground"]["method"].update(metrics={"segmentation": 3}), "ReDO: "
    ),
    "metric as optimizer": (
        lambda c: c["figureground"]["method"].update(
            mask_optimizer=c["figureground"]["method"]["metrics"]["segmentation"]
        ),
        r"expected a Optimizer",
    ),
    "optimizer that is called": (
        lambda c: c["figureground"]["method"]["mask_optimizer"].pop("_partial_"), "_partial_"
    ),
    "parameters": (
        lambda c: c["figureground"]["method"]["mask_optimizer"].update(params=[]), "params"
    ),
    "section a list": (lambda c: c.update(figureground=[1]), "a foreign checkpoint"),
    "method a text": (lambda c: c["figureground"].update(method="x"), "expected dict"),
    "flag as format": (lambda c: c["figureground"].update(format=True), "unreadable format"),
    "restarts": (lambda c: c["figureground"].update(restarts=3), "expected a list"),
    "restart": (lambda c: c["figureground"].update(restarts=[{}]), r"restarts\[0\]\.iteration"),
    "skipped": (lambda c: c["figureground"].update(skipped={"x": "y"}), r"skipped\.x"),
    "missing": (lambda c: c["figureground"].update(missing=[3]), "missing"),
    "state a list": (lambda c: c.update(state_dict=[]), "not a checkpoint of this suite"),
    "number in the state": (lambda c: c["state_dict"].update({3: torch.zeros(1)}), "under a name"),
    "text in the state": (lambda c: c["state_dict"].update(x="y"), "under a name"),
    "complex weights": (
        lambda c: c["state_dict"].update({k: v.cfloat() for k, v in c["state_dict"].items()}),
        "is complex",
    ),
    "sparse weights": (
        lambda c: c["state_dict"].update(references=torch.zeros(1).to_sparse()), "more than tensors"
    ),
    "loops": (lambda c: c.update(loops=3), "loops: expected"),
    "cycle": (lambda c: c.update(callbacks={"x": c}), "holds itself"),
}  # fmt: skip


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    """Of a small method's checkpoint."""
    method = build_tiny("redo")[0]
    found: dict[str, Any] = {"state_dict": method.state_dict()}
    method.on_save_checkpoint(found)
    return found


@pytest.mark.parametrize("name", ODD)
def test_f66_odd_parts_end_in_one_line(content: dict[str, Any], tmp_path: Path, name: str) -> None:
    change, message = ODD[name]
    crafted, path = copy.deepcopy(content), tmp_path / "crafted.ckpt"
    change(crafted)
    torch.save(crafted, path)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_method(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


#: The same for what only resumed runs read.
ODD_STATES: dict[str, tuple[_Change, str]] = {
    "no progress": (lambda c: c["loops"].pop("fit_loop"), "how far its run has come"),
    "progress a list": (lambda c: c["loops"].update(fit_loop=[1]), "how far its run has come"),
    "counter a text": (
        lambda c: c["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"].update(ready="x"),
        "expected a counter",
    ),
    "counter missing": (
        lambda c: c["loops"]["fit_loop"]["epoch_loop.batch_progress"].pop("total"), "'total'"
    ),
    "no optimisers": (lambda c: c.pop("optimizer_states"), "no state of optimisers"),
    "fewer optimisers": (lambda c: c["optimizer_states"].pop(), "has 1 states of optimisers"),
    "no groups": (lambda c: c["optimizer_states"][0].pop("param_groups"), "param_groups"),
    "rate a text": (
        lambda c: c["optimizer_states"][0]["param_groups"][0].update(lr="x"), "has lr=x"
    ),
    "rate not finite": (
        lambda c: c["optimizer_states"][0]["param_groups"][0].update(lr=float("nan")), "has lr=nan"
    ),
    "moment of another shape": (
        lambda c: c["optimizer_states"][0]["state"][0].update(exp_avg=torch.zeros(7)),
        r"has exp_avg \(7,\)",
    ),
    "moment missing": (
        lambda c: c["optimizer_states"][0]["state"][0].pop("exp_avg_sq"), "lacks exp_avg_sq"
    ),
    "random states": (
        lambda c: c["callbacks"]["RandomState"].update(states=[{}]), "cannot be restored"
    ),
    "random state beyond": (
        lambda c: c["callbacks"]["RandomState"]["states"][0]["numpy"].__setitem__(2, 10**7),
        "position 10000000 is beyond",
    ),
    "best score": (
        lambda c: c["callbacks"]["Checkpoints"].update(best_scores={"x": "y"}), "x of Checkpoints"
    ),
    "version": (lambda c: c.update({"pytorch-lightning_version": 3}), "cannot be resumed from"),
}  # fmt: skip


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Checkpoint of a short run."""
    run = Run(tmp_path_factory.mktemp("begun"), iterations=2, every=2, validate_every=2).start()
    return torch.load(run.last, weights_only=True)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ODD_STATES)
def test_f66_odd_states_are_not_resumed_from(
    begun: dict[str, Any], tmp_path: Path, name: str
) -> None:
    change, message = ODD_STATES[name]
    crafted, path = copy.deepcopy(begun), tmp_path / "crafted.ckpt"
    change(crafted)
    torch.save(crafted, path)
    run = Run(
        tmp_path / "run", ResumeCheck(), iterations=4, every=2, validate_every=2,
        plugins=[VerifiedCheckpointIO(resumes=True)],
    )  # fmt: skip
    with pytest.raises(CheckpointError, match=message) as caught, explained_restoring(str(path)):
        run.start(path)
    assert "\n" not in str(caught.value)
    assert not run.last.exists()


def test_f66_sound_states_are_resumed_from(begun: dict[str, Any], tmp_path: Path) -> None:
    torch.save(begun, tmp_path / "sound.ckpt")
    run = Run(tmp_path / "run", ResumeCheck(), iterations=4, every=2, validate_every=2)
    with explained_restoring("sound.ckpt"):
        run.start(tmp_path / "sound.ckpt")
    assert run.last.is_file()


def test_f66_what_fails_while_saving_is_not_laid_to_a_checkpoint(tmp_path: Path) -> None:
    class Unsaved(Callback):
        def state_dict(self) -> dict[str, Any]:
            raise KeyError("a mistake of this callback")

    run = Run(tmp_path / "run", Unsaved(), iterations=4, every=2, validate_every=2)
    with pytest.raises(KeyError, match="a mistake of this callback"), explained_restoring(None):
        run.start()
