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
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from plain_dti import PlainDTI
from pytorch_lightning import Callback, Trainer
from torch import Tensor
from torch.testing import assert_close
from torch.utils.data import DataLoader

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


class Interleave(Callback):
    """Times our steps inside a running trainer, and the plain ones in between."""

    def __init__(self, name: str, plain: PlainSide | None, checks_weights: bool) -> None:
        self.name, self.plain, self.checks_weights = name, plain, checks_weights
        self.seconds: dict[str, list[float]] = {"plain": [], "ours": []}
        self.choice = torch.empty(0)
        self.noise = torch.empty(0)
        self.baseline = 0
        self.begin = 0.0

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock."""
        self.noise = draw_noise(self.name, batch_idx)
        self.baseline = self.baseline or peak_memory()
        self.begin = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop the clock, run and time the plain step, compare the first two."""
        self.seconds["ours"].append(time.perf_counter() - self.begin)
        if self.plain is None:
            return
        begin = time.perf_counter()
        loss, choice = self.plain.step(self.noise)
        self.seconds["plain"].append(time.perf_counter() - begin)
        if batch_idx < 2:
            if not torch.equal(self.choice, choice):
                raise AssertionError("the two sides choose different sprites")
            found = pl_module.last_losses["reconstruction"]
            assert_close(found, found.new_tensor(loss), rtol=1e-4, atol=0)
        if batch_idx < 2 and self.checks_weights:
            check_weights(self.plain.model, pl_module)

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
    with warnings.catch_warnings(action="ignore"):
        trainer = Trainer(
            accelerator="cpu",
            precision="64-true" if is_double else "32-true",
            max_epochs=1,
            logger=False,
            callbacks=[sides],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(method, DataLoader([picture] * rounds, batch_size=None, collate_fn=lambda x: x))
    return sides


def compare(name: str, rounds: int) -> dict[str, Any]:
    """Check that both sides agree, then time them."""
    run(name, BATCHES[name], 2, True, torch.float64)
    sides = run(name, BATCHES[name], rounds + 2, True)
    # The first two iterations also pay for memory, kernels and the states of the optimisers.
    plain, ours = (sides.seconds[side][2:] for side in ("plain", "ours"))
    ratios = [a / b for a, b in zip(plain, ours, strict=True)]
    return {
        "batch": BATCHES[name],
        "seconds_plain": statistics.median(plain),
        "seconds_ours": statistics.median(ours),
        "ratio_of_medians": statistics.median(plain) / statistics.median(ours),
        "ratio_min": min(ratios),
        "ratio_median": statistics.median(ratios),
        "ratio_max": max(ratios),
    }


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


def compare_memory() -> dict[str, int]:
    """What each side adds, in MiB, in a process of its own, one after the other."""
    added = {}
    for side in ("plain", "ours"):
        command = [sys.executable, __file__, "--memory", side]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=GIVE_BACK)
        added[side] = round(float(done.stdout.split()[-1]))
    return added


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
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    if not options.only:
        # First, while this process is small: the peak of a child starts from its parent's size.
        result["memory"] = {"set": "clevr6", "batch": MEMORY_BATCH, "added_mib": compare_memory()}
    names = [options.only] if options.only else [*SETTINGS]
    result["steps"] = {name: compare(name, options.rounds) for name in names}
    print("| step | batch | plain, s | ours, s | ratio: min / median / max |")
    print("|---|---|---|---|---|")
    for name, row in result["steps"].items():
        ratios = " / ".join(f"{row[f'ratio_{k}']:.2f}" for k in ("min", "median", "max"))
        seconds = f"{row['seconds_plain']:.2f} | {row['seconds_ours']:.2f}"
        print(f"| {name} | {row['batch']} | {seconds} | {ratios} |")
    if options.only:
        return
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    added = result["memory"]["added_mib"]
    share = added["ours"] / added["plain"]
    print(f"\nmemory added at the peak, clevr6 with batch {MEMORY_BATCH}: ", end="")
    print(f"plain {added['plain']} MiB, ours {added['ours']} MiB, {share:.2f} of it")


if __name__ == "__main__":
    main()
