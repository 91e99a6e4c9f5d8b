"""`prepare source=generate` writes drawn sets to disk and checks what it wrote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from figureground.cli.prepare import prepare
from figureground.core.errors import UserError
from figureground.data.datasets.tetrominoes import Tetrominoes

Compose = Callable[..., DictConfig]


def test_generated_pictures_are_written_and_checked(
    compose: Compose, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["data=tetrominoes", "source=generate", "count=40", f"paths.data_dir={tmp_path}"]
    for _ in range(2):  # The second time nothing is to be done.
        prepare(compose(*options, config_name="prepare"))
        table = capsys.readouterr().out
        assert [len(line.split("│")) for line in table.splitlines() if "│ train " in line] == [7]
        assert "32" in table
    read = Tetrominoes("train", None, "files", str(tmp_path / "tetrominoes"), transductive=True)
    drawn = Tetrominoes("train", 40)
    assert len(read) == 40
    assert (read[39].image == drawn[39].image).all()


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        (["data=toy", "source=generate"], "data=toy cannot be generated"),
        (["data=tetrominoes", "count=5"], "add source=generate"),
    ],
)
def test_what_cannot_be_generated_is_refused(
    compose: Compose, options: list[str], fragment: str
) -> None:
    with pytest.raises(UserError, match=fragment):
        prepare(compose(*options, config_name="prepare"))
