"""StyleGAN2-ADA (Karras et al. 2020): FFHQ, MetFaces, AFHQ, CIFAR-10, BreCaHAD, and your own.

The network is `nn/stylegan2.py`; here it gets latents, truncation and the authors' files. A latent
is a style vector for each layer (space w), as in the published segmentation by directions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from figureground.core.bounds import Count, Depth, NonNegativeFloat, PositiveInt, Resolution
from figureground.core.checkpoint import ConvertedWeights
from figureground.core.errors import CheckpointError
from figureground.core.released import collect_module
from figureground.generators.base import GeneratorCard, select_state
from figureground.generators.styles import LatentSpace, StyleImageGenerator
from figureground.nn.modulation import NoiseMode, SynthesisLayer, ToImage
from figureground.nn.style_blocks import LowPrecision, block_resolutions
from figureground.nn.stylegan2 import StyleGenerator, SynthesisArchitecture, convert_released

_NETWORKS = ("G_ema", "G")  # In a released container, the averaged one first.
_USUAL_CLAMP = 256.0


class StyleGAN2(StyleImageGenerator):
    """A StyleGAN2-ADA generator.

    Args:
        resolution: Side of the pictures.
        latent_dim: Size of z.
        style_dim: Size of w.
        num_classes: Classes of the condition; 0 for none.
        mapping_depth: Dense layers of the mapping network.
        channel_base: Maps of side r have min(channel_base / r, channel_max) channels.
        channel_max: See `channel_base`.
        conv_clamp: Activations stay within this limit; None for none, "stored" for what the file
            says, or 256 if it says nothing.
        architecture: See `nn.stylegan2.SynthesisNetwork`.
        latent_space: "w": latents are styles (B, N, D), one for each layer; "z": what these are
            mapped from, (B, D).
        truncation: Styles are pulled to their average by this; 1 for not at all.
        cutoff: Only this many styles, from the coarsest on, are pulled; None for all.
        noise_mode: "const" paints equal pictures of equal latents, "random" as the authors' code
            does by default, "none".
        low_precision_blocks: How many of the largest resolutions run in half precision on a GPU.
        low_precision: Which half precision.
        weights: `*.pkl` of the authors, a converted file, or None for random weights.
    """

    card = GeneratorCard(
        family="StyleGAN2-ADA",
        project="stylegan2-ada-pytorch",
        files="ffhq.pkl, metfaces.pkl, afhqcat.pkl, afhqdog.pkl, afhqwild.pkl, cifar10.pkl or "
        "brecahad.pkl",
        licence="NVIDIA source code licence, not for commercial use",
        note="Files are pickles that carry source code; it is never run here.",
    )

    def __init__(
        self,
        *,
        resolution: Resolution | Literal[8],
        latent_dim: PositiveInt = 512,
        style_dim: PositiveInt = 512,
        num_classes: Count = 0,
        mapping_depth: Depth = 8,
        channel_base: PositiveInt = 32768,
        channel_max: PositiveInt = 512,
        conv_clamp: NonNegativeFloat | Literal["stored"] | None = "stored",
        architecture: SynthesisArchitecture = "skip",
        latent_space: LatentSpace = "w",
        truncation: NonNegativeFloat = 0.5,
        cutoff: Count | None = 8,
        noise_mode: NoiseMode = "const",
        low_precision_blocks: Count = 0,
        low_precision: LowPrecision = "float16",
        weights: str | None = None,
    ) -> None:
        super().__init__(
            resolution=resolution,
            latent_dim=latent_dim,
            style_dim=style_dim,
            latent_space=latent_space,
            num_classes=num_classes,
            truncation=truncation,
        )
        self.cutoff = cutoff
        self.noise_mode: NoiseMode = noise_mode
        self.architecture = architecture
        self.network = StyleGenerator(
            resolution,
            latent_dim=latent_dim,
            style_dim=style_dim,
            num_classes=num_classes,
            mapping_depth=mapping_depth,
            channel_base=channel_base,
            channel_max=channel_max,
            conv_clamp=_USUAL_CLAMP if conv_clamp == "stored" else conv_clamp,
            architecture=architecture,
            low_precision_blocks=low_precision_blocks,
            low_precision=low_precision,
        )
        self.initialise(weights)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(D,) of z, or (N, D) of styles."""
        if self.latent_space == "z":
            return (self.latent_dim,)
        return (self.network.synthesis.num_styles, self.latent_dim)

    @staticmethod
    def find_problems(**options: Any) -> list[str]:
        """Check the resolution."""
        try:
            block_resolutions(options.get("resolution", 8))
        except ValueError as error:
            return [str(error)]
        return []

    @staticmethod
    def simplify(options: Mapping[str, Any]) -> dict[str, Any]:
        """Lower limits of widths to what any map reaches."""
        simple = dict(options)
        base, most = options["channel_base"], options["channel_max"]
        simple["channel_base"] = min(base, most * options["resolution"])
        simple["channel_max"] = min(most, base // 4)
        return simple

    def map(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Truncated styles (B, N, style_dim) of z (B, D) and classes (B,)."""
        styles: Tensor = self.network.mapping(
            z, label, truncation=self.truncation, cutoff=self.cutoff
        )
        return styles

    def paint_styles(self, styles: Tensor) -> Tensor:
        """Pictures (B, 3, R, R) of styles (B, N, style_dim); the range has no limits."""
        image: Tensor = self.network.synthesis(styles, noise=self.noise_mode)
        return image

    def adopt(self, options: Mapping[str, Any]) -> None:
        """Take the limit of activations from the file, unless one was asked for."""
        if self.options["conv_clamp"] != "stored" or "conv_clamp" not in options:
            return
        for module in self.network.synthesis.modules():
            if isinstance(module, SynthesisLayer | ToImage):
                module.clamp = options["conv_clamp"]

    @classmethod
    def convert(cls, content: Any) -> ConvertedWeights:
        """Read the averaged generator of a released container, or a state dict of one network."""
        options: dict[str, Any] = {}
        stored = _find_network(content)
        if stored is None:
            state = dict(select_state(content, *_NETWORKS, "g_ema"))
        else:
            state = collect_module(stored)
            options = _read_options(stored)
        state = {key: tensor.float() for key, tensor in convert_released(state).items()}
        options = {**_infer_options(state), **options}
        return ConvertedWeights(
            options, {f"network.{key}": tensor for key, tensor in state.items()}, ["network"]
        )


def _find_network(content: Any) -> Any:
    """The stored module of a container, or None."""
    if not isinstance(content, Mapping):
        return None
    for name in _NETWORKS:
        if isinstance(content.get(name), Mapping) and "state" in content[name]:
            return content[name]
    return content if "module_src" in content and "state" in content else None


def _read_options(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Constructor arguments that the shapes of a stored network do not tell."""
    kwargs = stored["state"].get("_init_kwargs", {})
    synthesis = kwargs.get("synthesis_kwargs", {}) if isinstance(kwargs, Mapping) else {}
    if not isinstance(synthesis, Mapping):
        return {}
    clamp = synthesis.get("conv_clamp")
    is_plain = clamp is None or isinstance(clamp, int | float)
    return {"conv_clamp": clamp} if is_plain else {}


def _infer_options(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read sizes off the weights.

    Raises:
        CheckpointError: They are not of a StyleGAN2 with one mapping and one synthesis network.
    """
    widths = {
        int(found[1]): len(tensor)
        for key, tensor in state.items()
        if (found := re.fullmatch(r"synthesis\.b(\d+)\.conv1\.bias", key))
    }
    first = state.get("mapping.fc0.weight")
    if first is None or 4 not in widths or "synthesis.b4.const" not in state:
        raise CheckpointError("it has no mapping and synthesis network of StyleGAN2")
    resolution = max(widths)
    embedding = state.get("mapping.embed.weight")
    style_dim = first.shape[0]
    if any(".skip." in key for key in state):
        architecture = "resnet"
    else:
        architecture = "skip" if "synthesis.b4.torgb.weight" in state else "orig"
    return {
        "resolution": resolution,
        "latent_dim": first.shape[1] - (0 if embedding is None else style_dim),
        "style_dim": style_dim,
        "num_classes": 0 if embedding is None else embedding.shape[1],
        "mapping_depth": sum(bool(re.fullmatch(r"mapping\.fc\d+\.bias", key)) for key in state),
        "channel_base": max(width * side for side, width in widths.items()),
        "channel_max": widths[4],
        "architecture": architecture,
    }
