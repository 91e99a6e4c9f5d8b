"""Samplers have the published distributions; files are read, written and refused as they should."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.stats import kstest, truncnorm
from torch.testing import assert_close

from figureground.core.types import Latent
from figureground.generators.sampling import draw_classes, draw_normal, normal_from_uniform
from figureground.generators.toy import ToyGenerator


def test_published_sampler_is_the_inverse_of_the_distribution(
    golden: Callable[[str], Path],
) -> None:
    stored = load_file(golden("generators") / "samplers.safetensors")
    uniform = torch.from_numpy(np.random.RandomState(5).uniform(size=(8, 128)))
    found = normal_from_uniform(uniform, 2.0).float()
    assert_close(found, stored["truncnorm_-2_2"])
    assert_close(0.4 * found, stored["z_truncation_0.4"])


def test_draws_have_the_distributions_and_repeat() -> None:
    seeded = torch.Generator().manual_seed(1)
    bounded = draw_normal(40, 100, bound=2.0, generator=seeded)
    free = draw_normal(40, 100, generator=seeded)
    assert bounded.abs().max() <= 2
    assert kstest(bounded.flatten(), truncnorm(-2, 2).cdf).pvalue > 0.01
    assert kstest(free.flatten(), "norm").pvalue > 0.01
    again = torch.Generator().manual_seed(1)
    assert torch.equal(draw_normal(40, 100, bound=2.0, generator=again), bounded)
    classes = draw_classes(1000, 4, generator=again)
    assert classes.bincount(minlength=4).min() > 200


def test_ends_of_the_uniform_range_stay_finite() -> None:
    assert normal_from_uniform(torch.tensor([0.0, 1.0], dtype=torch.float64)).isfinite().all()


def test_latents_of_ones_own_are_taken_and_bare_tensors_refused_with_a_hint() -> None:
    network = ToyGenerator()
    assert network(Latent(torch.zeros(2, 16))).shape == (2, 3, 32, 32)
    with pytest.raises(TypeError, match=r"Latent\(vector, label\) of your own, got Tensor"):
        network(torch.zeros(2, 16))
    with pytest.raises(ValueError, match="count=-1: expected 0 or more"):
        network.latent(-1)
