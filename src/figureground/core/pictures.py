"""The picture formats that are read; whatever else Pillow knows is refused.

Pillow goes by content, not by name, and for some formats it starts another program (PostScript) or
brings rarely used code. A file called x.png may be of any of them.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import IO

from PIL import Image

from figureground.core.presence import require_file

#: Pillow's names of what is read, the most frequent first.
FORMATS = (
    *("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP", "JPEG2000", "AVIF"),
    "TGA",  # Last: it has no signature, so nearly anything could be taken for it.
)


def open_image(source: str | Path | IO[bytes]) -> Image.Image:
    """Open a picture as Pillow does, if it is of one of `FORMATS`.

    Raises:
        Exception: Whatever Pillow raises; `PIL.UnidentifiedImageError` for other formats.
    """
    if isinstance(source, str | Path):
        require_file(source)
    return Image.open(source, formats=_known())


def forget_other_formats() -> None:
    """Let Pillow know `FORMATS` alone in this process, for libraries that open pictures too."""
    for name in set(Image.OPEN) - set(_known()):
        del Image.OPEN[name]
    Image.ID[:] = [name for name in Image.ID if name in Image.OPEN]


@cache
def _known() -> list[str]:
    """Those of `FORMATS` that this Pillow was built with."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]
