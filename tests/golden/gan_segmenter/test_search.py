"""Steps of the search in generators with the authors' weights; their direction files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from figureground.core.types import Latent
from figureground.generators.base import ImageGenerator
from figureground.generators.bigbigan import BigBiGAN
from figureground.generators.studiogan import StudioGAN
from figureground.generators.weights import read_weights
from figureground.methods.gan_segmenter import GANSegmenter
from figureground.methods.gan_segmenter.convert import convert_checkpoint

Golden = Callable[[str], Path]


@pytest.mark.parametrize(
    ("name", "family"), [("bigbigan", BigBiGAN), ("studiogan_sagan", StudioGAN)]
)
def test_three_steps(
    golden: Golden, tmp_path: Path, name: str, family: type[ImageGenerator]
) -> None:
    weights = golden("generators") / f"{name}.state.safetensors"
    generator = family(**read_weights(family, weights).options, weights=str(weights))
    stored = load_file(golden("gan_segmenter") / f"optimise_{name}.safetensors")
    method = GANSegmenter(generator=generator, directions="light")
    # Their direction file, as it would have been saved before the first step.
    torch.save({"state_dict": {"d": stored["d0"]}, "iteration": 0}, tmp_path / "latest.pth")
    method.load_state_dict(
        {**method.state_dict(), **convert_checkpoint(tmp_path / "latest.pth").state_dict}
    )
    (optimizer,) = method.configure_optimizers()
    for step in range(3):

        def read(what: str, step: int = step) -> Tensor | None:
            return stored.get(f"step{step}.{what}")

        loss, terms = method.search_loss(Latent(read("z"), read("y")), read("r"))
        optimizer.zero_grad()
        loss.sum().backward()
        _close(loss[0, 0], read("loss"))
        _close(terms["center"][0, 0], read("outside_circle_loss"))
        _close(terms["edges"][0, 0], read("sobel_shift_loss"))
        torch.testing.assert_close(
            method.directions.light.grad, read("grad_d"), rtol=2e-3, atol=1e-6
        )
        optimizer.step()
        _close(method.directions.light.detach(), read("d_after_adam"), rtol=1e-3, atol=1e-5)
        method.directions.project()
        _close(method.directions.light.detach(), read("d_after_projection"), rtol=1e-3, atol=1e-5)


def _close(actual: Tensor, expected: Tensor | None, rtol: float = 1e-3, atol: float = 1e-6) -> None:
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol)
