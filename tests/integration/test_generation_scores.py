"""`evaluate metrics=generation` and `metrics=information` for methods that draw."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor

from faults import build_tiny, tiny_overrides
from figureground.cli import generation_scores
from figureground.cli.evaluate import evaluate
from figureground.cli.generate import generate
from figureground.cli.generation_scores import (
    GenerationScoring,
    build_scorings,
    score_drawn,
)
from figureground.cli.information_scores import InformationScoring, read_layers
from figureground.cli.path_length import PathSampling, PathScoring, PathSpace, crop_face
from figureground.cli.train import train
from figureground.core.checkpoint import VerifiedCheckpointIO
from figureground.core.errors import (
    ConfigError,
    NumericalError,
    StoppedBySignalError,
    UserError,
)
from figureground.core.protocols import StyleDecoder
from figureground.core.types import Layers
from figureground.data.chunks import CHUNK, chunk_seed
from figureground.data.datamodule import ImageDataModule
from figureground.data.datasets.toy import Toy
from figureground.methods.l2ic import L2IC
from figureground.metrics import features
from figureground.nn.efficientnet import EfficientNetLite0
from figureground.nn.paths import slerp
from weights import digest_of, write_efficientnet

Compose = Callable[..., DictConfig]
SCORES = {
    *("fid_efflite0", "fid_efflite0_112", "kid_efflite0", "is_efflite0", "is_efflite0/std"),
    *("precision_efflite0", "recall_efflite0", "num_real", "num_drawn"),
    *("fid_efflite0_112/floor", "kid_efflite0/floor"),
}


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    path = write_efficientnet(tmp_path / "lite0.pth")
    monkeypatch.setattr(features, "EFFICIENTNET_DIGEST", digest_of(path)[:16])
    return str(path)


@pytest.fixture
def count_extractions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of all batches that go through the network."""
    seen: list[int] = []
    describe = EfficientNetLite0.describe

    def watch(self: EfficientNetLite0, image: Tensor) -> Any:
        seen.append(len(image))
        return describe(self, image)

    monkeypatch.setattr(EfficientNetLite0, "describe", watch)
    return seen


def toys(folder: Path | None, count: int = 12, resolution: int = 32) -> ImageDataModule:
    return ImageDataModule(
        name="toy", resolution=resolution, batch_size=4, train=Toy("train", count, resolution),
        cache_dir=None if folder is None else str(folder),
    )  # fmt: skip


def scoring(weights: str, **more: Any) -> GenerationScoring:
    options = {"count": 10, "batch_size": 4, "num_subsets": 2, "num_splits": 2} | more
    return GenerationScoring(efficientnet=weights, **options)


class Drawer:
    """Draws noise, and tells its latents."""

    device = torch.device("cpu")

    def latent(self, count: int, *, generator: torch.Generator | None = None) -> Tensor:
        return torch.randn(count, 6, generator=generator)

    def decode(self, latent: Tensor) -> Layers:
        flat = latent.tanh().view(-1, 2, 3, 1, 1).expand(-1, -1, -1, 32, 32)
        half = torch.full((len(latent), 2, 1, 32, 32), 0.5)
        return Layers(flat, half)

    def sample(self, count: int, *, generator: torch.Generator | None = None) -> Layers:
        return self.decode(self.latent(count, generator=generator))


def test_one_pass_gives_all_scores_and_real_pictures_are_described_once(
    tmp_path: Path, weights: str, count_extractions: list[int]
) -> None:
    first = scoring(weights).score(Drawer(), toys(tmp_path), 0, list)
    assert set(first) == SCORES
    assert sum(count_extractions) == 12 + 10
    count_extractions.clear()
    again = scoring(weights).score(Drawer(), toys(tmp_path), 0, list)
    assert sum(count_extractions) == 10
    assert again == pytest.approx(first, nan_ok=True)
    other = scoring(weights).score(Drawer(), toys(tmp_path), 1, list)
    assert other["fid_efflite0_112"] != first["fid_efflite0_112"]


@pytest.mark.parametrize("change", ["count", "resolution", "transform", "damage", "none"])
def test_features_of_real_pictures_are_made_anew_for_anything_new(
    tmp_path: Path, weights: str, count_extractions: list[int], change: str
) -> None:
    before = toys(tmp_path)
    scoring(weights).score(Drawer(), before, 0, list)
    count_extractions.clear()
    after = toys(tmp_path)
    if change == "count":
        after = toys(tmp_path, 13)
    elif change == "resolution":
        after = toys(tmp_path, resolution=48)
    elif change == "transform":
        after.transform = SimpleNamespace(fingerprint="other", __call__=None)
        after._stores["train", False] = before.store("train")
    elif change == "damage":
        (file,) = tmp_path.glob("features-*")
        file.write_bytes(file.read_bytes()[:100])
    scoring(weights).score(Drawer(), after, 0, list)
    assert sum(count_extractions) == 10 + (0 if change == "none" else len(after.store("train")))


def test_without_a_place_nothing_is_kept(
    weights: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert scoring(weights).score(Drawer(), toys(None), 0, list)["num_real"] == 12
    place = tmp_path / "file"
    place.write_text("no folder")
    with caplog.at_level(logging.WARNING):
        module = toys(place)
        module.cache = "memory"
        scoring(weights).score(Drawer(), module, 0, list)
    assert "features of real pictures are not kept" in caplog.text


def test_path_length_is_measured_where_latents_are_told(tmp_path: Path, weights: str) -> None:
    found = scoring(weights, num_paths=5).score(Drawer(), toys(tmp_path), 0, list)
    assert set(found) == SCORES | {"ppl_efflite0"}
    assert found["ppl_efflite0"] > 0


def test_noise_of_scored_pictures_is_an_option(weights: str) -> None:
    asked: list[tuple[str, int]] = []

    class Noisy(Drawer):
        def sample_with(self, count: int, *, noise: str, generator: torch.Generator) -> Layers:
            asked.append((noise, generator.initial_seed()))
            return self.sample(count, generator=generator)

    scoring(weights).score(Noisy(), toys(None), 0, list)
    first, seeds = {noise for noise, _ in asked}, {seed for _, seed in asked}
    scoring(weights, noise="const").score(Noisy(), toys(None), 0, list)
    assert (first, {noise for noise, _ in asked[3:]}) == ({"random"}, {"const"})
    assert len(seeds) == 3
    assert {seed for _, seed in asked[3:]} == seeds
    asked.clear()
    InformationScoring(count=2, held_out=0, iterations=1, num_hidden=2).score(
        Noisy(), toys(None), 0, list
    )
    assert {noise for noise, _ in asked} == {"const"}


def test_categories_of_scored_pictures_may_be_equal(
    weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[int]] = []
    method, _ = build_tiny("l2ic", "method.num_categories=6")
    assert isinstance(method, L2IC)
    sample_of = method.sample_of

    def watch(category: Tensor, **more: Any) -> Layers:
        asked.append(category.tolist())
        return sample_of(category, **more)

    monkeypatch.setattr(method, "sample_of", watch)
    found = scoring(weights, categories="equal", count=12).score(method.eval(), toys(None), 0, list)
    assert set(found) == SCORES
    assert asked == [[0, 1, 2, 3], [4, 5, 0, 1], [2, 3, 4, 5]]
    scoring(weights).score(method, toys(None), 0, list)
    assert len(asked) == 3
    with pytest.raises(UserError, match="this Drawer has no categories.*leave out"):
        scoring(weights, categories="equal").score(Drawer(), toys(None), 0, list)


def test_path_length_needs_its_own_network(weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "INCEPTION_DIGEST", digest_of(Path(weights))[:8])
    check = GenerationScoring.check_options
    monkeypatch.setattr(features, "find_spec", lambda name: None)
    assert check(inception=weights, efficientnet=None) == []
    (problem,) = check(inception=weights, efficientnet=None, num_paths=3)
    assert "figureground[generation]" in problem
    assert check(inception=weights, efficientnet=weights, num_paths=3) == []
    monkeypatch.setattr(generation_scores, "InceptionFeatures", lambda path: object())
    made = GenerationScoring(inception=weights, efficientnet=weights, num_paths=3)
    assert made.paths is not None
    found = made.paths.measure(Drawer(), 0, list)
    assert set(found) == {"ppl_efflite0"}


@pytest.mark.parametrize("kind", ["shards", "png"])
def test_information_of_written_pictures(tmp_path: Path, compose: Compose, kind: str) -> None:
    method, module = build_tiny("ilsgan")
    checkpoint = {"state_dict": method.state_dict()}
    method.on_save_checkpoint(checkpoint)
    VerifiedCheckpointIO().save_checkpoint(checkpoint, tmp_path / "m.ckpt")
    options = [f"ckpt={tmp_path}/m.ckpt", f"format={kind}", f"output={tmp_path}/out", "count=5"]
    generate(compose(*options, "device=cpu", config_name="generate"))
    parts = list(read_layers(str(tmp_path / "out"), 5, 2, list))
    assert [len(part) for part in parts] == [2, 2, 1]
    chance = torch.Generator().manual_seed(chunk_seed(0, 0))
    layers = method.eval().sample(CHUNK, generator=chance)
    torch.testing.assert_close(parts[0].alpha, layers.alpha[:2], atol=1 / 255, rtol=0)
    color = layers.color[:2].clamp(-1, 1)
    torch.testing.assert_close(parts[0].color, color, atol=1 / 127, rtol=0)
    small = {"count": 4, "held_out": 2, "iterations": 1, "num_hidden": 2}
    scores = InformationScoring(pairs=f"{tmp_path}/out", **small).score(method, module, 0, list)
    assert math.isfinite(scores["mine/whole/held_out"])
    assert sum(len(part) for part in read_layers(str(tmp_path / "out"), 6, 2, list)) == 5


def test_path_length_of_a_method_that_tells_its_latents(weights: str) -> None:
    method, _ = build_tiny("ilsgan")
    network = features.EfficientNetFeatures(weights)
    found = [PathScoring(network, 3, batch_size=2).measure(method.eval(), 7, list) for _ in "ab"]
    assert found[0] == found[1]
    assert math.isfinite(found[0]["ppl_efflite0"])
    assert found[0]["ppl_efflite0"] > 0


class Flat(Drawer):
    """Draws brightness: of latents their first number, of styles the first of their three."""

    def decode(self, latent: Tensor) -> Layers:
        color = latent[:, :1].reshape(-1, 1, 1, 1, 1).expand(-1, 1, 3, 16, 16)
        return Layers(color, torch.ones(len(latent), 1, 1, 16, 16))

    num_styles = 2

    def styles(self, latent: Tensor, *, truncation: float | None = None) -> Tensor:
        return (latent[:, None, :3] ** 3).expand(-1, 2, -1)

    def decode_styles(self, styles: Tensor) -> Layers:
        return self.decode(styles[:, 0])


class Seeing:
    """In place of a network: keeps the pictures, and takes them for their own maps."""

    suffix = "own"

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def extract_maps(self, image: Tensor) -> list[Tensor]:
        self.seen.append(image)
        return [image.mul(torch.tensor([1.0, 0, 0]).view(3, 1, 1)) + 1]


@pytest.mark.parametrize(
    ("space", "sampling", "crop", "name"),
    [
        ("z", "full", False, "ppl_own"),
        ("z", "end", False, "ppl_z_end_own"),
        ("w", "full", False, "ppl_w_full_own"),
        ("w", "end", True, "ppl_w_end_crop_own"),
        ("z", "full", True, "ppl_z_full_crop_own"),
    ],
)
def test_paths_run_where_they_are_asked_to(
    space: PathSpace, sampling: PathSampling, crop: bool, name: str
) -> None:
    network = Seeing()
    scoring = PathScoring(network, 4, space, sampling, crop)  # type: ignore[arg-type]
    assert set(scoring.measure(Flat(), 3, list)) == {name}
    chance = torch.Generator().manual_seed(3)
    one, other = (torch.randn(4, 6, generator=chance) for _ in range(2))
    place = torch.rand(4, 1, generator=chance) * (sampling == "full")
    for step, seen in zip((0, 1e-4), network.seen, strict=True):
        assert seen.shape[2:] == ((8, 8) if crop else (16, 16))
        if space == "w":
            values = one**3 + (place + step) * (other**3 - one**3)
        else:
            values = slerp(one, other, place + step)
        torch.testing.assert_close(seen[:, 0, 0, 0], values[:, 0])


def test_cut_out_face_is_below_the_centre() -> None:
    image = torch.arange(64.0).view(1, 1, 8, 8).expand(1, 3, 8, 8)
    cut = crop_face(image)
    assert cut.shape == (1, 3, 4, 4)
    assert (cut[0, 0, 0, 0], cut[0, 0, -1, -1]) == (3 * 8 + 2, 6 * 8 + 5)


def test_paths_without_styles_are_refused_before_anything_is_drawn(
    weights: str, count_extractions: list[int]
) -> None:
    with pytest.raises(UserError, match="Drawer does not tell styles w"):
        scoring(weights, num_paths=3, path_space="w").score(Drawer(), toys(None), 0, list)
    assert count_extractions == []
    (problem,) = GenerationScoring.check_options(
        inception=None, efficientnet=weights, path_sampling="end"
    )
    assert "add metrics.generation.num_paths=50000" in problem


def test_styles_of_ilsgan_are_drawn_as_their_latents() -> None:
    method = build_tiny("ilsgan")[0].eval()
    assert isinstance(method, StyleDecoder)
    latent = method.latent(3, generator=torch.Generator().manual_seed(1))  # type: ignore[attr-defined]
    styles = method.styles(latent)
    assert styles.shape[:2] == (3, method.num_styles)
    same = method.decode_styles(styles).composite
    torch.testing.assert_close(same, method.decode(latent).composite)  # type: ignore[attr-defined]


def test_maps_can_be_followed_to_the_pictures(weights: str) -> None:
    network = features.EfficientNetFeatures(weights)
    image = torch.rand(2, 3, 32, 32).requires_grad_()
    followed = network.follow_maps(image)
    torch.testing.assert_close(followed, network.extract_maps(image))
    (gradient,) = torch.autograd.grad(followed[-1].sum(), image)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("method", ["redo", "dti_sprites"])
def test_methods_that_draw_are_scored(tmp_path: Path, weights: str, method: str) -> None:
    built, module = build_tiny(method)
    built.eval()
    found = scoring(weights, count=6).score(built, module, 0, list)
    assert set(found) == SCORES
    assert math.isfinite(found["fid_efflite0_112"])
    information = InformationScoring(
        count=6, held_out=3, resolution=16, iterations=3, num_hidden=4, evaluate_every=2
    )
    found = information.score(built, module, 0, list)
    names = {f"mine/{name}" for name in ("visible_fg", "visible_bg", "whole")}
    counts = {"num_drawn", "num_held_out"}
    assert set(found) == names | {f"{name}/held_out" for name in names} | counts


def test_layers_that_agree_share_more_than_those_that_do_not() -> None:
    class Leaky(Drawer):
        def decode(self, latent: Tensor) -> Layers:
            layers = super().decode(latent)
            return Layers(layers.color[:, :1].expand(-1, 2, -1, -1, -1), layers.alpha)

    options = InformationScoring(
        protocols=["single"], count=600, held_out=300, resolution=4, iterations=400, num_hidden=32,
        lr=5e-3, evaluate_every=20,
    )  # fmt: skip
    clean, leaky = (options.score(method, toys(None), 0, list) for method in (Drawer(), Leaky()))
    assert leaky["mine/whole/held_out"] > clean["mine/whole/held_out"] + 1
    assert clean["mine/whole/held_out"] < 0.2


def test_broken_and_mute_methods_are_refused(tmp_path: Path, weights: str) -> None:
    class Broken(Drawer):
        def decode(self, latent: Tensor) -> Layers:
            return super().decode(latent * float("nan"))

    with pytest.raises(NumericalError, match="batch 0 of the drawn pictures"):
        scoring(weights).score(Broken(), toys(tmp_path), 0, list)
    one = SimpleNamespace(world_size=1)
    with pytest.raises(UserError, match="cannot draw pictures; leave metrics"):
        score_drawn([scoring(weights)], torch.nn.Linear(1, 1), toys(None), one, 0)
    built, module = build_tiny("redo")
    with pytest.raises(UserError, match=r"add trainer\.devices=1"):
        score_drawn([], built, module, SimpleNamespace(world_size=2), 0)


def test_scoring_stops_when_asked(tmp_path: Path, weights: str) -> None:
    def check() -> None:
        raise StoppedBySignalError(15)

    with pytest.raises(StoppedBySignalError):
        scoring(weights).score(Drawer(), toys(tmp_path), 0, check)


def test_command_writes_scores_of_drawn_pictures(
    compose: Compose, tmp_path: Path, weights: str
) -> None:
    train(compose(*tiny_overrides("redo"), "iterations=2", "trainer.accelerator=cpu", "test=false"))
    file = tmp_path / "run/checkpoints/last.ckpt"
    small = [f"ckpt=[{file},{file}]", "data.train.count=9", "trainer.accelerator=cpu"]
    generation = [
        "metrics=generation", f"metrics.generation.efficientnet={weights}",
        "metrics.generation.count=5", f"paths.cache_dir={tmp_path}/cache",
    ]  # fmt: skip

    def run(*arguments: str) -> dict[str, float]:
        return evaluate(compose(*small, *arguments, config_name="evaluate"))

    found = run(*generation)
    assert set(found) == SCORES
    written = json.loads((tmp_path / "run/metrics.json").read_text())
    assert written["runs"][0]["num_drawn"] == 5
    assert written["kid_efflite0"]["std"] == 0
    information = ["metrics=information", "metrics.information.protocols=[single]"]
    information += [f"metrics.information.{name}=4" for name in ("count", "iterations", "held_out")]
    assert "mine/whole" in run(*information)
    with pytest.raises(ConfigError, match=r"metrics\.generation\.count=0: expected"):
        run(*generation, "metrics.generation.count=0")
    with pytest.raises(ConfigError, match="is not a PyTorch file of tensors"):
        run(*generation, f"metrics.generation.inception={tmp_path}/run/config.json")


@pytest.mark.parametrize("name", ["generation", "information", "information_published"])
def test_choices_hold_all_options_of_their_classes(
    compose: Compose, weights: str, name: str
) -> None:
    more = [f"metrics.generation.efficientnet={weights}"] if name == "generation" else []
    config = compose("ckpt=x", f"metrics={name}", *more, config_name="evaluate")
    (made,) = build_scorings(config.metrics)
    if name == "information_published":
        published = InformationScoring(held_out=1000)
        assert {**vars(made), "protocols": tuple(made.protocols)} | {"batch_size": 32} == vars(
            published
        )
