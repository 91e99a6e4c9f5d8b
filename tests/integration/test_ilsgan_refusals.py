"""What cannot work with ILSGAN ends the command in one line before anything is made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig
from PIL import Image

from faults import build_tiny
from figureground.cli.predict import predict
from figureground.cli.settings import TrainSettings
from figureground.core.checkpoint import VerifiedCheckpointIO
from figureground.core.config import check
from figureground.core.errors import UserError

Compose = Callable[..., DictConfig]


# Recipes of the embedded sets do without augmentation.
_AUGMENTED = ["method=ilsgan", "~recipe"]


@pytest.mark.parametrize(
    ("overrides", "fragment"),
    [
        (["method=ilsgan", "data.batch_size=18"], "must be a multiple of 4, got 18"),
        (["method=ilsgan", "data.resolution=48"], "expected a whole number that is a power of two"),
        ([*_AUGMENTED, "method.augmentation.operations=blot"], "unknown augmentation blot"),
        ([*_AUGMENTED, "method.augmentation.operations=[bgc,blot]"], "expected any of bg, bgc"),
        ([*_AUGMENTED, "method.augmentation.p=1.5"], "expected a number from 0 to 1"),
        ([*_AUGMENTED, "method.augmentation=null"], "set controller=null"),
        (
            ["method=ilsgan", "method.low_precision_blocks=2", "method.conv_clamp=null"],
            "float16 overflows without a limit of activations",
        ),
        (
            [
                "method=ilsgan",
                "method.independence.kind=learned_normal",
                "method.independence.negative_weight=2",
            ],
            "negative_weight=2 counts with kind=laplace, normal only, got kind=learned_normal",
        ),
        (["method=ilsgan", "method.independence.mask_condition=false"], "got pairs=both"),
        (["method=segmenter", "pairs=live"], "pairs.ckpt is not set"),
        (["method=segmenter", "pairs=saved"], "pairs.root is not set"),
    ],
)
def test_options_are_refused_before_training(
    compose: Compose, overrides: list[str], fragment: str
) -> None:
    problems = check(compose("data=toy", *overrides), TrainSettings)
    assert len(problems) == 1
    assert fragment in problems[0]
    assert "\n" not in problems[0]


def test_it_is_not_asked_to_segment(compose: Compose, tmp_path: Path) -> None:
    method, _ = build_tiny("ilsgan")
    checkpoint = {"state_dict": method.state_dict()}
    method.on_save_checkpoint(checkpoint)
    VerifiedCheckpointIO().save_checkpoint(checkpoint, tmp_path / "m.ckpt")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    paths = [f"ckpt={tmp_path}/m.ckpt", f"input={tmp_path}/a.png", f"output={tmp_path}/out"]
    with pytest.raises(UserError, match="ILSGAN cannot segment; train a segmenter on its samples"):
        predict(compose(*paths, config_name="predict"))
    assert not (tmp_path / "out").exists()
