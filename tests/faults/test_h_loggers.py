"""F58, F63: loggers that fail and terminals that are none."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import pty
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from short import short
from tiny import Run

from faults import METHODS, build_tiny, read_rows
from figureground.callbacks import loggers as module
from figureground.callbacks.image_grid import ImageGrid
from figureground.callbacks.loggers import CsvLogger, SafeWandbLogger
from figureground.callbacks.progress import Progress
from figureground.core.errors import WriteError

# Stands in for the installed `wandb`; the trouble it makes is in FAKE_WANDB.
FAKE = """
import os, time

run = None
opened = []
_trouble = os.environ["FAKE_WANDB"]

class Image:
    def __init__(self, pixels): self.pixels = pixels

class Video(Image): ...

class Run:
    def __init__(self, options):
        self.id = options["id"] or f"id{len(opened)}"
        self.options, self.rows, self.code, self.config = options, [], None, self
        opened.append(self)
    def define_metric(self, *args, **kwargs): ...
    def update(self, params, **kwargs): self.params = params
    def log(self, row, **kwargs):
        if self.code is not None: raise RuntimeError("logged to a finished run")
        if _trouble == "log raises" and len(self.rows) == 3: raise ConnectionError("gone")
        self.rows.append(row)
    def finish(self, exit_code=0):
        global run
        if _trouble == "finish hangs": time.sleep(60)
        self.code, run = exit_code, None

def init(**options):
    global run
    if _trouble == "init raises": raise RuntimeError("no account")
    if _trouble == "init hangs": time.sleep(60)
    run = Run(options)
    return run
"""


@pytest.fixture
def wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts a fake `wandb` on the path and returns a function that imports it with a trouble."""
    for name in ("wandb", "wandb/sdk", "wandb/sdk/lib"):
        (tmp_path / "fake" / name).mkdir(parents=True)
        (tmp_path / "fake" / name / "__init__.py").touch()
    (tmp_path / "fake/wandb/__init__.py").write_text(FAKE)
    (tmp_path / "fake/wandb/wandb_run.py").write_text("from wandb import Run\n")
    (tmp_path / "fake/wandb/sdk/lib/__init__.py").write_text("class RunDisabled: ...\n")
    for name in [n for n in sys.modules if n.partition(".")[0] == "wandb"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path / "fake"))
    monkeypatch.setenv("WANDB_MODE", "online")  # Lightning may set it; this puts it back.
    monkeypatch.setattr(module, "_START", 0.5)
    monkeypatch.setattr(module, "_FINISH", 0.5)

    def load(trouble: str = "none") -> Any:
        monkeypatch.setenv("FAKE_WANDB", trouble)
        import wandb

        assert "fake" in str(wandb.__file__)
        return wandb

    yield load
    for name in [n for n in sys.modules if n.partition(".")[0] == "wandb"]:
        del sys.modules[name]


def train(directory: Path, logger: SafeWandbLogger, **options: Any) -> Run:
    """Train twelve batches with `logger` beside the CSV, as the command does."""
    part = Run(directory, iterations=12, **options)
    part.trainer.loggers = [*part.trainer.loggers, logger]
    logger.log_hyperparams({"a": 1})
    return part.start()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("trouble", ["init raises", "init hangs", "log raises", "finish hangs"])
def test_f58_run_completes_whatever_wandb_does(
    tmp_path: Path,
    wandb: Any,
    caplog: pytest.LogCaptureFixture,
    finished: Callable[[str], Run],
    trouble: str,
    method: str,
) -> None:
    wandb(trouble)
    plain = read_rows(finished(method).checkpoints_dir.parent / "csv/metrics.csv")
    begin = time.monotonic()
    with caplog.at_level(logging.WARNING, logger=module.__name__):
        part = short(tmp_path, method)
        logger = SafeWandbLogger("p", str(tmp_path))
        part.trainer.loggers = [*part.trainer.loggers, logger]
        logger.log_hyperparams({"a": 1})
        part.start()
        part.trainer.test(part.method, part.data, verbose=False)
    assert time.monotonic() - begin < 15
    warnings = [r.getMessage() for r in caplog.records if r.name == module.__name__]
    assert [warning.startswith("W&B is left alone") for warning in warnings] == [True]
    rows = read_rows(tmp_path / "csv/metrics.csv")
    assert rows[: len(plain)] == plain
    assert any(key.startswith("test/") for key in rows[-1])


def test_f58_delays_add_up_to_less_than_20_seconds() -> None:
    assert module._START + module._FINISH < 20


def test_wandb_has_the_rows_of_the_csv_and_of_the_test(tmp_path: Path, wandb: Any) -> None:
    opened = wandb().opened
    part = train(tmp_path, SafeWandbLogger("p", str(tmp_path), name="n", tags=["t"]))
    part.trainer.test(part.method, part.data, verbose=False)
    ours = {key for row in read_rows(tmp_path / "csv/metrics.csv") for key in row} - {"step"}
    theirs = {key for run in opened for row in run.rows for key in row}
    assert theirs - {"epoch", "trainer/global_step"} == ours
    assert "test/agreement" in theirs
    # Testing opens the run of the training again.
    assert [(run.id, run.code, run.options["resume"]) for run in opened] == [
        ("id0", 0, "allow"), ("id0", 0, "allow"),
    ]  # fmt: skip
    assert opened[0].params == {"a": 1}


def test_wandb_offline_keeps_one_folder_and_goes_on_under_its_id(
    tmp_path: Path, wandb: Any
) -> None:
    opened = wandb().opened
    part = train(tmp_path / "a", SafeWandbLogger("p", str(tmp_path / "a"), offline=True))
    part.trainer.test(part.method, part.data, verbose=False)
    assert [run.code for run in opened] == [None]
    assert "test/agreement" in opened[0].rows[-1]
    # A later job of the same process does not write into the run of the earlier one.
    train(tmp_path / "b", SafeWandbLogger("p", str(tmp_path / "b"), offline=True))
    assert [run.id for run in opened] == ["id0", "id1"]
    assert opened[0].code == 0
    resumed = SafeWandbLogger("p", str(tmp_path / "a"), offline=True)
    resumed.log_metrics({"x": 1.0}, 13)
    assert opened[-1].id == "id0"
    resumed.finalize("failed")
    assert opened[-1].code == 1


def test_wandb_gets_pictures_and_how_they_came_about(tmp_path: Path, wandb: Any) -> None:
    opened = wandb().opened
    grid = ImageGrid(str(tmp_path / "images"), every=2, num_images=2)
    part = Run(tmp_path, grid, iterations=4, validate_every=2, make=lambda: build_tiny("redo"))
    part.trainer.loggers = [*part.trainer.loggers, SafeWandbLogger("p", str(tmp_path))]
    part.start()
    logged = [(key, value) for row in opened[0].rows for key, value in row.items()]
    assert [key for key, _ in logged].count("images/redraw_object") == 2
    [moving] = [value[0] for key, value in logged if key == "images/redraw_object_evolution"]
    assert moving.pixels == str(tmp_path / "images/redraw_object.gif")


def test_csv_that_cannot_be_written_is_a_failed_save(tmp_path: Path) -> None:
    (tmp_path / "csv").write_text("a file where the folder should be")
    logger = CsvLogger(str(tmp_path / "csv"), flush_every=2)
    logger.log_metrics({"x": 1.0}, 0)
    with pytest.raises(WriteError, match=r"paths\.output_dir"):
        logger.save()


@contextmanager
def terminal() -> Iterator[tuple[Any, list[int]]]:
    """A pseudo terminal as a text stream, and its other end."""
    ours, theirs = pty.openpty()
    ends = [ours]
    with os.fdopen(theirs, "w", encoding="utf-8") as stream:
        yield stream, ends
    for end in ends:
        os.close(end)


@pytest.mark.parametrize("width", ["20", "200"])
def test_f63_bar_survives_a_narrow_terminal_and_one_that_goes_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: str
) -> None:
    for name, value in {"COLUMNS": width, "NO_COLOR": "1", "LANG": "C", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    with terminal() as (stream, ends):
        monkeypatch.setattr(sys, "stdout", stream)
        part = Run(tmp_path / width, Progress(12, every=1), iterations=12)
        os.set_blocking(ends[0], False)
        part.start()
        shown = os.read(ends[0], 1 << 20).decode("utf-8", "replace")
        assert "12/12" in shown.replace("\r\n", "") or width == "20"
        os.close(ends.pop())  # Whoever looked is gone.
        Run(tmp_path / "gone", Progress(12, every=1), iterations=12).start()
        monkeypatch.undo()


@pytest.mark.parametrize("stream", [None, "closed", "file"])
def test_f63_bar_is_quiet_without_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: str | None
) -> None:
    output = io.StringIO() if stream else None
    if output is not None and stream == "closed":
        output.close()
    monkeypatch.setattr(sys, "stdout", output)
    part = Run(tmp_path, Progress(3, every=1), iterations=3).start()
    monkeypatch.undo()
    assert part.trainer.fit_loop.total_batch_idx + 1 == 3
    assert output is None or output.closed or output.getvalue() == ""


def test_logged_rows_are_plain_numbers(tmp_path: Path) -> None:
    Run(tmp_path, iterations=4).start()
    with (tmp_path / "csv/metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(float(value) is not None for row in rows for value in row.values() if value)
    assert json.dumps([float(row["train/loss/critic"]) for row in rows if row["train/loss/critic"]])
