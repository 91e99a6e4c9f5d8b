"""Files of released generators as their projects write them, small and with random weights."""

from __future__ import annotations

import pickle
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from figureground.core.checkpoint import ConvertedWeights
from figureground.generators.base import ImageGenerator
from figureground.generators.bigbigan import BigBiGAN
from figureground.generators.biggan import BigGANDeep
from figureground.generators.cips import CIPS
from figureground.generators.dcgan import DCGAN
from figureground.generators.self_conditioned import SelfConditionedGAN
from figureground.generators.studiogan import StudioGAN
from figureground.generators.stylegan2 import StyleGAN2
from figureground.generators.weights import save_weights

DCGAN_OPTIONS = {"resolution": 16, "latent_dim": 6, "width": 2}

Write = Callable[[Path, dict[str, Any]], None]


def write_zip(path: Path, content: dict[str, Any]) -> None:
    torch.save(content, path)


def write_legacy(path: Path, content: dict[str, Any]) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def write_pickle(path: Path, content: dict[str, Any]) -> None:
    path.write_bytes(pickle.dumps(content))


def write_tensors(path: Path, content: dict[str, Any]) -> None:
    save_file(content, path)


KINDS = [write_zip, write_legacy, write_pickle, write_tensors]
PICKLES = KINDS[:3]


class Stored:
    """A module as the authors' containers hold it: a call with a dict that carries source text."""

    def __init__(self, module: nn.Module, source: str = "", **more: Any) -> None:
        self.state = {
            "_parameters": dict(module.named_parameters(recurse=False)),
            "_buffers": {
                key: tensor
                for key, tensor in module.named_buffers(recurse=False)
                if key not in module._non_persistent_buffers_set
            },
            "_modules": {name: Stored(child, source) for name, child in module.named_children()},
            **more,
        }
        self.source = source

    def __reduce__(self) -> Any:
        meta = {"type": "class", "version": 6, "module_src": self.source, "class_name": "G"}
        return _reconstruct_persistent_obj, ({**meta, "state": self.state},)


def _reconstruct_persistent_obj(meta: Any) -> Any:
    raise AssertionError("stored source was run")


def provide_persistence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for the authors' packages, as far as writing a container needs them."""
    module = ModuleType("torch_utils.persistence")
    module._reconstruct_persistent_obj = _reconstruct_persistent_obj  # type: ignore[attr-defined]
    monkeypatch.setattr(_reconstruct_persistent_obj, "__module__", "torch_utils.persistence")
    monkeypatch.setitem(sys.modules, "torch_utils", ModuleType("torch_utils"))
    monkeypatch.setitem(sys.modules, "torch_utils.persistence", module)


def dcgan_state() -> dict[str, Tensor]:
    return DCGAN(**DCGAN_OPTIONS).main.state_dict(prefix="main.")


def cips_state(**options: Any) -> dict[str, Tensor]:
    """A state dict under the authors' names."""
    table = [
        (r"^waves\.", "lff.ffm.conv."),
        (r"^places$", "emb.input"),
        (r"^mapping\.", "style."),
        (
            r"^to_rgbs\.0\.",
            "to_rgb_last." if options.get("architecture") == "res" else "to_rgbs.0.",
        ),
        (r"\.skip\.weight", ".skip.0.weight"),
        (r"\.affine\.", ".conv.modulation."),
        (r"^((?:conv1|linears|to_rgb).*)(?<!skip\.0)(?<!modulation)\.weight$", r"\1.conv.weight"),
        (r"\.noise_strength$", ".noise.weight"),
        (r"^((?:conv1|linears).*)(?<!modulation)\.bias$", r"\1.activate.bias"),
    ]
    state = {}
    for key, tensor in CIPS(**options).state_dict().items():
        for pattern, replacement in table:
            key = re.sub(pattern, replacement, key)
        if key.endswith(".conv.weight") and not key.startswith("lff"):
            tensor = tensor[None]
        if key.startswith("to_rgb") and key.endswith(".bias") and "modulation" not in key:
            tensor = tensor[None, :, None, None]
        state[key] = tensor.clone()
    return state


def style_container(**more: Any) -> dict[str, Any]:
    network = StyleGAN2(resolution=16, latent_dim=6, style_dim=5, channel_base=64, channel_max=4)
    kwargs = {"synthesis_kwargs": {"conv_clamp": 3.0}}
    return {"G": None, "G_ema": Stored(network.network, _init_kwargs=kwargs, **more), "D": None}


#: Of a small network of each family.
SMALL: dict[type[ImageGenerator], dict[str, Any]] = {
    BigGANDeep: {
        "resolution": 16, "shapes": [[True, 4, 2], [True, 2, 1]], "width": 4, "latent_dim": 3,
        "num_classes": 3, "embedding_dim": 2, "attention_after": None, "num_levels": 3,
    },
    BigBiGAN: {
        "resolution": 32, "width": 2, "latent_dim": 8, "embedding_dim": 2, "embedding_rows": 3,
        "attention_after": None,
    },
    StudioGAN: {
        "resolution": 32, "architecture": "resnet", "width": 2, "latent_dim": 6, "num_classes": 3,
        "attention_after": None,
    },
    SelfConditionedGAN: {
        "resolution": 32, "width": 2, "latent_dim": 6, "num_classes": 3, "embedding_dim": 2,
    },
    CIPS: {"resolution": 16, "latent_dim": 4, "width": 3, "channel_max": 5, "mapping_depth": 2},
    StyleGAN2: {
        "resolution": 16, "latent_dim": 6, "style_dim": 5, "channel_base": 64, "channel_max": 4,
    },
    DCGAN: DCGAN_OPTIONS,
}  # fmt: skip


def _rename(family: type[ImageGenerator], table: list[tuple[str, str]]) -> dict[str, Tensor]:
    """Weights of a small network under other names."""
    state = {}
    for key, tensor in family(**SMALL[family]).state_dict().items():
        for pattern, replacement in table:
            key = re.sub(pattern, replacement, key)
        state[key] = tensor.clone()
    return state


def _is_kernel(key: str, tensor: Tensor, apart: str) -> bool:
    return key.endswith(".weight") and tensor.dim() > 1 and not key.startswith(apart)


def biggan_state() -> dict[str, Tensor]:
    """`pytorch_model.bin`: spectral norm with both vectors stored, two blocks."""
    table = [
        (r"^network\.", "generator."),
        (r"^generator\.embedding\.", "embeddings."),
        (r"\.first\.", ".gen_z."),
        (r"^generator\.norm\.", "generator.bn."),
        (r"\.to_rgb\.", ".conv_to_rgb."),
        *((rf"\.norm{n + 1}\.", f".bn_{n}.") for n in range(4)),
        *((rf"\.conv{n + 1}\.", f".conv_{n}.") for n in range(4)),
        (r"\.shift\.", ".offset."),
        (r"\.mean$", ".running_means"),
        (r"\.variance$", ".running_vars"),
    ]
    state = {}
    for key, tensor in _rename(BigGANDeep, table).items():
        if not _is_kernel(key, tensor, "embeddings."):
            state[key] = tensor.T.clone() if key.startswith("embeddings.") else tensor
            continue
        name, matrix = key.removesuffix(".weight"), tensor.flatten(1)
        state[f"{name}.weight_orig"] = tensor
        for end, size in zip("uv", matrix.shape, strict=True):
            state[f"{name}.weight_{end}"] = nn.functional.normalize(torch.ones(size), dim=0)
    return state


def bigbigan_state() -> dict[str, Tensor]:
    """`BigBiGAN_x1.pth`: spectral norm with one vector stored."""
    table = [
        (r"^network\.", ""),
        (r"^embedding\.", "shared."),
        (r"^first\.", "linear."),
        (r"^norm\.weight$", "output_layer.0.gain"),
        (r"^norm\.", "output_layer.0."),
        (r"^to_rgb\.", "output_layer.2."),
        (r"^layers\.(\d)\.", r"blocks.\1.0."),
        (r"\.norm(\d)\.", r".bn\1."),
        (r"\.scale\.", ".gain."),
        (r"\.shift\.", ".bias."),
        (r"\.shortcut\.", ".conv_sc."),
        (r"\.mean$", ".stored_mean"),
        (r"\.variance$", ".stored_var"),
    ]
    state = {}
    for key, tensor in _rename(BigBiGAN, table).items():
        state[key] = tensor[0] if "stored_" in key else tensor
        if _is_kernel(key, tensor, "shared."):
            name = key.removesuffix(".weight")
            state |= {f"{name}.u0": torch.ones(1, len(tensor)), f"{name}.sv0": torch.ones(1)}
    return state


def studiogan_state() -> dict[str, Tensor]:
    """The state dict in `model=G-*.pth` of a ResNet with classes and without spectral norm."""
    table = [
        (r"^network\.", ""),
        (r"^first\.", "linear0."),
        (r"^norm\.", "bn4."),
        (r"^to_rgb\.", "conv2d5."),
        (r"^layers\.(\d)\.", r"blocks.\1.0."),
        (r"\.norm(\d)\.(mean|variance)$", r".bn\1.bn.\2"),
        (r"\.norm(\d)\.", r".bn\1."),
        (r"\.scale\.", ".embed0."),
        (r"\.shift\.", ".embed1."),
        (r"\.shortcut\.", ".conv2d0."),
        (r"\.conv(\d)\.", r".conv2d\1."),
        (r"\.mean$", ".running_mean"),
        (r"\.variance$", ".running_var"),
    ]
    state = _rename(StudioGAN, table)
    return {key: tensor[0] if "running_" in key else tensor for key, tensor in state.items()}


def self_conditioned_state() -> dict[str, Tensor]:
    """The live generator in `selfcondgan_i_model.pt`."""
    table = [
        (r"^network\.", ""),
        (r"^embedding\.", "get_latent.embedding."),
        (r"^first\.", "fc."),
        (r"^to_rgb\.", "conv_img."),
        (r"^layers\.(\d)\.(\d)\.", r"resnet_\1_\2."),
        (r"\.conv1\.", ".conv_0."),
        (r"\.conv2\.", ".conv_1."),
        (r"\.shortcut\.", ".conv_s."),
    ]
    return _rename(SelfConditionedGAN, table)


@dataclass(frozen=True)
class Container:
    """How one project releases its generators.

    Attributes:
        choice: Name in conf/generator.
        family: Its class here.
        file: Name of the file.
        pack: What such a file holds.
        write: How it is written.
    """

    choice: str
    family: type[ImageGenerator]
    file: str
    pack: Callable[[], dict[str, Any]]
    write: Write

    def __str__(self) -> str:
        return f"{self.family.__name__}-{self.write.__name__.removeprefix('write_')}"


CONTAINERS = [
    Container("biggan_deep", BigGANDeep, "pytorch_model.bin", biggan_state, write_zip),
    Container("biggan_deep", BigGANDeep, "pytorch_model.bin", biggan_state, write_legacy),
    Container("bigbigan", BigBiGAN, "BigBiGAN_x1.pth", bigbigan_state, write_zip),
    Container("bigbigan", BigBiGAN, "BigBiGAN_x1.pth", bigbigan_state, write_legacy),
    *(
        Container("studiogan", StudioGAN, "model=G-best-weights-step=9.pth",
                  lambda: {"state_dict": studiogan_state(), "step": 9, "best_fid": 3.5}, write)
        for write in (write_zip, write_legacy)
    ),
    *(
        Container("self_conditioned", SelfConditionedGAN, "selfcondgan_i_model.pt",
                  lambda: {"generator": self_conditioned_state(), "it": 3}, write)
        for write in (write_zip, write_legacy)
    ),
    *(
        Container("cips_churches", CIPS, "churches_g_ema.pt",
                  lambda: cips_state(**SMALL[CIPS]), write)
        for write in (write_zip, write_legacy)
    ),
    Container("stylegan2", StyleGAN2, "afhqwild.pkl", lambda: style_container(), write_pickle),
    *(
        Container("dcgan_faces", DCGAN, "weights.tar",
                  lambda: {"netG_state_dict": dcgan_state(), "epoch": 2}, write)
        for write in (write_zip, write_legacy)
    ),
]  # fmt: skip


def write_own(family: type[ImageGenerator], path: Path, **changes: Any) -> Path:
    """A file as `convert generator=...` writes it, with other options in its header."""
    network = family(**SMALL[family])
    found = ConvertedWeights({**SMALL[family], **changes}, network.state_dict(), [])
    save_weights(family, found, path, "weights")
    return path
