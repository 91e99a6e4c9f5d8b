"""What a density that draws pixel by pixel keeps to: order of pixels, shares that sum to one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from figureground.methods.ilsgan import ILSGAN, pixelcnn
from figureground.methods.ilsgan.independence import (
    Independence,
    independence_loss,
    likelihood_loss,
)
from figureground.methods.ilsgan.mixtures import color_log_likelihood, mixture_log_likelihood
from figureground.methods.ilsgan.perturbation import LayeredPicture
from figureground.methods.ilsgan.pixelcnn import PixelDensity

TINY: dict[str, Any] = {
    "resolution": 16, "batch_size": 4, "latent_dim": 8, "style_width": 8, "mapping_depth": 2,
    "max_width": 8, "channel_base": 128, "density_width": 2,
}  # fmt: skip


class Encoder(nn.Module):
    """In place of a ResNet."""

    def forward(self, image: Tensor) -> Tensor:
        return image.flatten(1).repeat(1, 1000)[:, :1000]


@pytest.fixture(autouse=True)
def _small_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixelcnn, "resnet18", lambda weights: Encoder())


@pytest.fixture
def density() -> PixelDensity:
    torch.manual_seed(0)
    return PixelDensity(3, num_blocks=1, num_mixtures=2, condition_width=5).eval()


def test_pixels_depend_on_those_before_them_alone(density: PixelDensity) -> None:
    side = 8
    x = torch.randn(1, 3, side, side).requires_grad_()
    found = density(x, density.describe(torch.randn(1, 3, side, side)))
    assert found.shape == (1, 20, side, side)
    for row, column in ((0, 0), (3, 5), (4, 0), (7, 7)):
        (gradient,) = torch.autograd.grad(
            found[0, :, row, column].sum(), x, retain_graph=True, allow_unused=True
        )
        seen = gradient[0].abs().sum(dim=0).flatten() > 0
        here = row * side + column
        assert not seen[here:].any()
        # All rows above are in sight, up to the reach of the kernels.
        assert seen[:here].sum() == here or row > 3


def test_pixels_depend_on_the_condition(density: PixelDensity) -> None:
    x, y = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    one, other = (density(x, density.describe(each)) for each in (y, y.flip(0)))
    assert not torch.allclose(one, other)
    with pytest.raises(ValueError, match="multiples of 4"):
        density(torch.zeros(1, 3, 6, 8), density.describe(torch.zeros(1, 3, 8, 8)))


def test_shares_of_all_colours_sum_to_one() -> None:
    levels, count = 5, 3
    values = torch.linspace(-1, 1, levels)
    colors = torch.cartesian_prod(values, values, values)[:, :, None, None]  # (125, 3, 1, 1)
    parameters = torch.randn(1, 10 * count, 1, 1, generator=torch.Generator().manual_seed(0))
    parameters = parameters.expand(len(colors), -1, -1, -1)
    together = mixture_log_likelihood(colors, parameters, levels).exp()
    assert float(together.sum()) == pytest.approx(1, abs=1e-4)
    apart = color_log_likelihood(colors, parameters, levels).exp()
    assert float(apart.sum()) == pytest.approx(1, abs=1e-4)
    one = parameters[:, ::count]  # The first of each group.
    # With one logistic there is nothing to share.
    assert_close(
        mixture_log_likelihood(colors, one, levels), color_log_likelihood(colors, one, levels),
        rtol=1e-4, atol=1e-4,
    )  # fmt: skip


def test_far_values_have_finite_likelihood_and_gradient() -> None:
    x = torch.tensor([-50.0, -1, 0, 0.9995, 50]).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    parameters = 30 * torch.randn(5, 20, 2, 2, generator=torch.Generator().manual_seed(0))
    parameters.requires_grad_()
    for likelihood in (mixture_log_likelihood, color_log_likelihood):
        found = likelihood(x, parameters)
        assert found.isfinite().all()
        assert torch.autograd.grad(found.sum(), parameters)[0].isfinite().all()


def test_bound_is_zero_for_equal_layers_and_falls_with_negatives(density: PixelDensity) -> None:
    x, y = torch.rand(1, 3, 8, 8).expand(3, -1, -1, -1), torch.rand(3, 3, 8, 8)
    negatives = torch.tensor([1, 2, 0])
    assert_close(density.bound(x, y, negatives), torch.tensor(0.0), rtol=0, atol=1e-3)
    x = torch.rand(3, 3, 8, 8)
    condition = density.describe(y)
    expected = (
        color_log_likelihood(x, density(x, condition))
        - color_log_likelihood(x[negatives], density(x[negatives], condition))
    ).mean()
    assert_close(density.bound(x, y, negatives), expected)


def test_likelihood_grows_while_the_density_learns(density: PixelDensity) -> None:
    torch.manual_seed(0)
    x, y = torch.rand(4, 3, 8, 8).round() * 2 - 1, torch.rand(4, 3, 8, 8)
    optimizer = torch.optim.Adam(density.parameters(), lr=5e-2)
    losses = []
    for _ in range(6):
        loss = density.likelihood_loss(x, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_it_can_be_asked_for() -> None:
    method = ILSGAN(**TINY, independence=Independence("learned_pixelcnn"))
    assert len(method.densities) == 2
    assert all(isinstance(each, PixelDensity) for each in method.densities)
    assert method.independence is not None
    parts = [torch.rand(4, n, 16, 16, requires_grad=True) for n in (3, 3, 1)]
    picture = LayeredPicture(*parts)
    bound = independence_loss(picture, method.independence, list(method.densities))
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(bound, parts))
    assert likelihood_loss(picture, method.independence, list(method.densities)).isfinite()
    whole = Independence("learned_pixelcnn", pairs="whole")
    assert (whole.num_densities, whole.is_learned, whole.is_autoregressive) == (1, True, True)
