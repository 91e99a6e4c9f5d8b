"""What `predict`, `generate` and `evaluate` share: loading a method, finding pictures, writing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING

from figureground.core.errors import DataError, UserError
from figureground.core.presence import is_dir, is_file

if TYPE_CHECKING:
    import torch

    from figureground.core.method import Method
    from figureground.data.samples import Pixels


def choose_device(name: str) -> torch.device:
    """Turn `auto`, `cpu`, `cuda`, `cuda:1`, `mps` into a device.

    Raises:
        UserError: There is no such device.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device={name} is not available; use auto or cpu") from error
    return torch.device(name)


def load(ckpt: str, device: str) -> Method:
    """Load the method in checkpoint `ckpt`, in the memory format that convolves fastest."""
    import torch

    from figureground.core.checkpoint import load_method

    return load_method(ckpt, choose_device(device)).to(memory_format=torch.channels_last)


def choose_refinement(method: Method, how: str | None) -> None:
    """Let `method` refine its masks so, whatever it was trained with; None leaves it.

    Raises:
        UserError: It cannot.
    """
    if how is None:
        return
    if not hasattr(method, "refine"):
        raise UserError(
            f"{type(method).__name__} does not refine masks; leave refine=... out, or give a "
            "checkpoint of method=segmenter"
        )
    method.refine = how  # type: ignore[assignment]  # modules have any attribute


def find_pictures(inputs: str | Sequence[str], option: str = "input") -> list[tuple[Path, Path]]:
    """Find pictures in files, folders and patterns.

    Args:
        inputs: One, or a list of them.
        option: Name of the option that gave them, for messages.

    Returns:
        Pairs of a file and the relative path without ending that its results are named by; these
        are unique: files that differ in their ending only keep it in the name, those of the same
        name in several inputs are put below the name of their folder, or numbered.

    Raises:
        DataError: An input matches nothing.
    """
    from figureground.data.reading import list_pictures

    found: list[tuple[Path, Path]] = []  # File and the folder its name is relative to.
    for entry in [inputs] if isinstance(inputs, str) else inputs:
        path = Path(entry)
        if is_dir(path):
            new = [(file, path) for file in list_pictures(path)]
        elif is_file(path):
            new = [(path, path.parent)]
        else:
            files = sorted(glob(entry, recursive=True))  # noqa: PTH207 - absolute patterns too
            new = [(Path(file), Path(file).parent) for file in files]
        if not new:
            raise DataError(
                f"{option}={entry} matches no picture; expected a file, a folder or a pattern"
            )
        found += new
    # A picture found twice, by its folder and by a pattern, is one picture.
    unique = {file.absolute(): (file, root) for file, root in reversed(found)}
    return _name_results(list(reversed(unique.values())))


def _name_results(found: list[tuple[Path, Path]]) -> list[tuple[Path, Path]]:
    """Pair each file with the shortest name that no other has."""
    levels: list[list[Path]] = [[], [], [], []]
    for file, root in found:
        relative = file.relative_to(root)
        stem, full = relative.with_suffix(""), relative.with_name(relative.name.replace(".", "_"))
        folder = root.resolve().name
        for level, name in zip(levels, (stem, full, folder / stem, folder / full), strict=True):
            level.append(name)
    counts = [Counter(level) for level in levels]
    taken: set[Path] = set()
    named = []
    for (file, _), *names in zip(found, *levels, strict=True):
        wanted = next(
            (name for name, count in zip(names, counts, strict=True) if count[name] == 1), names[-1]
        )
        name, number = wanted, 2
        while name in taken:  # Folders of the same name in different places.
            name, number = wanted.with_name(f"{wanted.name}_{number}"), number + 1
        taken.add(name)
        named.append((file, name))
    return named


def require_readable(
    pictures: list[tuple[Path, Path]], skip: bool = False, *, can_skip: bool = False
) -> list[tuple[Path, Path]]:
    """Open every picture once; list all that cannot be read.

    Args:
        pictures: As `find_pictures` returns them.
        skip: Leave these out.
        can_skip: Whether the command has an option for that, which is then named.

    Raises:
        DataError: Some cannot, and `skip` is off.
    """
    from figureground.core.signals import watching
    from figureground.data.reading import open_picture

    good, problems = [], []
    with watching() as stop:
        for file, name in pictures:
            stop.check()
            try:
                open_picture(file)
                good.append((file, name))
            except DataError as error:
                problems.append(str(error).split("; run prepare")[0])
    if problems and not skip:
        raise DataError(
            f"{len(problems)} of {len(pictures)} pictures cannot be read:",
            *problems,
            f"mend or remove them{', or add on_error=skip' if can_skip else ''}",
        )
    return good


def write_png(path: Path, pixels: Pixels) -> None:
    """Write `pixels` to `path`, whole or not at all."""
    from figureground.core.io import atomic_write
    from figureground.viz.grids import save_png

    with atomic_write(path) as file:
        save_png(pixels, file)
