"""Weights of generators: released files in, one safetensors with options and checksum out.

A file of the wrong kind is named for what it is: each family in this package is asked whether it
knows the content.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import pkgutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

import figureground.generators
from figureground.core.checkpoint import ConvertedWeights, check_fits
from figureground.core.content import explaining_damage
from figureground.core.errors import CheckpointError
from figureground.core.io import atomic_write
from figureground.core.plain import copy_options
from figureground.core.released import read_metadata, read_released
from figureground.generators.base import IGNORED, ImageGenerator, option_names
from figureground.generators.choices import STORED, advise_choice

FORMAT = 1
_KEY = "figureground_generator"  # Of our header in a safetensors file.


def families() -> Iterator[type[ImageGenerator]]:
    """All families of this package, by module name."""
    for info in pkgutil.iter_modules(figureground.generators.__path__):
        module = importlib.import_module(f"{figureground.generators.__name__}.{info.name}")
        for value in list(vars(module).values()):  # A warning adds a name to it.
            is_family = isinstance(value, type) and issubclass(value, ImageGenerator)
            if is_family and value.__module__ == module.__name__ and hasattr(value, "card"):
                yield value


def find_missing(family: type[ImageGenerator], weights: str | None) -> list[str]:
    """Say that the file `weights` does not exist and where such files come from, or nothing."""
    if weights is None:
        return []
    try:
        if os.path.isfile(family.find_file(weights)):  # noqa: PTH113 - names of any length
            return []
    except CheckpointError as error:
        return [str(error)]
    card = family.card
    return [
        f"weights={weights[:200]} does not exist; expected {card.files} of the project "
        f"{card.project} (licence: {card.licence}). Nothing is downloaded here: fetch it yourself "
        "and give its path, or weights=null for random weights"
    ]


def load_weights(network: ImageGenerator, path: str | Path) -> None:
    """Fill `network` from a released file or from one of ours.

    Raises:
        CheckpointError: The file is missing, damaged or unsafe, or belongs to another family or
            to a network of other sizes; the message says which.
    """
    family = type(network)
    found = read_weights(family, path)
    mine, theirs = family.simplify(network.options), family.simplify(found.options)
    if wrong := [name for name in theirs if mine[name] not in (theirs[name], STORED)]:
        hint = " ".join(f"{name}={found.options[name]}" for name in wrong)
        now = ", ".join(f"{name}={network.options[name]}" for name in wrong)
        choice = advise_choice(family, found.options)
        raise CheckpointError(
            f"{path} holds {describe(family, found.options)}, not one with {now}; set {hint}"
            f"{f', which {choice} has' if choice else ''}"
        )
    _require_fit(network, found.state_dict, path, found.options)
    network.load_state_dict(found.state_dict)
    network.adopt(found.options)


def read_weights(family: type[ImageGenerator], path: str | Path) -> ConvertedWeights:
    """Read a file of weights of a family and what options follow from it.

    Raises:
        CheckpointError: See `load_weights`.
    """
    if problems := find_missing(family, str(path)):
        raise CheckpointError(problems[0])
    given, path = Path(path), family.find_file(path)
    if (header := read_header(path)) is not None:
        return _read_own(family, path, header)
    content = read_released(path, ignored=IGNORED)
    try:
        with explaining_damage(path):
            converted = family.convert(content)
    except CheckpointError as error:
        others = [
            f"{describe(other, found.options)}{f' ({choice})' if choice else ''}"
            for other in families()
            if other is not family and (found := _try(other, content)) is not None
            for choice in [advise_choice(other, found.options)]
        ]
        guess = f"it looks like {others[0]}" if others else f"{error}"
        raise CheckpointError(
            f"{path} is not a file of {family.card.family}: {guess}. Expected {family.card.files} "
            f"of the project {family.card.project}"
        ) from error
    family.check_beside(given, converted.options)
    return converted


def save_weights(
    family: type[ImageGenerator], found: ConvertedWeights, path: str | Path, source: str
) -> None:
    """Write weights as one safetensors with options, source and checksum in its header.

    Args:
        family: What they are for.
        found: As `read_weights` gives it.
        path: Where to.
        source: Name of the file they came from.

    Raises:
        WriteError: The file cannot be written.
    """
    state = {key: tensor.detach().contiguous().clone() for key, tensor in found.state_dict.items()}
    header = {
        "format": FORMAT,
        "family": name_of(family),
        "options": found.options,
        "source": source,
        "project": family.card.project,
        "licence": family.card.licence,
        "sha256": checksum(state),
    }
    content = save(state, {_KEY: json.dumps(header)})
    with atomic_write(path) as file:
        file.write(content)


def checksum(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes of all tensors, in the order of names."""
    digest = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key].detach().cpu().contiguous()
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def describe(family: type[ImageGenerator], options: Mapping[str, Any]) -> str:
    """One phrase for a network, such as `StyleGAN2-ADA with resolution=512, num_classes=0`."""
    sizes = ", ".join(f"{name}={value}" for name, value in options.items())
    return f"{family.card.family} with {sizes}" if sizes else family.card.family


def read_header(path: str | Path) -> dict[str, Any] | None:
    """What one of our files says of itself: `family`, `options`, `source`, ...; None for others.

    Raises:
        CheckpointError: The header is unreadable, or of a later version.
    """
    text = read_metadata(path).get(_KEY)
    if text is None:
        return None
    try:
        facts = json.loads(text)
        version, _, facts["options"] = facts["format"], facts["family"], dict(facts["options"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError(f"{path} has an unreadable header; convert the file again") from error
    try:
        facts = copy_options(facts, "the header")
    except CheckpointError as error:
        raise CheckpointError(f"{path}: an option or fact cannot be taken: {error}") from error
    if version != FORMAT:
        raise CheckpointError(f"{path} has format {version}, known is {FORMAT}; convert it again")
    if odd := [k for k, v in facts["options"].items() if not _is_plain(v)]:
        raise CheckpointError(f"{path} has an option that is no plain value: {odd[0]}")
    return facts  # type: ignore[no-any-return]  # a dict, as its keys were asked for


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_plain(each) for each in value)
    return not isinstance(value, dict)


def require_known(family: type[ImageGenerator], options: Mapping[str, Any], path: Path) -> None:
    """Raise `CheckpointError` unless all options that a file names are those of its family."""
    if unknown := sorted(set(options) - option_names(family) | ({"weights"} & set(options))):
        raise CheckpointError(f"{path} names options that do not exist: {', '.join(unknown)}")


def require_shapes(family: type[ImageGenerator], options: Mapping[str, Any], path: Path) -> None:
    """Check that a network of `options` has the names and shapes that stand in one of our files.

    Nothing of its size is allocated: a header may ask for any width.

    Raises:
        CheckpointError: It has others, or there is no such network.
    """
    try:
        with torch.device("meta"):
            network = family(**options)
            with safe_open(path, "pt") as file:
                stored = {key: torch.empty(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 - no dict
    except Exception as error:  # Sizes beyond all numbers provoke any.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path} holds no {describe(family, options)} ({reason}); convert the file again"
        ) from error
    _require_fit(network, stored, path, options)


def _require_fit(
    network: ImageGenerator, state: Mapping[str, Tensor], path: str | Path, told: Mapping[str, Any]
) -> None:
    """As `check_fits`, but the message ends with what the file says of itself."""
    try:
        check_fits(network, state, path)
    except CheckpointError as error:
        what = describe(type(network), told)
        raise CheckpointError(
            f"{str(error).partition('. Use the method')[0]}. It holds {what}"
        ) from error


def _read_own(
    family: type[ImageGenerator], path: Path, facts: Mapping[str, Any]
) -> ConvertedWeights:
    name, options = facts["family"], facts["options"]
    if name != name_of(family):
        raise CheckpointError(
            f"{path} is not a file of {family.card.family}: it holds weights of {name}"
        )
    require_known(family, options, path)
    state = read_released(path)
    if checksum(state) != facts.get("sha256"):
        raise CheckpointError(f"{path} is damaged (its checksum differs); convert the file again")
    return ConvertedWeights(options, state, [name])


def name_of(family: type[ImageGenerator]) -> str:
    """How headers of our files name a family."""
    return f"{family.__module__.rpartition('.')[2]}.{family.__name__}"


def _try(family: type[ImageGenerator], content: Any) -> ConvertedWeights | None:
    """Convert, or None where the content is of another family or not even looked at right."""
    try:
        return family.convert(content)
    except Exception:  # A family may trip over anything that is not its own.
        return None
