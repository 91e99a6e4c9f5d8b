"""The way out for files of weights that are refused: a command to run outside this suite.

Opening a file never runs code in it here, so there is no option that unpickles one in full. Whoever
trusts a file gets the command that does so elsewhere, and converts what it writes.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from figureground.core.command_line import join, option
from figureground.core.errors import RefusedFileError
from figureground.core.presence import open_file

#: Keeps tensors, plain values and, of whole modules, their state dicts.
_SCRIPT = (
    "import pickle, sys, torch; plain = lambda x: x.detach() if torch.is_tensor(x) else "
    "x if type(x) in (bool, int, float, str, type(None)) else "
    "plain(x.state_dict()) if hasattr(x, 'state_dict') else "
    "{k: plain(v) for k, v in x.items() if type(k) in (int, str)} if hasattr(x, 'items') else "
    "[plain(v) for v in x] if isinstance(x, (list, tuple)) else None; "
    "torch.save(plain(LOAD), sys.argv[2])"
)
_LOAD_TORCH = "torch.load(sys.argv[1], map_location='cpu', weights_only=False)"
_LOAD_PICKLE = "pickle.load(open(sys.argv[1], 'rb'))"


def outside_command(path: Path) -> tuple[str, Path]:
    """Shell command that opens `path` in full and writes what is plain in it, and where to."""
    from figureground.core.released import TORCH_MAGIC

    with open_file(path) as file:
        is_torch = file.read(len(TORCH_MAGIC)) == TORCH_MAGIC or zipfile.is_zipfile(path)
    output = path.with_name(f"{path.stem}.plain.pth")
    script = _SCRIPT.replace("LOAD", _LOAD_TORCH if is_torch else _LOAD_PICKLE)
    return f'python -c "{script}" {join([str(path), str(output)])}', output


@contextmanager
def explained_refusal(path: Path, is_trusted: bool) -> Iterator[None]:
    """Add to the refusal of a file how to go on.

    Args:
        path: The file.
        is_trusted: Whether the command for a trusted file was asked for.

    Raises:
        RefusedFileError: The same, with more text.
    """
    try:
        yield
    except RefusedFileError as error:
        if not is_trusted or not path.is_file():
            raise RefusedFileError(
                f"{error}. If you trust it, i_trust_this_file=true says how to go on"
            ) from error
        command, output = outside_command(path)
        raise RefusedFileError(
            f"{error}. It is not opened here even if trusted. Outside this suite this command "
            "takes weights and plain values out of it, and runs whatever else is in it (files of "
            f"whole modules need their project's code beside it). It writes {output}:",
            command,
            f"then convert {option('weights', output)}",
        ) from error
