"""DTI-Sprites as a LightningModule: what is learned, how, and what it is used for.

Monnier, Vincent, Ponce, Aubry, "Unsupervised Layered Image Decomposition into Object Prototypes",
ICCV 2021. A picture is a background and L layers, each showing one of K sprites:

- features                 f = e(x)                                     `SceneModel.encoder`
- transformed sprites      (c, m)_lk = T_lay[l](f) o T_spr[l,k](f)      `SceneModel._render`
- composite                I = sum_l prod_j (1 - d[j,l] m_j) m_l c_l    `composition.compose`
- choice                   one sprite per layer of least error          `SceneModel._choose`
- objective                mean (x - I)^2                               `training_step`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer
from torchmetrics import Metric

from figureground.core.bounds import (
    Blocks,
    Count,
    Depth,
    Fraction,
    NonNegativeFloat,
    PixelLength,
    PixelSide,
    PositiveFloat,
    PositiveInt,
    Quantity,
    Width,
)
from figureground.core.types import Batch
from figureground.methods.dti_sprites.building import build_model
from figureground.methods.dti_sprites.explaining import SceneExplainer
from figureground.methods.dti_sprites.pictures import scene_grids, scene_titles
from figureground.methods.dti_sprites.reassignment import Reassignment, replace_sprites
from figureground.methods.dti_sprites.schedules import Milestones, check_setup, count_owners
from figureground.methods.dti_sprites.selection import indecision, lack_of_use, occupancy
from figureground.methods.dti_sprites.sprites import (
    NUM_PICTURES,
    Clamp,
    ColorInit,
    MaskInit,
)
from figureground.methods.dti_sprites.usage import SpriteUsage
from figureground.nn.encoders import EncoderName
from figureground.nn.optimizers import OptimizerFactory
from figureground.nn.precision import widen


class DTISprites(SceneExplainer):
    """Explain every picture by a few sprites, transformed, coloured and stacked.

    Iterations take the place of the authors' epochs throughout; the recipes convert them.

    Args:
        resolution: Side of the pictures.
        num_sprites: Sprites to learn.
        num_layers: L, objects per picture at most.
        num_backgrounds: M.
        sprite_size: Height and width of sprites, or None for the picture's.
        sprite_source: Whether sprites are `learned` pixel by pixel or `generated` from codes.
        encoder: Which trunk, see `Encoder`.
        encoder_pool: Rows and columns of cells that the encoder keeps.
        sprite_transform: Sequence of each sprite in each layer.
        layer_transform: Sequence of each layer.
        background_transform: Sequence of each background.
        sprite_milestones: Iterations after which its second, third, ... module joins; empty: all
            from the start.
        layer_milestones: The same for layers.
        background_milestones: The same for backgrounds.
        hidden_layers: Hidden layers of the predictors.
        hidden_width: Their units.
        grid_size: Control points per side of thin-plate splines.
        kernel_size: Window of morphological transformations.
        sprite_init: See `SpriteBank`.
        mask_init, mask_std, background_init, clamp, clamp_slope: See `SpriteBank`.
        mask_noise: Amplitude of the noise on masks in training.
        noise_until: Iteration by which that noise has faded to nothing; 0: it stays.
        freeze: Iterations during which sprites stay as they are.
        occlusion: `fixed` (later layers in front), `predicted` pair by pair, or by one `depth` per
            layer.
        selection: `exhaustive` over all combinations, `greedy` layer by layer, or `predicted`
            without a search, see `selection`.
        greedy_sweeps: Passes of the greedy search.
        selection_temperature: Of the Gumbel-softmax that draws predicted sprites.
        frequency_penalty: Weight of `selection.lack_of_use`, for predicted selection.
        frequency_floor: Its floor; None is 1 / K.
        binary_penalty: Weight of `selection.indecision`, for predicted selection.
        empty_sprite: Whether a layer may stay empty.
        empty_penalty: Added by greedy selection to the error of what is not empty, in the choice
            only; for predicted selection the weight of `selection.occupancy`.
        shadows: Whether layers cast shadows on the background, see `Shadows`.
        encoder_visits: How often Adam steps the encoder in one iteration: `original` once for each
            network that owns it, as behind the published figures, or `once`.
        milestones: Iterations after which learning rates drop.
        sprite_gamma: Factor of each drop for sprites and backgrounds.
        predictor_gamma: Factor for encoder and predictors.
        reassign_every: Iterations between two checks for unused sprites; 0 turns them off.
        reassign_threshold: Usage below which a sprite is replaced; None is 0.2 / K.
        reassign_layers: Usage in one `random` layer (released code) or the `mean` over layers.
        num_references: Training pictures kept in the checkpoint for `sample`.
        sprite_optimizer: Makes the optimiser of sprites and backgrounds.
        predictor_optimizer: Makes that of the predictors.
        encoder_optimizer: Makes that of the encoder.
        metrics: See `Method`.
    """

    def __init__(
        self,
        *,
        resolution: Width,
        num_sprites: Width = 8,
        num_layers: Depth = 1,
        num_backgrounds: Quantity = 1,
        sprite_size: Sequence[PixelSide] | None = None,
        sprite_source: Literal["learned", "generated"] = "learned",
        encoder: EncoderName = "resnet20",
        encoder_pool: Sequence[Depth] = (1, 1),
        sprite_transform: str = "color_projective_tps",
        layer_transform: str = "identity",
        background_transform: str = "color_projective_tps",
        sprite_milestones: Sequence[Count] = (),
        layer_milestones: Sequence[Count] = (),
        background_milestones: Sequence[Count] = (),
        hidden_layers: Blocks = 2,
        hidden_width: Width = 128,
        grid_size: Depth = 4,
        kernel_size: Depth = 3,
        sprite_init: ColorInit = "constant",
        mask_init: MaskInit = "gaussian",
        mask_std: PixelLength = 5.0,
        background_init: ColorInit = "mean",
        clamp: Clamp = "soft",
        clamp_slope: Fraction = 0.01,
        mask_noise: NonNegativeFloat = 0.4,
        noise_until: Count = 0,
        freeze: Count = 0,
        occlusion: Literal["fixed", "predicted", "depth"] = "fixed",
        selection: Literal["exhaustive", "greedy", "predicted"] = "exhaustive",
        greedy_sweeps: PositiveInt = 1,
        selection_temperature: PositiveFloat = 1.0,
        frequency_penalty: NonNegativeFloat = 0.0,
        frequency_floor: Fraction | None = None,
        binary_penalty: NonNegativeFloat = 0.0,
        empty_sprite: bool = False,
        empty_penalty: NonNegativeFloat = 0.0,
        shadows: bool = False,
        encoder_visits: Literal["original", "once"] = "original",
        milestones: Sequence[PositiveInt] = (),
        sprite_gamma: PositiveFloat = 1.0,
        predictor_gamma: PositiveFloat = 0.1,
        reassign_every: Count = 100,
        reassign_threshold: Fraction | None = None,
        reassign_layers: Literal["random", "mean"] = "random",
        num_references: PositiveInt = 16,
        sprite_optimizer: OptimizerFactory | None = None,
        predictor_optimizer: OptimizerFactory | None = None,
        encoder_optimizer: OptimizerFactory | None = None,
        metrics: Mapping[str, Metric | None] | None = None,
    ) -> None:
        super().__init__(metrics=metrics)
        given = {name: value for name, value in locals().items() if name != "self"}
        if problems := self.check_options(**given):
            raise ValueError("; ".join(problems))
        size = (resolution, resolution)
        self.resolution, self.num_layers, self.num_regions = resolution, num_layers, num_layers + 1

        self._build_model = partial(build_model, **given)
        self.model = self._build_model()
        self.reassignment = Reassignment(
            reassign_every,
            0.2 / num_sprites if reassign_threshold is None else reassign_threshold,
            reassign_layers,
        )
        owners = count_owners(
            num_layers, sprite_transform, layer_transform, background_transform, num_backgrounds
        )
        self.penalties = (frequency_penalty, binary_penalty, empty_penalty)
        self.frequency_floor = 1 / num_sprites if frequency_floor is None else frequency_floor
        self.visits = max(owners, 1) if encoder_visits == "original" else 1
        self.rates = Milestones(milestones, sprite_gamma, predictor_gamma)
        self.usage = SpriteUsage(num_layers, self.model.num_choices)
        self._optimizers = (
            sprite_optimizer or _adam(),
            predictor_optimizer or _adam(weight_decay=1e-6),
            encoder_optimizer or _adam(weight_decay=1e-6),
        )
        self.register_buffer("has_begun", torch.zeros((), dtype=torch.bool))
        # What is active and frozen follows it, in training and outside.
        self.register_buffer("trained_until", torch.zeros((), dtype=torch.long))
        self.register_buffer("references", torch.zeros(num_references, 3, *size, dtype=torch.uint8))
        self.has_begun: Tensor

    check_options = staticmethod(check_setup)

    def on_fit_start(self) -> None:
        """Start sprites and backgrounds from training pictures where that is asked for."""
        source = getattr(self.trainer, "datamodule", None)
        # A converted model has begun, but knows no pictures yet.
        is_known = bool(self.has_begun) and bool(self.references.any())
        if is_known or source is None or not hasattr(source, "batch"):
            return
        count = len(source.store("train"))
        own = torch.Generator().manual_seed(torch.initial_seed() % 2**63)
        chosen = torch.randperm(count, generator=own)[:NUM_PICTURES].tolist()
        pictures = (source.batch("train", chosen).image.to(self.device) + 1) / 2
        if self.model.sprites.needs_pictures and not self.has_begun:
            self.model.sprites.reset_parameters(pictures)
        repeated = pictures.repeat(-(-len(self.references) // len(pictures)), 1, 1, 1)
        self.references.copy_((repeated[: len(self.references)] * 255).round())
        self.has_begun.fill_(True)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Step everything down the reconstruction error; replace unused sprites at times."""
        image, iteration = (batch.image + 1) / 2, self.iteration
        optimizers: list[Optimizer] = self.optimizers()  # type: ignore[assignment]  # three
        self.rates.apply(optimizers, iteration)
        for optimizer in optimizers:  # Before the layers need the memory of old gradients.
            optimizer.zero_grad(set_to_none=True)
        # A converted model has been trained to the end and stays so.
        self.trained_until.clamp_(min=iteration)
        phase = self._phase()
        scene = self.model(image, phase)
        loss = F.mse_loss(widen(scene.composite()), image)
        self.log_losses({"reconstruction": loss})
        if scene.probabilities is not None:
            loss = loss + self._penalize(scene.probabilities)
        # The encoder once for each network that owns it, see `encoder_visits`.
        steps = [*optimizers[:2], *[optimizers[2]] * self.visits]
        self.descend(loss, *steps, player="all")
        self.usage.update(scene.choice, self.trainer.strategy)
        self._log_changes(scene.changes)
        if self.reassignment.is_due(iteration):
            self._reassign(is_frozen=self.model.is_frozen(phase))

    def _penalize(self, probabilities: Tensor) -> Tensor:
        """Weighted penalties on predicted choices (L, B, K)."""
        frequency, binary, empty = self.penalties
        sprites = probabilities[..., : len(self.model.sprites)]
        terms = {
            "frequency": frequency * lack_of_use(sprites, self.frequency_floor),
            "binary": binary * indecision(probabilities),
        }
        if self.model.has_empty:
            terms["empty"] = empty * occupancy(probabilities)
        self.log_losses(terms)
        return torch.stack(list(terms.values())).sum()

    def _log_changes(self, changes: Sequence[float]) -> None:
        """Log what each sweep changed of the one before; the first has none before it."""
        if not changes:
            return
        for sweep in range(2, self.model.search.num_sweeps + 1):
            # Sweeps that were left out would have changed nothing.
            share = changes[sweep - 1] if sweep <= len(changes) else 0.0
            self.log(f"train/selection_change/sweep{sweep}", share)

    def _reassign(self, is_frozen: bool) -> None:
        """Replace sprites that are hardly used by near-copies of the most used one.

        While sprites are frozen usage is only looked at and forgotten.
        """
        strategy = self.trainer.strategy
        shares = strategy.broadcast(self.usage.shares(self.reassignment.layers))
        for k, share in enumerate(shares.tolist()):
            self.log(f"train/usage/sprite{k}", share)
        self.usage.clear()
        unused, winner = self.reassignment.find_unused(shares, self.model.has_empty)
        if is_frozen:
            return
        self.log("train/reassigned", float(len(unused)))
        if unused:
            noise = strategy.broadcast(self.model.sprites.draw_noise())
            replace_sprites(self.model, unused, winner, noise, self.trainer.optimizers)

    def configure_optimizers(self) -> list[Optimizer]:
        """Three: sprites and backgrounds; predictors; encoder."""
        groups = (
            [p for p in self.model.sprites.parameters() if p.requires_grad],
            self.model.predictors(),
            list(self.model.encoder.parameters()),
        )
        return [make(group) for make, group in zip(self._optimizers, groups, strict=True)]

    def reset_parameters(self) -> None:
        """Draw all weights anew; sprites from the remembered pictures if they start from some."""
        self.model.load_state_dict(self._build_model().state_dict())
        if self.has_begun and self.model.sprites.needs_pictures:
            self.model.sprites.reset_parameters(self.references.float() / 255)
        self.usage.reset_parameters()
        self.trained_until.zero_()

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Sprite sheet, scenes and usage, see `scene_grids`."""
        return scene_grids(self, batch)

    def picture_titles(self) -> dict[str, list[str]]:
        """Titles of the columns of `scenes`."""
        return {"scenes": scene_titles(self.num_layers)}


def _adam(lr: float = 1e-3, weight_decay: float = 0.0) -> OptimizerFactory:
    return partial(torch.optim.Adam, lr=lr, weight_decay=weight_decay, fused=True)
