"""What the values in mask files of the user's own mean."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from figureground.core.bounds import Bounds
from figureground.data.reading import read_mask
from figureground.data.samples import Pixels

MaskValue = Annotated[int, Bounds(0, 65535)]


class MaskRule:
    """Reads masks by the rule of `read_mask`.

    Args:
        void: Value in the files that means unlabelled: no score and no loss counts such pixels.
            None: there is no such value.
    """

    def __init__(self, void: MaskValue | None = None) -> None:
        self.void = void

    @property
    def fingerprint(self) -> str:
        """What masks depend on beside their files, as text; empty by default."""
        return "" if self.void is None else f"-void{self.void}"

    def read(self, path: Path, size: tuple[int, int]) -> Pixels:
        """Read the mask (H, W) of a picture of this width and height.

        Raises:
            DataError: See `read_mask`.
        """
        return read_mask(path, size, self.void)
