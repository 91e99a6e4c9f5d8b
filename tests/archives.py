"""Tiny datasets laid out as the official archives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat


def picture(seed: int, size: tuple[int, int] = (40, 30)) -> Image.Image:
    """A picture of noise, `size` = (width, height)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def disc(size: tuple[int, int] = (40, 30)) -> np.ndarray:
    """A boolean mask (H, W) with a disc in the middle."""
    rows, columns = np.indices((size[1], size[0]))
    return np.hypot(rows - size[1] / 2, columns - size[0] / 2) < min(size) / 3


def write_folder(root: Path, count: int = 30, masks: bool = True) -> Path:
    """Pictures of many sizes, some in sub-folders, with masks 0/255."""
    for index in range(count):
        size = (40 + index % 7, 30 + index % 5)
        place = Path("a" if index % 3 else ".") / f"p{index:03d}"
        for kind, image in (("images", picture(index, size)), ("masks", None)):
            if kind == "masks" and not masks:
                continue
            path = root / kind / place.with_suffix(".jpg" if kind == "images" else ".png")
            path.parent.mkdir(parents=True, exist_ok=True)
            if image is None:
                image = Image.fromarray(np.where(disc(size), 255, 0).astype(np.uint8))
            image.save(path)
    return root


def write_flowers(root: Path, per_split: int = 24) -> Path:
    """Flowers-102: setid.mat, jpg/, segmim/."""
    count = 3 * per_split
    numbers = np.arange(1, count + 1)
    entries = {"tstid": numbers[:per_split], "valid": numbers[per_split : 2 * per_split]}
    entries["trnid"] = numbers[2 * per_split :]
    (root / "jpg").mkdir(parents=True)
    (root / "segmim").mkdir()
    savemat(root / "setid.mat", entries)
    savemat(root / "imagelabels.mat", {"labels": numbers % 102 + 1})
    for number in numbers:
        image = picture(int(number))
        image.save(root / f"jpg/image_{number:05d}.jpg")
        pixels = np.asarray(image).clip(20, 230).copy()
        pixels[~disc()] = (0, 0, 254)
        Image.fromarray(pixels).save(root / f"segmim/segmim_{number:05d}.jpg")
    return root


def write_cub(root: Path, count: int = 72) -> Path:
    """CUB-200-2011: images.txt, images/, segmentations/, ReDO's and the official list."""
    root.mkdir(parents=True)
    names = [f"{i % 3 + 1:03d}.Bird_{i % 3}/Bird_{i:04d}.jpg" for i in range(count)]
    (root / "images.txt").write_text("".join(f"{i + 1} {n}\n" for i, n in enumerate(names)))
    redo = "".join(f"{i + 1} {i * 3 // count}\n" for i in range(count))
    (root / "train_val_test_split.txt").write_text(redo)
    official = "".join(f"{i + 1} {int(i < count // 2)}\n" for i in range(count))
    (root / "train_test_split.txt").write_text(official)
    for index, name in enumerate(names):
        image, mask = root / "images" / name, root / "segmentations" / name
        image.parent.mkdir(parents=True, exist_ok=True)
        mask.parent.mkdir(parents=True, exist_ok=True)
        picture(index).convert("L" if index == 0 else "RGB").save(image)
        votes = np.where(disc(), 255, 51).astype(np.uint8)
        Image.fromarray(votes).save(mask.with_suffix(".png"))
    return root


def write_lfw(root: Path, per_split: int = 24) -> Path:
    """LFW funneled with part labels and ReDO's lists."""
    parts = root / "parts_lfw_funneled_gt_images"
    parts.mkdir(parents=True)
    for number, split in enumerate(("train", "val", "test")):
        lines = []
        for index in range(per_split):
            person = f"Some_{split}_{index // 2}"
            name = f"{person}_{index % 2 + 1:04d}"
            lines.append(f"{person} {name}\n")
            path = root / "lfw_funneled" / person / f"{name}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(100 * number + index).save(path)
            if split != "train":
                labels = np.zeros((30, 40, 3), np.uint8)
                labels[..., 2] = 255
                labels[disc()] = (0, 255, 0)
                Image.fromarray(labels).save(parts / f"{name}.ppm")
        (root / f"{split}.txt").write_text("".join(lines))
    return root
