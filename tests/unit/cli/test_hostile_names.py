"""Names that would act on a terminal, a table or a shell, in what commands print and write."""

from __future__ import annotations

import json
import pickle
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml  # type: ignore[import-untyped]
from hydra.utils import get_class
from omegaconf import OmegaConf
from torch.utils.data import Dataset

import figureground.cli as cli
from figureground.callbacks.progress import Progress
from figureground.cli.projecting import choose_way
from figureground.cli.references import find_references
from figureground.cli.summaries import write_summary
from figureground.cli.sweep_table import finish, read_columns, write_table
from figureground.cli.tables import print_table
from figureground.cli.train import _log_hyperparameters
from figureground.cli.trusting import explained_refusal
from figureground.core.checkpoint import VerifiedCheckpointIO
from figureground.core.errors import CheckpointError, DataError, RefusedFileError, UserError
from figureground.core.escaping import LineFormatter
from figureground.core.released import read_released
from figureground.data.index import exclude_unreadable
from figureground.data.sampler import WatchfulLoader
from figureground.viz.charts import curve_chart
from figureground.viz.grids import contact_sheet, picture_grid

ESC = "\x1b]0;x\x07"


def test_tables_in_the_terminal_take_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["score", f"[red]a{ESC}"], [["[link=x]b[/link]", ":smile:\n"]], title="[bold]t")
    shown = capsys.readouterr().out
    for text in ("[bold]t", r"[red]a\x1b]0;x\x07", "[link=x]b[/link]", r":smile:\n"):
        assert text in shown
    assert "\x1b]" not in shown


def test_tables_in_files_hold_cells_as_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(tmp_path, ["score", "a|b"], [["<b>`x`", "1\n| y |"], ["iou/img", "0.5 +- 0.1"]])
    capsys.readouterr()
    assert (tmp_path / "table.md").read_text("utf-8") == (
        "| score | a&#124;b |\n| --- | --- |\n"
        "| &lt;b&gt;&#96;x&#96; | 1\\n&#124; y &#124; |\n| iou/img | 0.5 +- 0.1 |\n"
    )


def test_columns_of_a_sweep_hide_places_and_secrets(tmp_path: Path) -> None:
    for number, (root, token) in enumerate([("/a/alice/x", "S"), ("/b/bob/x", "S"), ("y", "T")]):
        folder = tmp_path / str(number)
        (folder / ".hydra").mkdir(parents=True)
        overrides = [f"data.root={root}", f"+extra.token={token}", "seed=1"]
        (folder / ".hydra/overrides.yaml").write_text(yaml.safe_dump(overrides))
        (folder / "metrics.json").write_text('{"test/iou": 0.5}')
    # Two folders of one name are two columns.
    names = [column.name for column in read_columns(tmp_path)]
    assert names == ["data.root=x, extra.token=***"] * 2 + ["data.root=y, extra.token=***"]
    finish()


def test_summary_hides_places_and_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = ["chain.data=toy", "data.root=/home/alice/p", "+extra.password=S"]
    monkeypatch.setattr("figureground.cli.summaries._list_overrides", lambda: typed)
    chain = {"method": "redo", "weights": "/home/alice/net.pkl", "api_key": "S"}
    write_summary(tmp_path, {"name": "compare-a", "seed": 1, "chain": chain}, [_step(tmp_path)])
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written["overrides"] == ["chain.data=toy", "data.root=p", "+extra.password=***"]
    assert written["chain"] == {"method": "redo", "weights": "net.pkl", "api_key": "***"}


def _step(folder: Path) -> Any:
    from figureground.cli.records import Record
    from figureground.cli.steps import Step

    step = Step("a", "evaluate", (), "metrics.json", (), folder)
    return step, Record("a", "evaluate", [], {}, "x", 1.0, 1.0)


def test_command_for_a_trusted_file_can_be_pasted(tmp_path: Path) -> None:
    file = tmp_path / f"a;touch pwned;{ESC}'$(b).pkl"
    file.write_bytes(pickle.dumps(pytest.raises))
    with pytest.raises(RefusedFileError) as caught, explained_refusal(file, True):
        read_released(file)
    _, command, last = str(caught.value).split("\n       ")
    assert all(line.isprintable() for line in (command, last))
    assert str(tmp_path) in shlex.split(command)[-1]
    assert last.startswith("then convert weights='\"/")


@pytest.mark.parametrize("name", ["my run", "a=b", "it's", "[x]", "a,b"])
def test_options_in_hints_are_quoted(tmp_path: Path, name: str) -> None:
    class Painter:
        draws_layers = False

    config = OmegaConf.create({"ckpt": f"/x/{name}.ckpt", "steps": 0})
    with pytest.raises(UserError) as caught:
        choose_way(Painter(), config, lambda: None)  # type: ignore[arg-type]
    shown = str(caught.value).partition("generator=checkpoint ")[2]
    assert shlex.split(shown) == [f'generator.weights="/x/{name}.ckpt"']
    weights = tmp_path / f"{name}.ckpt"
    torch.save({"state_dict": {}, "figureground": {"format": 1}}, weights)
    with pytest.raises(CheckpointError) as refused:
        VerifiedCheckpointIO(resumes=True).load_checkpoint(weights)
    shown = str(refused.value).partition("give ")[2].removesuffix(" instead of ckpt")
    assert shlex.split(shown) == [f'init="{weights}"']


def test_dataset_names_in_hints_are_quoted() -> None:
    with pytest.raises(DataError) as caught:
        exclude_unreadable(_Broken(), [], "my;set")  # type: ignore[arg-type]
    assert str(caught.value).endswith("python src/prepare.py data='\"my;set\"' on_error=skip")


class _Broken(Dataset[Any]):
    def origin(self) -> str:
        return "x"

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Any:
        raise DataError(f"picture {ESC}.png\nis broken")


def test_bad_data_in_a_worker_is_one_line() -> None:
    for workers in (0, 1):
        with pytest.raises(DataError) as caught:
            next(iter(WatchfulLoader(_Broken(), num_workers=workers)))
        assert str(caught.value) == r"picture \x1b]0;x\x07.png\nis broken"


def test_errors_and_tracebacks_reach_the_terminal_escaped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FIGUREGROUND_DEBUG", raising=False)
    assert cli._report(UserError(f"no {ESC}", "and\nmore"), "train") == 2
    assert capsys.readouterr().err == "error: no \\x1b]0;x\\x07\n       and\\nmore\n"
    assert cli._report(ValueError(f"bad {ESC}"), "train") == 1
    assert capsys.readouterr().err.endswith("ValueError: bad \\x1b]0;x\\x07\n")
    monkeypatch.setattr(cli, "_FAILED_JOBS", [f"a{ESC}", "b\n"])
    assert cli._report(ValueError(), "train") == 12
    assert capsys.readouterr().err == "error: 2 jobs failed: a\\x1b]0;x\\x07, b\\n\n"
    monkeypatch.setattr("sys.argv", ["figureground", f"trian{ESC}"])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    assert "no command 'trian\\x1b]0;x\\x07'" in capsys.readouterr().err


def test_commands_log_through_the_formatter_that_escapes() -> None:
    config = OmegaConf.load(Path(cli.config_dir()) / "hydra/default.yaml")
    for node in (config.job_logging, config.hydra_logging):
        assert get_class(node.formatters.simple["class"]) is LineFormatter


def test_progress_shows_names_as_text() -> None:
    method = SimpleNamespace(last_losses={f"[red]a{ESC}": torch.tensor(0.5)})
    shown = Progress(3)._numbers(method, {"val/iou/img/set\n": 1.0})  # type: ignore[arg-type]
    assert shown == r"[red]a\x1b]0;x\x07=0.5 val/iou/img/set\n=1"


def test_captions_are_one_line() -> None:
    pictures = [[np.zeros((8, 8, 3), np.uint8)] * 2]
    hostile = contact_sheet(pictures, ["a\nb\u202ec"], ["t\r\n"], cell=16)
    assert np.array_equal(hostile, contact_sheet(pictures, [r"a\nb\u202ec"], [r"t\r\n"], cell=16))
    grid = torch.zeros(1, 3, 64, 64)
    one, other = (picture_grid(grid, 1, titles=[title]) for title in ("\x1b", r"\x1b"))
    assert np.array_equal(one, other)
    chart = curve_chart([0, 1], {"a\n": [0.0, 1.0]}, "b\n")
    assert np.array_equal(chart, curve_chart([0, 1], {r"a\n": [0.0, 1.0]}, r"b\n"))


def test_dashboards_get_no_places_and_no_secrets() -> None:
    told: dict[str, Any] = {}
    trainer = SimpleNamespace(loggers=[SimpleNamespace(log_hyperparams=told.update)])
    plain = {
        "paths": {"output_dir": "/home/alice/run", "data_dir": "/data/alice"}, "lr": 1e-4,
        "extra": {"token": "S", "n": {"password": 5}, "url": "https://a:S@h/x"}, "init": None,
        "callbacks": {"images": {"directory": "/home/alice/run/images"}},
    }  # fmt: skip
    _log_hyperparameters(trainer, torch.nn.Linear(1, 1), plain)  # type: ignore[arg-type]
    expected = {
        "paths.output_dir": "run", "paths.data_dir": "alice", "lr": 1e-4, "extra.token": "***",
        "extra.n.password": "***", "extra.url": "https://***@h/x", "init": None,
        "callbacks.images.directory": "images",
    }  # fmt: skip
    assert {key: told[key] for key in expected} == expected


def test_checkpoints_are_chosen_by_their_paths_though_scores_only_name_them(tmp_path: Path) -> None:
    scores = {"ckpt": ["a.ckpt", "b.ckpt"], "runs": [{"fid": 2.0}, {"fid": 1.0}]}
    (tmp_path / "metrics.json").write_text(json.dumps(scores))
    (reference,) = find_references("{choose:least fid*}")
    assert reference.find({"choose": tmp_path}) == [Path("b.ckpt")]  # As earlier versions wrote.
    (tmp_path / "scored.json").write_text('["/x/a.ckpt", "/y/b.ckpt"]')
    assert reference.find({"choose": tmp_path}) == [Path("/y/b.ckpt")]
