"""From the authors' ReDO files to ours: one table of names, nothing else is special.

Their files are pickles of PyTorch 1.0 that hold state dicts under `netEncM` (M), `netGenX` (X),
`netDX` (D) and `netRecZ` (Z), one of them or all, an `argparse.Namespace` with the options, and in
training files optimiser states, which are left behind.
"""

from __future__ import annotations

import argparse
import re
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from figureground.core.checkpoint import ConvertedWeights
from figureground.core.content import explained
from figureground.core.errors import CheckpointError, RefusedFileError
from figureground.core.plain import strip_attributes
from figureground.core.released import require_no_bomb, require_stored

#: Their network -> ours.
NETWORKS = {
    "netEncM": "mask_net",
    "netGenX": "generators",
    "netDX": "discriminator",
    "netRecZ": "encoder",
}

#: For each of our networks: pattern of their key -> our key. `{n}` stands for group n of the
#: pattern, `{n:-1}` for the number below it.
TABLE: dict[str, tuple[tuple[str, str], ...]] = {
    "mask_net": (
        (r"cnn\.0\.mods\.(\d+)\.", r"stem.{0:-1}."),
        (r"cnn\.(\d+)\.blocs\.(\d+)\.", r"blocks.{0:-1}.body.{1}."),
        (r"cnn\.(\d+)\.activationF\.0\.", r"blocks.{0:-1}.norm."),
        (r"psp\.(\d+)\.1\.", r"pyramid.{0}.1."),
        (r"out\.mods\.1\.", r"grow.0.conv."),
        (r"out\.mods\.2\.", r"grow.0.norm."),
        (r"out\.mods\.5\.", r"grow.1.conv."),
        (r"out\.mods\.6\.", r"grow.1.norm."),
        (r"out\.mods\.9\.", r"head."),
    ),
    "generators": (
        (r"net\.(\d+)\.dense\.", r"regions.{0}.dense."),
        (r"net\.(\d+)\.convA\.(\d+)\.1\.", r"regions.{0}.blocks.{1}.conv_a."),
        (r"net\.(\d+)\.convB\.(\d+)\.", r"regions.{0}.blocks.{1}.conv_b."),
        (r"net\.(\d+)\.sc\.(\d+)\.1\.", r"regions.{0}.blocks.{1}.shortcut."),
        (r"net\.(\d+)\.(gamma|beta)A\.(\d+)\.", r"regions.{0}.blocks.{2}.norm_a.{1}."),
        (r"net\.(\d+)\.(gamma|beta)B\.(\d+)\.", r"regions.{0}.blocks.{2}.norm_b.{1}."),
        (r"net\.(\d+)\.(gamma|beta)Out\.", r"regions.{0}.norm.{1}."),
        (r"net\.(\d+)\.convOut\.", r"regions.{0}.head."),
        (r"net\.(\d+)\.selfAtt\.", r"regions.{0}.attention."),
    ),
    "discriminator": (
        (r"bloc0\.0\.", r"trunk.blocks.0.conv_a."),
        (r"bloc0\.2\.", r"trunk.blocks.0.conv_b."),
        (r"sc0\.1\.", r"trunk.blocks.0.shortcut."),
        (r"selfAtt\.", r"trunk.attention."),
        (r"blocs\.4\.1\.", r"trunk.last.conv_a."),
        (r"blocs\.4\.3\.", r"trunk.last.conv_b."),
        (r"blocs\.(\d+)\.1\.", r"trunk.blocks.{0:+1}.conv_a."),
        (r"blocs\.(\d+)\.3\.", r"trunk.blocks.{0:+1}.conv_b."),
        (r"sc\.(\d+)\.1\.", r"trunk.blocks.{0:+1}.shortcut."),
        (r"dense\.", r"head."),
    ),
    "encoder": (
        (r"net\.blocs\.0\.0\.", r"trunk.blocks.0.conv_a."),
        (r"net\.blocs\.0\.2\.", r"trunk.blocks.0.conv_b."),
        (r"net\.blocs\.5\.1\.", r"trunk.last.conv_a."),
        (r"net\.blocs\.5\.3\.", r"trunk.last.conv_b."),
        (r"net\.blocs\.(\d+)\.1\.", r"trunk.blocks.{0}.conv_a."),
        (r"net\.blocs\.(\d+)\.3\.", r"trunk.blocks.{0}.conv_b."),
        (r"net\.sc\.(\d+)\.1\.", r"trunk.blocks.{0}.shortcut."),
        (r"net\.dense\.", r"head."),
    ),
}

#: Within an attention block: their letters -> our words.
_ATTENTION = {"gamma": "gate", "f": "query", "g": "key", "h": "value", "o": "output"}
_NORMALISED = "parametrizations.weight"


@explained
def convert_checkpoint(path: Path) -> ConvertedWeights:
    """Read one of the authors' files; nothing in it is run.

    Args:
        path: A file with all networks, with one, or with a training state.

    Raises:
        CheckpointError: Not such a file, or its keys are unknown.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file; expected the authors' ReDO weights (.pth)")
    try:
        with (
            torch.serialization.safe_globals([argparse.Namespace]),
            warnings.catch_warnings(action="ignore"),  # Old pickles are what is expected here.
        ):
            require_no_bomb(path)
            content = torch.load(path, map_location="cpu", weights_only=True)
            strip_attributes(content)
            require_stored(content)
    except Exception as error:  # Whatever a crafted file provokes means the same.
        raise RefusedFileError(
            f"{path} is not one of the authors' ReDO files, or it holds more than weights and "
            "options; it was refused and nothing in it was run"
        ) from error
    if not isinstance(content, Mapping) or not set(NETWORKS) & set(content):
        keys = ", ".join(map(str, content))[:80] if isinstance(content, Mapping) else "no dict"
        raise CheckpointError(
            f"{path} has none of {', '.join(NETWORKS)} (found: {keys}); it is not a ReDO file"
        )
    state: dict[str, Tensor] = {}
    networks = []
    options: dict[str, Any] = {}
    for theirs, ours in NETWORKS.items():
        if theirs in content:
            converted, sizes = _read_network(path, theirs, content[theirs])
            state |= {f"{ours}.{key}": tensor for key, tensor in converted.items()}
            options |= sizes
            networks.append(ours)
    options |= _read_options(content.get("options"))
    if "encoder" not in networks and len(networks) > 1:
        options["latent_weight"] = 0.0
    return ConvertedWeights(options, state, networks)


def _read_network(path: Path, name: str, state: object) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Convert one network of the file at `path`; return its weights and the options they show."""
    if (
        not isinstance(state, Mapping)
        or not state
        or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items())
    ):
        raise CheckpointError(
            f"{path}: {name} is not a state dict; expected names with tensors, as the authors' "
            "script saves them"
        )
    try:
        converted = convert_network(name, state)
        return converted, _infer_options(NETWORKS[name], converted)
    except (KeyError, IndexError, RuntimeError) as error:  # Weights are missing or misshapen.
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{path}: {name} is not the authors' network, or a part of it only ({reason}); "
            "expected all of its weights"
        ) from error


def convert_network(name: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the state dict of one of their networks (`netEncM`, ...) to ours.

    Raises:
        CheckpointError: A key is unknown.
    """
    ours = NETWORKS[name]
    converted = {}
    for key, tensor in _complete_norms(state).items():
        converted[_rename(ours, key, name)] = tensor
    return converted


def convert_attention(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the state dict of their attention block alone."""
    return {_rename_attention(key): tensor for key, tensor in _complete_norms(state).items()}


def _rename(ours: str, key: str, name: str) -> str:
    for pattern, replacement in TABLE[ours]:
        found = re.match(pattern, key)
        if found:
            prefix = re.sub(r"\{(\d)(?::([+-]1))?\}", partial(_fill, found), replacement)
            rest = key[found.end() :]
            if prefix.endswith("attention."):
                return prefix + _rename_attention(rest)
            return prefix + _rename_norm(rest)
    raise CheckpointError(f"{name} has the unknown key {key}; it is not the authors' network")


def _fill(found: re.Match[str], slot: re.Match[str]) -> str:
    value = found[int(slot[1]) + 1]
    return str(int(value) + int(slot[2])) if slot[2] else value


def _rename_attention(key: str) -> str:
    first, dot, rest = key.partition(".")
    return _ATTENTION[first] + (f".{_rename_norm(rest)}" if dot else "")


def _rename_norm(key: str) -> str:
    names = {"weight_orig": "original", "weight_u": "0.u", "weight_v": "0.v"}
    return f"{_NORMALISED}.{names[key]}" if key in names else key


def _complete_norms(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Reconstruct right singular vectors that older files lack; drop their normalised weights."""
    complete = dict(state)
    for key in [key for key in state if key.endswith("weight_orig")]:
        stem = key.removesuffix("_orig")
        normalised = complete.pop(stem, None)
        if f"{stem}_v" in state or f"{stem}_u" not in state:
            continue
        matrix, left = state[key].flatten(1).double(), state[f"{stem}_u"].double()
        right = torch.linalg.pinv(matrix.mT @ matrix) @ matrix.mT @ left
        if normalised is not None:
            # Scaled so that u'Wv is the sigma the file's own normalised weight was made with.
            sigma = (state[key].double() / normalised.double()).mean()
            right = right * (sigma / torch.dot(left, matrix @ right))
        complete[f"{stem}_v"] = right.to(state[key].dtype)
    return complete


def _infer_options(ours: str, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read sizes off the weights of one network."""
    if ours == "mask_net":
        blocks = {key.split(".")[1] for key in state if key.startswith("blocks.")}
        outputs = state["head.weight"].shape[0]
        return {
            "mask_width": state["stem.6.weight"].shape[0],
            "mask_blocks": len(blocks),
            "num_regions": 2 if outputs == 1 else outputs,
        }
    has_attention = any("attention." in key for key in state)
    if ours == "generators":
        regions = {key.split(".")[1] for key in state if key.startswith("regions.")}
        return {
            "num_regions": len(regions),
            "latent_dim": state["regions.0.dense.weight"].shape[1],
            "generator_width": state["regions.0.norm.gamma.weight"].shape[0],
            "generator_attention": has_attention,
        }
    width = state[f"trunk.blocks.0.shortcut.{_NORMALISED}.original"].shape[0]
    if ours == "discriminator":
        return {"discriminator_width": width, "discriminator_attention": has_attention}
    return {"encoder_width": width}


def _read_options(options: object) -> dict[str, Any]:
    """Take from the stored flags what weights cannot tell."""
    flags = {"nMasks": "num_regions", "nz": "latent_dim", "temperature": "temperature"}
    flags |= {"wrecZ": "latent_weight", "initOrthoGain": "init_gain"}
    given = vars(options) if isinstance(options, argparse.Namespace) else {}
    return {ours: given[theirs] for theirs, ours in flags.items() if given.get(theirs) is not None}
