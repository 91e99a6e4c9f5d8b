"""Every configuration composes, is valid and can be built; recipes hold published settings."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml
from hydra.utils import get_class
from omegaconf import DictConfig
from torchvision.datasets import SVHN

from archives import (
    SALIENCY,
    write_cars,
    write_clevr,
    write_clevr_npz,
    write_cub,
    write_dogs,
    write_flowers,
    write_flowers17,
    write_folder,
    write_gtsrb8,
    write_horses,
    write_instagram,
    write_lfw,
    write_people,
    write_saliency,
    write_stanford_cars,
    write_stanford_dogs,
    write_svhn,
    write_two_folders,
    write_voc,
)
from figureground.cli.settings import TrainSettings
from figureground.core.config import build, check, to_plain

CONF = Path(__file__).parents[2] / "conf"
Compose = Callable[..., DictConfig]


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def list_pairs() -> Iterator[tuple[str, str]]:
    """Methods and data; what has no training pictures is for those who bring pairs alone."""
    for method, data in itertools.product(names("method"), names("data")):
        node = yaml.safe_load((CONF / f"data/{data}.yaml").read_text())
        if method == "segmenter" or "train" not in node or node["train"] is not None:
            yield method, data


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """All datasets laid out as their archives."""
    root = tmp_path_factory.mktemp("data")
    write_flowers(root / "flowers")
    write_cub(root / "cub")
    write_dogs(root / "dogs")
    write_cars(root / "cars")
    write_lfw(root / "lfw")
    write_folder(root / "folder", 120)
    write_gtsrb8(root / "GTSRB")
    checksums = write_svhn(root / "svhn")
    write_horses(root / "weizmann_horse")
    write_stanford_dogs(root / "stanford_dogs")
    write_stanford_cars(root / "stanford_cars")
    write_people(root / "fs100")
    write_clevr(root / "clevr")
    write_clevr_npz(root / "clevr")
    write_flowers17(root / "flowers17")
    write_instagram(root / "instagram")
    write_voc(root / "VOC2012")
    for name in SALIENCY:
        write_saliency(root, name)
    write_two_folders(root / "DUTS", "DUTS-TR/DUTS-TR-Image", "DUTS-TR/DUTS-TR-Mask", 24)
    with pytest.MonkeyPatch.context() as patch:
        published = {part: ["", f"{part}_32x32.mat", sum_] for part, sum_ in checksums.items()}
        patch.setattr(SVHN, "split_list", published)
        yield root


def with_data(data_dir: Path, data: str) -> list[str]:
    extra = [f"data.root={data_dir}/folder"] if data == "folder" else []
    return [f"data={data}", f"paths.data_dir={data_dir}", *extra]


PAIRS = [
    # The matrix whole takes minutes, so most of it is left to the slow set.
    pytest.param(method, data, marks=() if method == "redo" or data == "toy" else pytest.mark.slow)
    for method, data in list_pairs()
]


@pytest.mark.parametrize(("method", "data"), PAIRS)
def test_every_pair_composes_and_is_valid(
    compose: Compose, data_dir: Path, method: str, data: str
) -> None:
    overrides = [f"method={method}", *with_data(data_dir, data)]
    problems = check(compose(*overrides), TrainSettings)
    if problems and all("resolution" in problem for problem in problems):
        # A method that needs other sizes than a dataset has says so, and takes it at another.
        problems = check(compose(*overrides, "data.resolution=32"), TrainSettings)
    assert problems == []


@pytest.mark.parametrize("data", names("data"))
def test_every_dataset_is_built_and_read(compose: Compose, data_dir: Path, data: str) -> None:
    splits = compose(*with_data(data_dir, data)).data
    named = ("train", "val", "test", "test_transductive")
    small = [f"data.{s}.count=3" for s in named if "count" in (splits.get(s) or ())]
    config = compose(*with_data(data_dir, data), *small, "data.resolution=32", "data.num_workers=0")
    if data == "toy_digits":
        config.data.resolution = 128
    module = build(config.data)
    module.setup("fit")
    for_evaluation = "train" in splits and splits.train is None
    assert ({"val", "test"} if for_evaluation else {"train", "val"}) <= set(module.datasets)
    for split, dataset in module.datasets.items():
        batch = module.batch(split, [0, 1][: 1 if split == "test" and module.test_transform else 2])
        if split == "test" and module.test_transform:  # Which leaves the masks at their own size.
            assert min(batch.image.shape[2:]) == module.resolution
            assert batch.mask is not None
            continue
        assert batch.image.shape == (2, 3, module.resolution, module.resolution)
        assert batch.image.abs().max() <= 1
        if split != "train":  # Whose masks need not be read.
            assert (batch.mask is not None) == dataset.annotated


@pytest.mark.parametrize("group", ["trainer", "logger", "debug"])
def test_every_choice_is_valid(compose: Compose, group: str) -> None:
    for name in names(group):
        assert check(compose(f"{group}={name}"), TrainSettings) == [], name


@pytest.mark.parametrize("trainer", ["default", "cpu", "ddp_sim"])
def test_trainers_are_built(compose: Compose, trainer: str) -> None:
    assert build(compose(f"trainer={trainer}").trainer, logger=False) is not None


def test_published_settings_of_flowers(compose: Compose, data_dir: Path) -> None:
    config = compose("method=redo", *with_data(data_dir, "flowers"))
    method = config.method
    assert (method.generator_width, method.mask_width, method.discriminator_width) == (32, 64, 64)
    assert method.generator_attention
    assert method.discriminator_attention
    assert (config.data.batch_size, config.data.resolution) == (20, 128)
    assert (method.latent_dim, method.latent_weight, method.init_gain) == (32, 5.0, 0.8)
    assert method.mask_optimizer.lr == 1e-5
    assert method.mask_optimizer.weight_decay == 1e-4
    assert method.generator_optimizer.lr == method.discriminator_optimizer.lr == 1e-4
    assert list(method.encoder_optimizer.betas) == [0.0, 0.9]
    assert config.iterations == 50000
    assert config.callbacks.checkpoints.monitor == "val/iou/img/oracle"
    assert config.data.transform.interpolation == "nearest"
    assert config.get("augment") is None


@pytest.mark.parametrize("data", ["cub", "lfw", "lfw_flowers"])
def test_published_settings_of_the_others(compose: Compose, data_dir: Path, data: str) -> None:
    config = compose("method=redo", *with_data(data_dir, data))
    assert config.method.generator_width == 64
    assert config.method.generator_attention
    assert config.data.batch_size == 20


def test_recipes_begin_globally() -> None:
    for path in itertools.chain((CONF / "recipe").glob("*.yaml"), (CONF / "debug").glob("*.yaml")):
        assert path.read_text().startswith("# @package _global_\n"), path


def test_every_method_has_a_toy_recipe() -> None:
    for method in names("method"):
        assert (CONF / "recipe" / f"{method}-toy.yaml").is_file()


def test_configs_hold_constructor_arguments_only() -> None:
    for path in (CONF / "method").glob("*.yaml"):
        assert "_target_" in yaml.safe_load(path.read_text())


@pytest.mark.parametrize(
    "choice",
    [["method=ilsgan", "data=cub_drc"], ["method=ilsgan", "data=cub"], ["experiment=ilsgan-cub128"],
     ["experiment=ilsgan-cub-dependent"]],
)  # fmt: skip
def test_ilsgan_trains_on_middle_squares_and_is_tested_on_boxes(
    compose: Compose, choice: list[str]
) -> None:
    config = compose(*choice)
    assert check(config, TrainSettings) == []
    data = config.data
    assert [data[split].crop for split in ("train", "val", "test")] == ["centre", "box", "box"]
    assert {data[split].masks for split in ("train", "val", "test")} == {"soft"}
    assert data.transform._target_.endswith("Stretch")
    assert data.transform.interpolation == "bilinear"
    side = 128 if "128" in choice[0] else 64
    assert data.transform.resolution == data.resolution == config.method.resolution == side
    assert (data.batch_size, config.iterations) == (32, 250_000)
    assert config.method.style_mixing.probability == 0
    assert (config.method.low_precision_blocks, config.method.truncation) == (4, 1.0)


def test_recipe_of_birds_fits_both_ways_to_name_them(compose: Compose) -> None:
    plain = compose("method=ilsgan", "data=cub_drc", "recipe=ilsgan-cub")
    assert plain == compose("method=ilsgan", "data=cub_drc")
    segmenter = compose("method=segmenter", "data=cub_drc")
    assert segmenter.data.test.crop == "box"
    assert (segmenter.iterations, segmenter.data.batch_size) == (6000, 64)
    assert segmenter.method.augment == "color"


@pytest.mark.slow
def test_lengths_in_pixels_follow_the_resolution(compose: Compose) -> None:
    """At half of the resolution all lengths in pixels are half as long."""
    chosen = [[f"experiment={name}"] for name in names("experiment")]
    for recipe in names("recipe"):
        method, _, data = recipe.partition("-")
        fitting = data if data in names("data") else "toy"
        chosen.append([f"recipe={recipe}", f"method={method}", f"data={fitting}"])
    found = set()
    for options in chosen:
        config = compose(*options)
        resolution = config.data.resolution
        whole = list_lengths(config)
        config.data.resolution = resolution // 2
        half = list_lengths(config)
        for option, values in whole.items():
            found.add(option.rpartition(".")[2])
            for one, other in zip(values, half[option], strict=True):
                rounding = 0.5 if isinstance(one, int) else 1e-6
                wanted = one * (resolution // 2) / resolution
                assert abs(other - wanted) <= rounding, (options, option, one, other)
    assert {"mask_std", "sprite_size", "input_resolution", "view_resolution"} <= found


def list_lengths(config: DictConfig) -> dict[str, list[float]]:
    """Lengths in pixels among the options of a method and its data."""
    plain = to_plain(config)
    return dict(find_lengths({part: plain[part] for part in ("method", "data")}))


def find_lengths(node: Any, at: str = "") -> Iterator[tuple[str, list[float]]]:
    if not isinstance(node, dict):
        return
    target = node.get("_target_")
    hints = get_type_hints(get_class(target).__init__, include_extras=True) if target else {}
    for key, value in node.items():
        if value is not None and "in_pixels=True" in str(hints.get(key)):
            yield f"{at}{key}", value if isinstance(value, list) else [value]
        yield from find_lengths(value, f"{at}{key}.")
