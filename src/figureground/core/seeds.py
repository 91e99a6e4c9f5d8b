"""Seeds from seeds."""

from __future__ import annotations

import torch


def seed_process(seed: int, rank: int) -> None:
    """Seed torch so that process `rank` > 0 of a run draws noise of its own."""
    torch.manual_seed(mix_seed(seed, rank))


def mix_seed(*parts: int) -> int:
    """Fold non-negative integers into one 63-bit seed, so that near ones give far apart seeds."""
    state = 0x9E3779B97F4A7C15
    for part in parts:
        # The finaliser of SplitMix64 (Steele et al. 2014), once for each part.
        state = (state + part + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state >> 1
