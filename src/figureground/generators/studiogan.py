"""StudioGAN's models (Kang and Park 2020): ImageNet at 128 pixels, Tiny ImageNet at 64.

SNGAN, SAGAN, ACGAN, ProjGAN, GGAN, LSGAN, WGAN-WC, BigGAN and ContraGAN are three generator
networks; the rest of their names is how they were trained.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from figureground.core.bounds import Count, NonNegativeFloat, PositiveInt
from figureground.core.checkpoint import ConvertedWeights
from figureground.core.errors import CheckpointError
from figureground.generators.base import GeneratorCard, select_state
from figureground.generators.blocks import CHANNEL_MULTIPLES
from figureground.generators.deep import DeepGenerator, stage_shapes
from figureground.generators.renaming import HOOKED_NORM, Table, count_layers, rename, require_keys
from figureground.generators.resnet import Conditioning, ResNetGenerator
from figureground.generators.spectral import SpectralGenerator
from figureground.generators.studiogan_config import check_config

Architecture = Literal["resnet", "big_resnet", "big_resnet_deep"]

#: Their names, patterns, and ours.
TABLE: Table = (
    (r"^linear0\.", "first."),
    (r"^shared\.", "embedding."),
    (r"^bn4\.", "norm."),
    (r"^conv2d5\.", "to_rgb."),
    (r"^blocks\.(\d+)\.0\.", r"layers.\1."),
    (r"\.bn(\d)\.(bn\.)?", r".norm\1."),
    (r"\.running_mean$", ".mean"),
    (r"\.running_var$", ".variance"),
    (r"\.(embed0|gain)\.", ".scale."),
    (r"\.(embed1|bias)\.", ".shift."),
    (r"\.conv2d0\.", ".shortcut."),
    (r"\.conv2d(\d)\.", r".conv\1."),
    (r"\.conv1x1_theta\.", ".query."),
    (r"\.conv1x1_phi\.", ".key."),
    (r"\.conv1x1_g\.", ".value."),
    (r"\.conv1x1_attn\.", ".output."),
    (r"\.sigma$", ".gate"),
    *HOOKED_NORM,
)
_DEPTH = 2


class StudioGAN(SpectralGenerator):
    """A generator of StudioGAN.

    Args:
        resolution: Side of the pictures.
        architecture: `resnet`: a table of classes in each block; `big_resnet`: one class vector and
            a chunk of the latent for each block; `big_resnet_deep`: the class vector and the whole
            latent for each of the bottleneck blocks, two in a stage.
        width: Channels at full resolution (at 32 pixels a quarter of them).
        latent_dim: Size of a latent; for `big_resnet` a multiple of the number of blocks plus 1.
        num_classes: Classes of the condition; 0 for none, with `resnet` only.
        embedding_dim: Size of the class vector, where there is one.
        attention_after: Number of blocks, or stages, before self-attention; None for no attention.
        truncation: Below 1 latents are likelier and pictures less varied.
        fold: Whether spectral norm is computed once, while reading, rather than at each call.
        weights: `model=G*.pth` of the project or a folder with it (see `find_file`), a converted
            file, or None for random weights.
    """

    card = GeneratorCard(
        family="StudioGAN",
        project="PyTorch-StudioGAN",
        files="model=G_ema-best-weights-step=N.pth, or model=G-... where nothing is averaged",
        licence="MIT, that of the project",
        note="Models of one architecture and size differ in training only; files cannot tell them.",
    )

    def __init__(
        self,
        *,
        resolution: PositiveInt = 128,
        architecture: Architecture = "resnet",
        width: PositiveInt = 64,
        latent_dim: PositiveInt = 128,
        num_classes: Count = 1000,
        embedding_dim: PositiveInt = 128,
        attention_after: Count | None = None,
        truncation: NonNegativeFloat = 1.0,
        fold: bool = True,
        weights: str | None = None,
    ) -> None:
        super().__init__(
            resolution=resolution,
            latent_dim=latent_dim,
            num_classes=num_classes,
            truncation=truncation,
        )
        self.fold = fold
        sizes: dict[str, int] = {
            "width": width,
            "latent_dim": latent_dim,
            "num_classes": num_classes,
            "embedding_dim": embedding_dim,
        }
        self.network = _build(CHANNEL_MULTIPLES[resolution], architecture, attention_after, sizes)
        self.initialise(weights)

    @staticmethod
    def find_problems(**options: Any) -> list[str]:
        """Check resolution, classes, attention, and that the latent divides into chunks."""
        resolution, latent_dim = options.get("resolution", 128), options.get("latent_dim", 128)
        architecture = options.get("architecture", "resnet")
        if resolution not in CHANNEL_MULTIPLES:
            known = ", ".join(map(str, CHANNEL_MULTIPLES))
            return [f"resolution={resolution} is unknown to StudioGAN; expected {known}"]
        problems = []
        chunks = len(CHANNEL_MULTIPLES[resolution])
        if architecture == "big_resnet" and latent_dim % chunks:
            problems.append(
                f"latent_dim={latent_dim} does not divide into {chunks} chunks, one for each block "
                "and one for the 4x4 maps"
            )
        if architecture != "resnet" and options.get("num_classes", 1000) == 0:
            problems.append(f"architecture={architecture} needs classes; expected num_classes >= 1")
        attention = options.get("attention_after")
        if attention is not None and not 1 <= attention < chunks:
            problems.append(f"attention_after={attention} must be from 1 to {chunks - 1}")
        return problems

    @classmethod
    def find_file(cls, weights: str | Path) -> Path:
        """The generator in a folder: averaged weights before live ones, best before current."""
        if not os.path.isdir(weights):  # noqa: PTH112 - names of any length
            return Path(weights)
        folder = Path(weights)
        files = [p for p in sorted(folder.glob("*.pth")) if not p.name.startswith("model=D")]
        for mark in ("model=G", "G_ema", "-best-"):
            files = [path for path in files if mark in path.name] or files
        if len(files) == 1:
            return files[0]
        found = ", ".join(path.name for path in files[:4]) or "no .pth of a generator"
        raise CheckpointError(f"{folder} holds {found}; expected one model=G*.pth, or name a file")

    @classmethod
    def check_beside(cls, weights: Path, options: Mapping[str, Any]) -> None:
        """Check what the .json of a folder says of the network that is in its weights."""
        if weights.is_dir():
            check_config(weights, options)

    @staticmethod
    def simplify(options: Mapping[str, Any]) -> dict[str, Any]:
        """The size of the class vector means nothing to `resnet`."""
        simple = dict(options)
        if options["architecture"] == "resnet" and "embedding_dim" in simple:
            simple["embedding_dim"] = None
        return simple

    def paint(self, vector: Tensor, label: Tensor | None) -> Tensor:
        """See `ImageGenerator.paint`."""
        image: Tensor = self.network(vector, label)
        return image

    @classmethod
    def rename(cls, content: Any) -> ConvertedWeights:
        """See `SpectralGenerator.rename`."""
        theirs = select_state(content, "state_dict")
        expected = ("linear0.bias", "bn4.weight", "conv2d5.bias")
        require_keys(theirs, expected, "a generator of StudioGAN")
        state = rename(theirs, TABLE)
        return ConvertedWeights(_infer_options(theirs), state, ["network"])


def _build(
    multiples: tuple[int, ...],
    architecture: Architecture,
    attention_after: int | None,
    sizes: Mapping[str, int],
) -> nn.Module:
    if architecture == "big_resnet_deep":
        return DeepGenerator(
            shapes=stage_shapes(multiples, _DEPTH),
            attention_after=None if attention_after is None else attention_after * _DEPTH,
            class_first=True,
            **sizes,
        )
    conditioning: Conditioning = "shared"
    if architecture == "resnet":
        conditioning = "class" if sizes["num_classes"] else "none"
    return ResNetGenerator(
        multiples=multiples, conditioning=conditioning, attention_after=attention_after, **sizes
    )


def _infer_options(theirs: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read architecture and sizes off released weights."""
    shapes = {re.sub(r"\.weight(_orig)?$", "", key): tensor.shape for key, tensor in theirs.items()}
    num_blocks = count_layers(theirs, r"blocks\.(\d+)\.0\.bn1\.")
    architecture, latent_dim = "resnet", shapes["linear0"][1]
    table = shapes.get("shared", shapes.get("blocks.0.0.bn1.embed0", (0, 0)))
    stride = 1
    if "blocks.0.0.conv2d4" in shapes:
        architecture, stride = "big_resnet_deep", _DEPTH
        latent_dim -= table[1]
    elif "shared" in shapes:
        architecture = "big_resnet"
        latent_dim *= num_blocks + 1
    resolution = 4 * 2 ** (num_blocks // stride)
    last = CHANNEL_MULTIPLES.get(resolution, (1,))[-1]
    gates = [re.match(r"blocks\.(\d+)\.0\.sigma$", key) for key in theirs]
    attention = next((int(gate[1]) // stride for gate in gates if gate), None)
    options: dict[str, Any] = {
        "resolution": resolution,
        "architecture": architecture,
        "width": shapes["bn4"][0] // last,
        "latent_dim": latent_dim,
        "num_classes": table[0],
        "attention_after": attention,
    }
    return options | ({} if architecture == "resnet" else {"embedding_dim": table[1]})
