"""What a method can do, as runtime-checkable protocols.

Commands ask `isinstance(method, Segmenter)` and so on; a method has a capability by having the
function. The base class `Method` must never define one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from figureground.core.passages import Passage
from figureground.core.types import Latent, Layers


@runtime_checkable
class Segmenter(Protocol):
    """Cuts pictures into regions."""

    def segment(self, image: Tensor) -> Tensor:
        """Probabilities (B, K, H, W) that sum to one over K for `image` (B, 3, H, W)."""
        ...


@runtime_checkable
class PixelEmbedder(Protocol):
    """Describes pixels by what they belong to."""

    def embed(self, image: Tensor) -> Tensor:
        """Features (B, D, h, w) of `image` (B, 3, H, W), each cell's of length one."""
        ...


@runtime_checkable
class Decomposer(Protocol):
    """Takes pictures apart into layers."""

    def decompose(self, image: Tensor) -> Layers:
        """Layers whose composite approximates `image` (B, 3, H, W)."""
        ...


class ObjectMaps(NamedTuple):
    """Objects found in pictures, all int64 (B, H, W).

    Attributes:
        found: Number of the object at each pixel from 1 on, 0 where none is.
        filled: The same with every pixel given to some object.
        classes: Class of the object at each pixel from 1 on, 0 where none is.
    """

    found: Tensor
    filled: Tensor
    classes: Tensor


@runtime_checkable
class ObjectFinder(Protocol):
    """Tells apart the objects of a picture."""

    def find_objects(self, image: Tensor) -> ObjectMaps:
        """Maps of the objects in `image` (B, 3, H, W)."""
        ...


class ObjectFacts(NamedTuple):
    """What a method knows about one object of a picture.

    Attributes:
        layer: Which of the picture's layers it is; 0 is the background.
        label: Its class from 1 on, as in `ObjectMaps.classes`; for the background, which one it is.
        parameters: Numbers it is drawn with, by the name of what they steer.
    """

    layer: int
    label: int
    parameters: Mapping[str, list[float]]


@runtime_checkable
class Describer(Protocol):
    """Says in numbers what a picture shows."""

    def describe(self, image: Tensor) -> list[list[ObjectFacts]]:
        """Background, if there is one, and objects of each of `image` (B, 3, H, W)."""
        ...


@runtime_checkable
class Recaster(Protocol):
    """Shows an object of a picture as one of another class, in its place."""

    def recast(self, image: Tensor, layer: int, label: int) -> tuple[Tensor, Tensor]:
        """Colour (B, 3, H, W) and opacity (B, 1, H, W) of layer `layer` as class `label`.

        Raises:
            ValueError: There is no such layer or class.
        """
        ...


@runtime_checkable
class LayerGenerator(Protocol):
    """Draws new layered pictures."""

    def sample(self, count: int, *, generator: torch.Generator | None = None) -> Layers:
        """Draw `count` pictures; equal generators give equal pictures."""
        ...


@runtime_checkable
class FilteringGenerator(Protocol):
    """Draws candidates until enough have passed its filters."""

    def count_passed(self) -> dict[str, Passage]:
        """How many have passed so far, by filter, and by all of them (`core.passages.ALL`)."""
        ...


@runtime_checkable
class NoisyGenerator(Protocol):
    """Draws new layered pictures with noise in every pixel, and nearer to the mean one."""

    def sample_with(
        self,
        count: int,
        *,
        noise: Literal["random", "const", "none"] = "const",
        truncation: float | None = None,
        generator: torch.Generator | None = None,
    ) -> Layers:
        """As `LayerGenerator.sample`.

        Args:
            count: Pictures.
            noise: New for each picture, the same stored one for all, or none.
            truncation: Share of the distance from the mean picture that is kept; None for the
                method's own.
            generator: Equal ones give equal pictures.
        """
        ...


@runtime_checkable
class Critic(Protocol):
    """Tells how real pictures look to it."""

    def score(self, image: Tensor) -> Tensor:
        """Scores (B,) of `image` (B, 3, H, W), larger for more real."""
        ...


@runtime_checkable
class LatentDecoder(Protocol):
    """Draws from latents that are at hand, so that paths between pictures can be walked."""

    def latent(self, count: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw `count` latents (B, D)."""
        ...

    def decode(self, latent: Tensor) -> Layers:
        """The pictures of `latent` (B, D); equal latents give equal pictures."""
        ...


@runtime_checkable
class TruncatedDecoder(Protocol):
    """Trades variety for likeliness: draws nearer to the mean picture."""

    def decode_truncated(self, latent: Tensor, truncation: float) -> Layers:
        """As `LatentDecoder.decode`, at `truncation` times the distance from the mean."""
        ...


@runtime_checkable
class StyleDecoder(Protocol):
    """Maps latents to styles, which may be moved layer by layer before a picture is painted.

    Latents are those of a `LatentDecoder`.
    """

    @property
    def num_styles(self) -> int:
        """N, one for each layer; 0 if the network that was chosen has none."""
        ...

    def styles(self, latent: Tensor, *, truncation: float | None = None) -> Tensor:
        """Styles (B, N, W) of `latent` (B, D), at a `truncation` or, as drawn, at its own."""
        ...

    def decode_styles(self, styles: Tensor) -> Layers:
        """The pictures of `styles` (B, N, W); those of a latent's styles are the latent's."""
        ...


@runtime_checkable
class LayerMixer(Protocol):
    """Draws each layer from a latent of its own."""

    def decode_layers(self, latent: Tensor) -> Layers:
        """The pictures whose layers come from `latent` (B, L, D), back to front."""
        ...


@runtime_checkable
class CodeDrawer(Protocol):
    """Draws layered pictures of codes that can be set one by one.

    Attributes:
        codes: Those it has, of z (pose and all else), c (category) and b (background).
        num_categories: Values of c.
        num_backgrounds: Values of b.
    """

    codes: tuple[str, ...]
    num_categories: int
    num_backgrounds: int

    def draw_poses(self, count: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw `count` values of z, (B, D)."""
        ...

    def background_of(self, category: Tensor) -> Tensor:
        """Value of b that goes with each of `category` (B,) in training."""
        ...

    def sample_of(self, category: Tensor, *, generator: torch.Generator | None = None) -> Layers:
        """Draw a picture of each of `category` (B,) int64, otherwise as `sample` does."""
        ...

    def compose(self, pose: Tensor, category: Tensor, background: Tensor) -> Layers:
        """The pictures of z (B, D), c (B,) and b (B,), int64; equal codes give equal pictures."""
        ...


@runtime_checkable
class Projector(Protocol):
    """Searches the picture it could have drawn that comes nearest to a given one."""

    def project(
        self,
        image: Tensor,
        *,
        steps: int,
        generator: torch.Generator | None = None,
        features: Callable[[Tensor], list[Tensor]] | None = None,
        report: Callable[[int, Tensor], object] | None = None,
    ) -> Layers:
        """Layers that come near to `image` (B, 3, H, W) when put together.

        Args:
            image: In [-1, 1].
            steps: Of the search.
            generator: Source of its random numbers; equal ones give equal layers.
            features: Differentiable maps (B, C, h, w) of several depths that pictures are compared
                by; None compares pixels.
            report: Called with the steps done and the distances (B,) now and then.
        """
        ...


@runtime_checkable
class PretrainedGenerator(Protocol):
    """A frozen network that paints whole pictures, of any family.

    Attributes:
        resolution: Side R of the pictures.
        latent_dim: Size D of a latent vector.
        num_classes: Classes of the condition; 0 for none.
    """

    resolution: int
    latent_dim: int
    num_classes: int

    def latent(self, count: int, *, generator: torch.Generator | None = None) -> Latent:
        """Draw `count` latents, with a class each if there are classes; equal seeds, equal ones."""
        ...

    def forward(self, latent: Latent) -> Tensor:
        """The pictures (B, 3, R, R) of `latent`, in [-1, 1]."""
        ...


@runtime_checkable
class Clusterer(Protocol):
    """Sorts pictures into categories."""

    def cluster(self, image: Tensor) -> Tensor:
        """Category (B,) int64 of each of `image` (B, 3, H, W)."""
        ...


@runtime_checkable
class Redrawer(Protocol):
    """Repaints regions of given pictures; gives `generate` its pictures and texture swaps."""

    def redraw(self, image: Tensor, latent: Tensor) -> Tensor:
        """Redraw each region of `image` (B, 3, H, W) from `latent` (B, K, D): (B, K, 3, H, W)."""
        ...

    def recover_latent(self, image: Tensor) -> Tensor:
        """Latents (B, K, D) under which `image` (B, 3, H, W) would be redrawn as itself."""
        ...
