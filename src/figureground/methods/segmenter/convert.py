"""The U-Nets of ILSGAN, gan-segmenter and L2IC as our state dict.

Their files: ILSGAN's `network-snapshot-NNNNNN.pth` is {model, opt, lr_sch, cur_iter},
gan-segmenter's is a Lightning checkpoint with `net.` before each key (Big GANs Are Watching You: a
bare state dict of the same network), L2IC's a bare state dict, perhaps with `module.`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from figureground.core.checkpoint import ConvertedWeights
from figureground.core.content import explained
from figureground.core.errors import CheckpointError
from figureground.core.released import read_released

#: Packages whose objects in Lightning's files are read as nothing.
_IGNORED = ("pytorch_lightning", "omegaconf", "typing", "argparse", "enum", "pathlib")
Style = Literal["ilsgan", "gan_segmenter", "l2ic"]

_DEPTH = 4  # Of all three.
_CONV, _NORM = (
    ("weight", "bias"),
    ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"),
)
#: Their names of a block's two convolutions and norms.
_BLOCK = {
    "ilsgan": (("conv1", "bn1"), ("conv2", "bn2")),
    "gan_segmenter": (("double_conv.0", "double_conv.1"), ("double_conv.3", "double_conv.4")),
    "l2ic": (("conv.0", "conv.1"), ("conv.3", "conv.4")),
}
_HEAD = {"ilsgan": "outc", "gan_segmenter": "outc.conv", "l2ic": "Conv"}
#: A key that only this style has.
_SIGN: dict[Style, str] = {
    "ilsgan": "inc.conv1.weight",
    "gan_segmenter": "inc.double_conv.0.weight",
    "l2ic": "Conv1.conv.0.weight",
}


def name_table(style: Style) -> dict[str, str]:
    """Their key -> ours, in the order of their state dict."""
    return dict(_name_pairs(style))


def _name_pairs(style: Style) -> Iterator[tuple[str, str]]:
    for theirs, ours in _list_blocks(style):
        for names, part in zip(_BLOCK[style], ("first", "second"), strict=True):
            # A narrowing convolution stands alone, under numbers of its own.
            alone = ours.startswith("narrow")
            if alone and part == "second":
                continue
            conv, norm = ("up.1", "up.2") if alone else names
            place = ours if alone else f"{ours}.{part}"
            yield from ((f"{theirs}.{conv}.{key}", f"{place}.conv.{key}") for key in _CONV)
            yield from ((f"{theirs}.{norm}.{key}", f"{place}.norm.{key}") for key in _NORM)
    yield from ((f"{_HEAD[style]}.{key}", f"head.{key}") for key in _CONV)


def _list_blocks(style: Style) -> Iterator[tuple[str, str]]:
    """Their name and ours of each block, in their order."""
    levels = range(1, _DEPTH + 1)
    if style == "l2ic":
        yield from ((f"Conv{level + 1}", f"encode.{level}") for level in range(_DEPTH + 1))
        for level in reversed(levels):
            yield f"Up{level + 1}", f"narrow.{_DEPTH - level}"
            yield f"Up_conv{level + 1}", f"decode.{_DEPTH - level}"
        return
    down, up = (".maxpool_conv.1", ".conv") if style == "gan_segmenter" else ("", "")
    yield "inc", "encode.0"
    yield from ((f"down{level}{down}", f"encode.{level}") for level in levels)
    yield from ((f"up{level}{up}", f"decode.{level - 1}") for level in levels)


def convert_network(state: Mapping[str, Tensor]) -> tuple[Style, dict[str, Tensor]]:
    """Rename the state dict of one of their U-Nets to that of `nn.unet.UNet`.

    Raises:
        CheckpointError: Its keys are not those of any of the three.
    """
    for prefix in ("module.", "net.", "model."):
        if any(key.startswith(prefix) for key in state):
            state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    style = next((style for style, sign in _SIGN.items() if sign in state), None)
    if style is None:
        raise CheckpointError(
            "not a U-Net of ILSGAN, gan-segmenter or L2IC: none of the keys "
            f"{', '.join(_SIGN.values())} is there"
        )
    table = name_table(style)
    if strangers := [key for key in state if key not in table]:
        raise CheckpointError(f"the U-Net has the unknown key {strangers[0]}; is it a variant?")
    # Files of older versions of PyTorch have no counters.
    return style, {table[key]: tensor for key, tensor in state.items()}


@explained
def convert_checkpoint(path: Path) -> ConvertedWeights:
    """Read one of the authors' segmentation networks; nothing in it is run.

    Raises:
        CheckpointError: Not such a file, or its keys are unknown.
    """
    content = _read(path)
    for section in ("model", "state_dict"):
        if isinstance(content.get(section), dict):
            content = content[section]
    state = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    style, converted = convert_network(state)
    width = converted["encode.0.first.conv.weight"].shape[0]
    options: dict[str, Any] = {
        "width": width,
        "depth": _DEPTH,
        "upsampling": "nearest_conv" if style == "l2ic" else "bilinear_aligned",
        "loss": "binary_entropy" if style == "l2ic" else "cross_entropy",
    }
    return ConvertedWeights(
        options, {f"network.{key}": tensor for key, tensor in converted.items()}, ["network"]
    )


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file; expected the authors' .pth or .ckpt")
    content = read_released(path, ignored=_IGNORED)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, expected a state dict")
    return content
