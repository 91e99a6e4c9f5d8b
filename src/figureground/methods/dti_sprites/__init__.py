"""DTI-Sprites: images as layers of transformed sprites (Monnier et al., ICCV 2021)."""

from figureground.methods.dti_sprites.module import DTISprites

__all__ = ["DTISprites"]
