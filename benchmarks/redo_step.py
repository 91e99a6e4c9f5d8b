"""ReDO's training step against a plain transcription of the authors' update order.

    python benchmarks/redo_step.py [--batch 2] [--rounds 5]

The plain step computes D's gradients in the generator step and throws them away, convolves after
upsampling and before pooling, conditions norms by 1x1 convolutions, and keeps the default memory
format. Both start from equal weights and must give equal losses before anything is timed. Rounds
are interleaved, so the ratio holds when the machine's speed drifts.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from figureground.methods.redo import ReDO, networks
from figureground.nn import normalization

RESULTS = Path(__file__).parent / "results" / "redo_step.json"


def plain_up(image: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Upsample, then convolve."""
    return F.conv2d(F.interpolate(image, scale_factor=2.0), weight, bias, padding=1)


def plain_down(image: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve, then pool."""
    return F.avg_pool2d(F.conv2d(image, weight, bias, padding=1), 2)


def plain_condition(conv: torch.nn.Conv2d, vectors: Tensor) -> Tensor:
    """Condition by a convolution of a 1x1 map."""
    return conv(vectors[:, :, None, None])


def plain_paint(
    self: networks._PaintBlock, features: Tensor, mask: Tensor, latent: Tensor
) -> Tensor:
    """Paint block with the shortcut convolved after upsampling."""
    hidden = torch.cat([F.relu(self.norm_a(features, latent)), mask], dim=1)
    hidden = plain_up(hidden, self.conv_a.weight)
    hidden = self.conv_b(F.relu(self.norm_b(hidden, latent)))
    return hidden + self.shortcut(F.interpolate(features, scale_factor=2.0))


def step(
    method: ReDO, optimizers: list, image: Tensor, real: Tensor, latent: Tensor, freeze: bool
) -> list[Tensor]:
    """One iteration in the authors' order; `freeze` leaves D's gradients out of the first half."""
    mask_net, generators, discriminator, encoder = (
        method.mask_net, method.generators, method.discriminator, method.encoder,
    )  # fmt: skip

    def draw() -> tuple[Tensor, Tensor]:
        masks = mask_net(image)
        paints = generators(masks, latent)
        return paints, (paints + (1 - masks).unsqueeze(2) * image.unsqueeze(1)).flatten(0, 1)

    for optimizer in optimizers:
        optimizer.zero_grad()
    discriminator.requires_grad_(not freeze)
    paints, redrawn = draw()
    adversarial = -discriminator(redrawn).float().mean()
    error = F.mse_loss(encoder(paints.sum(1)).float(), latent)
    (adversarial + 5 * error).backward()
    for optimizer in (optimizers[0], optimizers[1], optimizers[3]):
        optimizer.step()
    discriminator.requires_grad_(True)
    optimizers[2].zero_grad()
    with torch.no_grad():
        redrawn = draw()[1]
    hinge = F.relu(1 - discriminator(real).float()).mean()
    hinge = hinge + F.relu(1 + discriminator(redrawn).float()).mean()
    hinge.backward()
    optimizers[2].step()
    return [adversarial.detach(), error.detach(), hinge.detach()]


def as_plain(function: Callable[[], list[Tensor]]) -> list[Tensor]:
    """Run `function` with the plain operators in place of the fused ones."""
    with (
        patch.object(networks, "upsample_conv3x3", plain_up),
        patch.object(networks, "conv3x3_downsample", plain_down),
        patch.object(normalization, "_apply_to_vectors", plain_condition),
        patch.object(networks._PaintBlock, "forward", plain_paint),
    ):
        return function()


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    settings = {
        "resolution": 128, "generator_width": 32,
        "generator_attention": True, "discriminator_attention": True,
    }  # fmt: skip
    plain, ours = ReDO(**settings).to(device), ReDO(**settings).to(device)
    ours.load_state_dict(plain.state_dict())
    ours.to(memory_format=torch.channels_last)
    steppers = {name: m.configure_optimizers() for name, m in (("plain", plain), ("ours", ours))}
    image, real = (torch.rand(options.batch, 3, 128, 128, device=device) * 2 - 1 for _ in "ab")
    latent = torch.randn(options.batch, 2, 32, device=device)

    def run_plain() -> list[Tensor]:
        return as_plain(lambda: step(plain, steppers["plain"], image, real, latent, freeze=False))

    def run_ours() -> list[Tensor]:
        return step(ours, steppers["ours"], image, real, latent, freeze=True)

    for one, two in zip(run_plain(), run_ours(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)
    times: dict[str, list[float]] = {"plain": [], "ours": []}
    for _ in range(options.rounds):
        for name, function in (("plain", run_plain), ("ours", run_ours)):
            begin = time.perf_counter()
            function()
            if device.type == "cuda":
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - begin)
    ratios = [a / b for a, b in zip(times["plain"], times["ours"], strict=True)]
    result = {
        "batch": options.batch,
        "rounds": options.rounds,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "seconds_plain_median": statistics.median(times["plain"]),
        "seconds_ours_median": statistics.median(times["ours"]),
        "ratio_fp32": {
            "min": min(ratios), "median": statistics.median(ratios), "max": max(ratios),
        },
        "bf16": "not measured: the CPU has no bf16 arithmetic" if not _has_bf16() else "available",
    }  # fmt: skip
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print("| step at 128 px, fp32 | seconds (median) |\n|---|---|")
    print(f"| authors' order, plain | {result['seconds_plain_median']:.2f} |")
    print(f"| ours | {result['seconds_ours_median']:.2f} |")
    print(f"ratio {min(ratios):.2f} / {statistics.median(ratios):.2f} / {max(ratios):.2f}")


def _has_bf16() -> bool:
    cpu = Path("/proc/cpuinfo")
    return cpu.is_file() and ("avx512_bf16" in cpu.read_text() or "amx_bf16" in cpu.read_text())


if __name__ == "__main__":
    sys.exit(main())
