"""StyleGAN2's parts: equal forms agree, gradients exist twice, seeds repeat, halves hold."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from figureground.core.errors import CheckpointError
from figureground.losses.adversarial import r1_penalty
from figureground.nn import resample
from figureground.nn.equalized import EqualizedConv2d, EqualizedLinear, activate
from figureground.nn.modulation import SynthesisLayer, demodulation, modulated_conv2d
from figureground.nn.resample import fir_kernel, fir_resample, upsample_filtered_conv
from figureground.nn.style_blocks import (
    block_resolutions,
    feature_maps,
    low_precision_resolutions,
)
from figureground.nn.stylegan2 import (
    MappingNetwork,
    StyleGenerator,
    SynthesisNetwork,
    convert_released,
    draw_mixing_cutoff,
    mix_styles,
)
from figureground.nn.stylegan2_discriminator import StyleDiscriminator, append_batch_deviation

SMALL: dict[str, Any] = {"channel_base": 64, "channel_max": 8}


def resample_by_definition(image: Tensor, kernel: Tensor, up: int, down: int, pad: Any) -> Tensor:
    """Zeros in between, padding or cutting, convolution, every `down`-th pixel: in plain loops."""
    batch, channels, height, width = image.shape
    sparse = image.new_zeros(batch, channels, height * up, width * up)
    sparse[..., ::up, ::up] = image
    sparse = F.pad(sparse, pad)
    size = len(kernel)
    rows, columns = sparse.shape[2] - size + 1, sparse.shape[3] - size + 1
    result = image.new_zeros(batch, channels, rows, columns)
    for y in range(rows):
        for x in range(columns):
            window = sparse[..., y : y + size, x : x + size]
            result[..., y, x] = (window * kernel.flip((0, 1))).sum(dim=(2, 3))
    return result[..., ::down, ::down]


@pytest.mark.parametrize("up", [1, 2, 3])
@pytest.mark.parametrize("down", [1, 2])
@pytest.mark.parametrize("pad", [(0, 0, 0, 0), (2, 1, 2, 1), (5, 4, 3, 6), (-1, 2, 3, -2)])
def test_resampling_follows_its_definition(up: int, down: int, pad: Any) -> None:
    image = torch.randn(2, 3, 7, 6, dtype=torch.float64)
    row = torch.tensor([1.0, 2, 4, 3], dtype=torch.float64)
    kernel = torch.outer(row, row)
    expected = resample_by_definition(image, kernel, up, down, pad)
    options: dict[str, Any] = {"up": up, "down": down, "padding": pad}
    assert_close(fir_resample(image, kernel, **options), expected)
    assert_close(fir_resample(image, row, **options), expected)
    flipped = fir_resample(image, kernel.flip((0, 1)), flip=True, gain=3.0, **options)
    assert_close(flipped, 3 * expected)
    assert_close(fir_resample(image, row.flip(0), flip=True, gain=3.0, **options), 3 * expected)


@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2), (3, 2)])
@pytest.mark.parametrize("pad", [(2, 1, 2, 1), (5, 4, 3, 6), (-1, 2, 3, -2)])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("is_separable", [False, True])
def test_resampling_has_right_derivatives(
    up: int, down: int, pad: Any, flip: bool, is_separable: bool
) -> None:
    image = torch.randn(1, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    row = torch.tensor([1.0, 2, 4, 3], dtype=torch.float64)
    kernel = row if is_separable else torch.outer(row, row)

    def run(x: Tensor) -> Tensor:
        return fir_resample(x, kernel, up=up, down=down, padding=pad, flip=flip)

    assert torch.autograd.gradcheck(run, image, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, image, fast_mode=True)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("up", "down", "pad"), [(2, 1, (6, 5, 6, 5)), (1, 2, (-1, 3, 2, -2))])
def test_separable_filters_of_large_pictures_give_the_same(
    up: int, down: int, pad: Any, flip: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, row = torch.randn(2, 3, 9, 12), torch.randn(7)
    options: dict[str, Any] = {"up": up, "down": down, "padding": pad, "gain": 4.0, "flip": flip}
    as_products = fir_resample(image, row, **options)
    monkeypatch.setattr(resample, "_LARGEST_PRODUCT", 0)
    assert_close(fir_resample(image, row, **options), as_products)


def test_limited_activations_pass_gradients_within_their_limit_only() -> None:
    values = torch.tensor([-9.0, -0.5, 0.5, 1.5], dtype=torch.float64, requires_grad=True)
    limited = activate(values, "lrelu", 1.0)
    assert_close(limited, torch.tensor([-1, -0.1, 0.5, 1.0], dtype=torch.float64))
    (gradient,) = torch.autograd.grad(limited.sum(), values)
    assert_close(gradient, torch.tensor([0, 0.2, 1.0, 0], dtype=torch.float64))


def test_upsampling_convolution_flips_its_kernel() -> None:
    image, weight = torch.randn(2, 3, 5, 5).double(), torch.randn(4, 3, 3, 3).double()
    filtered = fir_resample(image, fir_kernel().double(), up=2, padding=(3, 2, 3, 2), gain=4)
    expected = F.conv2d(filtered, weight.flip((2, 3)))
    assert_close(upsample_filtered_conv(image, weight, fir_kernel().double()), expected)


def test_equalized_layers_keep_unit_variance() -> None:
    vectors, maps = torch.randn(4096, 64), torch.randn(16, 32, 16, 16)
    for found in (
        EqualizedLinear(64, 64)(vectors),
        EqualizedLinear(64, 64, lr_multiplier=0.01)(vectors),
        EqualizedConv2d(32, 32, 3)(maps)[..., 1:-1, 1:-1],
    ):
        assert found.std().item() == pytest.approx(1, abs=0.15)
    found = EqualizedConv2d(32, 32, 3, activation="lrelu")(maps)[..., 1:-1, 1:-1]
    assert found.square().mean().item() == pytest.approx(1, abs=0.25)


def test_learning_rate_multiplier_scales_steps() -> None:
    plain, slow = EqualizedLinear(5, 3), EqualizedLinear(5, 3, lr_multiplier=0.01)
    with torch.no_grad():
        slow.weight.copy_(plain.weight / 0.01)
    x = torch.randn(2, 5)
    assert_close(plain(x), slow(x))
    for layer in (plain, slow):
        layer(x).sum().backward()
    assert plain.weight.grad is not None
    assert_close(slow.weight.grad, 0.01 * plain.weight.grad)


def test_clamp_follows_gain() -> None:
    layer = EqualizedConv2d(3, 4, 3, activation="lrelu", clamp=0.1)
    assert layer(torch.randn(2, 3, 8, 8)).abs().max().item() == pytest.approx(0.1)
    found = layer(torch.randn(2, 3, 8, 8), gain=0.5)
    assert found.abs().max().item() == pytest.approx(0.05)


def test_demodulation_equals_norms_of_whole_kernels() -> None:
    weight, styles = torch.randn(5, 3, 3, 3).double(), torch.randn(2, 3).double()
    kernels = weight * styles[:, None, :, None, None]
    expected = (kernels.square().sum(dim=(2, 3, 4)) + 1e-8).rsqrt()
    assert_close(demodulation(weight, styles), expected)


@pytest.mark.parametrize("demodulate", [False, True])
@pytest.mark.parametrize("upsample", [False, True])
@pytest.mark.parametrize("size", [1, 3])
def test_fused_and_shared_kernels_agree(demodulate: bool, upsample: bool, size: int) -> None:
    features = torch.randn(3, 4, 6, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 4, size, size, dtype=torch.float64, requires_grad=True)
    styles = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    side = 12 if upsample else 6
    noise = torch.randn(3, 1, side, side, dtype=torch.float64)
    probe = torch.randn(3, 5, side, side, dtype=torch.float64)
    results = []
    for fused in (False, True):
        found = modulated_conv2d(
            features,
            weight,
            styles,
            demodulate=demodulate,
            noise=noise,
            upsample_kernel=fir_kernel() if upsample else None,
            gain=1.7,
            fused=fused,
        )
        gradients = torch.autograd.grad((found * probe).sum(), (features, weight, styles))
        results.append((found, *gradients))
    for shared, per_sample in zip(*results, strict=True):
        assert_close(shared, per_sample)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("fused", [False, True])
def test_modulation_survives_half_precision(dtype: torch.dtype, fused: bool) -> None:
    # Without normalisation beforehand, sums of these products pass the largest half (65504).
    features, styles = torch.randn(2, 64, 8, 8) * 30, torch.randn(2, 64) * 300
    weight = torch.randn(16, 64, 3, 3) * 50
    exact = modulated_conv2d(features, weight, styles)
    found = modulated_conv2d(features.to(dtype), weight, styles, fused=fused)
    assert found.dtype == dtype
    assert (found.float() - exact).std() < 0.02 * exact.std()


def test_modulation_survives_autocast() -> None:
    layer = SynthesisLayer(16, 8, 12, 8)
    features, style = torch.randn(2, 16, 8, 8), torch.randn(2, 12)
    exact = layer(features, style, noise="const")
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(features, style, noise="const")
    assert (found.float() - exact).std() < 0.02 * exact.std()


@pytest.mark.parametrize("architecture", ["skip", "orig", "resnet"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_synthesis_paints(architecture: Any, channels: int) -> None:
    network = SynthesisNetwork(12, 32, out_channels=channels, architecture=architecture, **SMALL)
    assert network.num_styles == 8
    styles = torch.randn(2, 8, 12, requires_grad=True)
    image = network(styles)
    assert image.shape == (2, channels, 32, 32)
    image.square().sum().backward()
    assert styles.grad is not None
    assert (styles.grad.abs().sum(dim=(0, 2)) > 0).all()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name


@pytest.mark.parametrize("architecture", ["skip", "orig", "resnet"])
def test_gradients_are_right(architecture: Any) -> None:
    network = SynthesisNetwork(4, 8, architecture=architecture, channel_base=16, channel_max=2)
    network = network.double()
    for layer in network.modules():
        if isinstance(layer, SynthesisLayer):
            nn.init.constant_(layer.noise_strength, 0.1)
    styles = torch.randn(2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: network(s, noise="const"), styles, fast_mode=True)


def test_noise_modes() -> None:
    network = SynthesisNetwork(12, 16, **SMALL)
    styles = torch.randn(2, 6, 12)
    assert_close(network(styles), network(styles, noise="none"))  # Its strength starts at zero.
    for layer in network.modules():
        if isinstance(layer, SynthesisLayer):
            nn.init.constant_(layer.noise_strength, 0.5)

    def seeded(seed: int) -> Tensor:
        image: Tensor = network(styles, generator=torch.Generator().manual_seed(seed))
        return image

    assert torch.equal(seeded(0), seeded(0))
    assert not torch.allclose(seeded(0), seeded(1))
    assert not torch.allclose(network(styles), network(styles))
    assert torch.equal(network(styles, noise="const"), network(styles, noise="const"))


def test_half_precision_blocks_stay_close() -> None:
    network = SynthesisNetwork(12, 16, **SMALL, low_precision_blocks=2)
    assert network.low_resolutions == {8, 16}
    styles = torch.randn(2, 6, 12)
    exact = network(styles, noise="none")
    features, image, start = None, None, 0
    for side in network.resolutions:
        block: Any = network.get_submodule(f"b{side}")
        low = side in network.low_resolutions
        features, image = block(
            features,
            image,
            iter(styles[:, start:].unbind(1)),
            dtype=torch.bfloat16 if low else torch.float32,
            noise="none",
            generator=None,
            fused=False,
        )
        assert features.dtype == (torch.bfloat16 if low else torch.float32)
        start += block.num_convolutions
    assert image is not None
    assert image.dtype == torch.float32
    assert (image - exact).std() < 0.05 * exact.std()


def test_resolutions_and_channels() -> None:
    assert block_resolutions(64) == [4, 8, 16, 32, 64]
    assert low_precision_resolutions(64, 4) == {8, 16, 32, 64}
    assert low_precision_resolutions(128, 4) == {16, 32, 64, 128}
    assert low_precision_resolutions(16, 4) == {8, 16}
    assert low_precision_resolutions(16, 0) == set()
    assert [feature_maps(side, 16384, 256) for side in (4, 64, 128)] == [256, 256, 128]
    for wrong in (4, 48):
        with pytest.raises(ValueError, match="power of two"):
            block_resolutions(wrong)


@pytest.mark.parametrize(
    ("resolution", "background", "foreground", "critic"),
    [(64, 7_157_272, 7_158_557, 6_625_281), (128, 7_862_941, 7_864_355, 7_100_289)],
)
def test_sizes_are_the_published_ones(
    resolution: int, background: int, foreground: int, critic: int
) -> None:
    with torch.device("meta"):
        networks = [
            SynthesisNetwork(512, resolution),
            SynthesisNetwork(512, resolution, out_channels=4),
            StyleDiscriminator(resolution),
            MappingNetwork(512, 512, 10),
        ]
    found = [sum(p.numel() for p in network.parameters()) for network in networks]
    assert found == [background, foreground, critic, 2_101_248]


def test_mapping_average_moves_only_when_asked() -> None:
    network = MappingNetwork(6, 5, 4, depth=2, average_decay=0.9)
    z = torch.randn(8, 6)
    network(z)
    assert not network.w_avg.any()
    styles = network(z, update_average=True)
    assert_close(network.w_avg, 0.1 * styles[:, 0].mean(dim=0))
    assert torch.equal(styles[:, 0], styles[:, 3])


def test_truncation_pulls_the_first_styles() -> None:
    network = MappingNetwork(6, 5, 4, depth=2)
    network.w_avg.normal_()
    z = torch.randn(3, 6)
    plain, pulled = network(z), network(z, truncation=0.3, cutoff=1)
    assert_close(pulled[:, 0], network.w_avg + 0.3 * (plain[:, 0] - network.w_avg))
    assert_close(pulled[:, 1:], plain[:, 1:])
    assert_close(network(z, truncation=0.0), network.w_avg.expand(3, 4, 5))


def test_mapping_refuses_wrong_input() -> None:
    network = MappingNetwork(6, 5, 4, num_classes=3, depth=2)
    with pytest.raises(ValueError, match=r"\(B, 6\), got \(2, 7\)"):
        network(torch.randn(2, 7))
    with pytest.raises(ValueError, match="needs a label"):
        network(torch.randn(2, 6))
    with pytest.raises(ValueError, match="nothing to map"):
        MappingNetwork(0, 5, 4)
    with pytest.raises(ValueError, match="keeps no average"):
        MappingNetwork(6, 5, 1, average_decay=None)(torch.randn(2, 6), update_average=True)
    with pytest.raises(ValueError, match=r"styles must be \(B, 6, 12\)"):
        SynthesisNetwork(12, 16, **SMALL)(torch.randn(2, 5, 12))


def test_generator_repeats_under_a_seed() -> None:
    network = StyleGenerator(16, latent_dim=6, style_dim=5, num_classes=3, mapping_depth=2, **SMALL)
    z, label = torch.randn(2, 6), torch.tensor([0, 2])
    found = [network(z, label, generator=torch.Generator().manual_seed(1)) for _ in range(2)]
    assert torch.equal(*found)
    assert not torch.allclose(network(z, label), network(z, label.flip(0)))


def test_styles_are_mixed_from_the_cutoff_on() -> None:
    first, second = torch.zeros(2, 6, 3), torch.ones(2, 6, 3)
    assert mix_styles(first, second, 4)[0, :, 0].tolist() == [0, 0, 0, 0, 1, 1]
    assert torch.equal(mix_styles(first, second, 6), first)
    generator = torch.Generator().manual_seed(0)
    drawn = {draw_mixing_cutoff(6, 1.0, generator) for _ in range(200)}
    assert drawn == {1, 2, 3, 4, 5}
    assert {draw_mixing_cutoff(6, 0.0, generator) for _ in range(20)} == {6}


@pytest.mark.parametrize("architecture", ["resnet", "skip", "orig"])
@pytest.mark.parametrize("num_classes", [0, 3])
def test_discriminator_gradients_exist_twice(architecture: Any, num_classes: int) -> None:
    network = StyleDiscriminator(
        16, architecture=architecture, num_classes=num_classes, mapping_depth=2, **SMALL
    )
    image = torch.randn(8, 3, 16, 16, requires_grad=True)
    label = torch.arange(8) % 3 if num_classes else None
    logits = network(image, label)
    assert logits.shape == (8,)
    assert network.features(image).shape == (8, 8, 4, 4)
    (gradient,) = torch.autograd.grad(logits.sum(), image, create_graph=True)
    gradient.square().sum().backward()
    weights = [p for name, p in network.named_parameters() if name.endswith("weight")]
    assert all(p.grad is not None and p.grad.any() for p in weights)


def test_discriminator_second_derivative_is_right() -> None:
    network = StyleDiscriminator(8, channel_base=16, channel_max=2).double()
    image = torch.randn(2, 3, 8, 8, dtype=torch.float64, requires_grad=True)

    def penalty(x: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(network(x).sum(), x, create_graph=True)
        return gradient.square().sum()

    assert torch.autograd.gradcheck(penalty, image, fast_mode=True)


def test_networks_train_under_autocast() -> None:
    generator = SynthesisNetwork(12, 16, **SMALL, architecture="resnet")
    critic = StyleDiscriminator(16, **SMALL)
    styles = torch.randn(4, 6, 12)
    real = torch.randn(4, 3, 16, 16, requires_grad=True)
    gradients = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = critic(generator(styles)).sum() + r1_penalty(critic(real), real).sum()
        assert loss.dtype == torch.float32
        weights = [*generator.parameters(), *critic.parameters()]
        found = torch.autograd.grad(loss, weights, allow_unused=True)
        gradients.append(torch.cat([g.flatten() for g in found if g is not None]))
    exact, rounded = gradients
    assert F.cosine_similarity(exact, rounded, dim=0) > 0.98


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_networks_run_in_any_type(dtype: torch.dtype) -> None:
    generator = StyleGenerator(16, latent_dim=6, style_dim=5, mapping_depth=2, **SMALL)
    critic = StyleDiscriminator(16, **SMALL)
    z = torch.randn(4, 6)
    exact = critic(generator(z, noise="const"))
    for given in (z, z.to(dtype)):
        image = generator.to(dtype)(given, noise="const")
        assert image.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        found = critic.to(dtype)(image)
        found.sum().backward()
        assert_close(found.float(), exact, rtol=0, atol=0.1 * exact.std().item() + 1e-5)


def test_class_changes_the_score() -> None:
    network = StyleDiscriminator(16, num_classes=3, mapping_depth=2, **SMALL)
    image = torch.randn(2, 3, 16, 16)
    first, second = (network(image, torch.full((2,), number)) for number in (0, 1))
    assert not torch.allclose(first, second)


def test_batch_deviation_by_loops() -> None:
    features = torch.randn(6, 4, 3, 3).double()
    found = append_batch_deviation(features, group_size=3, num_channels=2)
    assert torch.equal(found[:, :4], features)
    for sample in range(6):
        group = features[[sample % 2, sample % 2 + 2, sample % 2 + 4]]
        for part in range(2):
            share = group[:, 2 * part : 2 * part + 2]
            expected = (share.std(dim=0, correction=0).square() + 1e-8).sqrt().mean()
            assert_close(found[sample, 4 + part], expected.expand(3, 3))
    with pytest.raises(ValueError, match="a batch of 6 cannot be cut into groups of 4"):
        append_batch_deviation(features)


def test_released_keys_are_ours_but_for_filters() -> None:
    network = StyleGenerator(16, latent_dim=6, style_dim=5, mapping_depth=1, **SMALL)
    state = network.state_dict()
    assert {"mapping.w_avg", "mapping.fc0.weight", "synthesis.b4.const"} <= set(state)
    assert "synthesis.b16.conv0.noise_strength" in state
    assert not any("resample_filter" in key for key in state)
    theirs = {**state, "synthesis.b16.resample_filter": fir_kernel()}
    network.load_state_dict(convert_released(theirs))
    theirs["synthesis.b16.resample_filter"] = torch.ones(4, 4)
    with pytest.raises(CheckpointError, match="low-pass kernel"):
        convert_released(theirs)


def test_initial_styles_are_neutral() -> None:
    layer = SynthesisLayer(6, 4, 5, 8)
    assert_close(layer.affine(torch.zeros(1, 5)), torch.ones(1, 6))
    assert layer.weight.std().item() == pytest.approx(1, abs=0.3)
    assert math.isclose(layer.noise_strength.item(), 0.0)
