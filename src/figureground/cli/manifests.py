"""Folders of drawn pictures with a list of where each comes from, in `manifest.csv`."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from figureground.core.errors import UserError
from figureground.core.presence import exists, read_text

LIST = "manifest.csv"
_NUMBER = "[0-9]" * 6


def claim_folder(output: Path, rows: list[dict[str, str]], overwrite: bool) -> None:
    """Write the manifest, so that `output` takes no samples but those of `rows`.

    Args:
        output: The folder.
        rows: At least one, all with the same keys; `image` is the place of a picture.
        overwrite: Whether samples of another seed or network are removed.

    Raises:
        UserError: It holds others, and `overwrite` is off.
    """
    from figureground.core.io import atomic_write

    path = output / LIST
    patterns = (f"images/{_NUMBER}.png", f"masks/{_NUMBER}.png", f"layers/{_NUMBER}_*.png")
    if overwrite:
        for pattern in patterns:
            for old in output.glob(pattern):
                old.unlink()
    elif any(output.glob(patterns[0])):
        _require_same(output, read_rows(output), rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with atomic_write(path, "w") as file:
        file.write(text.getvalue())


def read_rows(output: Path) -> list[dict[str, str]]:
    """Rows of the manifest in `output`; none where there is no such file.

    Raises:
        UserError: It holds anything else.
    """
    path = output / LIST
    if not exists(path):
        return []
    try:
        return list(csv.DictReader(io.StringIO(read_text(path), newline="")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{path} is not a list that generate wrote ({type(error).__name__}); add "
            "overwrite=true to replace what is there, or choose another output=..."
        ) from error


def note_precision(precision: str) -> dict[str, str]:
    """What a manifest says of `precision`: nothing where it is the usual one."""
    return {} if precision == "32-true" else {"precision": precision}


def _require_same(
    output: Path, before: Sequence[dict[str, str]], rows: Sequence[dict[str, str]]
) -> None:
    common = min(len(before), len(rows))
    if not before or before[:common] != rows[:common]:
        raise UserError(
            f"{output} holds samples of other options, of another seed or checkpoint; add "
            "overwrite=true to replace them, or choose another output=..."
        )
