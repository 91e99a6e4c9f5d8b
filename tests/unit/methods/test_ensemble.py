"""Segmenters that segment together."""

from __future__ import annotations

import pytest
import torch

from figureground.cli.settings import EvaluateSettings
from figureground.core.errors import UserError
from figureground.core.types import Batch
from figureground.methods.segmenter import Segmenter
from figureground.methods.segmenter.ensemble import SegmenterEnsemble
from figureground.metrics.segmentation import SegmentationScores


def small(resolution: int = 8) -> Segmenter:
    scores = {"segmentation": SegmentationScores()}
    return Segmenter(resolution=resolution, width=2, depth=2, metrics=scores).eval()


def test_logits_are_averaged_at_the_size_of_the_masks() -> None:
    members = [small(), small()]
    both = SegmenterEnsemble(members)
    image = torch.randn(3, 3, 8, 8)
    logits = torch.stack([member.network(image) for member in members]).mean(dim=0)
    torch.testing.assert_close(both.segment(image), logits.softmax(dim=1))
    batch = Batch(image, ("a", "b", "c"), torch.zeros(3, 12, 20, dtype=torch.int64))
    large = torch.nn.functional.interpolate(logits, (12, 20), mode="bilinear")
    torch.testing.assert_close(both._segment_to_score(batch), large.softmax(dim=1))


def test_members_must_segment_at_one_size() -> None:
    with pytest.raises(UserError, match="there is one"):
        SegmenterEnsemble([small()])
    with pytest.raises(UserError, match=r"these work at \{8, 16\}"):
        SegmenterEnsemble([small(8), small(16)])


def test_options_of_evaluate() -> None:
    (problem,) = EvaluateSettings.check_options(ckpt="a.ckpt", ensemble=True)
    assert "ckpt=[a.ckpt,b.ckpt]" in problem
    metrics = {"generation": {"_target_": "x"}}
    (problem,) = EvaluateSettings.check_options(ckpt=["a", "b"], ensemble=True, metrics=metrics)
    assert "leave out metrics" in problem
    assert EvaluateSettings.check_options(ckpt=["a", "b"], ensemble=True) == []
