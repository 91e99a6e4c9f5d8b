"""What a picture is explained by: sprites, an encoder, predicted transformations, a search.

Letters: B pictures, L layers, K sprites to choose from (the empty one is the last), M backgrounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from figureground.methods.dti_sprites.composition import (
    fill_occlusion,
    fixed_occlusion,
    join_changes,
    order_by_depth,
)
from figureground.methods.dti_sprites.parts import Betas, Part, run_parts, split_batch
from figureground.methods.dti_sprites.scene import Fit, Plan, Scene
from figureground.methods.dti_sprites.search import Search
from figureground.methods.dti_sprites.selection import SelectionPredictor
from figureground.methods.dti_sprites.shadows import Shadows
from figureground.methods.dti_sprites.sprites import SpriteBank
from figureground.methods.dti_sprites.transforms import (
    Padding,
    Perceptrons,
    StackedPerceptrons,
    TransformGroup,
)
from figureground.nn.encoders import Encoder
from figureground.nn.precision import widen


class SceneModel(nn.Module):
    """Finds the scene that explains a picture best.

    Args:
        sprites: The learned pictures.
        encoder: Features of a picture.
        num_layers: L.
        has_empty: Whether a layer may stay empty.
        sprite_transform: Sequence, and milestones in iterations, for each sprite in each layer.
        layer_transform: The same for each layer.
        background_transform: The same for each background.
        size: Height and width of pictures.
        perceptrons: Shape of the predictors.
        grid_size: Control points per side of thin-plate splines.
        kernel_size: Window of morphological transformations.
        occlusion: `fixed`, `predicted` or by `depth`.
        selection: `exhaustive`, `greedy` or `predicted`.
        num_sweeps: Of the greedy search.
        temperature: Of predicted selection.
        empty_penalty: Added to the error of what is not empty, in the choice only.
        shadows: Whether layers cast shadows on the background.
        mask_noise: Amplitude of the noise on masks in training.
        noise_until: Iteration by which the noise has faded to nothing; 0: it stays.
        frozen_until: Last iteration at which sprites stay as they are.
    """

    def __init__(
        self,
        sprites: SpriteBank,
        encoder: Encoder,
        *,
        num_layers: int,
        has_empty: bool,
        sprite_transform: tuple[str, Sequence[int]],
        layer_transform: tuple[str, Sequence[int]],
        background_transform: tuple[str, Sequence[int]],
        size: tuple[int, int],
        perceptrons: Perceptrons,
        grid_size: int = 4,
        kernel_size: int = 3,
        occlusion: Literal["fixed", "predicted", "depth"] = "fixed",
        selection: Literal["exhaustive", "greedy", "predicted"] = "exhaustive",
        num_sweeps: int = 1,
        temperature: float = 1.0,
        empty_penalty: float = 0.0,
        shadows: bool = False,
        mask_noise: float = 0.4,
        noise_until: int = 0,
        frozen_until: int = 0,
    ) -> None:
        super().__init__()
        self.sprites, self.encoder, self.num_layers = sprites, encoder, num_layers
        self.has_empty, self.num_choices = has_empty, len(sprites) + has_empty
        self.occlusion, self.search = occlusion, Search(selection, num_sweeps, empty_penalty)
        self.mask_noise, self.noise_until = mask_noise, noise_until
        self.frozen_until = frozen_until
        num_backgrounds = len(sprites.background)
        own_size = (sprites.color.shape[2], sprites.color.shape[3])

        def build(
            transform: tuple[str, Sequence[int]], num: int, out: tuple[int, int], padding: Padding
        ) -> TransformGroup:
            return TransformGroup(
                transform[0], num, encoder.num_features, out, milestones=transform[1],
                padding=padding, perceptrons=perceptrons, grid_size=grid_size,
                kernel_size=kernel_size, clamp=sprites.clamp,
            )  # fmt: skip

        has_layer = layer_transform[0] != "identity"
        out = own_size if has_layer else size
        self.sprite_group = build(sprite_transform, num_layers * self.num_choices, out, "zeros")
        self.layer_group = build(layer_transform, num_layers, size, "zeros")
        self.background_group: TransformGroup | None = None
        if num_backgrounds:
            self.background_group = build(background_transform, num_backgrounds, size, "border")
        self.occlusion_predictor: StackedPerceptrons | None = None
        if occlusion != "fixed" and num_layers > 1:
            count = num_layers if occlusion == "depth" else num_layers * (num_layers - 1) // 2
            self.occlusion_predictor = StackedPerceptrons(
                1, encoder.num_features, count, perceptrons
            )

        self.shadows: Shadows | None = None
        if shadows:
            self.shadows = Shadows(num_layers, encoder.num_features, perceptrons)
        self.selector: SelectionPredictor | None = None
        if selection == "predicted":
            self.selector = SelectionPredictor(
                num_layers, self.num_choices, encoder.num_features, perceptrons, temperature
            )

    def predictors(self) -> list[nn.Parameter]:
        """Parameters of all predictors, those of neither sprites nor encoder."""
        skipped = {id(p) for part in (self.sprites, self.encoder) for p in part.parameters()}
        return [p for p in self.parameters() if id(p) not in skipped]

    def forward(self, image: Tensor, iteration: int) -> Fit:
        """Fit scenes to pictures in training.

        Args:
            image: (B, 3, H, W) in [0, 1].
            iteration: Decides what is active and frozen, and how much noise masks get.
        """
        plan = self._plan(image, iteration, self._draw_noise(image, iteration), draw=True)
        per_layer = self.num_layers + 2 if plan.drawn is None else 3 * self.num_choices
        parts = split_batch(image, 4 * self.num_layers * per_layer)
        made = run_parts(lambda part: self._build(plan, part).composite(), parts)
        return Fit(plan.choice, plan.changes, made, plan.probabilities)

    def explain(self, image: Tensor, iteration: int | None = None) -> Scene:
        """Find the best scene outside training: without noise, and all of it kept.

        Args:
            image: (B, 3, H, W) in [0, 1].
            iteration: What was active and frozen then is so now; None: all is active.
        """
        plan = self._plan(image, iteration, None, draw=False)
        scene = self._build(plan, Part(0, len(image)))
        scene.probabilities = plan.probabilities
        scene.parameters = self._list_parameters(plan.betas, plan.choice, plan.ground)
        return scene

    def _plan(
        self, image: Tensor, iteration: int | None, noise: Tensor | None, *, draw: bool
    ) -> Plan:
        """Predict everything and choose the sprites."""
        features = self.encoder(image)
        frozen = self.is_frozen(iteration)
        betas, occlusion = self._predict(features, iteration), self._occlude(features)
        stack = self.sprites.stack(
            with_canvas=noise is not None, with_empty=self.has_empty, frozen=frozen
        )
        if self.selector is None:
            with torch.no_grad():
                choice, ground, changes = self._choose(image, betas, occlusion, noise, frozen)
            return Plan(features, betas, occlusion, stack, noise, choice, ground, changes)
        chosen, shares = self.selector(features, draw, not (self.has_empty and frozen))
        choice = chosen.argmax(dim=2).mT
        ground = torch.zeros_like(choice[:, 0])
        drawn = chosen if draw else None
        return Plan(features, betas, occlusion, stack, noise, choice, ground, [], shares, drawn)

    def _build(self, plan: Plan, part: Part) -> Scene:
        """Draw the chosen layers of some pictures."""
        own, found, which = part.of(plan.betas), part.rows(plan.choice), part.rows(plan.ground)
        if plan.drawn is None:
            color, mask = self._render_chosen(own, plan.stack, found, plan.noise)
        else:
            color, mask = self._render_drawn(own, plan.stack, part.columns(plan.drawn), plan.noise)
        grounds = self._render_backgrounds(own["background"], len(found))
        background = None
        if grounds is not None:
            background = grounds[which, torch.arange(len(found), device=found.device)]
            if self.shadows is not None:
                background = self.shadows(background, mask, part.rows(plan.features))
        occlusion = part.rows(plan.occlusion)
        return Scene(found, which, color, mask, background, occlusion, plan.changes)

    def is_frozen(self, iteration: int | None) -> bool:
        """Whether sprites stay as they are at `iteration`, and no layer may be empty."""
        return iteration is not None and iteration <= self.frozen_until

    def candidates(self, image: Tensor, iteration: int | None = None) -> tuple[Tensor, Tensor]:
        """All transformed sprites: colours (L, B, K, 3, H, W), masks (L, B, K, 1, H, W).

        Args:
            image: (B, 3, H, W) in [0, 1].
            iteration: See `explain`.
        """
        betas = self._predict(self.encoder(image), iteration)
        return self._render(betas, self.sprites.stack(with_canvas=False, with_empty=self.has_empty))

    def _predict(self, features: Tensor, iteration: int | None) -> dict[str, Betas]:
        """Parameters by group: sprites (L, B, K, d), layers (L, B, 1, d), backgrounds (M, B, d)."""
        sprite = {
            number: beta.view(self.num_layers, self.num_choices, *beta.shape[1:]).transpose(1, 2)
            for number, beta in self.sprite_group.predict(features, iteration).items()
        }
        layer = self.layer_group.predict(features, iteration)
        ground = self.background_group
        return {
            "sprite": sprite,
            "layer": {number: beta.unsqueeze(2) for number, beta in layer.items()},
            "background": {} if ground is None else ground.predict(features, iteration),
        }

    def _list_parameters(
        self, betas: dict[str, Betas], choice: Tensor, ground: Tensor
    ) -> dict[str, Tensor]:
        """See `Scene.parameters`."""
        names = {"sprite": self.sprite_group.names, "layer": self.layer_group.names}
        if self.background_group is not None:
            names["background"] = self.background_group.names
        rows = torch.arange(len(ground), device=ground.device)
        listed = {}
        for group, modules in names.items():
            for number, beta in betas[group].items():
                if group == "background":
                    beta = beta[ground, rows].unsqueeze(1)
                else:
                    beta = _pick(beta, choice if group == "sprite" else None)
                    beta = beta.squeeze(2).transpose(0, 1)
                listed[f"{group}.{number}.{modules[number]}"] = beta
        return listed

    def _occlude(self, features: Tensor) -> Tensor:
        if self.occlusion_predictor is None:
            return fixed_occlusion(self.num_layers, features).expand(len(features), -1, -1)
        values = widen(self.occlusion_predictor(features)[0])
        if self.occlusion == "depth":
            return order_by_depth(values)
        return fill_occlusion(torch.sigmoid(values), self.num_layers)

    def _render_backgrounds(self, betas: dict[int, Tensor], count: int) -> Tensor | None:
        """Transformed backgrounds (M, B, 3, H, W)."""
        if self.background_group is None:
            return None
        grounds = self.sprites.clamp(self.sprites.background).unsqueeze(1)
        rendered: Tensor = self.background_group(grounds.expand(-1, count, -1, -1, -1), betas)
        return rendered

    def _render(
        self, betas: dict[str, Betas], stack: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Transform sprites (*N, K, C, h, w) to colours and masks (L, B, K, ., H, W)."""
        stack = stack if stack.dim() > 4 else stack[None, None]
        stack = self.layer_group(self.sprite_group(stack, betas["sprite"]), betas["layer"])
        color, mask = stack[..., :3, :, :], stack[..., 3:4, :, :]
        if noise is not None:
            mask = self.sprites.clamp(torch.addcmul(mask, stack[..., 4:, :, :], noise))
        return color, mask

    def noise_level(self, iteration: int) -> float:
        """Amplitude of the mask noise, which falls in a straight line if it has an end."""
        rest = 1 - iteration / self.noise_until if self.noise_until else 1.0
        return self.mask_noise * max(rest, 0.0)

    def _draw_noise(self, image: Tensor, iteration: int) -> Tensor | None:
        """Uniform noise (K, 1, H, W): one draw for the whole batch and all layers."""
        level = self.noise_level(iteration)
        if not level:
            return None
        shape = (self.num_choices, 1, *image.shape[2:])
        return (2 * torch.rand(shape) - 1).to(image) * level

    def _choose(
        self,
        image: Tensor,
        betas: dict[str, Betas],
        occlusion: Tensor,
        noise: Tensor | None,
        frozen: bool,
    ) -> tuple[Tensor, Tensor, list[float]]:
        """Sprites (B, L) and backgrounds (B,) of least error."""
        ground = torch.zeros(len(image), dtype=torch.long, device=image.device)
        may_be_empty = self.has_empty and not frozen
        count = len(self.sprites) + may_be_empty
        if count == 1 and len(self.sprites.background) <= 1:
            return ground.unsqueeze(1).expand(-1, self.num_layers), ground, []
        stack = self.sprites.stack(with_canvas=noise is not None, with_empty=may_be_empty)
        noise = None if noise is None else noise[:count]
        betas = {**betas, "sprite": {n: b[:, :, :count] for n, b in betas["sprite"].items()}}
        choices, chosen_grounds, changes = [], [], []
        for part in split_batch(image, 12 * self.num_layers * count):
            own, pictures = part.of(betas), part.rows(image)
            color, mask = self._render(own, stack, noise)
            grounds = self._render_backgrounds(own["background"], len(pictures))
            choice, ground, changed = self.search(
                pictures, color, mask, grounds, part.rows(occlusion), may_be_empty
            )
            choices.append(choice)
            chosen_grounds.append(ground)
            changes.append((len(choice), changed))
        return torch.cat(choices), torch.cat(chosen_grounds), join_changes(changes)

    def _render_chosen(
        self, betas: dict[str, Betas], stack: Tensor, choice: Tensor, noise: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Colours (B, L, 3, H, W) and masks (B, L, 1, H, W) of the chosen sprites alone."""
        chosen = choice.mT  # (L, B)
        sprite = {number: _pick(beta, choice) for number, beta in betas["sprite"].items()}
        noise = None if noise is None else noise[chosen].unsqueeze(2)
        own = stack[chosen].unsqueeze(2)  # (L, B, 1, C, h, w)
        color, mask = self._render({**betas, "sprite": sprite}, own, noise)
        return color.squeeze(2).transpose(0, 1), mask.squeeze(2).transpose(0, 1)

    def _render_drawn(
        self, betas: dict[str, Betas], stack: Tensor, chosen: Tensor, noise: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """As `_render_chosen`, with gradients for the choices (L, B, K) that were drawn."""
        weights = chosen[..., None, None, None]
        color, mask = self._render(betas, stack, noise)
        color, mask = ((weights * part).sum(dim=2).transpose(0, 1) for part in (color, mask))
        return color, mask


def _pick(beta: Tensor, choice: Tensor | None) -> Tensor:
    """Parameters (L, B, 1, d) of the chosen (B, L) among those of all sprites (L, B, K, d)."""
    if choice is None:
        return beta
    index = choice.mT[..., None, None]
    return beta.gather(2, index.expand(-1, -1, 1, beta.shape[-1]))
