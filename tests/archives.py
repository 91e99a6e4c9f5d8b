"""Tiny datasets laid out as the official archives."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

from figureground.data.tfrecord import Example
from records import clevr_record, write_records


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
    """CUB-200-2011: images.txt, images/, segmentations/, boxes, ReDO's and the official list."""
    root.mkdir(parents=True)
    names = [f"{i % 3 + 1:03d}.Bird_{i % 3}/Bird_{i:04d}.jpg" for i in range(count)]
    (root / "images.txt").write_text("".join(f"{i + 1} {n}\n" for i, n in enumerate(names)))
    boxes = "".join(f"{i + 1} 10.0 5.0 {12 + i % 5}.0 15.5\n" for i in range(count))
    (root / "bounding_boxes.txt").write_text(boxes)
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


def write_gtsrb8(root: Path, tracks: int = 5) -> Path:
    """GTSRB: train/<class>/<track>_<frame>.ppm, with the lists and other classes it comes with."""
    for number in (3, 7, 9, 11, 17, 18, 25, 35, 36):
        folder = root / "train" / (f"{number:05d}" if number % 2 else str(number))
        folder.mkdir(parents=True)
        (folder / f"GT-{number:05d}.csv").write_text("Filename;Width\n")
        for track in range(tracks):
            for frame in range(2):
                seed = 100 * number + 2 * track + frame
                ending = "ppm" if track else "png"
                picture(seed, (30 + track, 25)).save(folder / f"{track:05d}_{frame:05d}.{ending}")
    return root


def write_svhn(root: Path, counts: tuple[int, int, int] = (30, 12, 8)) -> dict[str, str]:
    """SVHN: three .mat files of test, train and extra; returns their checksums."""
    root.mkdir(parents=True)
    checksums = {}
    for part, count in zip(("test", "train", "extra"), counts, strict=True):
        rng = np.random.default_rng(count)
        content = {
            "X": rng.integers(0, 256, (32, 32, 3, count), dtype=np.uint8),
            "y": (np.arange(count, dtype=np.uint8) % 10 + 1)[:, None],
        }
        path = root / f"{part}_32x32.mat"
        savemat(path, content)
        checksums[part] = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    return checksums


def write_official_gtsrb8(root: Path, tracks: int = 4, frames: int = 2) -> Path:
    """The official archive: Final_Training/Images/<class>/<track>_<frame>.ppm and a list each."""
    content = {}
    for number in (3, 7, 9, 11, 17, 18, 25, 35, 36):
        folder = root / f"Final_Training/Images/{number:05d}"
        folder.mkdir(parents=True)
        (folder / f"GT-{number:05d}.csv").write_text("Filename;Width\n")
        for track in range(tracks):
            for frame in range(frames):
                content[number, track, frame] = picture(number + track, (30 + track, 25))
                content[number, track, frame].save(folder / f"{track:05d}_{frame:05d}.ppm")
    return root


def write_official_horses(root: Path, count: int = 10) -> Path:
    """The official archive: rgb/*.jpg and figure_ground/*.jpg, of other sizes but one aspect.

    In the last third of the columns of a picture is the horse.
    """
    for folder in ("rgb", "figure_ground"):
        (root / folder).mkdir(parents=True)
    for index in range(1, count + 1):
        width = 60 + 3 * index
        picture(index, (width, 2 * width // 3)).save(root / f"rgb/horse{index:03d}.jpg")
        mask = np.zeros((66, 99), np.uint8)
        mask[:, 66:] = 255
        path = root / f"figure_ground/horse{index:03d}.jpg"
        Image.fromarray(mask).convert("RGB" if index % 2 else "L").save(path, quality=75)
    return root


def write_horses(root: Path, count: int = 20, same_names: bool = True) -> Path:
    """Weizmann Horses: images/*.jpg and masks/*.png of 0 and 255."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for index in range(count):
        size = (40 + index % 7, 30 + index % 5)
        picture(index, size).save(root / f"images/horse{index:03d}.jpg")
        mask = Image.fromarray(np.where(disc(size), 255, 0).astype(np.uint8))
        mask.save(root / f"masks/{'horse' if same_names else 'mask'}{index:03d}.png")
    return root


#: Folders of pictures and label maps of Flowers-17: the official archives', and of 256 pixels.
FLOWERS17 = {"official": ("jpg", "trimaps"), "small": ("images_256", "labels_256")}


def write_flowers17(root: Path, layout: str = "official") -> Path:
    """Flowers-17: 1360 tiny pictures; every second one of the first 1200 has a label map.

    Columns of a map are 0 (unlabelled), 1 (flower), 2, 3, 4 and 5 (which is no label). Files are
    links to the first one: remove one before writing another in its place.
    """
    pictures, maps = FLOWERS17[layout]
    for folder in (pictures, maps):
        (root / folder).mkdir(parents=True)
    image = Image.fromarray(np.repeat(np.arange(12, dtype=np.uint8)[None] // 2, 10, axis=0))
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128, 128, 0, 128])
    first = root / f"{pictures}/image_0001.jpg", root / f"{maps}/image_0001.png"
    picture(0, (12, 10)).save(first[0])
    image.save(first[1])
    # All are the same file, which takes a tenth of the time.
    for number in range(2, 1361):
        (root / f"{pictures}/image_{number:04d}.jpg").hardlink_to(first[0])
    for number in range(3, 1201, 2):
        (root / f"{maps}/image_{number:04d}.png").hardlink_to(first[1])
    return root


#: Folders of pictures and masks of saliency sets.
SALIENCY = {
    "duts": ("DUTS", "DUTS-TE/DUTS-TE-Image", "DUTS-TE/DUTS-TE-Mask"),
    "ecssd": ("ECSSD", "images", "ground_truth_mask"),
    "dut_omron": ("DUT_OMRON", "DUT-OMRON-image", "pixelwiseGT-new-PNG"),
}


def write_saliency(data_dir: Path, name: str, count: int = 4) -> Path:
    """A saliency set in its published layout below `data_dir`."""
    root, images, masks = (data_dir / SALIENCY[name][0], *SALIENCY[name][1:])
    return write_two_folders(root, images, masks, count)


def write_two_folders(root: Path, images: str, masks: str, count: int = 4) -> Path:
    """Pictures and masks 0/255 of the same names in two folders below `root`."""
    for index in range(count):
        size = (40 + index % 7, 30 + index % 5)
        for folder, ending in ((images, "jpg"), (masks, "png")):
            (root / folder).mkdir(parents=True, exist_ok=True)
            mask = Image.fromarray(np.where(disc(size), 255, 0).astype(np.uint8))
            each = picture(index, size) if ending == "jpg" else mask
            each.save(root / folder / f"{index:04d}.{ending}")
    return root


def write_voc(root: Path, count: int = 8, num_classes: int = 20) -> Path:
    """PASCAL VOC's layout: a disc of one class in each picture; the first row is not scored."""
    lists = root / "ImageSets/Segmentation"
    for folder in (lists, root / "JPEGImages", root / "SegmentationClass"):
        folder.mkdir(parents=True)
    names = [f"2007_{index:06d}" for index in range(count)]
    for index, name in enumerate(names):
        picture(index).save(root / f"JPEGImages/{name}.jpg")
        classes = np.where(disc(), index % num_classes + 1, 0).astype(np.uint8)
        classes[0] = 255
        indices = Image.fromarray(classes)
        if index % 2:
            indices.putpalette([(37 * value) % 256 for value in range(768)])
        indices.save(root / f"SegmentationClass/{name}.png")
    (lists / "train.txt").write_text("\n".join(names[: count // 2]) + "\n")
    (lists / "val.txt").write_text("\n".join(names[count // 2 :]) + "\n")
    return root


def write_instagram(root: Path, tag: str = "santaphoto", val: int = 3) -> Path:
    """A hashtag's pictures: <tag>/train/ and <tag>/val/."""
    for split, count in (("train", 6), ("val", val)):
        for index in range(count):
            path = root / tag / split / f"{index:04d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(index, (50, 40 + index)).save(path)
    return root


def write_dogs(root: Path, count: int = 24) -> Path:
    """Stanford Dogs as DRC has it: numbers as tokens."""
    tokens = {"train": np.arange(count), "test": np.arange(5, 5 + count // 2)}
    names = {"train": "data_tr_sel", "test": "data_te_sel"}
    return _write_processed(root, tokens, names, "{}_orig/orig")


def write_cars(root: Path, count: int = 24) -> Path:
    """Stanford Cars as DRC has it: text as tokens."""
    tokens = {"train": np.array([f"{i:05d}" for i in range(count)])}
    tokens["test"] = np.array([f"{i:05d}" for i in range(count // 2)])
    names = {split: f"data_mrcnn_{split}_select" for split in tokens}
    return _write_processed(root, tokens, names, "data_mrcnn/{}/orig")


def _write_processed(
    root: Path, tokens: dict[str, np.ndarray], names: dict[str, str], photographs: str
) -> Path:
    for split, values in tokens.items():
        whole, cut = root / photographs.format(split), root / f"data_mrcnn/{split}/resized"
        whole.mkdir(parents=True)
        cut.mkdir(parents=True)
        np.save(root / f"{names[split]}.npy", values)
        for index, token in enumerate(values):
            size = (40 + index % 3, 30)
            picture(index, size).save(whole / f"{token}_orig.png")
            picture(index + 1, (32, 32)).save(cut / f"{token}_resized.png")
            mask = Image.fromarray(np.where(disc((32, 32)), 255, 0).astype(np.uint8))
            mask.save(cut / f"{token}_maskresized.png")
    return root


def write_stanford_dogs(root: Path, counts: tuple[int, int] = (12, 9)) -> Path:
    """Stanford Dogs: Images/, Annotation/, lists as .mat; three breeds, classes from 1 on."""
    breeds = ("n01-Chihuahua", "n02-Pug", "n03-Beagle")
    for part, count in zip(("train", "test"), counts, strict=True):
        names = [f"{breeds[i % 3]}/{part}_{i}.jpg" for i in range(count)]
        for index, name in enumerate(names):
            image = root / "Images" / name
            note = root / "Annotation" / Path(name).with_suffix("")
            for folder in (image.parent, note.parent):
                folder.mkdir(parents=True, exist_ok=True)
            picture(index).save(image)
            sides = {"xmin": 10, "ymin": 5, "xmax": 22 + index % 3, "ymax": 20}
            box = "".join(f"<{side}>{x}</{side}>" for side, x in sides.items())
            second = box.replace(">10<", ">1<")
            note.write_text(f"<annotation><bndbox>{box}</bndbox>{second}</annotation>")
        cells = np.empty((count, 1), object)
        cells[:, 0] = names
        labels = np.array([[i % 3 + 1] for i in range(count)])
        savemat(root / f"{part}_list.mat", {"file_list": cells, "labels": labels})
    return root


def write_stanford_cars(root: Path, counts: tuple[int, int] = (12, 9)) -> Path:
    """Stanford Cars: car_ims/ and cars_annos.mat; three models, classes from 1 on."""
    (root / "car_ims").mkdir(parents=True)
    notes = []
    for number in range(1, sum(counts) + 1):
        name = f"car_ims/{number:06d}.jpg"
        picture(number).save(root / name)
        corners = (10, 5, 22 + number % 3, 20)
        notes.append((name, *corners, (number - 1) % 3 + 1, int(number > counts[0])))
    fields = [("relative_im_path", object)]
    fields += [(f"bbox_{x}", object) for x in ("x1", "y1", "x2", "y2")]
    fields += [("class", object), ("test", object)]
    savemat(root / "cars_annos.mat", {"annotations": np.array([notes], fields)})
    return root


def write_people(root: Path, per_person: int = 12) -> Path:
    """FS100: a folder of faces for each person."""
    for person in ("Ann", "Bob"):
        (root / person).mkdir(parents=True)
        for number in range(per_person):
            picture(number, (30, 36)).save(root / person / f"{number}.jpg")
    return root


def write_clevr_npz(root: Path, objects: tuple[int, ...] = (3, 6, 2, 5, 4)) -> Path:
    """CLEVR as DRC's authors unpack it: meta/<number>.npz, arrays with a first size of one."""
    (root / "meta").mkdir(parents=True)
    for number, count in enumerate(objects):
        example = Example(clevr_record(np.arange(7), count))
        arrays: dict[str, Any] = {"visibility": example.read_floats("visibility")[None]}
        for name, shape in CLEVR_SHAPES.items():
            arrays[name] = example.read_bytes(name).reshape(1, *shape)
        np.savez(root / f"meta/{number}.npz", **arrays)
    return root


CLEVR_SHAPES = {
    "image": (240, 320, 3), "mask": (11, 240, 320), "shape": (11,), "material": (11,),
}  # fmt: skip


def write_clevr(root: Path, objects: tuple[int, ...] = (3, 6, 2, 5, 4)) -> Path:
    """CLEVR: pictures in a sub-folder, and records with `objects`."""
    (root / "images/train").mkdir(parents=True)
    for number in range(3):
        picture(number, (48, 32)).save(root / f"images/train/{number}.png")
    write_records(
        root / "clevr_with_masks_train.tfrecords", [clevr_record(np.arange(7), n) for n in objects]
    )
    return root
