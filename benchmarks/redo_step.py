"""ReDO's training step, as Lightning runs it, against a plain one (`plain_redo`) at 128 pixels.

    python benchmarks/redo_step.py [--batch 2] [--rounds 5]

Both start from equal weights and must give equal losses in two iterations, the second of which sees
what the first updated, before anything is timed. Rounds are interleaved, so that ratios hold when
the machine's speed drifts. Peak memory is that of processes that run one side only.
"""

from __future__ import annotations

import argparse
import resource
from pathlib import Path
from typing import Any

import ratios
import torch
from plain_redo import PlainReDO
from torch.testing import assert_close

from figureground.core.types import Batch
from figureground.methods.redo import ReDO

RESULTS = Path(__file__).parent / "results" / "redo_step.json"
WIDTH, SIDE, LATENT = 32, 128, 32
CLOSE = {"rtol": 1e-3, "atol": 1e-4}


def build() -> ReDO:
    """ReDO with the published settings for Flowers, the same weights each time."""
    torch.manual_seed(0)
    return ReDO(
        resolution=SIDE,
        generator_width=WIDTH,
        generator_attention=True,
        discriminator_attention=True,
    )


def draw(batch: int, device: torch.device, count: int = 2) -> list[torch.Tensor]:
    """`count` batches of noise, the same each time."""
    generator = torch.Generator().manual_seed(1)
    shape = (count, batch, 3, SIDE, SIDE)
    return list((torch.rand(shape, generator=generator) * 2 - 1).to(device))


class PlainSide:
    """The plain step with its networks and optimisers."""

    def __init__(self, batch: int, device: torch.device) -> None:
        self.image, self.real = draw(batch, device)
        self.model = PlainReDO(WIDTH, LATENT).to(device)
        self.model.take_weights(build().state_dict())
        self.optimizers = self.model.build_optimizers()

    def step(self, seed: int) -> dict[str, float]:
        """One iteration with the latents of `seed`; its loss terms."""
        torch.manual_seed(seed)
        latent = torch.randn(len(self.image), 2, LATENT).to(self.image)
        return self.model.train_once(self.optimizers, self.image, self.real, latent)


class Interleave(ratios.Interleave):
    """Our iterations, and the plain ones in between; latents come from the batch's number."""

    def __init__(self, plain: PlainSide | None, device: torch.device) -> None:
        super().__init__(has_plain=plain is not None, device=device.type)
        self.plain = plain
        self.losses: dict[str, list[dict[str, float]]] = {"plain": [], "ours": []}

    def prepare(self, number: int) -> None:
        """Fix the random numbers."""
        torch.manual_seed(number)

    def step_plain(self, number: int, method: Any) -> None:
        """Train the plain side once."""
        if self.plain is not None:
            self.losses["plain"].append(self.plain.step(number))

    def check(self, number: int, method: Any) -> None:
        """Keep our losses; what is compared depends on the precision."""
        self.losses["ours"].append({k: float(v) for k, v in method.last_losses.items()})


def run(
    batch: int, rounds: int, precision: str, with_plain: bool, device: torch.device
) -> Interleave:
    """Train `rounds` iterations of ours, and of the plain side in between."""
    method = build()
    if precision != "32-true":
        method = method.to(memory_format=torch.channels_last)
    pictures = [Batch(p, tuple(map(str, range(batch)))) for p in draw(batch, device)]
    sides = Interleave(PlainSide(batch, device) if with_plain else None, device)
    ratios.train(
        method,
        [tuple(pictures)] * rounds,
        sides,
        accelerator="auto",
        devices=1,
        precision=precision,
    )
    return sides


def compare(batch: int, rounds: int, precision: str, device: torch.device) -> dict[str, Any]:
    """Check that both sides lose alike (fp32 only), then time them."""
    sides = run(batch, rounds + ratios.WARM_UP, precision, True, device)
    if precision == "32-true":
        for ours, plain in list(zip(sides.losses["ours"], sides.losses["plain"], strict=True))[:2]:
            found = torch.tensor([ours[name] for name in plain])
            assert_close(found, torch.tensor(list(plain.values())), **CLOSE)
    return sides.summarize()


def measure_memory(side: str, batch: int, device: torch.device) -> float:
    """Peak memory in MiB of two iterations of one side, all else of the process included."""
    if side == "ours":
        run(batch, 2, "32-true", False, device)
    else:
        plain = PlainSide(batch, device)
        for number in range(2):
            plain.step(number)
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 numbers itself."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    cpu = Path("/proc/cpuinfo")
    flags = cpu.read_text() if cpu.is_file() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", choices=["plain", "ours"])
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if options.memory:
        print(measure_memory(options.memory, options.batch, device))
        return
    result: dict[str, Any] = {
        "batch": options.batch,
        "rounds": options.rounds,
        "device": str(device),
        **ratios.describe_software(),
        "peak_mib": ratios.measure_alone(__file__, "--batch", str(options.batch)),
    }
    result["fp32"] = compare(options.batch, options.rounds, "32-true", device)
    result["bf16"] = (
        compare(options.batch, options.rounds, "bf16-mixed", device)
        if has_fast_bf16(device)
        else "not available: this processor does not multiply bf16 numbers itself"
    )
    ratios.save(RESULTS, result)
    print("| step at 128 px | plain, s | ours, s | ratio: min / median / max |\n|---|---|---|---|")
    for name in ("fp32", "bf16"):
        row = result[name]
        if isinstance(row, str):
            print(f"| {name} | | | {row} |")
        else:
            times = f"{row['seconds_plain']:.2f} | {row['seconds_ours']:.2f}"
            print(f"| {name} | {times} | {ratios.show(row)} |")
    memory = result["peak_mib"]
    print(f"\npeak memory: plain {memory['plain']} MiB, ours {memory['ours']} MiB")


if __name__ == "__main__":
    main()
