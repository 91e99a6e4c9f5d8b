"""What a run shows and writes about itself: picture grids and the run card."""

from __future__ import annotations

import json
import logging
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import Run, TinyGAN
from torch import Tensor

import figureground.callbacks.run_card as run_card_module
from faults import At, build_tiny, fail, kill
from figureground.callbacks.image_grid import ImageGrid
from figureground.callbacks.run_card import RunCard
from figureground.core.errors import StoppedBySignalError, WriteError
from figureground.core.types import Batch
from figureground.viz.grids import picture_grid


def redo() -> Any:
    return build_tiny("redo")


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_grids_come_with_validation_and_at_the_end(tmp_path: Path) -> None:
    grid = ImageGrid(str(tmp_path / "images"), every=4, num_images=2)
    Run(tmp_path, grid, iterations=7, validate_every=3, make=redo).start()
    # Validated after 3, 6 and at the end; the first drawing is due from 4 on.
    stems = ("redraw_background", "redraw_object")
    assert names(tmp_path / "images") == sorted(
        f"{stem}{end}" for stem in stems for end in (".gif", ".png", "_000006.png", "_000007.png")
    )
    newest = (tmp_path / "images/redraw_object.png").read_bytes()
    assert newest == (tmp_path / "images/redraw_object_000007.png").read_bytes()


def test_training_pictures_are_shown_once_beside_drawn_ones(tmp_path: Path) -> None:
    def ilsgan() -> Any:
        options = ("data.resolution=16", "method.channel_base=64", "data.val.count=4")
        return build_tiny("ilsgan", *options)

    path = tmp_path / "images/reals.png"
    for number, folder in enumerate(("a", "b")):
        grid = ImageGrid(str(tmp_path / "images"), every=9, num_images=2, num_reals=5)
        run = Run(tmp_path / folder, grid, iterations=1, validate_every=9, make=ilsgan)
        run.start()
        assert "samples.png" in names(tmp_path / "images")
        count = len(run.data.store("train"))  # type: ignore[attr-defined]
        batch = run.data.batch("train", [i * count // 5 for i in range(5)])  # type: ignore[attr-defined]
        with Image.open(path) as shown:
            assert np.array_equal(np.asarray(shown), picture_grid(batch.image, 8))
        if number == 0:
            written = path.stat().st_mtime_ns
    assert path.stat().st_mtime_ns == written


@pytest.mark.slow
def test_drawing_changes_nothing_of_the_run(tmp_path: Path) -> None:
    often = ImageGrid(str(tmp_path / "images"), every=1)
    Run(tmp_path / "with", often, validate_every=2, iterations=6, make=redo).start()
    rarely = ImageGrid(str(tmp_path / "images"), every=100)
    Run(tmp_path / "without", rarely, validate_every=2, iterations=6, make=redo).start()
    with_grids, without = (
        torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True)
        for name in ("with", "without")
    )
    assert with_grids["callbacks"]["ImageGrid"] == {"drawn_at": 6}
    for key, value in with_grids["state_dict"].items():
        assert torch.equal(value, without["state_dict"][key]), key


def test_equal_weights_give_equal_grids(tmp_path: Path) -> None:
    for name in ("a", "b"):
        grid = ImageGrid(str(tmp_path / name / "images"), every=2)
        Run(tmp_path / name, grid, iterations=2, validate_every=2, make=redo).start()
    one, two = (tmp_path / name / "images/redraw_object.png" for name in ("a", "b"))
    assert one.read_bytes() == two.read_bytes()


class Watched(TinyGAN):
    """Has a part frozen in evaluation mode and fails to draw if told so."""

    fails = False

    def __init__(self) -> None:
        super().__init__()
        self.critic[2].eval()

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        assert not any(part.training for part in self.modules())
        assert not torch.is_grad_enabled()
        torch.rand(5)
        if self.fails:
            raise RuntimeError("cannot draw")
        return {"inputs": batch.image}


@pytest.mark.parametrize("fails", [False, True])
def test_modes_and_random_numbers_are_left_as_found(tmp_path: Path, fails: bool) -> None:
    part = Run(tmp_path, iterations=1)
    method, grid = Watched(), ImageGrid(str(tmp_path / "images"))
    method.fails = fails
    grid._batch = Batch(torch.zeros(2, 3, 16, 16), ("a", "b"))
    part.trainer.strategy.connect(method)
    before, state = [m.training for m in method.modules()], torch.get_rng_state()
    assert not all(before)
    if fails:
        with pytest.raises(RuntimeError, match="cannot draw"):
            grid.draw(part.trainer, method)
    else:
        grid.draw(part.trainer, method)
        assert names(tmp_path / "images") == ["inputs.png", "inputs_000000.png"]
    assert [m.training for m in method.modules()] == before
    assert torch.equal(torch.get_rng_state(), state)


def card(directory: Path, **options: Any) -> RunCard:
    return RunCard(str(directory), name="tiny", seed=3, **options)


def test_card_and_scores_of_a_finished_run(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra/overrides.yaml").write_text("- seed=3\n- 'tags=[a, b]'\n")
    (tmp_path / "images").mkdir()
    for name in ("grid.png", "grid_000008.png"):
        (tmp_path / "images" / name).touch()
    part = Run(tmp_path, card(tmp_path), iterations=8)
    part.method.restarts = [{"iteration": 0, "attempt": 1, "seed": 1003, "reason": "collapsed"}]
    part.start()
    before_test = json.loads((tmp_path / "metrics.json").read_text())
    part.trainer.test(part.method, part.data, verbose=False)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert "test/agreement" not in before_test
    assert before_test["val/agreement"] == metrics["val/agreement"]
    assert 0 <= metrics["test/agreement"] <= 1
    assert (metrics["seed"], metrics["iterations"], metrics["restarts"]) == (3, 8, 1)
    assert metrics["status"] == "finished"
    assert metrics["seconds"] > 0
    assert metrics["versions"]["torch"] == torch.__version__
    text = (tmp_path / "card.md").read_text()
    assert "# tiny" in text
    assert f"| `agreement` | {metrics['val/agreement']:.4f} |" in text
    assert "- Restart 1 at batch 0 with seed 1003: collapsed." in text
    assert "![grid](images/grid.png)" in text
    assert "grid_000008" not in text
    assert "Checkpoint: the last one. No label took part." in text
    assert "    python src/train.py seed=3 'tags=[a, b]'" in text


def test_card_says_when_labels_chose(tmp_path: Path) -> None:
    Run(tmp_path, card(tmp_path, monitor="val/agreement"), iterations=2).start()
    assert "best `val/agreement`. Labels took part" in (tmp_path / "card.md").read_text()


def test_card_of_a_run_that_a_signal_ended(tmp_path: Path) -> None:
    part = Run(tmp_path, At("on_train_batch_end", 5, kill()), card(tmp_path))
    with pytest.raises(StoppedBySignalError):
        part.start()
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["status"] == "ended early (StoppedBySignalError)"
    assert metrics["iterations"] == 5
    assert "val/agreement" in metrics
    seconds = metrics["seconds"]
    Run(tmp_path, card(tmp_path)).start(part.last)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["status"], metrics["iterations"]) == ("finished", 12)
    assert metrics["seconds"] >= seconds


def test_metrics_json_has_no_nan(tmp_path: Path) -> None:
    part = Run(tmp_path, card(tmp_path), iterations=2, validate_every=2)
    part.method.on_validation_epoch_end = lambda: part.method.log("val/x", float("nan"))
    part.start()
    refuse = {"parse_constant": lambda word: pytest.fail(f"{word} is not JSON")}
    assert json.loads((tmp_path / "metrics.json").read_text(), **refuse)["val/x"] is None


def test_card_that_cannot_be_written_does_not_cost_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*args: Any, **kwargs: Any) -> Any:
        raise WriteError("no space left")

    monkeypatch.setattr(run_card_module, "atomic_write", full)
    part = Run(tmp_path, card(tmp_path), At("on_train_batch_start", 5, fail()))
    with caplog.at_level(logging.WARNING), pytest.raises(RuntimeError, match="injected"):
        part.start()
    assert "no space left" in caplog.text
    saved = torch.load(part.last, weights_only=True)
    assert saved["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["completed"] == 5


def test_no_card_before_training(tmp_path: Path) -> None:
    part = Run(tmp_path, card(tmp_path))
    part.data.setup = lambda stage: fail()()
    with pytest.raises(RuntimeError, match="injected"):
        part.start()
    assert not (tmp_path / "card.md").exists()


def test_card_shows_texts_of_a_checkpoint_as_text(tmp_path: Path) -> None:
    html = "x|<img src=http://h/?leak><script>alert(1)</script>"
    (tmp_path / ".hydra").mkdir()
    typed = [f"+extra.note='{html}'", '+extra.two="a\n# b"']
    (tmp_path / ".hydra/overrides.yaml").write_text(json.dumps(typed))
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a](http:).png").touch()
    shown = RunCard(str(tmp_path), name="# <b>", monitor=f"val/`{html}")
    shown.load_state_dict({"seconds": 1.0, "metrics": {f"val/`{html}\n# c": 1.0}})
    part = Run(tmp_path, shown, iterations=1)
    record = {"iteration": "1\n", "attempt": "<i>", "seed": "*3*", "reason": f"{html}\n# d\x1b[31m"}
    part.method.absent = {f"val/{html}": f"none\n# e {html}"}
    part.method.origin = {"data": {"name": f"`{html}", "resolution": "<u>"}}
    part.method.restarts = [record | {"iteration": 0}]
    part.start()
    part.method.restarts = [record]
    shown._write(part.trainer, part.method, "finished")
    text = (tmp_path / "card.md").read_text()
    for tag in ("<img", "<script", "<b>", "<i>", "<u>", "\x1b", "](http"):
        assert tag not in text
    assert text.count("http://h") == 1  # In the command, which is code.
    assert [line for line in text.splitlines() if line.startswith("#")] == ["# # &lt;b&gt;"]
    assert "- Restart &lt;i&gt; at batch 1\\n with seed &#42;3&#42;: x&#124;&lt;img src=" in text
    assert r"\n# d\x1b[31m." in text
    assert "![a]&#40;http:)](images/a%5D%28http%3A%29.png)" in text
    assert r"$'\x3c'/script$'\x3e'" in text


def test_card_names_no_places_and_no_secrets(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    typed = [
        f"paths.output_dir={tmp_path}", f"ckpt={tmp_path}/checkpoints/last.ckpt",
        "data.root='/home/alice/my photos'", "+extra.token=SECRET", "+extra.n={api_key: SECRET}",
        "+extra.url='https://alice:SECRET@host/x'", "seed=3",
    ]  # fmt: skip
    (tmp_path / ".hydra/overrides.yaml").write_text(json.dumps(typed))
    part = Run(tmp_path, card(tmp_path), iterations=1)
    part.method.restarts = [
        {"iteration": 0, "attempt": 1, "seed": 1, "reason": f"see {tmp_path}/debug/a.pt"}
    ]
    part.start()
    text = (tmp_path / "card.md").read_text()
    (line,) = (each for each in text.splitlines() if each.startswith("    python"))
    assert shlex.split(line)[2:] == [
        f"paths.output_dir={tmp_path.name}", "ckpt=checkpoints/last.ckpt", "data.root='my photos'",
        "+extra.token=***", "+extra.n={api_key:'***'}", "+extra.url='https://***@host/x'", "seed=3",
    ]  # fmt: skip
    assert "with seed 1: see debug/a.pt." in text
    for told in ("SECRET", "alice", str(tmp_path.parent)):
        assert told not in text + (tmp_path / "metrics.json").read_text()
