"""Reading pictures and masks of any Pillow format, with errors that name the file."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from figureground.core.errors import DataError
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
        with Image.open(path) as image:
            # Above the limit Pillow only warns up to twice the size; here it is an error.
            limit = Image.MAX_IMAGE_PIXELS
            if limit is not None and image.width * image.height > limit:
                raise DataError(
                    f"{path} claims {image.width}x{image.height} pixels, more than the "
                    f"{limit} allowed; shrink it or remove it"
                )
            image.load()
            return ImageOps.exif_transpose(image)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; run prepare to list what is missing") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path} claims more pixels than allowed; shrink or remove it") from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError) as error:
        what = "is a directory" if path.is_dir() else "is not a readable picture"
        raise DataError(
            f"{path} {what} ({type(error).__name__}); run prepare to list all such files, then "
            "mend or remove them, or set data.on_error=skip"
        ) from error


def read_image(path: Path) -> Pixels:
    """Read `path` as uint8 RGB (H, W, 3): any mode, transparency put on white."""
    return to_rgb(open_picture(path), str(path))


def to_rgb(image: Image.Image, name: str = "picture") -> Pixels:
    """Turn a Pillow image of any mode into uint8 RGB (H, W, 3)."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, np.float64)
        # 16-bit pictures span 0..65535 whatever Pillow calls their mode.
        image = Image.fromarray(
            (values / (257 if values.max() > 255 else 1)).clip(0, 255).astype(np.uint8)
        )
    if image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info:
        _say_once(
            "transparency", "%s has transparency; it is put on white, as others like it", name
        )
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(ground, image)
    return np.asarray(image.convert("RGB"))


def read_mask(path: Path, size: tuple[int, int] | None = None) -> Pixels:
    """Read an index mask (H, W), 0 = background.

    Mapping: palette pictures keep their indices; grey ones with values only in {0, 1} or few small
    indices keep them; grey ones with 0 and one large value (255, or 65535 in 16 bit) become 0 and
    1; anti-aliased grey masks are cut at half of full scale.

    Args:
        path: The file.
        size: Width and height it must have, or None.

    Raises:
        DataError: Unreadable, coloured, or of another size.
    """
    image = open_picture(path)
    if size is not None and image.size != size:
        raise DataError(
            f"mask {path} is {image.width}x{image.height} but its picture is {size[0]}x{size[1]}; "
            "both must have the same size"
        )
    if image.mode == "P":
        return np.asarray(image).astype(np.uint8)
    if image.mode in {"RGB", "RGBA", "CMYK"}:
        channels = np.asarray(image.convert("RGB"))
        if not (channels == channels[:, :, :1]).all():
            raise DataError(
                f"mask {path} is coloured; expected a grey or palette picture (0 = background). "
                "Map its colours to indices first"
            )
        values = channels[:, :, 0]
    else:
        values = np.asarray(image.convert("L") if image.mode in {"1", "LA"} else image)
    return to_indices(values)


def to_indices(values: npt.NDArray[np.generic]) -> Pixels:
    """Map grey mask values (H, W) to indices by the rule of `read_mask`."""
    levels = np.unique(values)
    largest = float(levels[-1]) if len(levels) else 0.0
    if largest <= 1 or (len(levels) <= 32 and largest < 64):
        return values.astype(np.uint8)
    full_scale = 255.0 if largest <= 255 else 65535.0
    return (values.astype(np.float64) > full_scale / 2).astype(np.uint8)


def _say_once(topic: str, message: str, *args: object) -> None:
    if topic not in _SAID:
        _SAID.add(topic)
        logger.info(message, *args)
