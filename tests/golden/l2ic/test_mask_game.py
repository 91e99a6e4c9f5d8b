"""DS-ComGAN's segmentation loss against the authors' numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import interpolate

from figureground.methods.l2ic.convert import JUDGE, convert_network
from figureground.methods.segmenter.game import MaskJudge, judge_terms, network_terms


def test_terms_and_step_match(golden: Callable[[str], Path]) -> None:
    folder = golden("l2ic")
    stored = load_file(folder / "comgan_terms.safetensors")
    mask, drawn, real = (
        interpolate(stored[f"in16.{name}"], scale_factor=8)[:, 0]
        for name in ("mask", "u_fake", "u_real")
    )
    weights = load_file(folder / "comgan_D_mask.weights.safetensors")
    weights = {k: v for k, v in weights.items() if not k.startswith("code_logits")}
    judge = MaskJudge(128, 4)
    judge.load_state_dict(convert_network(JUDGE, weights))
    optimizer = torch.optim.Adam(judge.parameters(), 2e-4, betas=(0.5, 0.999))
    terms = judge_terms(judge, mask, drawn, real)
    for name, (first, second) in {"judge/drawn": ("00", "01"), "judge/real": ("02", "03")}.items():
        expected = float(stored[f"seg.{first}.rf"]) + float(stored[f"seg.{second}.rf"])
        assert terms[name].item() == pytest.approx(expected, rel=1e-4)
    sum(terms.values()).backward()
    optimizer.step()
    made = network_terms(judge, mask, torch.logit(drawn), torch.logit(real))
    expected = {
        "distance": 2 * float(stored["seg.04.l1"]),
        "game/drawn": float(stored["seg.05.rf"]),
        "game/real": float(stored["seg.06.rf"]),
    }
    for name, value in expected.items():
        assert made[name].item() == pytest.approx(value, rel=2e-3), name
