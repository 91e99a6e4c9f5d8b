"""Pictures over time as one moving picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from figureground.core.pictures import open_image

_MOST_FRAMES, _MOST_PIXELS = 50, 512  # Frames of a GIF, and its longer side.
_SECONDS = 10.0


def save_gif(frames: Sequence[Path], file: Any) -> None:
    """Encode picture files as a GIF of about ten seconds that starts over at its end.

    Of many frames it takes some, evenly, among them the first and the last; the size is the last
    one's, reduced to 512 pixels. All share one palette, so that what stays as it is keeps its
    colours.

    Args:
        frames: Picture files, oldest first.
        file: Open for bytes.

    Raises:
        ValueError: There are fewer than two frames.
    """
    if len(frames) < 2:
        raise ValueError(f"a GIF needs at least two frames, got {len(frames)}")
    count = min(len(frames), _MOST_FRAMES)
    chosen = [frames[n * (len(frames) - 1) // (count - 1)] for n in range(count)]
    with open_image(chosen[-1]) as last:
        scale = min(1.0, _MOST_PIXELS / max(last.size))
        size = (max(round(last.width * scale), 1), max(round(last.height * scale), 1))
    pictures = []
    for path in chosen:
        with open_image(path) as picture:
            pictures.append(picture.convert("RGB").resize(size, Image.Resampling.LANCZOS))
    strip = Image.new("RGB", (size[0], size[1] * count))
    for number, frame in enumerate(pictures):
        strip.paste(frame, (0, size[1] * number))
    # Of Pillow's ways the one that keeps small areas of pure colour.
    palette = strip.quantize(method=Image.Quantize.MAXCOVERAGE)
    plain = [p.quantize(palette=palette, dither=Image.Dither.NONE) for p in pictures]
    # GIFs count in hundredths of a second, Pillow in thousandths.
    duration = max(round(100 * _SECONDS / count), 2) * 10
    plain[0].save(file, "GIF", save_all=True, append_images=plain[1:], duration=duration, loop=0)
