"""ILSGAN: layered pictures whose layers tell nothing of each other."""

from figureground.methods.ilsgan.module import ILSGAN

__all__ = ["ILSGAN"]
