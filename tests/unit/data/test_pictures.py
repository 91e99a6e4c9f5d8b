"""Single pictures of any size into methods that work on squares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from figureground.core.errors import DataError
from figureground.data.pictures import load_picture, stretches_pictures


class Brightness:
    resolution, device = 4, torch.device("cpu")

    @stretches_pictures
    def look(self, image: Tensor) -> Tensor:
        """Mean of (B, 3, 4, 4)."""
        assert image.shape[1:] == (3, 4, 4)
        return image.mean(dim=(1, 2, 3))


def test_a_picture_is_stretched_a_tensor_passed_on(tmp_path: Path) -> None:
    path = tmp_path / "white.png"
    Image.new("RGB", (30, 10), "white").save(path)
    method = Brightness()
    for picture in (path, str(path), Image.open(path), np.full((7, 9, 3), 255, np.uint8)):
        assert method.look(picture).tolist() == [1.0]
    assert method.look(torch.zeros(2, 3, 4, 4)).tolist() == [0.0, 0.0]


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected images of 4x4 pixels, got"):
        Brightness().look(torch.zeros(2, 3, 8, 8))
    with pytest.raises(ValueError, match="one picture .*, got list"):
        load_picture(["a.jpg"])  # type: ignore[arg-type]
    with pytest.raises(DataError, match="nope.jpg is not a file"):
        load_picture(tmp_path / "nope.jpg")
