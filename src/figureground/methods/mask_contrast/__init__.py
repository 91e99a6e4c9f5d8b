"""MaskContrast: features of pixels, learned by contrast between the masks of objects."""

from figureground.methods.mask_contrast.module import MaskContrast

__all__ = ["MaskContrast"]
