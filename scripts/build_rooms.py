"""Build the pictures that `data=rooms` is made of, from two unpacked Debian packages.

    apt-get download sweethome3d-furniture blender-data
    for f in *.deb; do dpkg-deb -x "$f" unpacked; done
    pip install OpenEXR
    python scripts/build_rooms.py unpacked src/figureground/data/assets/rooms

Objects are the CC0 furniture icons of Sweet Home 3D (library BlendSwap-CC-0), grounds the CC0
panoramas by Greg Zaal that come with Blender. The result is the same on every run.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import sys
import zipfile
from pathlib import Path

import numpy as np
import OpenEXR
from PIL import Image
from scipy.ndimage import label

_LIBRARY = "usr/share/sweethome3d/furniture/BlendSwap-CC-0.sh3f"
_WORLDS = "usr/share/blender/datafiles/studiolights/world"
_SHARD = 450_000  # bytes; no file of the repository may exceed 500 kB
_MEDIAN = 0.225  # of a panorama's luminance after scaling, linear


def main() -> None:
    """Build everything."""
    unpacked, target = Path(sys.argv[1]), Path(sys.argv[2])
    target.mkdir(parents=True, exist_ok=True)
    for old in target.iterdir():
        old.unlink()
    objects = build_objects(unpacked / _LIBRARY, target)
    panoramas = build_panoramas(unpacked / _WORLDS, target)
    manifest = {"objects": objects, "panoramas": panoramas}
    (target / "manifest.json").write_text(json.dumps(manifest, indent=1), "utf-8")


def build_objects(library: Path, target: Path) -> list[dict[str, str]]:
    """Pack the usable icons; return a record of each."""
    records, shard, files = [], 0, []
    size = 0
    with zipfile.ZipFile(library) as archive:
        text = archive.read("PluginFurnitureCatalog.properties").decode("latin-1")
        fields = dict(re.findall(r"^(\w+#\d+)=(.*)$", text, re.MULTILINE))
        numbers = [key.partition("#")[2] for key in fields if key.startswith("icon#")]
        for number in sorted(numbers, key=lambda n: fields[f"icon#{n}"]):
            icon, category = fields[f"icon#{number}"], fields[f"category#{number}"]
            data = archive.read(icon.lstrip("/"))
            picture = Image.open(io.BytesIO(data)).convert("RGBA")
            if category == "Doors and windows" or not is_usable(picture):
                continue
            packed = io.BytesIO()
            picture = picture.crop(picture.getbbox())
            picture.save(packed, "WEBP", lossless=True, quality=100, method=6)
            if size + len(packed.getvalue()) > _SHARD:
                write_shard(target / f"objects_{shard}.zip", files)
                shard, files, size = shard + 1, [], 0
            name = f"{Path(icon).stem}.webp"
            files.append((name, packed.getvalue()))
            size += len(packed.getvalue())
            records.append({
                "name": name, "shard": f"objects_{shard}.zip", "category": category,
                "title": fields[f"name#{number}"], "creator": fields.get(f"creator#{number}", ""),
                "source": f"sweethome3d-furniture {_LIBRARY}{icon}", "licence": "CC0-1.0",
                "sha256": hashlib.sha256(data).hexdigest(),
            })  # fmt: skip
    write_shard(target / f"objects_{shard}.zip", files)
    return records


def is_usable(picture: Image.Image) -> bool:
    """One connected object with enough transparency around it."""
    mask = np.asarray(picture)[..., 3] > 127
    if not mask.any():
        return False
    parts, _ = label(mask)
    largest = np.bincount(parts.ravel())[1:].max() / mask.sum()
    rows, columns = np.nonzero(mask)
    box = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    clear = (np.asarray(picture)[..., 3] == 0).mean()
    return bool(clear > 0.10 and largest > 0.85 and 0.15 < mask.sum() / box < 0.97)


def write_shard(path: Path, files: list[tuple[str, bytes]]) -> None:
    """Write an archive that is the same on every run."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files:
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)


def build_panoramas(folder: Path, target: Path) -> list[dict[str, str]]:
    """Tone-map the panoramas; return a record of each."""
    records = []
    for path in sorted(folder.glob("*.exr")):
        light = np.clip(OpenEXR.File(str(path)).channels()["RGB"].pixels, 0, None)
        light = light * (_MEDIAN / np.median(light.mean(axis=2)))
        mapped = np.clip(light / (1 + 0.35 * light), 0, 1) ** (1 / 2.2)
        picture = Image.fromarray((mapped * 255).round().astype(np.uint8))
        name = f"{path.stem}.jpg"
        picture.save(target / name, "JPEG", quality=90, optimize=True)
        records.append({
            "name": name, "source": f"blender-data {_WORLDS}/{path.name}", "licence": "CC0-1.0",
            "creator": "Greg Zaal", "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        })  # fmt: skip
    return records


if __name__ == "__main__":
    main()
