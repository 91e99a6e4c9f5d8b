"""What all pretrained generators share: latents, truncation, range, weights."""

from __future__ import annotations

import inspect
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from figureground.core.checkpoint import ConvertedWeights
from figureground.core.errors import CheckpointError
from figureground.core.types import Latent
from figureground.generators.sampling import draw_classes, draw_normal

logger = logging.getLogger(__name__)

#: Packages whose objects beside the weights, such as a best score, are read as nothing.
IGNORED = ("numpy",)
_BOUND = 2.0  # Of truncated normal latents, as in the published code of BigGAN.


@dataclass(frozen=True)
class GeneratorCard:
    """Where released weights of a family come from.

    Attributes:
        family: Its usual name.
        project: Name of the project that released them.
        files: Names of the files.
        licence: Of the weights.
        note: What one should know before using them.
    """

    family: str
    project: str
    files: str
    licence: str
    note: str = ""


class ImageGenerator(nn.Module, ABC):
    """A frozen network from latents to pictures; see the package's docstring for subclasses.

    Args:
        resolution: Side of the pictures.
        latent_dim: Size of a latent vector.
        num_classes: Classes of the condition; 0 for none.
        truncation: Below 1 latents are likelier and pictures less varied. May be set later too.
    """

    card: ClassVar[GeneratorCard]
    #: "z" is drawn from a normal distribution, "w" comes out of a mapping network.
    latent_space: Literal["z", "w"] = "z"
    #: What the constructor was called with, defaults filled in.
    options: dict[str, Any]
    #: Options of shapes that a released file need not tell; `convert` takes them as configured.
    untold: ClassVar[tuple[str, ...]] = ()
    #: Whether latents are from a normal distribution cut off at 2 even where `truncation` is 1.
    is_prior_bounded: ClassVar[bool] = False

    def __new__(cls, *_: Any, **options: Any) -> Self:
        """Keep the options, so that a file of other sizes can be refused in their words."""
        network = super().__new__(cls)
        given = inspect.signature(cls).bind_partial(**options)  # Copies are made without any.
        given.apply_defaults()
        object.__setattr__(network, "options", dict(given.arguments))
        return network

    def __init__(
        self, *, resolution: int, latent_dim: int, num_classes: int = 0, truncation: float = 1.0
    ) -> None:
        super().__init__()
        self.resolution = resolution
        self.latent_dim = latent_dim
        self.num_classes = num_classes
        self.truncation = truncation

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one latent; the last size is `latent_dim`."""
        return (self.latent_dim,)

    @property
    def can_truncate(self) -> bool:
        """Whether `truncation` may differ from 1."""
        return True

    @classmethod
    def check_options(cls, *, weights: str | None = None, **options: Any) -> list[str]:
        """List what is wrong with constructor arguments, before anything is built."""
        from figureground.generators.weights import find_missing

        return [*find_missing(cls, weights), *cls.find_problems(**options)]

    @staticmethod
    def find_problems(**options: Any) -> list[str]:
        """List what is wrong with options of a family together; for subclasses."""
        return []

    @classmethod
    def find_file(cls, weights: str | Path) -> Path:
        """The file that `weights` stands for, where a family releases folders; for subclasses.

        Raises:
            CheckpointError: A folder holds none, or several that differ.
        """
        return Path(weights)

    @classmethod
    def check_beside(cls, weights: Path, options: Mapping[str, Any]) -> None:
        """Check `options`, read off the weights, by what lies beside them; for subclasses.

        Raises:
            CheckpointError: They do not belong together.
        """

    @staticmethod
    def simplify(options: Mapping[str, Any]) -> dict[str, Any]:
        """Make options equal that mean equal networks; for subclasses."""
        return dict(options)

    def adopt(self, options: Mapping[str, Any]) -> None:
        """Take over what a file says and no shape depends on; for subclasses.

        Args:
            options: That the file gives. Where a constructor argument is "stored", any value fits.
        """

    @classmethod
    @abstractmethod
    def convert(cls, content: Any) -> ConvertedWeights:
        """Turn what a released file holds into our names.

        Args:
            content: As `core.released.read_released` gives it.

        Returns:
            A whole state dict, and the constructor arguments that follow from it.

        Raises:
            CheckpointError: It is no file of this family.
        """

    @abstractmethod
    def paint(self, vector: Tensor, label: Tensor | None) -> Tensor:
        """Pictures (B, 3, R, R) of latents (B, *latent_shape), as the network makes them."""

    def forward(self, latent: Latent) -> Tensor:
        """Pictures (B, 3, R, R) of `latent`, limited to [-1, 1].

        Raises:
            TypeError: It is no `Latent`.
            ValueError: The latents have another shape, or classes are missing or too large.
        """
        if not isinstance(latent, Latent):
            raise TypeError(
                f"expected what latent(count) draws, or figureground.core.types.Latent(vector, "
                f"label) of your own, got {type(latent).__name__}"
            )
        vector, label = latent.vector, latent.label
        if vector.shape[1:] != self.latent_shape:
            expected = ", ".join(["B", *map(str, self.latent_shape)])
            raise ValueError(f"latents must be ({expected}), got {tuple(vector.shape)}")
        if not self.num_classes or self.latent_space == "w":  # A style has the class in it.
            label = None
        elif label is None:
            raise ValueError(f"{self.card.family} has {self.num_classes} classes; give a label")
        else:
            label = self._check_classes(label, len(vector))
        return self.paint(vector.to(next(self.parameters())), label).clamp(-1, 1)

    def _check_classes(self, label: Tensor, count: int) -> Tensor:
        if label.shape != (count,) or label.dtype != torch.int64:
            raise ValueError(
                f"labels must be int64 ({count},), got {label.dtype} {tuple(label.shape)}"
            )
        if count and not 0 <= int(label.min()) <= int(label.max()) < self.num_classes:
            raise ValueError(f"labels must be from 0 to {self.num_classes - 1}")
        return label.to(self.device)

    @torch.no_grad()
    def latent(self, count: int, *, generator: torch.Generator | None = None) -> Latent:
        """Draw `count` latents of the kind `forward` takes, with a class each if there are any.

        Args:
            count: How many.
            generator: Source of the draws (on any device); None for the global generator.

        Raises:
            ValueError: `count` is negative.
        """
        vector = self._draw_vector(count, generator)
        label = None
        if self.num_classes:
            label = draw_classes(count, self.num_classes, generator=generator).to(self.device)
        return Latent(vector.to(next(self.parameters())), label)

    def _draw_vector(self, count: int, generator: torch.Generator | None) -> Tensor:
        """Draw (count, latent_dim): `truncation` times a normal distribution, bounded below 1."""
        is_bounded = self.is_prior_bounded or self.truncation < 1
        bound = _BOUND if is_bounded else math.inf
        drawn = draw_normal(count, self.latent_dim, bound=bound, generator=generator)
        return self.truncation * drawn

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.parameters()).device

    def initialise(self, weights: str | None) -> None:
        """Load `weights`, or warn that there are none; then freeze. Every constructor ends here.

        Args:
            weights: A released file, or one that `generators.weights.save_weights` wrote.

        Raises:
            CheckpointError: See `generators.weights.load_weights`.
        """
        from figureground.generators.weights import load_weights

        if torch.get_default_device().type == "meta":
            return  # Only its shapes are asked for.
        if weights is not None:
            load_weights(self, weights)
        else:
            logger.warning(
                "%s has random weights and paints noise; give weights=<file>: %s of the project "
                "%s, to be fetched by yourself (licence: %s)",
                self.card.family,
                self.card.files,
                self.card.project,
                self.card.licence,
            )
        self.eval().requires_grad_(False)


def select_state(content: Any, *keys: str) -> Mapping[str, Tensor]:
    """Take the state dict out of its container.

    Args:
        content: A state dict, or a dict with one under one of `keys`, tried in order.
        keys: Where it may be, dots between levels; an empty one stands for `content` itself.

    Raises:
        CheckpointError: There is no state dict.
    """
    for key in (*keys, ""):
        inner = content
        for part in key.split(".") if key else ():
            inner = inner.get(part) if isinstance(inner, Mapping) else None
        if isinstance(inner, Mapping) and inner and _is_state(inner):
            return inner
    places = f" under {', '.join(filter(None, keys))}" if any(keys) else ""
    raise CheckpointError(f"there is no state dict{places}")


def _is_state(content: Mapping[Any, Any]) -> bool:
    return all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items())


def option_names(family: type[ImageGenerator]) -> set[str]:
    """Names of the constructor arguments of a family."""
    return set(inspect.signature(family).parameters)
