"""L2IC's training iteration, as Lightning runs it, against a plain one (`plain_l2ic`).

    python benchmarks/l2ic_step.py [--rounds 5] [--only faces]

Both sides start from equal weights, see equal pictures and draw equal codes; in the first two
iterations, the second of which sees what the first updated, losses must agree. Rounds are
interleaved, so that ratios hold when the machine's speed drifts. `bf16` is the same at mixed
precision with channels last, where the processor multiplies such numbers itself. Peak memory is
that of processes that run one side of `birds` only.
"""

from __future__ import annotations

import argparse
import resource
from functools import partial
from pathlib import Path
from typing import Any

import ratios
import torch
import torch.nn.functional as F
from plain_l2ic import PlainL2IC
from torch import Tensor
from torch.testing import assert_close

from figureground.core.types import Batch
from figureground.methods.l2ic import L2IC

RESULTS = Path(__file__).parent / "results" / "l2ic_step.json"
#: With the usual 1e-8 a weight whose gradient is only rounding would take a whole step; with this
#: the losses of the second iteration can be compared.
ADAM: dict[str, Any] = {"lr": 2e-4, "betas": (0.5, 0.999), "eps": 1e-3}
#: The released networks, at the largest batch that takes seconds (with two pictures batch
#: normalisation makes rounding large); the toy set's at its own.
SETTINGS: dict[str, dict[str, Any]] = {
    "birds": {"resolution": 128, "num_categories": 600, "batch_size": 4},
    "faces": {"resolution": 64, "num_categories": 300, "batch_size": 4},
    "toy": {
        "resolution": 32, "num_categories": 16, "batch_size": 32, "latent_dim": 32,
        "generator_width": 16, "discriminator_width": 16,
    },
}  # fmt: skip


def build(name: str) -> L2IC:
    """Our method, the same weights each time."""
    torch.manual_seed(0)
    adam = partial(torch.optim.Adam, **ADAM)
    return L2IC(**SETTINGS[name], generator_optimizer=adam, discriminator_optimizer=adam)


def build_plain(name: str) -> PlainL2IC:
    """The plain side with the same weights."""
    categories = SETTINGS[name]["num_categories"]
    return PlainL2IC(build(name).state_dict(), num_categories=categories, adam=ADAM)


def draw(name: str) -> Tensor:
    """Smooth random pictures (B, 3, R, R) in [-1, 1], the same each time."""
    side, batch = SETTINGS[name]["resolution"], SETTINGS[name]["batch_size"]
    coarse = torch.rand(batch, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    return F.interpolate(coarse, (side, side), mode="bilinear") * 2 - 1


class Interleave(ratios.Interleave):
    """Our iterations, and the plain ones in between, with equal random numbers."""

    def __init__(self, name: str, plain: PlainL2IC | None, *, exact: bool) -> None:
        super().__init__(has_plain=plain is not None)
        self.plain, self.image, self.exact = plain, draw(name), exact
        self.losses: dict[str, float] = {}

    def prepare(self, number: int) -> None:
        """Fix the random numbers."""
        torch.manual_seed(number)

    def step_plain(self, number: int, method: Any) -> None:
        """Train the plain side once."""
        if self.plain is not None:
            self.losses = self.plain.train_once(self.image)

    def check(self, number: int, method: Any) -> None:
        """Compare the losses of the first two iterations."""
        if not self.exact or number > 1:
            return
        for name, value in self.losses.items():
            found = method.last_losses[name]
            expected, msg = found.new_tensor(value), partial(_say, name)
            assert_close(found, expected, rtol=1e-4, atol=1e-5, msg=msg)


def _say(name: str, message: str) -> str:
    return f"{name}: {message}"


def run(name: str, rounds: int, precision: str, *, with_plain: bool) -> Interleave:
    """Train `rounds` iterations of ours, and of the plain side in between."""
    method, is_exact = build(name), precision == "32-true"
    if not is_exact:
        method = method.to(memory_format=torch.channels_last)
    sides = Interleave(name, build_plain(name) if with_plain else None, exact=is_exact)
    keys = tuple(map(str, range(SETTINGS[name]["batch_size"])))
    ratios.train(method, [Batch(draw(name), keys)] * rounds, sides, precision=precision)
    return sides


def compare(name: str, rounds: int, precision: str = "32-true") -> dict[str, Any]:
    """Check that both sides agree (in fp32), and time them."""
    sides = run(name, rounds + ratios.WARM_UP, precision, with_plain=True)
    return {"batch": SETTINGS[name]["batch_size"], **sides.summarize()}


def measure_memory(side: str) -> float:
    """Peak memory in MiB of two iterations of one side, all else of the process included."""
    if side == "ours":
        run("birds", 2, "32-true", with_plain=False)
    else:
        plain, image = build_plain("birds"), draw("birds")
        for _ in range(2):
            plain.train_once(image)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def has_fast_bf16() -> bool:
    """Whether the processor multiplies bf16 numbers itself."""
    cpu = Path("/proc/cpuinfo")
    flags = cpu.read_text() if cpu.is_file() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=[*SETTINGS], help="time one setting, write nothing")
    parser.add_argument("--memory", choices=["plain", "ours"])
    options = parser.parse_args()
    if options.memory:
        print(measure_memory(options.memory))
        return
    result: dict[str, Any] = {
        "rounds": options.rounds,
        "device": "cpu",
        **ratios.describe_load(),
        **ratios.describe_software(),
    }
    if not options.only:  # First: a process starts with the peak of the one that it came from.
        result["peak_mib"] = ratios.measure_alone(__file__)
    names = [options.only] if options.only else [*SETTINGS]
    steps = {name: compare(name, options.rounds) for name in names}
    result["bf16"] = "not available: this processor does not multiply bf16 numbers itself"
    if has_fast_bf16():
        result["bf16"] = "as named"
        steps |= {f"{x} bf16": compare(x, options.rounds, "bf16-mixed") for x in names}
    ratios.print_steps(steps, digits=3)
    if not options.only:
        memory = result["peak_mib"]
        print(f"\npeak memory: plain {memory['plain']} MiB, ours {memory['ours']} MiB")
        ratios.save(RESULTS, result | {"steps": steps})


if __name__ == "__main__":
    main()
