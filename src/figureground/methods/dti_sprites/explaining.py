"""What a model that explains pictures by scenes is used for."""

from __future__ import annotations

import torch
from torch import Tensor

from figureground.core.errors import UserError
from figureground.core.method import Method
from figureground.core.protocols import ObjectFacts, ObjectMaps
from figureground.core.types import Batch, Layers, check_image
from figureground.data.pictures import accepts_pictures, segment_stretched, stretches_pictures
from figureground.methods.dti_sprites.networks import SceneModel
from figureground.methods.dti_sprites.pictures import (
    describe_scene,
    fill_background,
    instance_map,
    semantic_map,
)
from figureground.methods.dti_sprites.scene import Scene


class SceneExplainer(Method):
    """Capabilities of a method with a `SceneModel`; subclasses say how it learns.

    Attributes:
        model: The model.
        resolution: S.
        num_layers: L.
        trained_until: Iterations trained, int64 scalar.
        references: Remembered training pictures (N, 3, S, S), uint8; all zero if there are none.
    """

    model: SceneModel
    resolution: int
    num_layers: int
    trained_until: Tensor
    references: Tensor

    def analyze(self, image: Tensor) -> Scene:
        """The scene that explains `image` (B, 3, S, S) best, with values in [0, 1] for showing."""
        return self.model.explain((image + 1) / 2, self._phase()).clamped()

    def _phase(self) -> int:
        """Iteration that decides what is active; before the first step that of the first."""
        return max(int(self.trained_until), 1)

    @accepts_pictures
    def segment(self, image: Tensor) -> Tensor:
        """Visible share of background and layers in `image` (B, 3, S, S): (B, L + 1, S, S).

        Also takes one picture of any size (file, Pillow image, array), see `accepts_pictures`.
        """
        check_image(image, self.resolution)
        return self.analyze(image).shares()

    def _segment_to_score(self, batch: Batch) -> Tensor:
        return segment_stretched(self.segment, self.resolution, batch)

    @stretches_pictures
    def decompose(self, image: Tensor) -> Layers:
        """Background and L layers with what is seen of each."""
        return self.analyze(image).as_layers()

    @stretches_pictures
    def find_objects(self, image: Tensor) -> ObjectMaps:
        """Layers and sprites seen at each pixel of `image` (B, 3, S, S)."""
        scene = self.analyze(image)
        found = instance_map(scene)
        filled = fill_background(scene, found, (image + 1) / 2)
        # Of all choices the empty sprite, the last one, is never seen.
        num_sprites = self.model.num_choices - self.model.has_empty
        return ObjectMaps(found, filled, semantic_map(scene, num_sprites))

    def describe(self, image: Tensor) -> list[list[ObjectFacts]]:
        """Sprite and predicted transformations of background and layers, empty ones left out."""
        return describe_scene(self.analyze(image), len(self.model.sprites))

    def recast(self, image: Tensor, layer: int, label: int) -> tuple[Tensor, Tensor]:
        """Layer `layer` of `image` with sprite `label`, both from 1 on, see `Recaster`."""
        for name, value, count in (
            ("layer", layer, self.num_layers), ("sprite", label, len(self.model.sprites)),
        ):  # fmt: skip
            if not 1 <= value <= count:
                raise ValueError(f"there is no {name} {value}; expected 1 to {count}")
        color, mask = self.model.candidates((image + 1) / 2, self._phase())
        own = layer - 1, slice(None), label - 1
        return color[own].clamp(0, 1) * 2 - 1, mask[own].clamp(0, 1)

    def cluster(self, image: Tensor) -> Tensor:
        """Sprite of the first layer, int64 (B,)."""
        return self.analyze(image).choice[:, 0]

    @torch.no_grad()
    def sample(self, count: int, *, generator: torch.Generator | None = None) -> Layers:
        """Draw new scenes: each layer and the background as in some remembered training picture.

        Raises:
            UserError: The model was trained, but knows no training pictures, as after a conversion.
        """
        if self.trained_until > 0 and not self.references.any():
            raise UserError(
                "this model remembers no training pictures to mix scenes of, as it was converted; "
                "expected one trained here: load_method it and train it on with Trainer.fit for an "
                "iteration at least, or use a run of your own"
            )
        scene = self.analyze(self.references.float() / 127.5 - 1)
        shape = (count, self.num_layers + 2)
        source = torch.randint(len(self.references), shape, generator=generator).to(self.device)
        return scene.mix(source[:, 0], source[:, 1], source[:, 2:]).as_layers()
