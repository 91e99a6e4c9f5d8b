"""Resampling, filtered and modulated convolutions, dense layers, as the authors compute them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.testing import assert_close

from figureground.nn.equalized import (
    EqualizedConv2d,
    EqualizedLinear,
    activate,
    normalize_second_moment,
)
from figureground.nn.modulation import modulated_conv2d
from figureground.nn.resample import (
    filtered_conv_downsample,
    fir_downsample,
    fir_kernel,
    fir_resample,
    fir_upsample,
    upsample_filtered_conv,
)
from figureground.nn.stylegan2_discriminator import append_batch_deviation

CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def ops(golden: Callable[[str], Path]) -> dict[str, Tensor]:
    return load_file(golden("ilsgan") / "ops.safetensors")


def test_filter_matches(ops: dict[str, Tensor]) -> None:
    assert_close(fir_kernel(), ops["filter1331"])
    assert_close(fir_kernel([1, 2, 4, 3]), ops["asym_filter"])


def test_resampling_matches(ops: dict[str, Tensor]) -> None:
    x, kernel = ops["in.x"], fir_kernel()
    assert_close(fir_upsample(x, kernel), ops["up2"], **CLOSE)
    even = torch.nn.functional.pad(x, (0, 1, 0, 1))
    assert_close(fir_downsample(even, kernel), ops["down2"], **CLOSE)
    same = fir_resample(x, kernel, padding=(2, 1, 2, 1))
    assert_close(same, ops["filter2d"], **CLOSE)


@pytest.mark.parametrize("flip", [False, True])
def test_asymmetric_filter_matches(ops: dict[str, Tensor], flip: bool) -> None:
    kernel = ops["asym_filter"]
    found = fir_resample(ops["in.x"], kernel, up=2, padding=(2, 1, 2, 1), gain=4, flip=flip)
    assert_close(found, ops["asym_up2_flip" if flip else "asym_up2"], **CLOSE)


def test_convolutions_match(ops: dict[str, Tensor]) -> None:
    x, kernel = ops["in.x8"], fir_kernel()
    plain = torch.nn.functional.conv2d(x, ops["w3"], padding=1)
    assert_close(plain, ops["conv3"], **CLOSE)
    for size in (1, 3):
        up = upsample_filtered_conv(x, ops[f"w{size}"], kernel)
        assert_close(up, ops[f"conv{size}_up2"], **CLOSE)
        down = filtered_conv_downsample(x, ops[f"w{size}"], kernel)
        assert_close(down, ops[f"conv{size}_down2"], **CLOSE)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("resampling", ["up", "down"])
def test_equalized_convolution_matches(ops: dict[str, Tensor], size: int, resampling: Any) -> None:
    layer = EqualizedConv2d(3, 5, size, use_bias=False, resampling=resampling)
    # The stored kernels are used as they are, so undo the gain.
    layer.load_state_dict({"weight": ops[f"w{size}"] * math.sqrt(3 * size**2)})
    assert_close(layer(ops["in.x8"]), ops[f"conv{size}_{resampling}2"], **CLOSE)


@pytest.mark.parametrize("fused", [False, True])
def test_modulated_convolution_matches(ops: dict[str, Tensor], fused: bool) -> None:
    x, styles = ops["in.x8"], ops["styles"]
    found = modulated_conv2d(x, ops["w3"], styles, noise=ops["noise8"], fused=fused)
    assert_close(found, ops[f"mod_demod_fused{int(fused)}"], **CLOSE)
    found = modulated_conv2d(x, ops["w3"], styles, upsample_kernel=fir_kernel(), fused=fused)
    assert_close(found, ops[f"mod_up2_fused{int(fused)}"], **CLOSE)
    found = modulated_conv2d(x, ops["w1"], styles, demodulate=False, fused=fused)
    assert_close(found, ops[f"mod_nodemod1x1_fused{int(fused)}"], **CLOSE)


def test_activation_matches(ops: dict[str, Tensor]) -> None:
    summed = ops["in.x8"] + ops["bias"][:, None, None]
    assert_close(activate(math.sqrt(2) * summed, "lrelu"), ops["lrelu_bias"], **CLOSE)
    # Their gain takes the place of the activation's own, and their clamp is final.
    found = activate(0.7 * summed, "lrelu", clamp=0.5)
    assert_close(found, ops["lrelu_bias_gain_clamp"], **CLOSE)


def test_dense_layer_matches(ops: dict[str, Tensor]) -> None:
    layer = EqualizedLinear(6, 4, activation="lrelu", lr_multiplier=0.01)
    layer.load_state_dict({"weight": ops["fc.w"], "bias": ops["fc.b"]})
    assert_close(layer(ops["fc.in"]), ops["fc.out"], **CLOSE)


def test_second_moment_matches(ops: dict[str, Tensor]) -> None:
    assert_close(normalize_second_moment(ops["fc.in"]), ops["norm2m"], **CLOSE)


def test_batch_deviation_matches(ops: dict[str, Tensor]) -> None:
    x = ops["mbstd.in"]
    assert_close(append_batch_deviation(x), ops["mbstd.out"], **CLOSE)
    assert_close(append_batch_deviation(x, 4, 2), ops["mbstd.out_f2"], **CLOSE)
    assert_close(append_batch_deviation(x[:3]), ops["mbstd.out_n3"], **CLOSE)
