"""ILSGAN's training iteration, as Lightning runs it, against a plain one (`plain_ilsgan`).

    python benchmarks/ilsgan_step.py [--rounds 7] [--only toy]

Both sides start from equal weights, see equal pictures and draw equal latents, noise and
augmentations, in fp32; in the first two iterations, the first with its gradient penalty, losses
must agree. Rounds are interleaved, so that ratios hold when the machine's speed drifts. Beside the
whole iteration, demodulation is timed alone, forward and backward, at the published batch.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ratios
import torch
import torch.nn.functional as F
from plain_ilsgan import PlainILSGAN, demodulate
from torch import Tensor
from torch.testing import assert_close

from figureground.core.types import Batch
from figureground.methods.ilsgan import ILSGAN
from figureground.nn.ada import AdaController, AugmentPipe
from figureground.nn.ema import average_decay
from figureground.nn.modulation import demodulation

RESULTS = Path(__file__).parent / "results" / "ilsgan_step.json"
LR, BETAS = 2e-3, (0.0, 0.99)
#: Strength of the augmentation: somewhere on its way.
STRENGTH = 0.2
COMMON: dict[str, Any] = {"latent_dim": 512, "style_width": 512, "mapping_depth": 8}
SETTINGS: dict[str, dict[str, Any]] = {
    "published": COMMON | {"resolution": 64, "max_width": 256, "batch_size": 4},
    "quarter": COMMON | {"resolution": 64, "max_width": 64, "batch_size": 8},
    "toy": {
        "resolution": 32, "latent_dim": 32, "style_width": 32, "mapping_depth": 2,
        "channel_base": 512, "max_width": 32, "batch_size": 16,
    },
}  # fmt: skip


def build(name: str) -> ILSGAN:
    """Our method, the same weights each time, with noise of some strength."""
    torch.manual_seed(0)
    adam = partial(torch.optim.Adam, lr=LR, betas=BETAS, fused=True)
    method = ILSGAN(
        **SETTINGS[name],
        r1_gamma=gamma(name),
        augmentation=AugmentPipe("bgc", STRENGTH),
        # Steers so slowly that the strength stays what it is.
        controller=AdaController(speed=1e12),
        generator_optimizer=adam,
        discriminator_optimizer=adam,
    )
    for parameter_name, parameter in method.generator.named_parameters():
        if parameter_name.endswith("noise_strength"):
            torch.nn.init.constant_(parameter, 0.1)
    method.ema.reset()
    return method.to(memory_format=torch.channels_last)  # As recipes for CPUs ask for.


def gamma(name: str) -> float:
    """Weight of the gradient penalty."""
    return 0.0002 * float(SETTINGS[name]["resolution"]) ** 2 / float(SETTINGS[name]["batch_size"])


def draw(name: str) -> Tensor:
    """Smooth random pictures (B, 3, R, R) in [-1, 1], the same each time."""
    side, batch = SETTINGS[name]["resolution"], SETTINGS[name]["batch_size"]
    coarse = torch.rand(batch, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    return F.interpolate(coarse, (side, side), mode="bilinear") * 2 - 1


class Interleave(ratios.Interleave):
    """Our iterations, and the plain ones in between, with equal random numbers."""

    def __init__(self, name: str, plain: PlainILSGAN) -> None:
        super().__init__()
        self.plain, self.image = plain, draw(name)
        self.decay = 0.0
        self.losses: dict[str, float] = {}

    def prepare(self, number: int) -> None:
        """Fix the random numbers."""
        count = len(self.image)
        self.decay = average_decay(number * count, count, 10_000)
        torch.manual_seed(number)

    def step_plain(self, number: int, method: Any) -> None:
        """Train the plain side once."""
        sigma = method.sigma.at(number * len(self.image))
        self.losses = self.plain.train_once(self.image, number, sigma, self.decay)

    def check(self, number: int, method: Any) -> None:
        """Compare the losses of the first two iterations."""
        # Adam's first step has the length of the learning rate, whatever is only rounding.
        tolerance = {"rtol": 1e-4, "atol": 1e-5} if number == 0 else {"rtol": 1e-3, "atol": 1e-4}
        if number < 2:
            for name, value in self.losses.items():
                found = method.last_losses[name]
                assert_close(found, found.new_tensor(value), **tolerance, msg=partial(_say, name))


def _say(name: str, message: str) -> str:
    return f"{name}: {message}"


def compare(name: str, rounds: int) -> dict[str, Any]:
    """Check that both sides agree, and time them."""
    method = build(name)
    plain = PlainILSGAN(
        method.state_dict(), resolution=method.resolution, lr=LR, betas=BETAS,
        p=STRENGTH, gamma=gamma(name),
    )  # fmt: skip
    sides = Interleave(name, plain)
    picture = Batch(draw(name), tuple(map(str, range(SETTINGS[name]["batch_size"]))))
    ratios.train(method, [picture] * (rounds + ratios.WARM_UP), sides)
    return {"batch": SETTINGS[name]["batch_size"], **sides.summarize()}


def compare_demodulation(rounds: int) -> dict[str, Any]:
    """Time the factors of a layer of 256 channels at batch 32, with their gradients."""
    weight = torch.randn(256, 256, 3, 3, requires_grad=True)
    styles = torch.randn(32, 256, requires_grad=True)
    results: dict[str, list[Tensor]] = {}

    def seconds(name: str, function: Callable[[Tensor, Tensor], Tensor]) -> float:
        begin = time.perf_counter()
        factors = function(weight, styles)
        gradients = torch.autograd.grad(factors.sum(), (weight, styles))
        taken = time.perf_counter() - begin
        results[name] = [factors.detach(), *gradients]
        return taken

    timed = [
        (seconds("plain", demodulate), seconds("ours", demodulation)) for _ in range(rounds + 2)
    ]
    for plain, ours in zip(results["plain"], results["ours"], strict=True):
        assert_close(ours, plain, rtol=1e-4, atol=1e-6)
    return {"batch": 32, **ratios.summarize(*zip(*timed[2:], strict=True))}


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=[*SETTINGS], help="time one setting, write nothing")
    options = parser.parse_args()
    result: dict[str, Any] = {
        "rounds": options.rounds,
        "device": "cpu",
        **ratios.describe_load(),
        **ratios.describe_software(),
    }
    names = [options.only] if options.only else [*SETTINGS]
    steps = {name: compare(name, options.rounds) for name in names}
    if not options.only:
        steps["demodulation"] = compare_demodulation(4 * options.rounds)
    ratios.print_steps(steps, digits=4)
    if not options.only:
        ratios.save(RESULTS, result | {"steps": steps})


if __name__ == "__main__":
    main()
