"""CLEVR scenes that L2IC's masks are scored on."""

from __future__ import annotations

from collections.abc import Sequence

from figureground.data.datasets.clevr6 import CLEVR6
from figureground.data.samples import Sample
from figureground.data.tfrecord import Example

_COUNT = 1000
#: Visible entities, of which the background is one: two to five objects.
_FEWEST, _MOST = 3, 6


class CLEVR(CLEVR6):
    """Objects against background, in the first 1000 records of two to five objects.

    Cut out of the record and made smaller as in `CLEVR6`, see there for the options; whatever the
    split, the pictures are the same. Drawn scenes (`source=generate`) have three to six objects.
    """

    name = "clevr"
    published = _COUNT

    def __getitem__(self, index: int) -> Sample:
        image, instances, _ = self.maps(index)
        return Sample(image, self.keys[index], (instances > 0).astype("uint8"))

    @classmethod
    def belongs(cls, example: Example) -> bool:
        """Whether a record has three to six visible entities."""
        return bool(_FEWEST <= example.read_floats("visibility").sum() <= _MOST)

    def check_counts(self) -> list[str]:
        """There is nothing to compare: as many are read as are asked for."""
        return []

    def _number(self, count: int | None) -> Sequence[int]:
        if self.source == "tfrecord":
            self._record_file()
            return range(count or _COUNT)
        return super()._number(count)
