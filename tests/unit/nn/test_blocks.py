"""Building blocks against plain operators and loops."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from figureground.losses.adversarial import hinge_fake, hinge_generator, hinge_real
from figureground.nn.attention import PooledSelfAttention
from figureground.nn.ema import WeightAverage
from figureground.nn.init import orthogonal_
from figureground.nn.normalization import (
    ConditionalInstanceNorm,
    SpectralNorm,
    SpectralNormOrder,
    spectral_norm,
)
from figureground.nn.precision import widen
from figureground.nn.regions import RegionStatistics
from figureground.nn.resample import conv3x3_downsample, upsample_conv3x3


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 2, 2), (3, 6, 4), (5, 8, 10)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_fused_resampling_equals_plain_operators(
    channels: int, height: int, width: int, has_bias: bool
) -> None:
    image = torch.randn(2, channels, height, width, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, channels, 3, 3, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(4, dtype=torch.float64) if has_bias else None
    grown = F.conv2d(F.interpolate(image, scale_factor=2.0), weight, bias, padding=1)
    shrunk = F.avg_pool2d(F.conv2d(image, weight, bias, padding=1), 2)
    for fused, plain in (
        (upsample_conv3x3(image, weight, bias), grown),
        (conv3x3_downsample(image, weight, bias), shrunk),
    ):
        assert_close(fused, plain)
        direction = torch.randn_like(plain)
        found = torch.autograd.grad((fused * direction).sum(), (image, weight))
        wanted = torch.autograd.grad((plain * direction).sum(), (image, weight))
        assert_close(found, wanted)


def test_spectral_norm_divides_by_the_largest_singular_value() -> None:
    layer = spectral_norm(nn.Conv2d(3, 6, 3))
    for _ in range(200):
        layer.weight  # noqa: B018 - each access is one power iteration
    layer.eval()
    assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("shape", [(4, 3, 3, 3), (5, 4, 1, 1), (6, 7)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_spectral_norm_has_exact_derivatives(
    shape: tuple[int, ...], memory_format: torch.memory_format
) -> None:
    weight = torch.randn(*shape, dtype=torch.float64)
    if len(shape) == 4:
        weight = weight.to(memory_format=memory_format)
    norm = SpectralNorm(weight).eval()
    weight.requires_grad_()
    assert torch.autograd.gradcheck(norm, weight)
    assert torch.autograd.gradgradcheck(norm, weight)


@pytest.mark.parametrize("order", ["right_first", "left_first"])
def test_spectral_norm_does_not_depend_on_the_memory_format(order: SpectralNormOrder) -> None:
    weight = torch.randn(8, 6, 3, 3, dtype=torch.float64)
    norms = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        norms.append(SpectralNorm(weight, order))
        for _ in range(3):
            out = norms[-1](weight.to(memory_format=memory_format))
    assert out.shape == weight.shape
    assert_close(norms[1](weight), norms[0](weight))
    assert_close(norms[1].v, norms[0].v)


def test_left_first_order_is_torchs_own() -> None:
    weight = torch.randn(5, 4)
    ours = SpectralNorm(weight, "left_first")
    theirs = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 5, bias=False))
    theirs.parametrizations.weight.original.data.copy_(weight)
    theirs.parametrizations.weight[0]._u.copy_(ours.u)
    theirs.parametrizations.weight[0]._v.copy_(ours.v)
    for _ in range(3):
        assert_close(ours(weight), theirs.weight)
    assert_close(ours.eval()(weight), theirs.eval().weight)


def test_right_first_order_is_the_old_hook() -> None:
    weight, norm = torch.randn(5, 4), SpectralNorm(torch.randn(5, 4))
    u = norm.u.clone()
    v = F.normalize(weight.T @ u, dim=0)
    u = F.normalize(weight @ v, dim=0)
    assert_close(norm(weight), weight / (u @ weight @ v))
    assert_close(norm.u, u)


def test_two_forwards_before_one_backward() -> None:
    layer = spectral_norm(nn.Conv2d(2, 2, 1))
    image = torch.randn(1, 2, 3, 3)
    (layer(image).sum() + layer(image).sum()).backward()
    assert layer.parametrizations.weight.original.grad is not None


def test_attention_equals_loops() -> None:
    block = PooledSelfAttention(8).double().eval()
    block.gate.data.fill_(0.7)
    x = torch.randn(1, 8, 4, 4, dtype=torch.float64)
    q, k, v = block.query(x)[0], block.key(x), block.value(x)
    k, v = F.max_pool2d(k, 2)[0].flatten(1), F.max_pool2d(v, 2)[0].flatten(1)
    out = torch.zeros(1, 4, 4, 4, dtype=torch.float64)
    for row in range(4):
        for column in range(4):
            weights = torch.softmax(k.T @ q[:, row, column], 0)
            out[0, :, row, column] = v @ weights
    assert_close(block(x), x + 0.7 * block.output(out))


def test_attention_starts_as_identity() -> None:
    x = torch.randn(2, 8, 6, 6)
    assert_close(PooledSelfAttention(8)(x), x)


def test_conditional_norm_equals_its_formula() -> None:
    norm = ConditionalInstanceNorm(3, 5)
    x, z = torch.randn(2, 3, 6, 6), torch.randn(2, 5)
    mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), unbiased=False, keepdim=True)
    gamma, beta = norm.gamma(z[:, :, None, None]), norm.beta(z[:, :, None, None])
    assert_close(norm(x, z), (x - mean) / (variance + 1e-5).sqrt() * gamma + beta)


def test_orthogonal_weights_have_one_singular_value() -> None:
    network = nn.Sequential(spectral_norm(nn.Conv2d(3, 8, 3)), nn.Flatten(), nn.Linear(8, 4))
    bias = network[2].bias.clone()
    orthogonal_(network, 0.8)
    for weight in (network[0].parametrizations.weight.original.flatten(1), network[2].weight):
        values = torch.linalg.svdvals(weight)
        assert_close(values, torch.full_like(values, 0.8), rtol=1e-5, atol=1e-5)
    assert torch.equal(bias, network[2].bias)


def test_average_follows_and_can_be_bypassed() -> None:
    live = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = WeightAverage(live, 0.9)
    assert set(average.state_dict()) == {f"average.{key}" for key in live.state_dict()}
    before = live[0].weight.clone()
    with torch.no_grad():
        live[0].weight.add_(1)
        live[1].running_mean.add_(2)
    average.update()
    assert_close(average.average[0].weight, before + 0.1)
    assert_close(average.average[1].running_mean, live[1].running_mean)
    x = torch.randn(4, 2)
    live.eval(), average.eval()
    with average.bypassed():
        assert torch.equal(average(x), live(x))
    assert not torch.equal(average(x), live(x))
    average.reset()
    assert torch.equal(average(x), live(x))


def test_region_statistics_tell_stencils_from_masks() -> None:
    moving, still = RegionStatistics(2, 16), RegionStatistics(2, 16)
    assert moving.shares() is None
    assert moving.confidence() is None
    assert moving.dependence() is None
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        object_mask = torch.zeros(8, 16, 16)
        for mask in object_mask:
            top, left = torch.randint(1, 9, (2,), generator=generator).tolist()
            mask[top : top + 6, left : left + 6] = 1
        moving.update(torch.stack([object_mask, 1 - object_mask], dim=1))
        stencil = torch.zeros(8, 16, 16)
        stencil[:, 4:10, 4:10] = 1
        still.update(torch.stack([stencil, 1 - stencil], dim=1))
    assert moving.order == [1, 0]
    assert moving.shares()[0].item() == pytest.approx(36 / 256)
    assert moving.confidence() == 1
    assert moving.dependence() > 0.6
    assert still.dependence() < 0.01
    moving.clear()
    assert moving.shares() is None
    assert moving.order == [1, 0]
    moving.reset_parameters()
    assert moving.border_share.sum() == 0


def test_region_statistics_leave_out_what_is_not_finite() -> None:
    statistics = RegionStatistics(2, 8)
    masks = torch.rand(3, 1, 8, 8)
    masks = torch.cat([masks, 1 - masks], dim=1)
    statistics.update(masks)
    before = {name: buffer.clone() for name, buffer in statistics.named_buffers()}
    statistics.update(masks * torch.nan)
    assert_close(dict(statistics.named_buffers()), before)


def test_hinge_terms() -> None:
    score = torch.tensor([-2.0, 0.0, 2.0])
    assert hinge_real(score).item() == pytest.approx((3 + 1 + 0) / 3)
    assert hinge_fake(score).item() == pytest.approx((0 + 1 + 3) / 3)
    assert hinge_generator(score).item() == 0


def test_widen_touches_half_precision_only() -> None:
    assert widen(torch.ones(1, dtype=torch.bfloat16)).dtype == torch.float32
    assert widen(torch.ones(1, dtype=torch.float64)).dtype == torch.float64
