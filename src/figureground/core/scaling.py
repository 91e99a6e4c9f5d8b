"""Scaled losses (16-mixed) where several optimizers step down one of them, or one several times.

Left to the trainer, every step unscales the gradients of its optimizer and renews the scale: a
second step of one optimizer would unscale them twice, and after an overflow those that follow would
take the new scale for gradients of the old one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.optim import Optimizer


def unscale(plugin: Any, optimizers: Iterable[Optimizer]) -> None:
    """Unscale the gradients of each optimizer once, and renew the scale.

    Args:
        plugin: Precision plug-in with a gradient scaler.
        optimizers: Whose gradients come from one scaled loss; some of them may repeat.
    """
    # The trainer's wrappers are no optimizers to the scaler.
    own = {id(raw): raw for raw in (getattr(o, "optimizer", o) for o in optimizers)}
    for optimizer in own.values():
        plugin.scaler.unscale_(optimizer)
    plugin.scaler.update()


@contextmanager
def without_scaler(plugin: Any) -> Iterator[None]:
    """Let optimizers step as if gradients had never been scaled."""
    scaler = getattr(plugin, "scaler", None)
    if scaler is None:
        yield
        return
    plugin.scaler = None
    try:
        yield
    finally:
        plugin.scaler = scaler
