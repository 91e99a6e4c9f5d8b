"""The plain GAN: networks, order and place of its updates, what it draws, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from PIL import Image
from pytorch_lightning import Trainer
from torch.testing import assert_close
from torch.utils.data import DataLoader

from faults import build_tiny
from figureground.cli.generate import generate
from figureground.cli.information_scores import InformationScoring
from figureground.cli.predict import predict
from figureground.cli.settings import TrainSettings
from figureground.core.checkpoint import VerifiedCheckpointIO
from figureground.core.config import check
from figureground.core.errors import ConfigError, UserError
from figureground.core.method import Method
from figureground.core.protocols import (
    Decomposer,
    LatentDecoder,
    LayerGenerator,
    Segmenter,
    TruncatedDecoder,
)
from figureground.core.types import Batch, Latent
from figureground.data.pairs import LivePairs
from figureground.generators.loading import load_generator
from figureground.methods.gan import GAN
from figureground.methods.gan.pictures import TITLES
from figureground.methods.gan.sngan import ConvDiscriminator, ConvGenerator
from figureground.methods.gan.statistics import DrawnScores
from figureground.nn.ada import AdaController, AugmentPipe
from figureground.nn.stylegan2_discriminator import StyleDiscriminator

Compose = Callable[..., DictConfig]
TINY: dict[str, Any] = {
    "resolution": 16, "batch_size": 4, "latent_dim": 8, "style_width": 8, "max_width": 8,
    "channel_base": 128, "width": 4, "discriminator_width": 4,
}  # fmt: skip
SNGAN = {"network": "sngan"}


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(**options: Any) -> GAN:
    torch.manual_seed(0)
    return GAN(**(TINY | options))


def train(method: GAN, iterations: int = 1, **options: Any) -> None:
    side = method.resolution
    image = torch.rand(4, 3, side, side, generator=chance(1)) * 2 - 1
    batches = [Batch(image, tuple("abcd"))] * iterations
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, **options,
    )  # fmt: skip
    trainer.fit(method, DataLoader(batches, batch_size=None, collate_fn=lambda x: x))


def save(method: Method, path: Path) -> Path:
    checkpoint = {"state_dict": method.state_dict()}
    method.on_save_checkpoint(checkpoint)
    path.parent.mkdir(parents=True, exist_ok=True)
    VerifiedCheckpointIO().save_checkpoint(checkpoint, path)
    return path


# -- networks ----------------------------------------------------------------------------


def test_convolutional_networks_have_the_published_widths() -> None:
    with torch.device("meta"):
        generator = ConvGenerator(32, latent_dim=128)
        discriminator = ConvDiscriminator(32, use_spectral_norm=False)
    up = [m.out_channels for m in generator.modules() if isinstance(m, torch.nn.ConvTranspose2d)]
    down = [m.out_channels for m in discriminator.modules() if isinstance(m, torch.nn.Conv2d)]
    assert (generator.first.out_features, up) == (512 * 16, [256, 128, 64])
    assert down == [64, 64, 128, 128, 256, 256, 512]


@pytest.mark.parametrize("resolution", [8, 16, 64])
def test_convolutional_networks_take_any_size(resolution: int) -> None:
    image = ConvGenerator(resolution, latent_dim=3, width=2)(torch.randn(2, 3))
    assert image.shape == (2, 3, resolution, resolution)
    assert image.abs().max() <= 1
    assert ConvDiscriminator(resolution, width=2)(image).shape == (2,)


def test_spectral_norm_bounds_the_slope_of_the_discriminator() -> None:
    network = ConvDiscriminator(16, width=2)
    for _ in range(30):  # One power iteration each.
        network(torch.zeros(1, 3, 16, 16))
    for layer in network.layers:
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            norm = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
            assert norm.item() == pytest.approx(1, abs=0.05)


@torch.no_grad()
def test_averaged_sngan_draws_like_the_live_one_at_first() -> None:
    method = make(**SNGAN).eval()
    latent = method.latent(2, generator=chance())
    assert_close(method.draw(latent), method.generator(latent))


# -- training ----------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["logistic", "hinge", "least_squares", "wasserstein"])
@pytest.mark.parametrize("network", ["stylegan2", "sngan"])
def test_every_network_plays_every_game(network: str, loss: str) -> None:
    clip = 0.05 if (network, loss) == ("stylegan2", "wasserstein") else None
    method = make(network=network, loss=loss, weight_clip=clip)
    before = {name: p.detach().clone() for name, p in method.named_parameters()}
    train(method)
    assert all(value.isfinite() for value in method.last_losses.values())
    for player in ("generator", "discriminator"):
        names = [name for name in before if name.startswith(f"{player}.")]
        now = dict(method.named_parameters())
        assert any(not torch.equal(now[name], before[name]) for name in names)
    if clip is not None:
        assert max(p.abs().max() for p in method.discriminator.parameters()) <= clip


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
@pytest.mark.parametrize("network", ["stylegan2", "sngan"])
def test_other_precisions_train_with_all_parts(network: str, precision: str) -> None:
    augmented = {"augmentation": AugmentPipe("bgc", 0.5), "controller": AdaController()}
    method = make(network=network, **augmented, r1_every=1)
    train(method, precision=precision)
    assert all(value.isfinite() for value in method.last_losses.values())


def steps(method: GAN, iterations: int) -> list[str]:
    """Who takes a step, in order; p and r for those down penalties."""
    taken: list[str] = []
    for name, mark in (
        ("_update_generator", "g"), ("_regularise_generator", "p"),
        ("_update_discriminator", "d"), ("_regularise_discriminator", "r"),
    ):  # fmt: skip
        original = getattr(method, name)

        def note(*args: Any, original: Any = original, mark: str = mark) -> None:
            taken.append(mark)
            original(*args)

        setattr(method, name, note)
    train(method, iterations)
    return taken


def test_players_and_penalties_take_turns() -> None:
    found = "".join(steps(make(r1_every=3, path_length_every=2), 4))
    assert found == "gpdr" + "gd" + "gpd" + "gdr"


def test_the_discriminator_can_step_more_often() -> None:
    method = make(**SNGAN, generator_every=3)
    assert "".join(steps(method, 4)).replace("p", "") == "gd" + "d" + "d" + "gd"


def test_path_penalty_moves_only_where_it_is_asked_for() -> None:
    with_paths, without = make(), make(path_length_weight=0.0)
    assert without.path_length is None
    train(with_paths)
    assert with_paths.path_length is not None
    assert with_paths.path_length.mean_length > 0
    train(without)  # Its turn comes, and nothing happens.
    assert make(**SNGAN).path_length is None


@pytest.mark.parametrize("network", ["stylegan2", "sngan"])
def test_compiled_networks_run_in_all_steps_but_penalties(
    network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def watch(run: Any, **_: Any) -> Callable[..., Any]:
        def compiled(*args: Any, **kwargs: Any) -> Any:
            calls.append(type(run.__self__).__name__)
            return run(*args, **kwargs)

        return compiled

    monkeypatch.setattr(torch, "compile", watch)
    options: dict[str, Any] = {"network": network, "r1_every": 1, "style_mixing": 0.0}
    plain, method = make(**options), make(**options)
    method.compile_networks()
    for each in (plain, method):
        torch.manual_seed(1)
        train(each)
    painter, judge = {
        "stylegan2": ("SynthesisNetwork", "StyleDiscriminator"),
        "sngan": ("ConvGenerator", "ConvDiscriminator"),
    }[network]
    # D sees pictures of G's step, new ones and real ones.
    assert calls == [painter, judge, painter, judge, judge]
    assert_close(method.state_dict(), plain.state_dict(), rtol=0, atol=0)


@pytest.mark.slow
# torch's own question of a tensor that a graph is fed with.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("network", ["stylegan2", "sngan"])
def test_compile_trains_with_penalties_that_differentiate_twice(network: str) -> None:
    options: dict[str, Any] = {"network": network, "r1_every": 1, "style_mixing": 0.0}
    plain, compiled = make(**options), make(**options)
    compiled.compile_networks(backend="aot_eager")
    for each in (plain, compiled):
        torch.manual_seed(1)
        train(each)
    assert_close(compiled.state_dict(), plain.state_dict(), rtol=1e-3, atol=1e-4)


def test_discriminator_takes_its_form_groups_and_precision() -> None:
    method = make(
        discriminator_architecture="orig", group_size=2, low_precision_blocks=1,
        low_precision="bfloat16", conv_clamp=None,
    )  # fmt: skip
    assert isinstance(method.discriminator, StyleDiscriminator)
    assert method.discriminator.b16.skip is None
    assert method.discriminator.b4.group_size == method.group_size == 2
    assert method.discriminator.low_precision == "bfloat16"
    assert method.score(torch.rand(5, 3, 16, 16)).shape == (5,)


def test_optimisers_are_the_published_ones() -> None:
    style, judge = make().configure_optimizers()
    assert style.defaults["lr"] == pytest.approx(0.0025 * 4 / 5)
    assert judge.defaults["lr"] == pytest.approx(0.0025 * 16 / 17)
    assert make(path_length_weight=0.0).configure_optimizers()[0].defaults["lr"] == 0.0025
    for optimizer in make(**SNGAN).configure_optimizers():
        assert (optimizer.defaults["lr"], optimizer.defaults["betas"]) == (2e-4, (0.5, 0.999))


def test_styles_are_mixed_at_the_asked_rate() -> None:
    for probability, expected in ((0.0, False), (1.0, True)):
        method = make(style_mixing=probability)
        styles = method._map(method.generator, torch.randn(3, 8, generator=chance()))
        assert (styles[:, 0] != styles[:, -1]).any() == expected


def test_controller_goes_by_the_boundary_of_the_game() -> None:
    controller = AdaController()
    method = make(loss="least_squares", augmentation=AugmentPipe(), controller=controller)
    method.observe(torch.tensor([0.4, 0.6, 0.7]))
    assert controller.sign_sum == 1


# -- drawing -----------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["stylegan2", "sngan"])
@torch.no_grad()
def test_pictures_are_single_layers_of_decoded_latents(network: str) -> None:
    method = make(network=network, truncation=0.7).eval()
    for capability in (LayerGenerator, LatentDecoder, TruncatedDecoder):
        assert isinstance(method, capability)
    assert not isinstance(method, Segmenter | Decomposer)
    latent = method.latent(3, generator=chance())
    layers = method.decode(latent)
    assert layers.color.shape == (3, 1, 3, 16, 16)
    assert layers.composite.abs().max() <= 1
    assert torch.equal(layers.foreground, torch.zeros(3, 1, 16, 16))
    assert torch.equal(layers.color, method.sample(3, generator=chance()).color)
    assert torch.equal(layers.color, method.decode_truncated(latent, 0.7).color)
    still = method.decode_truncated(latent, 0.0).composite
    assert_close(still[0], still[1])
    assert not torch.equal(layers.composite[0], layers.composite[1])


@torch.no_grad()
def test_grids_show_equal_latents_by_both_weights() -> None:
    method = make().eval()
    for parameter in method.generator.parameters():
        parameter.add_(0.1)
    batch = Batch(torch.zeros(2, 3, 16, 16), ("a", "b"))
    grids = method.pictures(batch)
    assert {name: len(grid) for name, grid in grids.items()} == {
        "samples": 16, "samples_raw": 16, "real": 2, "truncation": 10, "interpolation": 10,
    }  # fmt: skip
    assert not torch.equal(grids["samples"], grids["samples_raw"])
    again = method.pictures(batch)
    assert all(torch.equal(grids[name], again[name]) for name in grids)
    assert_close(grids["truncation"][4], grids["samples"][0])
    assert_close(grids["truncation"][0], grids["truncation"][5])
    assert_close(grids["interpolation"][4], grids["interpolation"][5])
    assert {name: len(titles) for name, titles in TITLES.items()} == {
        "truncation": 5, "interpolation": 5,
    }  # fmt: skip


def test_variety_tells_a_collapse() -> None:
    class Drawer:
        latent_dim = 3

        def __init__(self, spread: float) -> None:
            self.spread = spread

        def draw(self, latent: torch.Tensor) -> torch.Tensor:
            return self.spread * latent[:, :, None, None].expand(-1, -1, 4, 4)

        def score(self, image: torch.Tensor) -> torch.Tensor:
            return image.mean(dim=(1, 2, 3))

    real = torch.randn(400, 3, 1, 1, generator=chance(1)).expand(-1, -1, 4, 4)
    for spread in (0.0, 0.5, 1.0):
        scores = DrawnScores()
        scores.update(Drawer(spread), real[:100], 1)  # type: ignore[arg-type]
        scores.update(Drawer(spread), real[100:], 2)  # type: ignore[arg-type]
        found = scores.compute()
        assert found["variety"].item() == pytest.approx(spread**2, abs=0.1)
        assert found["score/real"].item() == pytest.approx(real.mean().item(), abs=1e-5)


# -- use by others -----------------------------------------------------------------------


@pytest.mark.parametrize("network", ["stylegan2", "sngan"])
def test_a_checkpoint_is_a_generator(tmp_path: Path, network: str) -> None:
    torch.manual_seed(0)
    method = build_tiny("gan", f"method.network={network}")[0]
    save(method, tmp_path / "run/checkpoints/last.ckpt")
    painter = load_generator(tmp_path / "run")
    assert (painter.resolution, painter.latent_dim) == (method.resolution, method.latent_dim)
    latent = painter.latent(2, generator=chance())
    image = painter(latent)
    assert torch.equal(image, painter(latent))  # Noise is constant.
    assert_close(image, method.eval().decode(latent.vector).composite)
    vector = latent.vector.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(painter(Latent(vector)).sum(), vector)
    assert gradient.abs().max() > 0
    painter.truncation = 0.0
    still = painter(latent)
    assert_close(still[0], still[1])


def test_what_takes_masks_is_refused(compose: Compose, tmp_path: Path) -> None:
    path = save(build_tiny("gan")[0], tmp_path / "m.ckpt")
    with pytest.raises(ConfigError, match="GAN draws pictures without masks.*such as ilsgan"):
        LivePairs(str(path))
    given = [f"ckpt={path}", f"output={tmp_path}/out"]
    with pytest.raises(UserError, match="no pairs to write; use format=png"):
        generate(compose(*given, "format=shards", "count=2", config_name="generate"))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="generator=checkpoint generator.weights"):
        predict(compose(*given, f"input={tmp_path}/a.png", config_name="predict"))
    with pytest.raises(UserError, match="draws pictures without layers; use metrics=generation"):
        InformationScoring().score(make(), None, 0, list)  # type: ignore[arg-type]


def test_samples_and_views_have_no_masks(compose: Compose, tmp_path: Path) -> None:
    path = save(build_tiny("gan")[0], tmp_path / "m.ckpt")
    out = tmp_path / "out"
    generate(
        compose(
            f"ckpt={path}", f"output={out}", "count=2", "rows=2", "columns=3", "frames=2",
            "explore=[walk,interpolation,truncation]", config_name="generate",
        )
    )  # fmt: skip
    assert {p.name for p in out.iterdir() if p.is_dir()} == {"images", "walk"}
    header = (out / "manifest.csv").read_text().splitlines()[0]
    assert header == "index,seed,checkpoint,image,truncation,noise"
    assert {"samples.png", "walk.gif", "interpolation.png", "truncation.png"} <= {
        p.name for p in out.iterdir()
    }


@pytest.mark.parametrize(
    ("overrides", "fragment"),
    [
        (["data.batch_size=18"], "must be a multiple of 4, got 18"),
        (["data.resolution=48"], "expected a whole number that is a power of two"),
        (["method.channel_base=16"], "channel_base must be the resolution (32) at least"),
        (["method.network=dcgan"], "expected one of stylegan2, sngan"),
        (["method.loss=wasserstein"], "set weight_clip=0.01, or network=sngan"),
        (["method.network=sngan", "method.weight_clip=0.01"], "does nothing to weights under"),
        (["recipe=gan-rooms", "method.augmentation=null"], "set controller=null"),
        (
            ["recipe=gan-rooms", "method.network=sngan", "method.loss=wasserstein"],
            "no score between real and drawn",
        ),
    ],
)
def test_options_are_refused_before_training(
    compose: Compose, overrides: list[str], fragment: str
) -> None:
    problems = check(compose("method=gan", "data=toy", *overrides), TrainSettings)
    assert len(problems) == 1
    assert fragment in problems[0]
    assert "\n" not in problems[0]


@pytest.mark.parametrize(
    "overrides",
    [["method.network=sngan"], ["method.network=sngan", "data.batch_size=18"],
     ["method.network=sngan", "method.loss=wasserstein"],
     ["method.loss=wasserstein", "method.weight_clip=0.01"]],
)  # fmt: skip
def test_other_choices_are_valid(compose: Compose, overrides: list[str]) -> None:
    assert check(compose("method=gan", "data=toy", *overrides), TrainSettings) == []
