"""DTI-Sprites' training step, as Lightning runs it, against a plain one (`plain_dti`).

    python benchmarks/dti_step.py [--rounds 7] [--only clevr6]

The published settings of three sets, everything active, nothing frozen. Both sides start from
equal weights and see equal pictures and noise. Before anything is timed, two iterations in fp64
must choose equal sprites, lose alike and end at equal weights (in fp32 Adam moves a weight whose
gradient is nothing but rounding by a whole step either way). Timings are in fp32, where choices and
losses of the first two iterations must still be equal. Rounds are interleaved, so that ratios hold
when the machine's speed drifts. Peak memory is what a process that runs one side only adds to what
it holds before the first iteration, at the published batch of 32 for CLEVR6.
"""

from __future__ import annotations

import argparse
import os
import resource
from functools import partial
from pathlib import Path
from typing import Any

import ratios
import torch
import torch.nn.functional as F
from plain_dti import PlainDTI
from torch import Tensor
from torch.testing import assert_close

from figureground.core.types import Batch
from figureground.methods.dti_sprites import DTISprites

RESULTS = Path(__file__).parent / "results" / "dti_step.json"
CLOSE = {"rtol": 1e-4, "atol": 1e-8}
LR, NOISE = 1e-4, 0.4
COMMON: dict[str, Any] = {
    "background_transform": "color", "layer_transform": "color_position", "selection": "greedy",
    "mask_noise": NOISE, "encoder_visits": "original", "reassign_every": 0,
    "background_init": "constant",
}  # fmt: skip
SETTINGS: dict[str, dict[str, Any]] = {
    "tetro": COMMON | {
        "resolution": 35, "num_sprites": 19, "num_layers": 3, "num_backgrounds": 0,
        "sprite_size": (24, 24), "encoder": "resnet32", "encoder_pool": (1, 1), "mask_std": 5.0,
        "sprite_transform": "identity", "greedy_sweeps": 1, "occlusion": "fixed",
        "empty_sprite": False, "empty_penalty": 0.0,
    },
    "dsprites": COMMON | {
        "resolution": 64, "num_sprites": 3, "num_layers": 5, "num_backgrounds": 1,
        "sprite_size": (28, 28), "encoder": "resnet32", "encoder_pool": (4, 4), "mask_std": 7.0,
        "sprite_transform": "identity_similarity", "greedy_sweeps": 3, "occlusion": "predicted",
        "empty_sprite": True, "empty_penalty": 1e-4,
    },
    "clevr6": COMMON | {
        "resolution": 128, "num_sprites": 6, "num_layers": 6, "num_backgrounds": 1,
        "sprite_size": (40, 40), "encoder": "resnet18", "encoder_pool": (2, 2), "mask_std": 10.0,
        "sprite_transform": "identity_projective", "greedy_sweeps": 3, "occlusion": "predicted",
        "empty_sprite": True, "empty_penalty": 1e-4,
    },
}  # fmt: skip
#: Pictures per step of the timings; the published batch is 32 everywhere.
BATCHES = {"tetro": 32, "dsprites": 8, "clevr6": 2}
MEMORY_BATCH = 32
#: Freed blocks return to the system at once (glibc), so that holes in the heap count for neither.
GIVE_BACK = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}


@torch.no_grad()
def build(name: str) -> DTISprites:
    """Our method with the published settings, the same weights each time.

    Sprites and last layers are drawn at random: as published they start equal, which would leave
    the choice to ties.
    """
    torch.manual_seed(0)
    adam = partial(torch.optim.Adam, lr=LR, fused=True)
    decayed = partial(adam, weight_decay=1e-6)
    method = DTISprites(
        **SETTINGS[name],
        sprite_optimizer=adam,
        predictor_optimizer=decayed,
        encoder_optimizer=decayed,
    )
    bank = method.model.sprites
    bank.color.uniform_()
    bank.mask.mul_(0.5 + 0.5 * torch.rand_like(bank.mask))
    for parameter in method.model.predictors():
        if not parameter.any():
            parameter.normal_(std=0.05)
    return method


def draw(name: str, batch: int) -> Tensor:
    """Smooth random pictures (B, 3, H, W) in [0, 1], the same each time."""
    side = SETTINGS[name]["resolution"]
    coarse = torch.rand(batch, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    return F.interpolate(coarse, (side, side), mode="bilinear")


def draw_noise(name: str, number: int) -> Tensor:
    """Noise on the masks (K, 1, H, W) of iteration `number`."""
    settings = SETTINGS[name]
    side, count = settings["resolution"], settings["num_sprites"] + settings["empty_sprite"]
    generator = torch.Generator().manual_seed(number)
    return (2 * torch.rand(count, 1, side, side, generator=generator) - 1) * NOISE


class PlainSide:
    """The plain step with its networks and optimiser."""

    def __init__(self, name: str, batch: int, dtype: torch.dtype = torch.float32) -> None:
        self.image = draw(name, batch).to(dtype)
        self.model = PlainDTI(SETTINGS[name])
        self.model.take_weights(build(name).state_dict())
        self.model.to(dtype)
        self.optimizer = self.model.build_optimizer(LR)

    def step(self, noise: Tensor) -> tuple[float, Tensor]:
        """One iteration; its loss and choices."""
        return self.model.train_once(self.optimizer, self.image, noise.to(self.image))


class Interleave(ratios.Interleave):
    """Our iterations, and the plain ones in between, with equal noise."""

    def __init__(self, name: str, plain: PlainSide | None, checks_weights: bool) -> None:
        super().__init__(has_plain=plain is not None)
        self.name, self.plain, self.checks_weights = name, plain, checks_weights
        self.choice = torch.empty(0)
        self.noise = torch.empty(0)
        self.plain_loss, self.plain_choice = 0.0, torch.empty(0)
        self.baseline = 0

    def prepare(self, number: int) -> None:
        """Draw the noise; remember the memory held before the first iteration."""
        self.noise = draw_noise(self.name, number)
        self.baseline = self.baseline or peak_memory()

    def step_plain(self, number: int, method: Any) -> None:
        """Train the plain side once."""
        if self.plain is not None:
            self.plain_loss, self.plain_choice = self.plain.step(self.noise)

    def check(self, number: int, method: Any) -> None:
        """Compare choices, losses and weights of the first two iterations."""
        if number >= 2 or self.plain is None:
            return
        if not torch.equal(self.choice, self.plain_choice):
            raise AssertionError("the two sides choose different sprites")
        found = method.last_losses["reconstruction"]
        assert_close(found, found.new_tensor(self.plain_loss), rtol=1e-4, atol=0)
        if self.checks_weights:
            check_weights(self.plain.model, method)

    def attach(self, method: DTISprites) -> None:
        """Give `method` its noise, and keep its choices."""

        def keep(module: Any, inputs: Any, scene: Any) -> None:
            self.choice = scene.choice

        method.model.register_forward_hook(keep)
        method.model._draw_noise = lambda image, iteration: self.noise.to(image)  # type: ignore[method-assign]


def check_weights(plain: PlainDTI, method: DTISprites) -> None:
    """Compare everything learned, and running statistics."""
    for name, (theirs, ours) in plain.pair_up(method.state_dict()).items():
        assert_close(ours, theirs, **CLOSE, msg=lambda text, name=name: f"{name}: {text}")


def peak_memory() -> int:
    """Most that this process has held so far, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def run(
    name: str, batch: int, rounds: int, with_plain: bool, dtype: torch.dtype = torch.float32
) -> Interleave:
    """Train `rounds` iterations of ours, and of the plain side in between."""
    is_double = dtype == torch.float64
    method = build(name)
    sides = Interleave(name, PlainSide(name, batch, dtype) if with_plain else None, is_double)
    sides.attach(method)
    picture = Batch(draw(name, batch).to(dtype) * 2 - 1, tuple(map(str, range(batch))))
    precision = "64-true" if is_double else "32-true"
    ratios.train(method, [picture] * rounds, sides, precision=precision)
    return sides


def compare(name: str, rounds: int) -> dict[str, Any]:
    """Check that both sides agree, then time them."""
    run(name, BATCHES[name], 2, True, torch.float64)
    row = run(name, BATCHES[name], rounds + ratios.WARM_UP, True).summarize()
    of_medians = row["seconds_plain"] / row["seconds_ours"]
    return {"batch": BATCHES[name], **row, "ratio_of_medians": of_medians}


def measure_memory(side: str, name: str, batch: int) -> float:
    """MiB that two iterations of one side add at their peak."""
    if side == "ours":
        baseline = run(name, batch, 2, False).baseline
    else:
        plain = PlainSide(name, batch)
        baseline = peak_memory()
        for number in range(2):
            plain.step(draw_noise(name, number))
    return (peak_memory() - baseline) / 2**10


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=[*SETTINGS], help="time one set, write nothing")
    parser.add_argument("--memory", choices=["plain", "ours"], help="measure one side only")
    options = parser.parse_args()
    if options.memory:
        print(measure_memory(options.memory, options.only or "clevr6", MEMORY_BATCH))
        return
    result: dict[str, Any] = {
        "rounds": options.rounds,
        "device": "cpu",
        **ratios.describe_load(),
        **ratios.describe_software(),
    }
    if not options.only:
        # First, while this process is small: the peak of a child starts from its parent's size.
        added = ratios.measure_alone(__file__, env=GIVE_BACK)
        result["memory"] = {"set": "clevr6", "batch": MEMORY_BATCH, "added_mib": added}
    names = [options.only] if options.only else [*SETTINGS]
    result["steps"] = {name: compare(name, options.rounds) for name in names}
    ratios.print_steps(result["steps"], digits=2)
    if options.only:
        return
    ratios.save(RESULTS, result)
    added = result["memory"]["added_mib"]
    share = added["ours"] / added["plain"]
    print(f"\nmemory added at the peak, clevr6 with batch {MEMORY_BATCH}: ", end="")
    print(f"plain {added['plain']} MiB, ours {added['ours']} MiB, {share:.2f} of it")


if __name__ == "__main__":
    main()
