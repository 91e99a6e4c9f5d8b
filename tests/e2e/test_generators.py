"""Commands on pretrained generators: `generate generator=...` and `convert generator=...`."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig
from PIL import Image

from faults import ROOT, run
from figureground import load_generator
from figureground.cli.convert import convert
from figureground.cli.generate import generate
from figureground.core.errors import CheckpointError, ConfigError, UserError
from figureground.generators.dcgan import DCGAN

Compose = Callable[..., DictConfig]
SMALL = ["generator.resolution=16", "generator.width=2", "generator.latent_dim=5"]
STYLES = ["generator=stylegan2_cifar10", "generator.resolution=16", "generator.latent_dim=6",
          "generator.style_dim=5", "generator.channel_base=64",
          "generator.channel_max=4"]  # fmt: skip
VIEW = ["rows=2", "columns=3", "frames=4"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as the authors' training writes it."""
    path = tmp_path_factory.mktemp("released") / "weights.tar"
    torch.manual_seed(0)
    network = DCGAN(resolution=16, width=2, latent_dim=5)
    torch.save({"netG_state_dict": network.state_dict()}, path)
    return path


def listing(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open() as file:
        return list(csv.DictReader(file))


def test_samples_and_views_are_written_and_repeat(
    compose: Compose, weights: Path, tmp_path: Path
) -> None:
    options = ["generator=dcgan_faces", *SMALL, f"generator.weights={weights}", "count=3",
               "explore=[walk,interpolation,truncation]", *VIEW]  # fmt: skip
    for out in ("a", "b"):
        generate(compose(*options, f"output={tmp_path / out}", config_name="generate"))
    names = ["samples.png", "walk.gif", "walk/0003.png", "interpolation.png", "truncation.png"]
    for name in [*names, "images/000002.png", "manifest.csv"]:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    with Image.open(tmp_path / "a/walk.gif") as walk:
        assert walk.n_frames == 4
    with Image.open(tmp_path / "a/images/000000.png") as picture:
        assert picture.size == (16, 16)
    more = [*options, "count=4", f"output={tmp_path}/a"]
    generate(compose(*more, config_name="generate"))
    assert [row["index"] for row in listing(tmp_path / "a")] == ["0", "1", "2", "3"]
    assert listing(tmp_path / "a")[:3] == listing(tmp_path / "b")
    with pytest.raises(UserError, match="of another seed or checkpoint"):
        generate(compose(*more, "seed=1", config_name="generate"))
    generate(compose(*more, "seed=1", "overwrite=true", config_name="generate"))


@pytest.mark.parametrize("space", ["w", "z"])
def test_random_weights_and_classes_are_shown_too(
    compose: Compose, tmp_path: Path, space: str
) -> None:
    views = "explore=[walk,interpolation,truncation" + (",mixing]" if space == "w" else "]")
    options = [*STYLES, f"generator.latent_space={space}", "count=2", views, *VIEW]
    for out in ("a", "b"):
        generate(compose(*options, f"output={tmp_path / out}", config_name="generate"))
    names = ["walk.gif", "interpolation.png", "truncation.png", "images/000001.png"]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert (tmp_path / "a/mixing.png").exists() == (space == "w")
    assert (listing(tmp_path / "a")[0]["label"] != "") == (space == "z")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["count=1"], r"ckpt is not set; add ckpt=\.\.\. or generator="),
        (["count=1", "ckpt=a.ckpt", "generator=dcgan_faces"], "both set"),
        (["count=1", "format=shards", "generator=dcgan_faces"], "search directions first: train"),
        (["input=a.png", "generator=dcgan_faces"], "have no layers"),
        (["count=1", "generator=dcgan_faces", "generator.weights=none.tar"],
         r"weights\.tar of the project gan-face-generate"),
        (["count=1", "generator=checkpoint"], r"generator\.weights is not set"),
        (["count=1", "generator=checkpoint", "generator.weights=none"], "does not exist"),
        (["count=1", "generator=stylegan2_ffhq", "generator.resolution=33"], "power of two"),
        (["count=1", "generator=stylegan2_ffhq", "generator.architecture=skp"], "one of skip"),
        (["explore=[mixing]", "generator=dcgan_faces", *SMALL], "nothing to mix"),
        (["generator=dcgan_faces"], r"nothing to do; give count=50, explore=\[walk\] or both$"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line(compose: Compose, options: list[str], message: str) -> None:
    with pytest.raises((ConfigError, UserError), match=message) as caught:
        generate(compose(*options, config_name="generate"))
    assert "\n" not in str(caught.value)


def test_weights_are_converted_to_one_file_that_says_what_it_is(
    compose: Compose, weights: Path, tmp_path: Path
) -> None:
    output = tmp_path / "faces.safetensors"
    options = ["generator=dcgan_faces", f"weights={weights}", f"output={output}"]
    assert convert(compose(*options, config_name="convert")) == output
    network = load_generator(output)
    assert (network.resolution, network.latent_dim) == (16, 5)
    latent = network.latent(2)
    same = load_generator("dcgan_faces", weights, resolution=16, width=2, latent_dim=5)
    assert torch.equal(network(latent), same(latent))
    with pytest.raises(UserError, match="exists; add overwrite=true"):
        convert(compose(*options, config_name="convert"))
    convert(compose(*options, "overwrite=true", config_name="convert"))


def test_weights_of_another_family_are_not_converted(
    compose: Compose, weights: Path, tmp_path: Path
) -> None:
    output = tmp_path / "none.safetensors"
    with pytest.raises(CheckpointError, match="not a file of CIPS: it looks like DCGAN"):
        convert(compose("generator=cips_churches", f"weights={weights}", f"output={output}",
                        config_name="convert"))  # fmt: skip
    assert not output.exists()


@pytest.mark.slow
def test_sweep_over_full_generators_starts_on_random_weights(tmp_path: Path) -> None:
    done = run(
        ["python", ROOT / "src/train.py", "-m", "method=gan_segmenter", "data=latents",
         "generator=bigbigan,studiogan,stylegan2", "data.batch_size=1", "iterations=1",
         "trainer.limit_val_batches=0", "callbacks.image_grid=null", "trainer.accelerator=cpu",
         "test=false", "objective=null"],
        cwd=tmp_path,
        limit=600,
    )  # fmt: skip
    assert done.code == 0, done.err
    for family in ("BigBiGAN", "StudioGAN", "StyleGAN2-ADA"):
        assert f"{family} has random weights" in done.out + done.err
    assert len(list(tmp_path.glob("outputs/sweeps/*/*/checkpoints/last.ckpt"))) == 3
