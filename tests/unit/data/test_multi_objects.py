"""Tetrominoes, Multi-dSprites and CLEVR6: drawn, from the authors' folders, and from records."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from figureground.core.errors import DataError, UserError, WriteError
from figureground.data.casting import count_visible
from figureground.data.datasets import dsprites, tetrominoes
from figureground.data.datasets.clevr6 import CLEVR6, draw_clevr6, draw_scenes
from figureground.data.datasets.dsprites import DSprites, draw_dsprites
from figureground.data.datasets.multi_objects import HELD_OUT, MultiObjects, Scenes
from figureground.data.datasets.tetrominoes import BEVEL, COLORS, Tetrominoes, draw_tetrominoes
from figureground.data.rendering import render
from figureground.data.solids import CUBE, SPHERE, Solids, View, rotation
from figureground.data.tfrecord import Example, RecordReader, crc32c
from records import Features, clevr_record, encode, frame, write_records

KINDS: list[type[MultiObjects]] = [Tetrominoes, DSprites, CLEVR6]


def features_of(scenes: Scenes, row: int, entities: int, entities_last: bool = False) -> Features:
    """What the collection stores of a picture of ours."""
    instances, classes = scenes.instances[row], scenes.classes[row]
    masks = (instances == np.arange(entities)[:, None, None]).astype(np.uint8) * 255
    shapes = [int(classes[instances == k].max(initial=0)) for k in range(entities)]
    return {
        "image": scenes.images[row].tobytes(),
        "mask": (masks.transpose(1, 2, 0) if entities_last else masks).tobytes(),
        "shape": [float(shape) for shape in shapes],
        "visibility": [float(shape > 0 or k == 0) for k, shape in enumerate(shapes)],
    }


def write_layout(root: Path, scenes: Scenes) -> Path:
    """Write pictures as the authors' folders have them."""
    for part, maps in zip(("images", "masks", "sem_masks"), scenes, strict=True):
        (root / part).mkdir(parents=True)
        for number, pixels in enumerate(maps):
            Image.fromarray(pixels).save(root / part / f"{number}.png")
    return root


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def clevr() -> Scenes:
    return draw_clevr6(rng(), 64)


# Drawn pictures.


@pytest.mark.parametrize("kind", KINDS)
def test_drawn_pictures_do_not_depend_on_count_or_order(kind: type[MultiObjects]) -> None:
    few, many = kind("train", 3), kind("train", 1000)
    for index in (2, 0):
        one, other = few[index], many[index]
        assert np.array_equal(one.image, other.image)
        assert one.mask is not None
        assert other.mask is not None
        assert np.array_equal(one.mask, other.mask)
        assert np.array_equal(few.classes(index), many.classes(index))
        assert one.image.shape == (kind.side, kind.side, 3)
        assert one.image.dtype == one.mask.dtype == few.classes(index).dtype == np.uint8
        assert one.key == other.key
        assert np.array_equal(few.classes(index) > 0, one.mask > 0)
    assert few.fingerprint() != many.fingerprint()
    assert few.files(0) == ()
    assert few.check_counts() == []


@pytest.mark.parametrize("kind", KINDS)
def test_splits_and_seeds_are_different_pictures(kind: type[MultiObjects]) -> None:
    parts = [kind("train", 1), kind("val", 1), kind("test", 1), kind("train", 1, seed=1)]
    assert len({part[0].image.tobytes() for part in parts}) == 4
    assert len({part.fingerprint() for part in parts}) == 4
    assert len(kind("train")) == kind.published
    assert len(kind("test")) == HELD_OUT


@pytest.mark.parametrize("kind", KINDS)
def test_transductive_test_is_the_first_320_training_pictures(kind: type[MultiObjects]) -> None:
    train, test = kind("train"), kind("test", transductive=True)
    assert len(test) == HELD_OUT
    assert test.keys == train.keys[:HELD_OUT]
    assert np.array_equal(test[1].image, train[1].image)


def test_a_dataset_can_be_sent_to_a_worker() -> None:
    data = Tetrominoes("train", 5)
    first = data[3].image
    assert np.array_equal(pickle.loads(pickle.dumps(data))[3].image, first)


# Tetrominoes.


def test_there_are_19_tetrominoes() -> None:
    shapes = {tuple(map(tuple, shape)) for shape in tetrominoes.SHAPES.tolist()}
    assert len(shapes) == 19
    for shape in shapes:
        assert len(set(shape)) == 4
        touching = sum(
            abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1 for a in shape for b in shape if a < b
        )
        assert touching >= 3
        assert min(y for y, _ in shape) == min(x for _, x in shape) == 0


def test_three_tetrominoes_never_overlap() -> None:
    scenes = draw_tetrominoes(rng(), 2000)
    for piece in (1, 2, 3):
        assert ((scenes.instances == piece).sum(axis=(1, 2)) == 100).all()
    # Shapes are drawn before places, so that none is favoured.
    counts = np.bincount(scenes.classes.ravel(), minlength=20)[1:] / 100
    assert counts.sum() == 6000
    assert np.abs(counts / 6000 * 19 - 1).max() < 0.25
    # Touching every border is allowed.
    assert all((scenes.instances[:, edge] > 0).any() for edge in (0, -1))
    assert all((scenes.instances[:, :, edge] > 0).any() for edge in (0, -1))


def test_tetrominoes_have_six_colors_and_a_bevel() -> None:
    scenes = draw_tetrominoes(rng(), 300)
    assert not scenes.images[scenes.instances == 0].any()
    found = set()
    for image, instances in zip(scenes.images, scenes.instances, strict=True):
        for piece in (1, 2, 3):
            pixels = image[instances == piece]
            found.add(tuple(pixels.max(axis=0)))
            levels = set(np.unique(pixels)) - {0}
            assert levels == {round(level * 255) for level in np.unique(BEVEL)}
    assert found == {tuple(255 * np.array(color)) for color in COLORS.values()}


# Multi-dSprites.


def test_dsprites_are_two_to_five_in_the_middle() -> None:
    scenes = draw_dsprites(rng(), 1000)
    highest = scenes.instances.max(axis=(1, 2))
    # The last sprite is on top, so that it is always seen.
    assert np.abs(np.bincount(highest, minlength=6)[2:] / 250 - 1).max() < 0.25
    assert highest.min() == 2
    assert highest.max() == 5
    border = scenes.instances.copy()
    border[:, 3:61, 3:61] = 0
    assert not border.any()
    assert set(np.unique(scenes.classes)) == {0, 1, 2, 3}


def test_dsprites_colors_are_saturated_on_grey() -> None:
    scenes = draw_dsprites(rng(), 200)
    grounds = scenes.images[scenes.instances == 0].astype(int)
    assert (grounds.max(axis=-1) == grounds.min(axis=-1)).all()
    for image, instances in zip(scenes.images, scenes.instances, strict=True):
        for sprite in np.unique(instances)[1:]:
            color = np.unique(image[instances == sprite], axis=0)
            assert len(color) == 1
            value = color[0].max() / 255
            assert 0.49 < value <= 1
            assert 1 - color[0].min() / 255 / value > 0.48


@pytest.mark.parametrize(("shape", "area"), [("square", 331), ("ellipse", 263), ("heart", 262)])
def test_sprites_have_the_measured_areas(shape: str, area: float) -> None:
    axis = np.linspace(-15, 15, 601)
    inside = dsprites.covers(shape, *np.meshgrid(axis, axis))
    assert inside.mean() * 900 == pytest.approx(area, rel=0.03)


# CLEVR6.


def test_clevr6_has_three_to_six_solids_of_six_classes(clevr: Scenes) -> None:
    assert set(np.unique(clevr.classes)) == set(range(7))
    numbers = [len(np.unique(instances)) - 1 for instances in clevr.instances]
    assert max(numbers) == 6
    solids = draw_scenes(rng(), 64)
    counts = np.bincount(solids.picture)
    assert (counts.min(), counts.max()) == (3, 6)
    # Parts of scenes are outside the cut-out.
    assert (counts >= numbers).all()
    for row in range(64):
        for number in np.unique(clevr.instances[row])[1:]:
            assert len(np.unique(clevr.classes[row][clevr.instances[row] == number])) == 1


def test_clevr6_solids_keep_their_distance() -> None:
    solids = draw_scenes(rng(1), 64)
    radius = np.where(solids.shape == CUBE, 2**0.5, 1) * solids.half
    right = rotation((0, 0, 46.69))[:2, 0]
    for a in range(len(radius)):
        for b in np.flatnonzero(solids.picture == solids.picture[a]):
            if a < b:
                apart = np.array([solids.x[a] - solids.x[b], solids.y[a] - solids.y[b]])
                assert np.hypot(*apart) - radius[a] - radius[b] > 0.2499
                assert abs(apart @ right) > 0.3999
    assert np.abs(solids.x).max() <= 3


def test_clevr6_looks_as_measured(clevr: Scenes) -> None:
    ground = np.where(clevr.instances == 0, clevr.images.mean(axis=-1), np.nan) / 255
    rows = np.nanmean(ground, axis=(0, 2))
    assert rows[0] == pytest.approx(0.40, abs=0.05)
    assert rows[-1] == pytest.approx(0.65, abs=0.05)
    # Solids are coloured, the ground is not.
    spread = np.ptp(clevr.images.astype(int), axis=-1)
    assert spread[clevr.instances > 0].mean() > 50
    assert np.median(spread[clevr.instances == 0]) == 0


def one_solid(shape: int, x: float = 0, y: float = 0, half: float = 0.7) -> Solids:
    """A solid alone, seen by the camera of CLEVR."""
    single = [np.array([value], np.float32) for value in (half, x, y, 0.3)]
    camera = np.array([[7.481, -6.508, 5.344]], np.float32)
    lamps = np.array([[[6.4, -2.9, 4.3], [-4.7, -4.0, 3.0], [-1.1, 2.6, 5.9]]], np.float32)
    color = np.array([[1, 0, 0]], np.float32)
    return Solids(
        np.array([0]), np.array([1]), np.array([shape]), np.array([False]), *single, color, camera,
        lamps,
    )  # fmt: skip


VIEW = View(128, 128, -95.25 / 350, 90.25 / 350, 1.5 / 350)
CAMERA = rotation((63.56, 0.62, 46.69))


def test_a_large_sphere_has_the_measured_diameter() -> None:
    _, instances, kinds = render(one_solid(SPHERE), VIEW, CAMERA)
    rows, columns = np.nonzero(instances[0])
    assert np.ptp(rows) + 1 == pytest.approx(29, abs=2)
    assert np.ptp(columns) + 1 == pytest.approx(29, abs=2)
    assert set(np.unique(kinds)) == {0, 1}


@pytest.mark.parametrize("shape", [0, 1, 2])
def test_rays_meet_what_a_march_along_them_meets(shape: int) -> None:
    solid = one_solid(shape, 0.5, -0.4, 0.6)
    _, instances, _ = render(solid, VIEW, CAMERA)
    u = VIEW.left + VIEW.step * np.arange(128)
    v = VIEW.top - VIEW.step * np.arange(128)
    rays = CAMERA @ np.stack([*np.meshgrid(u, v), -np.ones((128, 128))]).reshape(3, -1)
    t = np.linspace(8, 14, 3000)[:, None]
    found = np.zeros(128 * 128, np.bool_)
    center = np.array([0.5, -0.4, 0.6]) - solid.camera[0]
    distance = np.linalg.norm(np.cross(rays.T, center), axis=1) / np.linalg.norm(rays, axis=0)
    near = np.flatnonzero(distance < 0.6 * 3**0.5 + 0.1)
    x, y, z = (solid.camera[0, i] + t * rays[i, near] - c for i, c in enumerate((0.5, -0.4, 0.6)))
    x, y = np.cos(0.3) * x + np.sin(0.3) * y, np.cos(0.3) * y - np.sin(0.3) * x
    flat = np.maximum(np.abs(x), np.abs(y)) if shape == CUBE else np.hypot(x, y)
    inside = np.hypot(flat, z) if shape == SPHERE else np.maximum(flat, np.abs(z))
    found[near] = (inside < 0.6).any(axis=0)
    assert (found.reshape(128, 128) != (instances[0] > 0)).sum() <= 3
    assert found.sum() == pytest.approx((instances > 0).sum(), abs=3)


def test_nearer_solids_hide_farther_ones() -> None:
    near, far = one_solid(SPHERE, 1.5, -1.35), one_solid(CUBE, -0.3, 0.4, 0.35)
    both = Solids(
        *(np.concatenate([getattr(s, n) for s in (near, far)]) for n in list(vars(near))[:-2]),
        near.camera,
        near.lamps,
    )
    alone = count_visible(far, VIEW, CAMERA)[0]
    seen = count_visible(both, VIEW, CAMERA)
    assert seen[1] < alone
    assert seen[0] == count_visible(near, VIEW, CAMERA)[0]


# Records.


def test_crc32c_has_the_known_values() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(bytes(range(32))) == 0x46DD794E
    data = rng().bytes(5000)
    table = [crc32c(data[:size]) for size in (31, 32, 1024, 1025, 5000)]
    slow = [_slow_crc32c(data[:size]) for size in (31, 32, 1024, 1025, 5000)]
    assert table == slow


def _slow_crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    return crc ^ 0xFFFFFFFF


def test_examples_are_read_in_both_forms() -> None:
    features: Features = {"image": bytes(range(200)), "x": [1.5, -2.0, 3.0]}
    for one_by_one in (True, False):
        example = Example(encode(features, one_by_one))
        assert example.read_bytes("image").tobytes() == features["image"]
        assert example.read_floats("x").tolist() == features["x"]
    with pytest.raises(ValueError, match=r"no feature mask \(it has: image, x\)"):
        example.read_bytes("mask")
    with pytest.raises(ValueError, match="another type"):
        example.read_bytes("x")
    with pytest.raises(ValueError, match="not an Example"):
        Example(b"\xff\xff\x03nonsense")


def test_records_pass_through_a_file_gzipped_or_plain(tmp_path: Path) -> None:
    records = [b"one", rng().bytes(3000), b""]
    path = write_records(tmp_path / "a.tfrecords", records)
    for _ in range(2):
        reader = RecordReader(path)
        assert reader.skip()
        assert [reader.read() for _ in range(3)] == [*records[1:], None]
        reader.close()
        path.write_bytes(b"".join(map(frame, records)))


@pytest.mark.parametrize(("kind", "entities"), [(Tetrominoes, 4), (DSprites, 6)])
def test_pictures_are_read_from_records(
    tmp_path: Path, kind: type[MultiObjects], entities: int
) -> None:
    scenes = kind("train", 4).draw(rng(), 4)
    last = kind is DSprites
    records = [encode(features_of(scenes, row, entities, last)) for row in range(4)]
    write_records(tmp_path / kind.file_name, records)
    data = kind("train", 4, "tfrecord", str(tmp_path))
    for index in (0, 1, 3, 2):  # Backwards, too.
        sample = data[index]
        assert np.array_equal(sample.image, scenes.images[index])
        assert sample.mask is not None
        assert np.array_equal(sample.mask, scenes.instances[index])
        assert np.array_equal(data.classes(index), scenes.classes[index])
    assert data.files(0) == ()
    assert f"expected {kind.published}" in data.check_counts()[0]
    assert np.array_equal(pickle.loads(pickle.dumps(data))[1].image, scenes.images[1])


def test_held_out_records_follow_the_training_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tetrominoes, "published", 2)
    monkeypatch.setattr("figureground.data.datasets.multi_objects.HELD_OUT", 2)
    scenes = draw_tetrominoes(rng(), 6)
    records = [encode(features_of(scenes, row, 4), one_by_one=False) for row in range(6)]
    write_records(tmp_path / Tetrominoes.file_name, records)
    starts = {"train": 0, "test": 2, "val": 4}
    for split, start in starts.items():
        data = Tetrominoes(split, None, "tfrecord", str(tmp_path))  # type: ignore[arg-type]
        assert len(data) == 2
        assert np.array_equal(data[1].image, scenes.images[start + 1])


def test_clevr6_takes_scenes_of_six_solids_and_cuts_them_out(tmp_path: Path) -> None:
    classes = np.array([0, 1, 2, 3, 4, 5, 6])
    records = [clevr_record(classes, number) for number in (3, 7, 6, 10, 4)]
    write_records(tmp_path / CLEVR6.file_name, records)
    data = CLEVR6("train", 4, "tfrecord", str(tmp_path))
    numbers = []
    for index in range(3):
        sample = data[index]
        assert sample.image.shape == (128, 128, 3)
        assert sample.mask is not None
        numbers.append(int(sample.mask.max()))
        assert np.array_equal(data.classes(index), sample.mask)
    assert numbers == [3, 6, 4]
    # Square 1 begins at row 60 and column 90, that is 31 and 26 of the cut-out.
    mask = data[0].mask
    assert mask is not None
    rows, columns = np.nonzero(mask == 1)
    assert (rows.min(), columns.min()) == (21, 17)
    with pytest.raises(DataError, match="ends after 5 records with 3 pictures, before number 3"):
        data[3]


@pytest.fixture
def records(tmp_path: Path) -> Path:
    scenes = draw_tetrominoes(rng(), 3)
    encoded = [encode(features_of(scenes, row, 4)) for row in range(3)]
    return write_records(tmp_path / Tetrominoes.file_name, encoded)


def damage(path: Path, place: int) -> None:
    """Change one byte, `place` being a place in the file before compression."""
    data = bytearray(gzip.decompress(path.read_bytes()))
    data[place] ^= 1
    path.write_bytes(gzip.compress(bytes(data), 1))


def read_all(path: Path) -> None:
    data = Tetrominoes("train", 3, "tfrecord", str(path.parent))
    for index in range(3):
        data[index]


def test_a_truncated_file_is_named_with_the_record(records: Path) -> None:
    records.write_bytes(records.read_bytes()[:-300])
    with pytest.raises(DataError, match="record 2 is cut off") as caught:
        read_all(records)
    message = str(caught.value)
    assert str(records) in message
    assert "get it again from" in message
    assert "\n" not in message


def test_a_plain_file_cut_off_is_named_with_the_record(records: Path) -> None:
    plain = gzip.decompress(records.read_bytes())
    records.write_bytes(plain[: len(plain) * 2 // 3 - 100])
    with pytest.raises(DataError, match="record 1 is cut off: .* bytes are left"):
        read_all(records)


def test_damaged_records_are_named(records: Path) -> None:
    good = records.read_bytes()
    size = len(gzip.decompress(good)) // 3
    damage(records, size + 5000)
    with pytest.raises(DataError, match="record 1 is damaged: its checksum does not fit its data"):
        read_all(records)
    records.write_bytes(good)
    damage(records, 1)
    with pytest.raises(DataError, match="record 0 is damaged: the checksum of its length"):
        read_all(records)
    records.write_bytes(good[:100] + bytes([good[100] ^ 255]) + good[101:])
    with pytest.raises(DataError, match="record 0 is"):
        read_all(records)


def test_pictures_before_damage_can_still_be_read(records: Path) -> None:
    first = Tetrominoes("train", 3, "tfrecord", str(records.parent))[0].image
    damage(records, len(gzip.decompress(records.read_bytes())) // 3 + 5000)
    data = Tetrominoes("train", 3, "tfrecord", str(records.parent))
    for index in (1, 2):
        with pytest.raises(DataError, match="record 1 is damaged"):
            data[index]
    assert np.array_equal(data[0].image, first)


def test_records_of_another_set_are_refused(tmp_path: Path) -> None:
    scenes = draw_dsprites(rng(), 1)
    record = encode(features_of(scenes, 0, 6, entities_last=True))
    pieces = draw_tetrominoes(rng(), 1)
    good = encode(features_of(pieces, 0, 4))
    write_records(tmp_path / Tetrominoes.file_name, [record, good])
    data = Tetrominoes("train", 2, "tfrecord", str(tmp_path))
    with pytest.raises(DataError, match="record 0 has 12288 bytes of image instead of 35x35x3"):
        data[0]
    assert np.array_equal(data[1].image, pieces.images[0])


# The authors' folders.


def test_folders_are_read_and_split(tmp_path: Path) -> None:
    scenes = draw_tetrominoes(rng(), 20)
    root = str(write_layout(tmp_path / "tetrominoes", scenes))
    parts = {
        split: Tetrominoes(split, None, "files", root)  # type: ignore[arg-type]
        for split in ("train", "val", "test")
    }
    assert [list(part.numbers) for part in parts.values()] == [
        list(range(16)), [16, 17], [18, 19],
    ]  # fmt: skip
    test = parts["test"]
    sample = test[1]
    assert np.array_equal(sample.image, scenes.images[19])
    assert sample.mask is not None
    assert np.array_equal(sample.mask, scenes.instances[19])
    assert np.array_equal(test.classes(1), scenes.classes[19])
    assert [file.parent.name for file in test.files(0)] == ["images", "masks", "sem_masks"]
    assert parts["train"].check_counts() == ["tetrominoes train has 16 pictures, expected 59360"]
    before = test.fingerprint()
    Image.new("L", (35, 35)).save(test.files(0)[1])
    assert test.fingerprint() != before
    theirs = Tetrominoes("test", None, "files", root, transductive=True)
    assert list(theirs.numbers) == list(range(20))
    assert len(Tetrominoes("train", 5, "files", root)) == 5


def test_missing_files_are_listed_with_the_tree(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="sem_masks/0.png"):
        Tetrominoes("train", None, "files", str(tmp_path))
    with pytest.raises(DataError, match=r"clevr_with_masks_train.tfrecords"):
        CLEVR6("train", None, "tfrecord", str(tmp_path))
    root = write_layout(tmp_path / "dsprites_gray", draw_dsprites(rng(), 12))
    (root / "masks/7.png").unlink()
    with pytest.raises(DataError, match="masks/7.png") as caught:
        DSprites("train", None, "files", str(root))
    assert "Get them from" in str(caught.value)
    small = write_layout(tmp_path / "small", draw_dsprites(rng(), 5))
    with pytest.raises(DataError, match="too few to hold some out"):
        DSprites("test", None, "files", str(small))


def test_pictures_of_one_class_keep_its_number(tmp_path: Path) -> None:
    scenes = draw_tetrominoes(rng(), 12, chosen=np.array([6]))
    scenes = scenes._replace(classes=scenes.classes * 7)
    data = Tetrominoes("train", None, "files", str(write_layout(tmp_path / "one", scenes)))
    assert set(np.unique(data.classes(0))) == {0, 7}
    assert data[0].classes == (7, 7, 7)


@pytest.mark.parametrize("part", ["images", "masks", "sem_masks"])
def test_folders_of_different_counts_are_refused(tmp_path: Path, part: str) -> None:
    root = write_layout(tmp_path / "tetrominoes", draw_tetrominoes(rng(), 12))
    (root / part / "11.png").unlink()
    with pytest.raises(DataError, match=f"1 of 1 files are missing, such as .*{part}/11.png"):
        Tetrominoes("train", None, "files", str(root))


def test_maps_of_other_kinds_are_refused(tmp_path: Path) -> None:
    root = write_layout(tmp_path / "tetrominoes", draw_tetrominoes(rng(), 12))
    data = Tetrominoes("train", None, "files", str(root))
    path = root / "sem_masks/0.png"
    for image, fragment in (
        (Image.new("L", (35, 35), 20), r"values up to 20; expected 8-bit grey values .* to 19"),
        (Image.new("RGB", (35, 35)), "has RGB; expected 8-bit grey"),
        (Image.new("L", (35, 30)), "is 35x30 but its picture is 35x35"),
    ):
        image.save(path)
        with pytest.raises(DataError, match=fragment):
            data[0]


# Drawn pictures on disk.


@pytest.mark.parametrize("kind", KINDS)
def test_written_pictures_are_read_back_as_drawn(tmp_path: Path, kind: type[MultiObjects]) -> None:
    root = str(tmp_path / "set")
    drawn = kind("train", 70, root=root, seed=3)
    assert drawn.write()
    read = kind("train", None, "files", root, transductive=True)
    assert len(read) == 70
    for index in range(70):
        for one, other in zip(drawn.maps(index), read.maps(index), strict=True):
            assert np.array_equal(one, other)
        assert read[index].classes == drawn[index].classes
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]
    assert read.files(0) == ()
    assert np.array_equal(pickle.loads(pickle.dumps(read))[5].image, drawn[5].image)
    held_out = kind("test", None, "files", root)
    assert list(held_out.numbers) == list(range(63, 70))
    assert held_out.fingerprint() != read.fingerprint()


def test_written_pictures_are_known_again(tmp_path: Path) -> None:
    root = tmp_path / "set"
    few = Tetrominoes("train", 12, root=str(root))
    assert few.write()
    assert not few.write()
    more = Tetrominoes("train", 15, root=str(root))
    with pytest.raises(UserError, match="holds other pictures; add overwrite=true"):
        more.write()
    assert more.write(overwrite=True)
    assert len(Tetrominoes("train", None, "files", str(root), transductive=True)) == 15
    (root / "tetrominoes_train.tfrecords").write_bytes(b"")
    with pytest.raises(UserError, match="holds tetrominoes_train.tfrecords, which is not of"):
        few.write(overwrite=True)


@pytest.mark.parametrize("before", [False, True])
def test_nothing_half_written_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    root = str(tmp_path / "set")
    if before:
        Tetrominoes("train", 12, root=root).write()

    def fail(self: Tetrominoes, index: int) -> object:
        if index == 9:
            raise OSError(28, "No space left on device")
        return MultiObjects.maps(self, index)

    monkeypatch.setattr(Tetrominoes, "maps", fail)
    with pytest.raises(WriteError, match="No space left on device"):
        Tetrominoes("train", 15, root=root).write(overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == (["set"] if before else [])
    if before:
        assert len(Tetrominoes("train", None, "files", root, transductive=True)) == 12


def test_damaged_arrays_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "set"
    Tetrominoes("train", 12, root=str(root)).write()
    with pytest.raises(DataError, match="expected at most 3; is it another set"):
        DSprites("train", None, "files", str(root))[0]
    path = root / "masks.npy"
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    with pytest.raises(DataError, match="is not a complete generated set .* overwrite=true"):
        Tetrominoes("train", None, "files", str(root))
    np.save(path, np.zeros((11, 35, 35), np.uint8))
    with pytest.raises(DataError, match="for 12 pictures, which do not belong together"):
        Tetrominoes("train", None, "files", str(root))
    assert Tetrominoes("train", 12, root=str(root)).write(overwrite=True)
    assert path.read_bytes() == content
