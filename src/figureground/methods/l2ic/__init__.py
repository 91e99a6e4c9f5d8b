"""L2IC and its ancestors: pictures composed of codes, and real ones sorted by them."""

from figureground.methods.l2ic.module import L2IC

__all__ = ["L2IC"]
