"""Segmentation networks trained on pairs of pictures and masks (ILSGAN, gan-segmenter, L2IC)."""

from figureground.methods.segmenter.module import Segmenter

__all__ = ["Segmenter"]
