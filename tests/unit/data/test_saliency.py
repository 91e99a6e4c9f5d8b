"""Sets for evaluation alone: pictures and masks in two folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from omegaconf import DictConfig
from PIL import Image

from archives import SALIENCY, disc, picture, write_saliency
from figureground.cli.check import check_options
from figureground.core.config import build
from figureground.core.errors import ConfigError, DataError
from figureground.data.datasets.saliency import ECSSD
from figureground.data.prepare import prepare

Compose = Callable[..., DictConfig]
FOLDERS = SALIENCY["ecssd"][1:]


@pytest.mark.parametrize("name", sorted(SALIENCY))
def test_published_layouts_are_prepared_and_scored_at_full_resolution(
    compose: Compose, tmp_path: Path, name: str
) -> None:
    write_saliency(tmp_path, name)
    module = build(compose(f"data={name}", f"paths.data_dir={tmp_path}", "data.val.first=2").data)
    reports = prepare(module)
    assert {split: report.count for split, report in reports.items()} == {"val": 2, "test": 4}
    assert reports["test"].remarks[0].startswith(f"{name} has 4 pictures, expected ")
    batch = module.batch("test", [1])
    assert batch.image.shape == (1, 3, 128, 169)  # 41x31: the shorter side is put to 128.
    assert batch.mask is not None
    assert np.array_equal(batch.mask[0].numpy(), disc((41, 31)))


def test_masks_may_lie_in_subfolders_and_hold_greys(tmp_path: Path) -> None:
    for folder, ending in zip(FOLDERS, ("jpg", "png"), strict=True):
        (tmp_path / folder / "birds").mkdir(parents=True)
        picture(0, (4, 3)).save(tmp_path / folder / f"birds/a.{ending}")
    values = np.array([[0, 127, 128, 255]] * 3, np.uint8)
    Image.fromarray(values).save(tmp_path / FOLDERS[1] / "birds/a.png")
    found = ECSSD(str(tmp_path), *FOLDERS)[0]
    assert found.key == "birds/a"
    assert found.mask.tolist() == [[0, 0, 1, 1]] * 3


def test_what_does_not_belong_together_is_listed(tmp_path: Path) -> None:
    root = write_saliency(tmp_path, "ecssd")
    (root / FOLDERS[1] / "0002.png").rename(root / FOLDERS[1] / "0009.png")
    with pytest.raises(DataError, match="2 of which have no partner of the same name: 0002, 0009;"):
        ECSSD(str(root), *FOLDERS)
    ordered = ECSSD(str(root), *FOLDERS, pairing="position")
    assert [path.stem for path in ordered.files(3)] == ["0003", "0009"]
    (root / FOLDERS[1] / "0009.png").unlink()
    for pairing in ("stem", "position"):
        with pytest.raises(DataError, match="4 pictures .* 3 masks.*0002"):
            ECSSD(str(root), *FOLDERS, pairing=pairing)
    picture(0).save(root / FOLDERS[0] / "0001.png")
    with pytest.raises(DataError, match=r"several pictures of one name, such as .*0001"):
        ECSSD(str(root), *FOLDERS)


def test_missing_folders_say_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data=ecssd: 2 of 2 files are missing.*ground_truth_mask"):
        ECSSD(str(tmp_path), *FOLDERS)
    for folder in FOLDERS:
        (tmp_path / folder).mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        ECSSD(str(tmp_path), *FOLDERS)


def test_training_on_them_is_refused_unless_pairs_are_given(compose: Compose) -> None:
    with pytest.raises(ConfigError, match="data=ecssd is for evaluation alone"):
        check_options(compose("method=redo", "data=ecssd"))
    check_options(compose("method=segmenter", "data=ecssd", "pairs=saved", "pairs.root=pairs"))
