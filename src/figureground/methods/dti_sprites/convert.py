"""The authors' `model.pkl` as our state dict (spec of their keys in README.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from figureground.core.errors import CheckpointError

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


def convert_state(state: Mapping[str, Tensor], num_choices: int) -> dict[str, Tensor]:
    """Rename and stack the tensors of a `model_state`.

    Args:
        state: Tensors under the authors' names; aliases of the shared encoder are ignored.
        num_choices: Sprites, the empty one included.

    Returns:
        Tensors under ours, without buffers that start empty.

    Raises:
        CheckpointError: A tensor that belongs to the model is not known.
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


def _is_constant(name: str) -> bool:
    """Whether a tensor follows from the options or repeats the encoder."""
    return (
        name == "occ_grid"
        or ".encoder." in name
        or name.endswith((".activations", ".identity"))
        or ".tps_grid." in name
    )
