"""The authors' `model.pkl` as our state dict (spec of their keys in README.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from figureground.core.checkpoint import ConvertedWeights
from figureground.core.content import explained
from figureground.core.errors import CheckpointError, RefusedFileError
from figureground.core.plain import strip_attributes
from figureground.core.released import require_no_bomb, require_stored

_ENCODER = "encoder.encoder."
_RENAMED = {
    "prototypes": "prototype_params", "backgrounds": "bkg_params", "masks": "mask_params",
}  # fmt: skip
_PICTURES = {
    "prototype_params": "model.sprites.color",
    "mask_params": "model.sprites.mask",
    "bkg_params": "model.sprites.background",
}
_REGRESSOR = re.compile(
    r"(?:(sprite_transformers)\.(\d+)|(layer_transformer|bkg_transformer))"
    r"\.tsf_sequences\.(\d+)\.tsf_modules\.(\d+)\.regressor\.(\d+)\.(weight|bias)"
)
_GROUPS = {
    "sprite_transformers": "sprite_group",
    "layer_transformer": "layer_group",
    "bkg_transformer": "background_group",
}
_OCCLUSION = re.compile(r"occ_predictor\.(\d+)\.(weight|bias)")


#: Their option -> ours, where the value is the same.
_OPTIONS = {
    "n_sprites": "num_sprites", "n_objects": "num_layers", "n_backgrounds": "num_backgrounds",
    "transformation_sequence": "sprite_transform",
    "transformation_sequence_bkg": "background_transform",
    "transformation_sequence_layer": "layer_transform", "inject_noise": "mask_noise",
    "greedy_algo_iter": "greedy_sweeps", "add_empty_sprite": "empty_sprite",
    "lambda_empty_sprite": "empty_penalty", "gaussian_weights_std": "mask_std",
    "grid_size": "grid_size", "kernel_size": "kernel_size", "n_hidden_layers": "hidden_layers",
}  # fmt: skip
#: What theirs are where a file does not say.
_DEFAULTS: dict[str, Any] = {
    "n_objects": 1, "n_backgrounds": 0, "transformation_sequence_layer": "identity",
    "transformation_sequence_bkg": "identity", "inject_noise": 0.0, "greedy_algo_iter": 1,
    "add_empty_sprite": False, "lambda_empty_sprite": 0.0, "grid_size": 4, "kernel_size": 3,
    "n_hidden_layers": 2, "n_linear_layers": 2, "encoder_name": "resnet20", "with_pool": True,
    "use_clamp": "soft", "padding_mode": "zeros",
}  # fmt: skip
_SOFT_CLAMP = re.compile(r"(?:soft|leaky_relu)(\d*\.?\d*)")
_CLAMPS: dict[object, str] = {
    True: "hard", "clamp": "hard", "normal": "hard", "diff": "straight", False: "none",
    None: "none", "none": "none",
}  # fmt: skip


@explained
def convert_checkpoint(path: Path) -> ConvertedWeights:
    """Read one of the authors' `model.pkl`; nothing in it is run.

    It counts as fully trained: all transformations are active and nothing is frozen, also when it
    is trained on.

    Raises:
        CheckpointError: Not such a file, its keys are unknown, or its model computes something
            that ours cannot.
    """
    expected = "expected the authors' model.pkl with model_kwargs and model_state"
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file; {expected}")
    try:
        require_no_bomb(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        strip_attributes(content)
        require_stored(content)
    except Exception as error:  # Of damaged or foreign files torch raises nearly anything.
        raise RefusedFileError(
            f"{path} is not one of the authors' DTI-Sprites files, or it holds more than weights "
            "and options; it was refused and nothing in it was run"
        ) from error
    if not isinstance(content, Mapping) or not {"model_kwargs", "model_state"} <= set(content):
        raise CheckpointError(f"{path} is not a DTI-Sprites file; {expected}")
    theirs, state = content["model_kwargs"], content["model_state"]
    if not isinstance(theirs, Mapping) or not isinstance(state, Mapping):
        raise CheckpointError(f"{path} has no plain options and weights; {expected}")
    try:
        options = _read_options(theirs)
        converted = convert_state(state, options["num_sprites"] + options["empty_sprite"])
        if options["hidden_layers"]:
            options["hidden_width"] = next(
                tensor.shape[-1] for key, tensor in converted.items() if key.endswith("biases.0")
            )
    except (KeyError, StopIteration, RuntimeError) as error:
        raise CheckpointError(f"{path} lacks {error}; {expected}") from error
    converted["has_begun"] = torch.tensor(True)  # So that training on keeps the sprites.
    converted["trained_until"] = torch.tensor(torch.iinfo(torch.long).max)
    return ConvertedWeights(options, converted, ["model"])


def _read_options(theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Our options from the model section of their configuration.

    Raises:
        CheckpointError: It asks for something that our model cannot compute.
    """
    # Only of a clamp does nothing mean something else than the default.
    given = _DEFAULTS | {k: v for k, v in theirs.items() if v is not None or k == "use_clamp"}
    options = {ours: given[name] for name, ours in _OPTIONS.items() if name in given}
    for name in ("sprite_transform", "layer_transform", "background_transform"):
        if options[name] == "id":
            options[name] = "identity"
    options["encoder"] = given["encoder_name"]
    pool = given["with_pool"]
    options["encoder_pool"] = list(pool) if isinstance(pool, list | tuple) else [1, 1]
    options["sprite_size"] = list(given["sprite_size"]) if "sprite_size" in given else None
    options["occlusion"] = "predicted" if given.get("pred_occlusion") else "fixed"
    options["selection"] = "greedy" if given.get("estimate_minimum") else "exhaustive"
    options["clamp"], options["clamp_slope"] = _read_clamp(given["use_clamp"])
    if options["selection"] == "exhaustive" or not options["empty_sprite"]:
        options["empty_penalty"] = 0.0  # It has no part in their error either.
    _require_supported(given, options)
    return options


def _read_clamp(name: object) -> tuple[str, float]:
    """Our clamp and its slope."""
    if isinstance(name, str) and (found := _SOFT_CLAMP.fullmatch(name)):
        return "soft", float(found[1] or 0.01)
    if isinstance(name, str | bool | None) and name in _CLAMPS:
        return _CLAMPS[name], 0.01
    raise CheckpointError(_refuse("use_clamp", name, "soft, soft0.1, clamp, diff or none"))


def _require_supported(given: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Refuse what ours computes in one way only."""
    if not given["with_pool"]:
        raise CheckpointError(_refuse("with_pool", given["with_pool"], "true or [rows, columns]"))
    if given["padding_mode"] != "zeros":
        raise CheckpointError(_refuse("padding_mode", given["padding_mode"], "zeros"))
    if options["occlusion"] == "fixed" or options["num_layers"] == 1:
        return  # Of one option these are the predictor's of the occlusion.
    norm, layers = given.get("norm_layer"), given["n_linear_layers"]
    if norm not in (None, "id", "identity"):
        raise CheckpointError(_refuse("norm_layer", norm, "none"))
    if layers != options["hidden_layers"]:
        wanted = f"n_hidden_layers={options['hidden_layers']} (all predictors have the same)"
        raise CheckpointError(_refuse("n_linear_layers", layers, wanted))


def _refuse(name: str, value: object, expected: str) -> str:
    return (
        f"{name}={value} in the file's model_kwargs cannot be converted; expected {expected}. "
        "Convert a model that was trained so"
    )


def convert_state(state: Mapping[str, Tensor], num_choices: int) -> dict[str, Tensor]:
    """Rename and stack the tensors of a `model_state`.

    Args:
        state: Tensors under the authors' names; aliases of the shared encoder are ignored.
        num_choices: Sprites, the empty one included.

    Returns:
        Tensors under ours, without buffers that start empty.

    Raises:
        CheckpointError: A tensor that belongs to the model is not known, or a transformation was
            not active yet.
    """
    ours: dict[str, Tensor] = {}
    stacks: dict[tuple[str, str, int, str], dict[int, Tensor]] = {}
    for key, tensor in state.items():
        name = key.removeprefix("module.")
        name = _RENAMED.get(name, name)
        if name in _PICTURES:
            ours[_PICTURES[name]] = tensor
        elif name.startswith(_ENCODER):
            ours["model.encoder.trunk." + name.removeprefix(_ENCODER)] = tensor
        elif found := _REGRESSOR.fullmatch(name):
            if tensor.numel():
                _collect(stacks, found, tensor, num_choices)
        elif found := _OCCLUSION.fullmatch(name):
            stacks.setdefault(("occlusion_predictor", "", int(found[1]), found[2]), {})[0] = tensor
        elif name.endswith(".activations") and not _is_active(state, key):
            raise CheckpointError(
                f"{key}={tensor.tolist()}: the file was saved before its curriculum had ended, and "
                "what joins later would be taken for active; expected one with all active"
            )
        elif not _is_constant(name):
            raise CheckpointError(
                f"{key} is not a tensor of DTI-Sprites; expected the model_state of the authors' "
                "model.pkl"
            )
    return ours | _stack(stacks)


def _collect(
    stacks: dict[tuple[str, str, int, str], dict[int, Tensor]],
    found: re.Match[str],
    tensor: Tensor,
    num_choices: int,
) -> None:
    owner, layer, sequence = found[1] or found[3], int(found[2] or 0), int(found[4])
    row = layer * num_choices + sequence if found[1] else sequence
    entry = (_GROUPS[owner], f"regressors.{found[5]}.", int(found[6]), found[7])
    stacks.setdefault(entry, {})[row] = tensor


def _stack(stacks: dict[tuple[str, str, int, str], dict[int, Tensor]]) -> dict[str, Tensor]:
    """Stack rows, and number linear layers 0, 1, 2 instead of by their place in a sequence."""
    places: dict[tuple[str, str], list[int]] = {}
    for owner, module, place, _ in stacks:
        found = places.setdefault((owner, module), [])
        if place not in found:
            found.append(place)
    ours = {}
    for (owner, module, place, kind), rows in stacks.items():
        number = sorted(places[owner, module]).index(place)
        tensor = torch.stack([rows[row] for row in sorted(rows)])
        tensor = tensor.mT if kind == "weight" else tensor.unsqueeze(1)
        name = "weights" if kind == "weight" else "biases"
        ours[f"model.{owner}.{module}{name}.{number}"] = tensor.contiguous()
    return ours


def _is_active(state: Mapping[str, Tensor], key: str) -> bool:
    """Whether all modules of a sequence are active, by its flags `key`."""
    start = key.removesuffix("activations") + "tsf_modules."
    modules = {k.removeprefix(start).partition(".")[0] for k in state if k.startswith(start)}
    # Flags of another number say nothing.
    return state[key].numel() != len(modules) or bool(state[key].all())


def _is_constant(name: str) -> bool:
    """Whether a tensor follows from the options or repeats the encoder."""
    return (
        name == "occ_grid"
        or ".encoder." in name
        or name.endswith((".activations", ".identity"))
        or ".tps_grid." in name
    )
