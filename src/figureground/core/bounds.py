"""Ranges of options, declared where the option is: `lr: PositiveFloat`.

`core.config` reads the bounds from a constructor's annotations and refuses values outside before
anything is created; the classes themselves stay free of checks that a config file needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class Bounds:
    """Closed range of a number; `above` excludes the lower end.

    Attributes:
        low: Smallest value, or None.
        high: Largest value, or None.
        above: The value must lie strictly above this, or None.
        power_of_two: Whether only powers of two fit.
        in_pixels: Whether it is a length in pixels, which configurations must scale with the
            resolution (`${scaled:20.0,128,${data.resolution}}`); a test holds them to that.
    """

    low: float | None = None
    high: float | None = None
    above: float | None = None
    power_of_two: bool = False
    in_pixels: bool = False

    def __contains__(self, value: float) -> bool:
        return not (
            (self.low is not None and value < self.low)
            or (self.high is not None and value > self.high)
            or (self.above is not None and value <= self.above)
            or (self.power_of_two and (value < 1 or int(value) & (int(value) - 1)))
        )

    def __str__(self) -> str:
        parts = []
        if self.power_of_two:
            parts.append("that is a power of two")
        if self.above is not None:
            parts.append(f"above {self.above:g}")
        if self.low is not None and self.high is not None:
            parts.append(f"from {self.low:g} to {self.high:g}")
        elif self.low is not None:
            parts.append(f"at least {self.low:g}")
        elif self.high is not None:
            parts.append(f"at most {self.high:g}")
        return ", ".join(parts)


# Ceilings catch slips of the keyboard (an extra zero or two), not ambitions.
Count = Annotated[int, Bounds(0, 10**9)]
PositiveInt = Annotated[int, Bounds(1, 10**9)]
Depth = Annotated[int, Bounds(1, 256)]
Blocks = Annotated[int, Bounds(0, 256)]  # As Depth, where there may be none.
Width = Annotated[int, Bounds(1, 4096)]
Quantity = Annotated[int, Bounds(0, 4096)]  # As Width, where there may be none.
Resolution = Annotated[int, Bounds(16, 4096, power_of_two=True)]
NonNegativeFloat = Annotated[float, Bounds(0, 1e9)]
PositiveFloat = Annotated[float, Bounds(above=0, high=1e9)]
PixelLength = Annotated[float, Bounds(above=0, high=1e9, in_pixels=True)]
PixelSide = Annotated[int, Bounds(1, 4096, in_pixels=True)]
LearningRate = Annotated[float, Bounds(above=0, high=10)]
Fraction = Annotated[float, Bounds(0, 1)]
Decay = Annotated[float, Bounds(0, 0.999999)]
