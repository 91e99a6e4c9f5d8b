"""ReDO: unsupervised object segmentation by redrawing (Chen, Artieres, Denoyer, NeurIPS 2019)."""

from figureground.methods.redo.module import ReDO

__all__ = ["ReDO"]
