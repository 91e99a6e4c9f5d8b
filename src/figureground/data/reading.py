"""Reading pictures and masks of any Pillow format, with errors that name the file."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from figureground.core.errors import DataError
from figureground.core.pictures import open_image
from figureground.core.presence import is_dir
from figureground.core.types import VOID
from figureground.data.samples import Pixels

logger = logging.getLogger(__name__)

#: Endings that are looked for in folders of pictures.
ENDINGS = frozenset(
    f".{name}"
    for name in (
        *("jpg", "jpeg", "png", "bmp", "gif", "ppm", "pgm", "pbm"),
        *("tif", "tiff", "webp", "jp2", "tga", "avif"),
    )
)
_SAID: set[str] = set()
_STRIP = 2**20  # Pixels turned into RGB at once.
_MOST_INDEX = 127  # The last grey below the half where soft masks are cut.
_NEARLY_WHITE = 15 / 16  # JPEG and resampling do not always reach white.


def list_pictures(folder: Path) -> list[Path]:
    """All picture files below `folder`, sorted by relative path; hidden ones left out."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)
    visible = (
        path
        for path in found
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    return sorted(visible, key=lambda path: path.relative_to(folder).as_posix())


def open_picture(path: Path) -> Image.Image:
    """Open and decode `path`, turned upright as its EXIF data says.

    Raises:
        DataError: It is missing, not a picture, cut off, or claims an absurd size.
    """
    try:
        with open_image(path) as image:
            # Above the limit Pillow only warns up to twice the size; here it is an error.
            limit = Image.MAX_IMAGE_PIXELS
            if limit is not None and image.width * image.height > limit:
                raise DataError(
                    f"{path} claims {image.width}x{image.height} pixels, more than the "
                    f"{limit} allowed; shrink it or remove it"
                )
            image.load()
            ImageOps.exif_transpose(image, in_place=True)  # Without a copy of upright ones.
            return image
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; run prepare to list what is missing") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path} claims more pixels than allowed; shrink or remove it") from error
    except DataError:
        raise
    except Exception as error:  # On damaged files Pillow raises nearly anything.
        what = "is a directory" if is_dir(path) else "is not a readable picture"
        raise DataError(
            f"{path} {what} ({type(error).__name__}); run prepare to list all such files, then "
            "mend or remove them, or set data.on_error=skip"
        ) from error


def read_image(path: Path) -> Pixels:
    """Read `path` as uint8 RGB (H, W, 3): any mode, transparency put on white."""
    return to_rgb(open_picture(path), str(path))


def to_rgb(image: Image.Image, name: str = "picture") -> Pixels:
    """Turn a Pillow image of any mode into uint8 RGB (H, W, 3)."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(_STRIP // max(image.width, 1), 1)
    for top in range(0, image.height, rows):  # Steps between take several times as much memory.
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        pixels[top : top + rows] = _strip_to_rgb(strip, name)
    return pixels


def _strip_to_rgb(image: Image.Image, name: str) -> Pixels:
    """Turn a picture, or some rows of one, into uint8 RGB (H, W, 3)."""
    if image.mode.startswith("I") or image.mode == "F":
        # By type, never by content, or one bright pixel would darken all others: 16-bit pictures
        # span 0..65535 whatever Pillow calls their mode, its floats 0..255.
        values = np.asarray(image, np.float64) / (1 if image.mode == "F" else 257)
        image = Image.fromarray(values.clip(0, 255).astype(np.uint8))
    if image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info:
        _say_once(
            "transparency", "%s has transparency; it is put on white, as others like it", name
        )
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(ground, image)
    return np.asarray(image.convert("RGB"))


def read_mask(path: Path, size: tuple[int, int] | None = None, void: int | None = None) -> Pixels:
    """Read an index mask (H, W), 0 = background.

    Mapping, by the values in the file:

    1. 0 and at most one other value, whichever it is: 0 and 1.
    2. Whole numbers up to 127: indices, kept. (White is above, so it is no soft mask.)
    3. Up to white (255, or 65535 in 16 bit), or nearly: a soft mask, cut at half of white.
    4. Anything else could mean several things and is refused.

    In palette pictures the values are the indices, of which any but 255 may be used. Where Pillow
    has turned a grey picture into one (all greys, each at its own index, or black not at 0) they
    are the greys.

    Args:
        path: The file.
        size: Width and height it must have, or None.
        void: Value in the file that means unlabelled: such pixels become `VOID`, and the mapping
            above is of the others. None: there is no such value.

    Raises:
        DataError: Unreadable, coloured, of another size, or of unclear meaning.
    """
    image = open_picture(path)
    if size is not None and image.size != size:
        raise DataError(
            f"mask {path} is {image.width}x{image.height} but its picture is {size[0]}x{size[1]}; "
            "both must have the same size"
        )
    values, are_indices = _read_values(image, path)
    unlabelled = np.zeros(values.shape, bool) if void is None else np.asarray(values == void)
    if unlabelled.all():
        return np.full(values.shape, VOID, np.uint8)
    # Any other value of the picture does: the mapping asks which there are, not how many of each.
    known = np.where(unlabelled, values[~unlabelled][0], values)
    indices = _check_indices(known, path) if are_indices else to_indices(known, f"mask {path}")
    return np.where(unlabelled, np.uint8(VOID), indices)


def _read_values(image: Image.Image, path: Path) -> tuple[npt.NDArray[Any], bool]:
    """Values (H, W) of a mask, and whether they are indices of a palette, whatever its colours."""
    if image.mode == "P":
        return _read_palette(image, path)
    if image.mode in {"RGB", "RGBA", "CMYK"}:
        image = image.convert("RGB") if image.mode == "CMYK" else image
        red = np.asarray(image.getchannel(0))
        if not all(np.array_equal(red, np.asarray(image.getchannel(n))) for n in (1, 2)):
            raise DataError(
                f"mask {path} is coloured; expected a grey or palette picture (0 = background). "
                "Map its colours to indices first"
            )
        return red, False
    return np.asarray(image.convert("L") if image.mode in {"1", "LA"} else image), False


def to_indices(values: npt.NDArray[np.generic], name: str = "mask") -> Pixels:
    """Map grey mask values (H, W) to indices by the rule of `read_mask`.

    Raises:
        DataError: It is unclear what the values mean; `name` says whose.
    """
    levels = np.unique(values)
    if np.count_nonzero(levels) <= 1:
        return np.asarray(values != 0, np.uint8)
    low, high = float(levels[0]), float(levels[-1])
    if low >= 0 and high <= _MOST_INDEX and (levels == np.floor(levels)).all():
        return values.astype(np.uint8)
    # What is not 8 bit is 16 bit: Pillow gives those types of up to 32.
    white = 255.0 if values.dtype == np.uint8 else 65535.0
    if low >= 0 and _NEARLY_WHITE * white <= high <= white:
        return np.asarray(np.greater(values, white / 2), np.uint8)
    raise DataError(
        f"{name} has {len(levels)} values from {low:g} to {high:g}, which are neither indices "
        f"(0 to {_MOST_INDEX}) nor a soft mask (0 to {white:g}); save it with 0 = background and "
        "1 = object"
    )


def _read_palette(image: Image.Image, path: Path) -> tuple[Pixels, bool]:
    """Indices of a palette picture, or its greys where `read_mask` says that these are meant."""
    indices = np.asarray(image)
    used = np.unique(indices)
    palette = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    colors = palette[used] if used[-1] < len(palette) else palette[:0]
    greys = colors[:, 0]
    # Only a palette that tells all indices apart by grey says anything about them.
    if len(np.unique(greys)) == len(used) and (colors == colors[:, :1]).all():
        if used[0] == 0 and greys[0] > 0:
            raise DataError(
                f"mask {path} paints index 0 grey or white, so it is unclear which side is the "
                "object; save it as a grey picture, 0 = background and 255 = object"
            )
        if (greys == used).all() or (used[0] > 0 and greys.min() == 0):
            return palette[indices][..., 0], False
    return indices, True


def _check_indices(indices: Pixels, path: Path) -> Pixels:
    """Indices of a palette picture as those of a mask.

    Raises:
        DataError: One is what most sets have for unlabelled pixels.
    """
    used = np.unique(indices)
    if np.count_nonzero(used) <= 1:
        return np.asarray(indices != 0, np.uint8)
    if used[-1] == VOID:
        raise DataError(
            f"mask {path} has index {VOID} beside {len(used) - 1} others, which often means that "
            f"a pixel is not to be scored; set data.masks.void={VOID} if so, or replace it by 0 "
            "(background) or by that of an object"
        )
    return np.asarray(indices, np.uint8)


def _say_once(topic: str, message: str, *args: object) -> None:
    if topic not in _SAID:
        _SAID.add(topic)
        logger.info(message, *args)
