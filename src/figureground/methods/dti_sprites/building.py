"""The networks that the options of `DTISprites` describe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from figureground.methods.dti_sprites.generated import GeneratedBank
from figureground.methods.dti_sprites.networks import SceneModel
from figureground.methods.dti_sprites.sprites import Clamp, ColorInit, MaskInit, SpriteBank
from figureground.methods.dti_sprites.transforms import Perceptrons
from figureground.nn.encoders import Encoder, EncoderName


def build_model(
    *,
    resolution: int,
    num_sprites: int,
    num_layers: int,
    num_backgrounds: int,
    sprite_size: Sequence[int] | None,
    sprite_source: Literal["learned", "generated"],
    encoder: EncoderName,
    encoder_pool: Sequence[int],
    sprite_transform: str,
    layer_transform: str,
    background_transform: str,
    sprite_milestones: Sequence[int],
    layer_milestones: Sequence[int],
    background_milestones: Sequence[int],
    hidden_layers: int,
    hidden_width: int,
    grid_size: int,
    kernel_size: int,
    sprite_init: ColorInit,
    mask_init: MaskInit,
    mask_std: float,
    background_init: ColorInit,
    clamp: Clamp,
    clamp_slope: float,
    mask_noise: float,
    noise_until: int,
    freeze: int,
    occlusion: Literal["fixed", "predicted", "depth"],
    selection: Literal["exhaustive", "greedy", "predicted"],
    greedy_sweeps: int,
    selection_temperature: float,
    empty_sprite: bool,
    empty_penalty: float,
    shadows: bool,
    **_: object,
) -> SceneModel:
    """Draw a model anew; options as in `DTISprites`, others are passed over."""
    size = (resolution, resolution)
    own_size = size if sprite_size is None else (int(sprite_size[0]), int(sprite_size[1]))
    bank = GeneratedBank if sprite_source == "generated" else SpriteBank
    sprites = bank(
        num_sprites,
        own_size,
        num_backgrounds,
        size,
        color_init=sprite_init,
        mask_init=mask_init,
        mask_std=mask_std,
        background_init=background_init,
        clamp=clamp,
        slope=clamp_slope,
    )
    return SceneModel(
        sprites,
        Encoder(encoder, encoder_pool),
        num_layers=num_layers,
        has_empty=empty_sprite,
        size=size,
        sprite_transform=(sprite_transform, sprite_milestones),
        layer_transform=(layer_transform, layer_milestones),
        background_transform=(background_transform, background_milestones),
        perceptrons=Perceptrons(hidden_layers, hidden_width),
        grid_size=grid_size,
        kernel_size=kernel_size,
        occlusion=occlusion,
        selection=selection,
        num_sweeps=greedy_sweeps,
        temperature=selection_temperature,
        empty_penalty=empty_penalty,
        shadows=shadows,
        mask_noise=mask_noise,
        noise_until=noise_until,
        frozen_until=freeze,
    )
