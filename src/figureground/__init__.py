"""figureground: segment, decompose and recompose images without labels."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

try:
    __version__ = version("figureground")
except PackageNotFoundError:  # A checkout that was not installed.
    __version__ = "0.0.0+checkout"

if TYPE_CHECKING:
    from figureground.core.checkpoint import load_method
    from figureground.generators.loading import load_generator

__all__ = ["__version__", "load_generator", "load_method"]


def __getattr__(name: str) -> Any:
    # Lazily, so that `figureground --help` does not pay for torch.
    if name == "load_method":
        from figureground.core.checkpoint import load_method

        return load_method
    if name == "load_generator":
        from figureground.generators.loading import load_generator

        return load_generator
    raise AttributeError(f"module 'figureground' has no attribute {name!r}")
