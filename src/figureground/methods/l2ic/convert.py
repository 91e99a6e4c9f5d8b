"""Reads the authors' weights: L2IC's netG and netD, C3-GAN's file of both, ComGAN's judges.

State dicts of a data-parallel wrapper (each key begins with `module.`), without options: numbers of
categories, sizes and blocks are read off the weights. `netU`, the U-Net, belongs to `segmenter`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from figureground.core.checkpoint import ConvertedWeights
from figureground.core.content import explained
from figureground.core.errors import CheckpointError
from figureground.core.released import read_released

Table = tuple[tuple[str, str], ...]

_BLOCK: Table = (
    (r"block\.0\.", "gated.conv."),
    (r"block\.1\.", "gated.norm."),
    (r"block\.3\.", "conv."),
    (r"block\.4\.", "norm."),
)
_BRANCHES = {
    "second_stage": "mask",
    "colour_stage": "foreground",
    "colour_stag_inverse": "background",
}
_HEADS = {
    "second_mask": "mask",
    "colour_image": "foreground",
    "colour_image_inverse": "background",
}
_GATED: Table = ((r"0\.", "conv."), (r"1\.", "norm."))
_ENLARGING: Table = ((r"1\.", "conv."), (r"2\.", "norm."))


def _nest(theirs: str, ours: str, inner: Table) -> Table:
    return tuple((theirs + one, ours + other) for one, other in inner)


#: Patterns of L2IC's generator -> ours; every key fits one of them.
GENERATOR: Table = (
    (r"parent_stage\.fc\.0\.", "trunk.start.linear."),
    (r"parent_stage\.fc\.1\.", "trunk.start.norm."),
    *(
        pair
        for step in range(3)
        for pair in _nest(
            rf"parent_stage\.upsample{step + 1}\.", f"trunk.enlarge.{step}.", _ENLARGING
        )
    ),
    *_nest(r"jointConv\.", "join.", _GATED),
    *(
        pair
        for theirs, ours in _BRANCHES.items()
        for pair in (
            *_nest(rf"{theirs}\.jointConv\.", f"{ours}.enter.", _GATED),
            *_nest(rf"{theirs}\.upsample4\.", f"{ours}.enlarge.0.", _ENLARGING),
            *_nest(rf"{theirs}\.upsample5\.", f"{ours}.enlarge.1.", _ENLARGING),
            *_nest(rf"{theirs}\.residual\.(\d+)\.", ours + r".residuals.\1.", _BLOCK),
            *_nest(rf"{theirs}\.downsample_1\.", f"{ours}.leave.", _GATED),
        )
    ),
    *((rf"{theirs}\.img\.0\.", f"{ours}.head.0.") for theirs, ours in _HEADS.items()),
)
_BASE: Table = (
    (r"base\.0\.", "base.convs.0."),
    *((rf"base\.{2 + 3 * step}\.", f"base.convs.{step + 1}.") for step in range(9)),
    *((rf"base\.{3 + 3 * step}\.", f"base.norms.{step}.") for step in range(9)),
)
_VECTOR: Table = ((r"0\.", "conv."), (r"1\.", "norm."), (r"3\.", "last."))
#: The same of its discriminator, which is C3-GAN's too.
DISCRIMINATOR: Table = (
    *_BASE,
    *_nest(r"info_head\.", "info.", _VECTOR),
    (r"cluster_projector\.0\.", "cluster.project."),
    (r"mlp\.0\.", "cluster.hidden."),
    (r"mlp\.2\.", "cluster.last."),
    (r"rf_head\.0\.", "realness."),
    (r"centroids\.", "embedding."),
)
#: C3-GAN's generator.
C3_GENERATOR: Table = (
    *(
        pair
        for theirs, ours, steps in (("bg", "background", "layers"), ("fg", "foreground", "base"))
        for pair in (
            (rf"{theirs}_gen\.fc\.0\.", f"{ours}.start.linear."),
            (rf"{theirs}_gen\.fc\.1\.", f"{ours}.start.norm."),
            *_nest(rf"{theirs}_gen\.{steps}\.5\.(\d+)\.", ours + r".residuals.\1.", _BLOCK),
            *_nest(rf"{theirs}_gen\.{steps}\.(\d+)\.", ours + r".enlarge.\1.", _ENLARGING),
        )
    ),
    (r"bg_gen\.layers\.6\.", "background_head.0."),
    (r"fg_gen\.emb_c\.0\.", "noise.linear."),
    (r"fg_gen\.emb_c\.1\.", "noise.norm."),
    *_nest(r"fg_gen\.to_mask\.0\.", "mask_leave.", _GATED),
    (r"fg_gen\.to_mask\.1\.", "mask_head.0."),
    *_nest(r"fg_gen\.to_img\.0\.", "join.", _GATED),
    *_nest(r"fg_gen\.to_img\.1\.(\d+)\.", r"residuals.\1.", _BLOCK),
    *_nest(r"fg_gen\.to_img\.2\.", "leave.", _GATED),
    (r"fg_gen\.to_img\.3\.", "head.0."),
)
#: ComGAN's judges that say how real, and those that read codes; each has both heads in a file.
JUDGE: Table = (
    *((rf"encode_\w+?{one[4:]}", other) for one, other in _BASE),
    (r"rf_logits\.0\.", "head."),
)
READER: Table = (*JUDGE[:-1], *_nest(r"code_logits\.", "head.", _VECTOR))
#: A key that only this network has -> its table, ours, and which paper's it is.
_SIGNS: dict[str, tuple[Table, str, str | None]] = {
    "parent_stage.fc.0.weight": (GENERATOR, "generator", "l2ic"),
    "fg_gen.fc.0.weight": (C3_GENERATOR, "generator", "c3gan"),
    "info_head.0.weight": (DISCRIMINATOR, "discriminator", None),
}
_FILES = ("netG.pth", "netD.pth")


@explained
def convert_checkpoint(path: Path) -> ConvertedWeights:
    """Read a file of one network or of several, or a folder with netG.pth and netD.pth.

    Nothing in the files is run.

    Raises:
        CheckpointError: Not such files, or they do not belong together.
    """
    files = [path]
    if path.is_dir():
        files = [path / name for name in _FILES if (path / name).is_file()]
        if not files:
            raise CheckpointError(f"{path} has neither {' nor '.join(_FILES)}")
    state: dict[str, Tensor] = {}
    found: dict[str, Any] = {}
    for file in files:
        for network in _networks_in(read_released(file)):
            name, options, converted = _convert_one(network, file)
            for option, value in options.items():
                if found.setdefault(option, value) != value:
                    raise CheckpointError(
                        f"{file}: {option} is {value} here and {found[option]} in the network "
                        "before; are these of one training?"
                    )
            state |= {f"{name}.{key}": tensor for key, tensor in converted.items()}
    found.setdefault("architecture", "l2ic" if "cluster" in _parts(state) else "c3gan")
    return ConvertedWeights(found, state, sorted({key.partition(".")[0] for key in state}))


def _parts(state: Mapping[str, Tensor]) -> set[str]:
    return {key.split(".")[1] for key in state}


def _networks_in(content: Any) -> list[Any]:
    """State dicts in a file: itself, or C3-GAN's two."""
    if isinstance(content, Mapping) and "netG" in content:
        return [content[key] for key in ("netG", "netD") if key in content]
    return [content]


def convert_network(table: Table, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the state dict of one of their networks to ours.

    Raises:
        CheckpointError: A key fits nothing in the table.
    """
    converted = {}
    for key, tensor in state.items():
        key = key.removeprefix("module.")
        for pattern, ours in table:
            if re.match(pattern, key):
                converted[re.sub(f"^{pattern}", ours, key)] = tensor
                break
        else:
            raise CheckpointError(f"the network has the unknown key {key}; is it a variant?")
    return converted


def _convert_one(state: Any, path: Path) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    keys = {str(key).removeprefix("module.") for key in state} if isinstance(state, Mapping) else ()
    if "Conv1.conv.0.weight" in keys:
        raise CheckpointError(f"{path} is the U-Net; convert it with method=segmenter")
    sign = next((sign for sign in _SIGNS if sign in keys), None)
    if sign is None:
        raise CheckpointError(
            f"{path} is no network of L2IC or C3-GAN: none of the keys {', '.join(_SIGNS)} is there"
        )
    table, name, architecture = _SIGNS[sign]
    try:
        converted = convert_network(table, state)
        options = _OPTIONS[architecture](converted)
    except (KeyError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} has a part of the {name} only ({error})") from error
    if architecture:
        options["architecture"] = architecture
    return name, options, converted


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """One more than the largest number in keys that begin with `pattern`, 0 without any."""
    found = (re.match(pattern, key) for key in state)
    return max((int(match[1]) + 1 for match in found if match), default=0)


def _l2ic_options(state: Mapping[str, Tensor]) -> dict[str, Any]:
    width = state["mask.enter.conv.weight"].shape[1]
    doublings = _count(state, r"trunk\.enlarge\.(\d+)") + _count(state, r"mask\.enlarge\.(\d+)")
    return {
        "resolution": 4 * 2**doublings,
        "latent_dim": state["trunk.start.linear.weight"].shape[1],
        "generator_width": width,
        "num_categories": state["join.conv.weight"].shape[1] - width,
        "num_backgrounds": state["background.enter.conv.weight"].shape[1] - width,
        "num_blocks": [
            _count(state, rf"{name}\.residuals\.(\d+)")
            for name in ("foreground", "mask", "background")
        ],
    }


def _c3_options(state: Mapping[str, Tensor]) -> dict[str, Any]:
    first = state["foreground.start.linear.weight"]
    doublings = _count(state, r"foreground\.enlarge\.(\d+)")
    return {
        "resolution": 4 * 2**doublings,
        "latent_dim": first.shape[1],
        "generator_width": first.shape[0] // 2 ** (doublings + 3),
        "num_categories": state["noise.linear.weight"].shape[1],
        "variation_dim": state["noise.linear.weight"].shape[0] // 4,
        "num_blocks": [
            _count(state, rf"{name}residuals\.(\d+)")
            for name in ("", r"foreground\.", r"background\.")
        ],
    }


def _discriminator_options(state: Mapping[str, Tensor]) -> dict[str, Any]:
    size, num_categories = state["embedding.weight"].shape
    return {
        "resolution": 2 * 2 ** _count(state, r"base\.convs\.(\d+)"),
        "discriminator_width": size // 8,
        "num_categories": num_categories,
    }


_OPTIONS = {"l2ic": _l2ic_options, "c3gan": _c3_options, None: _discriminator_options}
