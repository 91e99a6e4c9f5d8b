"""`convert`: the authors' weights to a checkpoint of this suite, or to a file of a generator."""

from __future__ import annotations

import importlib
import logging
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from figureground.cli import run
from figureground.cli.check import check_job, is_typed
from figureground.cli.trusting import explained_refusal
from figureground.core.errors import CheckpointError, UserError

if TYPE_CHECKING:
    from figureground.core.checkpoint import ConvertedWeights
    from figureground.core.method import Method

logger = logging.getLogger(__name__)


def main() -> None:
    """Entry of the command."""
    run(convert, "convert")


def convert(config: DictConfig) -> Path:
    """Read `weights`, build the method with the options found in them, and write a checkpoint.

    The method's own package knows the file format: its module `convert` has `convert_checkpoint`.
    With a `generator` its weights are converted instead, to one safetensors file, unless a `method`
    was typed, too, which then has that generator.
    """
    check_job(config)
    if config.get("generator") is not None and not is_typed("method"):
        return _convert_generator(config)
    from omegaconf import OmegaConf

    from figureground.cli.train import build_method
    from figureground.core.budget import allocation_budget
    from figureground.core.checkpoint import VerifiedCheckpointIO
    from figureground.core.config import to_plain

    output = Path(config.output or Path(config.weights).with_suffix(".ckpt").name)
    _require_free(output, config.overwrite)
    package = str(config.method._target_).rpartition(".")[0]
    try:
        converter = importlib.import_module(f"{package}.convert")
    except ModuleNotFoundError as error:
        raise UserError(
            f"{package.rpartition('.')[2]} has no converter of foreign weights"
        ) from error
    weights = Path(config.weights)
    with explained_refusal(weights, config.i_trust_this_file):
        found = converter.convert_checkpoint(weights)
    for name, value in _read_options(found, config.weights).items():
        OmegaConf.update(config.method, name, value, force_add=True)
    check_job(config)  # Anything may stand in a file.
    with allocation_budget(weights, to_plain(config)["method"]):
        method = build_method(config)
    missing = _fill(method, found, config.weights)
    checkpoint: dict[str, Any] = {
        "state_dict": method.state_dict(),
        "pytorch-lightning_version": version("pytorch-lightning"),
        "epoch": 0,
        "global_step": 0,
    }
    if missing:  # Commands that need one of them can say so.
        method.origin["missing"] = missing
    method.on_save_checkpoint(checkpoint)
    VerifiedCheckpointIO().save_checkpoint(checkpoint, output)
    logger.info("wrote %s with %s", output, ", ".join(found.networks))
    if missing:
        logger.info("not in the file, so freshly initialised: %s", ", ".join(missing))
    return output


def _read_options(found: ConvertedWeights, source: str) -> dict[str, Any]:
    """Options that follow from a file: numbers, names and lists of them, which nothing resolves.

    Raises:
        CheckpointError: One is more than that.
    """
    from figureground.core.plain import copy_options

    try:
        options: dict[str, Any] = copy_options(found.options, "options")
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    if odd := [name for name, value in options.items() if isinstance(value, dict)]:
        raise CheckpointError(f"{source}: the option {odd[0]} is a group, expected a plain value")
    return options


def _require_free(output: Path, overwrite: bool) -> None:
    if output.exists() and not overwrite:
        raise UserError(f"{output} exists; add overwrite=true or choose another output=...")


def _fill(method: Method, found: ConvertedWeights, source: str) -> list[str]:
    """Load what was found into `method`, and name its parts that were not in the file.

    Raises:
        CheckpointError: A network is there in part only, or has other shapes.
    """
    from figureground.core.checkpoint import check_fits

    state = method.state_dict()
    # What has no elements (backgrounds of a model without any) is in no file.
    missing_keys = [k for k, v in state.items() if k not in found.state_dict and v.numel()]
    absent = sorted({key.partition(".")[0] for key in missing_keys})
    if partial := [name for name in absent if name in found.networks]:
        example = next(key for key in missing_keys if key.startswith(f"{partial[0]}."))
        raise CheckpointError(
            f"{source} has a part of {partial[0]} only ({example} is missing); expected "
            "all weights of each network that is in the file"
        )
    unused = found.optional - {key.partition(".")[0] for key in state}
    taken = {k: v for k, v in found.state_dict.items() if k.partition(".")[0] not in unused}
    state.update(taken)
    check_fits(method, state, source)
    method.load_state_dict(state)
    if "ema" in absent and method.ema is not None:
        method.ema.reset()  # An average of weights begins at these.
        absent.remove("ema")
    if left := sorted(unused & {key.partition(".")[0] for key in found.state_dict}):
        logger.info("left out, as the method is built without: %s", ", ".join(left))
    # Measurements, such as those of areas, begin empty in any run: nothing is missing there.
    children = dict(method.named_children())
    return [name for name in absent if name in children and list(children[name].parameters())]


def _convert_generator(config: DictConfig) -> Path:
    """Write weights of a pretrained generator with options and checksum, and load them once."""
    from hydra.utils import get_object
    from omegaconf import OmegaConf

    from figureground.generators.loading import load_generator
    from figureground.generators.weights import read_weights, save_weights

    weights = Path(config.weights)
    family = get_object(config.generator._target_)
    with explained_refusal(family.find_file(weights), config.i_trust_this_file):
        found = read_weights(family, weights)
    chosen = OmegaConf.to_container(config.generator, resolve=True)
    for name in set(family.untold) - set(found.options):
        if isinstance(chosen, dict) and chosen.get(name) is not None:
            found.options[name] = chosen[name]
    output = Path(config.output or weights.with_suffix(".safetensors").name)
    _require_free(output, config.overwrite)
    save_weights(family, found, output, weights.name)
    try:
        network = load_generator(output)
    except Exception:
        output.unlink()  # Not a file to keep: its own generator refuses it.
        raise
    count = sum(parameter.numel() for parameter in network.parameters())
    logger.info("wrote %s: %s, %d parameters", output, family.card.family, count)
    return output
