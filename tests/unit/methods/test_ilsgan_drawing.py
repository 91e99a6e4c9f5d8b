"""What ILSGAN draws beyond samples: latents, mixed styles and layers, near-copies of pictures."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from figureground.core.protocols import (
    Decomposer,
    LatentDecoder,
    LayerMixer,
    NoisyGenerator,
    Projector,
    Segmenter,
    TruncatedDecoder,
)
from figureground.core.types import Batch
from figureground.methods.ilsgan import ILSGAN
from figureground.methods.ilsgan.mixing import StyleMixing
from figureground.methods.ilsgan.networks import LayeredGenerator
from figureground.methods.ilsgan.pictures import TITLES
from figureground.methods.ilsgan.projection import (
    Schedule,
    noise_correlation,
    pixel_pyramid,
    search_styles,
)
from figureground.methods.ilsgan.statistics import LayerScores
from figureground.nn.modulation import NoiseMode, SynthesisLayer
from figureground.nn.paths import slerp, walk_through

TINY: dict[str, Any] = {
    "resolution": 16, "batch_size": 4, "latent_dim": 8, "style_width": 8, "mapping_depth": 2,
    "max_width": 8, "channel_base": 128,
}  # fmt: skip


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def method() -> ILSGAN:
    torch.manual_seed(0)
    method = ILSGAN(**TINY, truncation=0.7).eval()
    for mapping in (
        method.ema.average.mapping_background,
        method.ema.average.mapping_foreground,
    ):
        mapping.w_avg.normal_()
    return method


@torch.no_grad()
def test_samples_are_decoded_latents(method: ILSGAN) -> None:
    assert isinstance(method, LatentDecoder)
    assert isinstance(method, TruncatedDecoder)
    latent = method.latent(3, generator=chance())
    decoded = method.decode(latent)
    assert torch.equal(decoded.color, method.sample(3, generator=chance()).color)
    assert_close(decoded.color[:1], method.decode(latent[:1]).color)
    assert torch.equal(decoded.alpha, method.decode_truncated(latent, 0.7).alpha)
    assert decoded.opacity is not None
    assert decoded.opacity[:, 0].min() == 1  # What foregrounds hide of backgrounds is known.
    assert torch.equal(decoded.opacity[:, 1], decoded.alpha[:, 1])
    mean = method.decode_truncated(latent, 0.0).color
    assert_close(mean[0], mean[1])
    assert not torch.equal(decoded.color[0], decoded.color[1])


@torch.no_grad()
def test_noise_and_truncation_of_samples_are_options(method: ILSGAN) -> None:
    assert isinstance(method, NoisyGenerator)
    for module in method.ema.average.modules():
        if isinstance(module, SynthesisLayer):
            module.noise_strength.fill_(0.5)
    const = method.sample(3, generator=chance())
    assert torch.equal(const.color, method.sample_with(3, generator=chance()).color)
    kinds: tuple[NoiseMode, ...] = ("random", "none")
    for noise in kinds:
        one, two = (method.sample_with(3, noise=noise, generator=chance()) for _ in "ab")
        assert torch.equal(one.color, two.color)
        assert not torch.equal(one.color, const.color)
    mean = method.sample_with(3, truncation=0.0, generator=chance()).color
    assert_close(mean[0], mean[1])


@torch.no_grad()
def test_composites_are_made_of_colours_as_drawn(method: ILSGAN) -> None:
    for network in (
        method.ema.average.synthesis_background,
        method.ema.average.synthesis_foreground,
    ):
        network.b16.torgb.bias[:3].fill_(3.0 if network.b16.torgb.bias.shape[0] == 3 else -3.0)
    layers, latent = method.sample(2, generator=chance()), method.latent(2, generator=chance())
    assert layers.color.abs().max() > 1
    assert_close(layers.composite, method.draw(latent, method.truncation).composite)


@torch.no_grad()
def test_layers_come_from_latents_of_their_own(method: ILSGAN) -> None:
    assert isinstance(method, LayerMixer)
    back, front = method.latent(2, generator=chance()), method.latent(2, generator=chance(1))
    mixed = method.decode_layers(torch.stack([back, front], dim=1))
    assert torch.equal(mixed.color[:, 0], method.decode(back).color[:, 0])
    assert torch.equal(mixed.color[:, 1], method.decode(front).color[:, 1])
    assert torch.equal(mixed.alpha, method.decode(front).alpha)
    with pytest.raises(ValueError, match=r"\(B, 2, 8\).*got \(2, 3, 8\)"):
        method.decode_layers(torch.zeros(2, 3, 8))


def marked(num_styles: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    zeros, ones = torch.zeros(2, num_styles, 3), torch.ones(2, num_styles, 3)
    return (zeros, zeros), (ones, ones)


@pytest.mark.parametrize("form", ["separate", "joint", "layer"])
def test_styles_are_mixed_as_often_as_asked(form: Any) -> None:
    styles, others = marked(6)
    for probability in (0.0, 1.0):
        mixing = StyleMixing(probability, form)
        for _ in range(20):
            background, foreground = (each[0, :, 0].tolist() for each in mixing(styles, others))
            row = background + foreground
            if probability == 0:
                assert row == [0.0] * 12
            elif form == "layer":
                assert row == [1.0] * 6 + [0.0] * 6
            elif form == "joint":
                assert row == sorted(row)
                assert 1 <= sum(row) <= 11
            else:
                for part in (background, foreground):
                    assert part == sorted(part)
                    assert 1 <= sum(part) <= 5


def test_layers_change_over_apart_or_together() -> None:
    torch.manual_seed(0)
    separate = {StyleMixing(1.0, "separate").draw_cutoffs(4) for _ in range(200)}
    assert separate == {(b, f) for b in range(1, 4) for f in range(1, 4)}
    joint = {StyleMixing(1.0, "joint").draw_cutoffs(4) for _ in range(200)}
    assert joint == {(1, 0), (2, 0), (3, 0), (4, 0), (4, 1), (4, 2), (4, 3)}


def test_mixing_in_training_draws_a_second_latent_only_if_asked() -> None:
    pictures = []
    for probability in (0.0, 1.0):
        torch.manual_seed(3)
        method = ILSGAN(**TINY, style_mixing=StyleMixing(probability, "layer"))
        torch.manual_seed(4)
        pictures.append(method._draw_pair(4)[0])
        torch.manual_seed(4)
        latent, _ = method._draw_inputs(4)
        average = method.generator.mapping_background.w_avg
        own = method.generator.mapping_background(latent)[:, 0].mean(dim=0)
        assert_close(average, 0.005 * own)  # The second latent moves no mean.
    plain, mixed = pictures
    assert not torch.allclose(plain.background, mixed.background)


def test_great_circles_and_closed_walks() -> None:
    one, other = torch.eye(4)[:1] * 2, torch.eye(4)[1:2] * 2
    middle = slerp(one, other, torch.tensor([[0.5]]))
    assert_close(middle.norm(), torch.tensor(2.0))
    latent = torch.randn(3, 5, generator=chance())
    path = walk_through(latent, 12)
    assert path.shape == (12, 5)
    assert_close(path[::4], latent)
    steps = (path - path.roll(-1, 0)).norm(dim=1)
    assert steps.max() < 2 * latent.norm(dim=1).max() / 3


def test_pictures_are_few_and_titled(method: ILSGAN) -> None:
    found = method.pictures(Batch(torch.zeros(3, 3, 16, 16), ("a", "b", "c")))
    for name, titles in TITLES.items():
        assert len(found[name]) == 3 * len(titles)
    grids = {name: each.unflatten(0, (3, -1)) for name, each in found.items()}
    for row in range(3):
        assert_close(grids["mixing"][row, row], found["samples"][row])
        assert_close(grids["truncation"][row, -1], found["samples"][row])
        assert_close(
            grids["interpolation"][row, -1], grids["interpolation"][(row + 1) % 3, 0],
            rtol=1e-3, atol=1e-4,
        )  # fmt: skip


def brute_correlation(noise: Tensor) -> float:
    total, side = 0.0, noise.shape[-1]
    for dy, dx in ((0, 1), (1, 0)):
        products = [
            noise[y, x] * noise[(y - dy) % side, (x - dx) % side]
            for y in range(side) for x in range(side)
        ]  # fmt: skip
        total += (float(sum(products)) / side**2) ** 2
    return total


def test_noise_correlation_is_that_of_a_loop() -> None:
    noise = torch.randn(2, 1, 16, 16, generator=chance())
    smaller = 2 * F.avg_pool2d(noise, 2)
    expected = sum(brute_correlation(each[b, 0]) for each in (noise, smaller) for b in range(2))
    assert float(noise_correlation([noise])) == pytest.approx(expected, rel=1e-4)
    stripes = torch.ones(1, 1, 8, 8)
    assert float(noise_correlation([stripes])) == pytest.approx(2)


def test_search_warms_up_and_calms_down() -> None:
    schedule = Schedule(1000)
    rates = [schedule.rate(step) for step in range(1000)]
    assert rates[0] == pytest.approx(0.002)
    assert rates[49] == rates[749] == pytest.approx(0.1)
    assert rates[999] < 1e-4
    assert schedule.spread(0) == 0.05
    assert schedule.spread(375) == pytest.approx(0.05 / 4)
    assert schedule.spread(750) == schedule.spread(999) == 0
    assert [each.shape[-1] for each in pixel_pyramid(torch.zeros(1, 3, 32, 32))] == [32, 16, 8]


def make_generator() -> LayeredGenerator:
    torch.manual_seed(1)
    sizes = {"latent_dim": 8, "style_width": 8, "mapping_depth": 2}
    network = LayeredGenerator(16, **sizes, channel_base=128, channel_max=8)
    for name, parameter in network.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.05)
    return network.requires_grad_(False)


def test_search_comes_nearer_to_a_picture_that_can_be_drawn() -> None:
    network = make_generator()
    image = network(torch.randn(2, 8, generator=chance(5)), noise="const").composite
    seen: list[tuple[int, Tensor]] = []
    before = {key: value.clone() for key, value in network.state_dict().items()}
    found = search_styles(
        network, image, steps=20, generator=chance(), report=lambda *each: seen.append(each)
    )
    assert [step for step, _ in seen] == list(range(2, 21, 2))
    mean = network.synthesize(
        *(each.mean(dim=0, keepdim=True) for each in network.map(torch.randn(500, 8))),
        noise="const",
    )
    first = (mean.composite - image).square().mean(dim=(1, 2, 3))
    last = (found.composite - image).square().mean(dim=(1, 2, 3))
    assert (last < 0.25 * first).all()
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), key


@torch.inference_mode()
def test_near_copies_repeat_and_do_not_depend_on_neighbours(method: ILSGAN) -> None:
    assert isinstance(method, Projector)
    assert not isinstance(method, Segmenter | Decomposer)
    image = torch.rand(2, 3, 16, 16, generator=chance()) * 2 - 1
    both = method.project(image, steps=4, generator=chance())
    again = method.project(image, steps=4, generator=chance())
    alone = method.project(image[1:], steps=4, generator=chance())
    assert torch.equal(both.color, again.color)
    assert_close(both.color[1:], alone.color, rtol=1e-3, atol=1e-3)
    assert both.color.abs().max() <= 1
    assert_close(both.alpha.sum(dim=1), torch.ones(2, 1, 16, 16))
    with pytest.raises(ValueError, match=r"expected images \(B, 3, 16, 16\), got \(2, 3, 8, 8\)"):
        method.project(image[..., :8, :8], steps=1)


def test_features_can_take_the_place_of_pixels(method: ILSGAN) -> None:
    seen = []

    def features(image: Tensor) -> list[Tensor]:
        seen.append(image.requires_grad)
        return [image, F.avg_pool2d(image, 4)]

    method.project(torch.zeros(1, 3, 16, 16), steps=2, features=features)
    assert seen == [False, True, True]


@torch.no_grad()
def test_leakage_is_what_a_layer_alone_gains_on_the_composite(method: ILSGAN) -> None:
    scores = LayerScores()
    for seed in (0, 1):
        scores.update(method, torch.zeros(4, 3, 16, 16), seed)
    found = {name: float(value) for name, value in scores.compute().items()}
    drawn = [method.draw(torch.randn(4, 8, generator=chance(seed))) for seed in (0, 1)]
    for name in ("background", "foreground"):
        alone = torch.cat([method.score(getattr(each, name)) for each in drawn]).mean()
        whole = torch.cat([method.score(each.composite) for each in drawn]).mean()
        assert found[f"leakage/{name}"] == pytest.approx(float(alone - whole), abs=1e-5)
    assert set(found) == {
        *(f"score/{name}" for name in ("foreground", "background", "composite", "real")),
        *("leakage/background", "leakage/foreground", "mask/area", "mask/greyness"),
    }
