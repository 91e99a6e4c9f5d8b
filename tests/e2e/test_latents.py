"""Commands on methods that draw from latents: `generate explore=...` and `predict steps=...`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from PIL import Image

from faults import build_tiny
from figureground.cli.generate import generate
from figureground.cli.predict import predict
from figureground.core.checkpoint import VerifiedCheckpointIO
from figureground.core.errors import ConfigError, NumericalError, UserError
from figureground.core.method import Method
from figureground.metrics import features
from weights import digest_of, write_efficientnet

Compose = Callable[..., DictConfig]
VIEWS = "explore=[walk,interpolation,truncation,mixing]"


def save(method: str, folder: Path) -> Path:
    """A checkpoint of new weights."""
    torch.manual_seed(0)
    return write(build_tiny(method)[0], folder / f"{method}.ckpt")


def write(method: Method, path: Path) -> Path:
    checkpoint = {"state_dict": method.state_dict()}
    method.on_save_checkpoint(checkpoint)
    VerifiedCheckpointIO().save_checkpoint(checkpoint, path)
    return path


@pytest.fixture(scope="module")
def drawing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("ilsgan", tmp_path_factory.mktemp("drawing"))


def test_views_of_latents_are_written_and_repeat(
    compose: Compose, drawing: Path, tmp_path: Path
) -> None:
    names = {"walk.gif", "interpolation.png", "truncation.png", "mixing.png"}
    small = ["rows=2", "columns=3", "frames=4"]
    for out in ("a", "b"):
        generate(compose(f"ckpt={drawing}", VIEWS, *small, f"output={tmp_path / out}",
                         config_name="generate"))  # fmt: skip
    for name in names | {"walk/0000.png", "walk/0003.png"}:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert {path.name for path in (tmp_path / "a").iterdir()} == names | {"walk"}
    generate(compose(f"ckpt={drawing}", "explore=[walk]", "rows=1", "frames=3",
                     f"output={tmp_path}/b", config_name="generate"))  # fmt: skip
    assert len(list((tmp_path / "b/walk").iterdir())) == 3
    with Image.open(tmp_path / "a/walk.gif") as walk:
        assert walk.n_frames == 4
    shapes = {
        name: np.asarray(Image.open(tmp_path / "a" / name)).shape[:2]
        for name in ("interpolation.png", "mixing.png")
    }
    cell = 96 + 2
    assert shapes == {
        "interpolation.png": (4 * cell + 2, 3 * cell + 2),
        "mixing.png": (3 * cell + 2, 4 * cell + 2),
    }


@pytest.mark.parametrize("method", ["redo", "dti_sprites"])
def test_methods_without_latents_are_refused_before_anything_is_drawn(
    compose: Compose, tmp_path: Path, method: str
) -> None:
    file = save(method, tmp_path)
    config = compose(f"ckpt={file}", VIEWS, "count=3", f"output={tmp_path}/out",
                     config_name="generate")  # fmt: skip
    with pytest.raises(UserError, match="has no latent that whole pictures are drawn from"):
        generate(config)
    assert not (tmp_path / "out").exists()


def test_unknown_views_are_refused(compose: Compose) -> None:
    with pytest.raises(ConfigError, match="explore"):
        generate(compose("ckpt=x", "explore=[wlak]", config_name="generate"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 24, 40, 3), dtype=np.uint8)
    for number, each in enumerate(pixels):
        Image.fromarray(each).save(folder / f"{number}.png")
    return folder


def test_pictures_are_decomposed_by_search(
    compose: Compose, drawing: Path, photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = [f"ckpt={drawing}", f"input={photos}", "steps=3"]
    with caplog.at_level("INFO"):
        for out, size in (("a", 2), ("b", 1)):
            predict(compose(*given, f"batch_size={size}", f"output={tmp_path / out}",
                            config_name="predict"))  # fmt: skip
    assert "step 3 of 3: distance" in caplog.text
    kinds = ("mask", "overlay", "reconstruction", "layer0", "layer1")
    names = {f"{number}_{kind}.png" for number in (0, 1) for kind in kinds}
    assert {path.name for path in (tmp_path / "a").iterdir()} == names | {"contact_sheet.png"}
    for name in names:
        one, two = (np.asarray(Image.open(tmp_path / out / name)).astype(int) for out in "ab")
        assert one.shape[:2] == (24, 40)
        if "mask" not in name and "overlay" not in name:  # Rounding moves them at borders alone.
            assert abs(one - two).max() <= 2


def test_search_can_compare_by_features(
    compose: Compose, drawing: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = write_efficientnet(tmp_path / "lite0.pth")
    monkeypatch.setattr(features, "EFFICIENTNET_DIGEST", digest_of(weights)[:16])
    given = [f"ckpt={drawing}", f"input={photos}/0.png", f"output={tmp_path}/out", "steps=2"]
    given += ["distance=features", f"efficientnet={weights}"]
    predict(compose(*given, config_name="predict"))
    assert (tmp_path / "out/0_reconstruction.png").is_file()


def test_search_is_for_methods_that_only_draw(
    compose: Compose, drawing: Path, photos: Path, tmp_path: Path
) -> None:
    def run(file: Path, *more: str) -> None:
        predict(compose(f"ckpt={file}", f"input={photos}", f"output={tmp_path}/out", *more,
                        config_name="predict"))  # fmt: skip

    with pytest.raises(UserError, match="ILSGAN cannot segment.*or search.*steps=500"):
        run(drawing)
    with pytest.raises(UserError, match="ReDO does not search for pictures; leave steps"):
        run(save("redo", tmp_path), "steps=3")
    broken = build_tiny("ilsgan")[0]
    broken.ema.average.synthesis_background.b4.const.data.fill_(torch.nan)
    with pytest.raises(NumericalError, match="use an earlier checkpoint"):
        run(write(broken, tmp_path / "broken.ckpt"), "steps=3")
    with pytest.raises(UserError, match="cannot be read"):
        run(drawing, "steps=3", "distance=features", "efficientnet=nowhere.pth")
    assert not (tmp_path / "out").exists()
