"""Archives of other methods' authors are looked through before PyTorch opens them."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from crafted import write_bomb, write_program

from figureground.core import released
from figureground.core.errors import RefusedFileError


@pytest.mark.parametrize("method", ["redo", "dti_sprites"])
def test_f57_bombs_and_hidden_tables_are_refused(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.pth"
    convert = importlib.import_module(f"figureground.methods.{method}.convert").convert_checkpoint
    monkeypatch.setattr(released, "_MOST_UNPACKED", 2**20)
    write_bomb(path, 2**21)
    with pytest.raises(RefusedFileError, match="nothing in it was run") as caught:
        convert(path)
    assert "claims to unpack to" in str(caught.value.__cause__)
    write_program(path, b"\x80\x02N.")
    path.write_bytes(b"before" + path.read_bytes())
    with pytest.raises(RefusedFileError, match="nothing in it was run") as caught:
        convert(path)
    assert "table of contents" in str(caught.value.__cause__)
