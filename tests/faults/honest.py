"""What honest files hold, small, for hostile things to be put in (see `hostile.py`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn

from containers import CONTAINERS, SMALL
from faults import build_tiny
from figureground.core.types import Layers
from figureground.data.chunks import CHUNK
from figureground.methods.segmenter.convert import name_table
from figureground.nn.resample import fir_kernel

HEADER = "figureground_generator"  # Of converted generators.


def checkpoint(method: str) -> dict[str, Any]:
    """A checkpoint with weights, of a small network, without the state of a run."""
    built = build_tiny(method)[0]
    found: dict[str, Any] = {"state_dict": dict(built.state_dict())}
    built.on_save_checkpoint(found)
    return found


def stored(module: nn.Module, **renamed: str) -> dict[str, Any]:
    """A module as readers of pickles see it."""
    hidden = module._non_persistent_buffers_set
    buffers = {k: v for k, v in module.named_buffers(recurse=False) if k not in hidden}
    if "resample_filter" in buffers:
        buffers["resample_filter"] = fir_kernel()  # Ours has one dimension in some places.
    return {
        "state": {
            "_parameters": dict(module.named_parameters(recurse=False)),
            "_buffers": buffers,
            "_modules": {
                next((name.replace(k, v) for k, v in renamed.items() if k in name), name): stored(
                    child
                )
                for name, child in module.named_children()
            },
            "conv_clamp": 256.0,
        }
    }


def _ones(*shape: int) -> Tensor:
    return torch.ones(*shape)


def _redo() -> dict[str, Any]:
    """Their mask network, of which only what tells sizes is there."""
    network = {
        "cnn.0.mods.7.weight": _ones(4), "cnn.1.blocs.0.weight": _ones(4),
        "out.mods.9.weight": _ones(1, 4, 3, 3),
    }  # fmt: skip
    return {
        "netEncM": network,
        "options": {"wrecZ": 5.0, "nMasks": 2, "dataset": "flowers", "sizex": 128, "nz": 32},
    }


def _dti_sprites() -> dict[str, Any]:
    regressor = "layer_transformer.tsf_sequences.0.tsf_modules.0.regressor"
    return {
        "epoch": 3,
        "model_kwargs": {
            "n_sprites": 2, "n_objects": 2, "n_backgrounds": 1, "encoder_name": "resnet20",
            "transformation_sequence": "identity", "transformation_sequence_bkg": "color",
            "transformation_sequence_layer": "color_affine", "inject_noise": 0.1,
            "add_empty_sprite": True, "lambda_empty_sprite": 0.1, "use_clamp": "soft0.1",
            "gaussian_weights_std": 7, "n_hidden_layers": 1, "n_linear_layers": 1,
            "estimate_minimum": True, "pred_occlusion": True, "with_pool": [1, 2],
            "sprite_size": [8, 8], "norm_layer": None, "greedy_algo_iter": 2,
            "padding_mode": "zeros", "proto_init": {"method": "gaussian"},
        },
        "model_state": {
            "prototype_params": _ones(2, 3, 8, 8), "mask_params": _ones(2, 1, 8, 8),
            "encoder.encoder.conv.weight": _ones(2, 3, 3, 3),
            f"{regressor}.0.weight": _ones(4, 2), f"{regressor}.0.bias": _ones(4),
            "occ_predictor.0.weight": _ones(2, 2), "occ_predictor.0.bias": _ones(2),
        },
    }  # fmt: skip


def _l2ic() -> dict[str, Any]:
    return {
        "netG": {
            "parent_stage.fc.0.weight": _ones(8, 5), "jointConv.0.weight": _ones(4, 6, 3, 3),
            "second_stage.jointConv.0.weight": _ones(4, 4, 3, 3),
            "colour_stag_inverse.jointConv.0.weight": _ones(4, 7, 3, 3),
        },
        "netD": {
            "info_head.0.weight": _ones(2, 2, 3, 3), "centroids.weight": _ones(16, 2),
            "base.0.weight": _ones(2, 3, 4, 4),
        },
        "epoch": 3,
    }  # fmt: skip


def authors_files() -> dict[str, Any]:
    """What the files hold that each converter reads, by method."""
    ilsgan = build_tiny("ilsgan")[0]
    names = {"background": "bg", "foreground": "fg"}
    return {
        "dti_sprites": _dti_sprites(),
        "gan_segmenter": {
            "state_dict": {"d": _ones(1, 4)}, "iteration": 3, "cfg": {"generator": {"z_dim": 4}}
        },
        "ilsgan": {
            "G": None, "G_ema": stored(ilsgan.generator, **names), "D": None,
            "training_set_kwargs": {"path": "x", "resolution": 64},
        },
        "l2ic": _l2ic(),
        "redo": _redo(),
        "segmenter": {
            "model": {key: _ones(2) for key in name_table("ilsgan")}, "opt": {}, "cur_iter": 6
        },
    }  # fmt: skip


def family_files() -> dict[str, tuple[Any, str, Any]]:
    """Class, file name and content of a released file of each family, by its name."""
    found = {
        each.family.__name__: (each.family, each.file, each.pack())
        for each in CONTAINERS
        if each.file != "afhqwild.pkl"
    }
    (style,) = (each for each in CONTAINERS if each.file == "afhqwild.pkl")
    network = stored(style.family(**SMALL[style.family]).network)
    network["state"]["_init_kwargs"] = {"synthesis_kwargs": {"conv_clamp": 3.0}, "z_dim": 6}
    found[style.family.__name__] = (style.family, style.file, {"G_ema": network, "D": None})
    return found


def read_own(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and header of a converted generator."""
    with safe_open(path, "pt") as file:
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
        return state, json.loads(file.metadata()[HEADER])


def draw(chance: torch.Generator) -> Layers:
    """A chunk of pictures of two layers."""
    color = torch.rand(CHUNK, 2, 3, 8, 8, generator=chance) * 2 - 1
    front = torch.rand(CHUNK, 1, 1, 8, 8, generator=chance)
    return Layers(color, torch.cat([1 - front, front], dim=1))


def maps(numbers: Any) -> Any:
    """A picture, its instances and its classes."""
    flat = np.zeros((8, 8), np.uint8)
    return np.stack([flat] * 3, -1), flat, flat
