"""What the segmenter has beyond the papers: unsure pixels, photographs' changes, teachers."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from PIL import Image

from archives import write_folder
from faults import build_tiny
from figureground.cli.inference import choose_refinement
from figureground.cli.predict import predict
from figureground.core.checkpoint import VerifiedCheckpointIO
from figureground.core.config import build
from figureground.core.errors import ConfigError, DataError, UserError
from figureground.core.types import Batch
from figureground.methods.gan_segmenter import GANSegmenter
from figureground.methods.gan_segmenter.filters import PairFilters
from figureground.methods.gan_segmenter.masks import soften
from figureground.methods.segmenter import Segmenter
from figureground.methods.segmenter.augment import augment_pairs
from figureground.methods.segmenter.losses import binary_entropy, cross_entropy
from figureground.methods.segmenter.photo import compress, draw_view

Compose = Callable[..., DictConfig]


def tiny(**options: Any) -> Segmenter:
    return Segmenter(**{"resolution": 16, "width": 2, "depth": 2, **options})


def test_unsure_pixels_do_not_count() -> None:
    logits, mask = torch.randn(2, 2, 4, 4), torch.randint(2, (2, 4, 4))
    unsure = torch.rand(2, 4, 4) < 0.4
    each = F.cross_entropy(logits, mask, reduction="none")
    torch.testing.assert_close(cross_entropy(logits, mask, unsure), each[~unsure].mean())
    share = torch.rand(2, 4, 4)
    same = binary_entropy(logits[:, 0], share, torch.zeros_like(unsure))
    torch.testing.assert_close(same, binary_entropy(logits[:, 0], share))
    assert binary_entropy(logits[:, 0], share, torch.ones_like(unsure)) == 0


def test_ignored_pixels_have_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    soft = torch.full((1, 16, 16), 0.55)
    soft[:, :4] = 0.95
    batch = Batch(torch.rand(1, 3, 16, 16), ("a",), (soft >= 0.5).long(), soft_mask=soft)
    for loss in ("cross_entropy", "binary_entropy"):
        method = tiny(loss=loss, ignore=0.2)
        method.network = logits = _Logits(1 if loss == "binary_entropy" else 2)
        monkeypatch.setattr(method, "optimizers", lambda: SimpleNamespace(param_groups=[]))
        monkeypatch.setattr(method, "log_losses", lambda losses: None)
        monkeypatch.setattr(method, "descend", lambda loss, *_, player: loss.backward())
        method.training_step(batch, 0)
        moved = logits.values.grad.abs().sum(dim=(0, 1)) > 0
        assert moved[:4].all()
        assert not moved[4:].any()
    with pytest.raises(ValueError, match="ignore needs loss=cross_entropy"):
        tiny(loss="ds_comgan", ignore=0.2)


class _Logits(torch.nn.Module):
    def __init__(self, count: int) -> None:
        super().__init__()
        self.values = torch.nn.Parameter(torch.randn(1, count, 16, 16))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.values


@pytest.mark.parametrize("quality", [20, 50, 90])
def test_compression_is_that_of_jpeg(quality: int) -> None:
    coarse = torch.rand(1, 3, 6, 5)
    image = F.interpolate(coarse, (45, 37), mode="bicubic").clamp(0, 1)[0] * 255
    pixels = image.round().permute(1, 2, 0).to(torch.uint8).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "jpeg", quality=quality, subsampling=2)
    expected = np.asarray(Image.open(file)).astype(float)
    given = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1
    found = (compress(given, torch.tensor([quality]))[0] * 127.5 + 127.5).permute(1, 2, 0).numpy()
    lost = np.abs(expected - pixels).mean()
    assert np.abs(found - expected).mean() < max(0.35 * lost, 1.0)


def test_photo_moves_masks_along_and_stays_in_range() -> None:
    torch.manual_seed(1)
    image = torch.full((40, 3, 16, 16), -0.5)
    share = torch.zeros(40, 16, 16, dtype=torch.long)
    image[:, :, 4:12, 2:9], share[:, 4:12, 2:9] = 0.8, 1
    changed, moved = augment_pairs("photo", image, share)
    assert changed.abs().max() <= 1
    light = changed.mean(dim=1) > changed.mean(dim=(1, 2, 3)).view(-1, 1, 1)
    assert float((light == (moved > 0)).float().mean()) > 0.9
    assert len({tuple(each.flatten().tolist()) for each in moved}) > 30
    corners = draw_view(50, 16) @ torch.tensor([1 - 1 / 16, 1 - 1 / 16, 1.0])
    assert corners[:, :2].abs().max() <= 1 - 1 / 16 + 1e-6


def test_refined_masks_are_probabilities_that_follow_edges() -> None:
    method = tiny(refine="bilateral").eval()
    image = torch.rand(2, 3, 16, 16) * 2 - 1
    found = method.segment(image)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(2, 16, 16))
    batch = Batch(image, ("a", "b"), torch.zeros(2, 20, 24, dtype=torch.long))
    assert method._segment_to_score(batch).shape == (2, 2, 20, 24)
    choose_refinement(method, "none")
    assert not torch.allclose(method.segment(image), found)
    with pytest.raises(UserError, match=r"ReDO does not refine masks; leave refine=\.\.\. out"):
        choose_refinement(build_tiny("redo")[0], "bilateral")


def test_masks_of_files_are_refined_on_request(compose: Compose, tmp_path: Path) -> None:
    write_folder(tmp_path / "mine", 2, masks=False)
    method, _ = build_tiny("segmenter")
    checkpoint = {"state_dict": method.state_dict()}
    method.on_save_checkpoint(checkpoint)
    VerifiedCheckpointIO().save_checkpoint(checkpoint, tmp_path / "net.ckpt")
    seen: list[str] = []
    for how in ("null", "bilateral"):
        given = [f"ckpt={tmp_path}/net.ckpt", f"input={tmp_path}/mine", f"refine={how}"]
        predict(compose(*given, f"output={tmp_path}/{how}", "device=cpu", config_name="predict"))
        seen += [path.name for path in sorted((tmp_path / how).rglob("*_mask.png"))]
    assert seen[:2] == seen[2:]
    assert len(seen) == 4


def test_soft_masks_agree_with_hard_ones() -> None:
    margin = torch.tensor([[-0.5, -0.05, 0.0, 0.05, 0.5, 0.3]]).view(1, 1, 6)
    mask = (margin > 0).clone()
    mask[..., 5] = False  # Dropped by cleaning.
    share = soften(margin, mask, 0.2)
    expected = torch.tensor([0.0, 0.375, 127 / 255, 0.625, 1.0, 0.0])
    torch.testing.assert_close(share.flatten(), expected)
    assert torch.equal(soften(margin, mask, 0), mask.float())
    drawer = GANSegmenter(filters=PairFilters(area=(0.0, 1.0), histogram_bins=0))
    one = drawer.sample(4, generator=torch.Generator().manual_seed(0)).foreground
    drawer.margin = 0.4
    other = drawer.sample(4, generator=torch.Generator().manual_seed(0)).foreground
    assert torch.equal(one > 0.5, other >= 0.5)
    assert not torch.equal(one, other)


def taught(compose: Compose, tmp_path: Path, *more: str) -> Any:
    method, _ = build_tiny("segmenter")
    file = tmp_path / "teacher.ckpt"
    checkpoint = {"state_dict": method.state_dict()}
    method.on_save_checkpoint(checkpoint)
    VerifiedCheckpointIO().save_checkpoint(checkpoint, file)
    config = compose(
        "method=segmenter", "data=folder", f"data.root={tmp_path}/mine", "data.resolution=16",
        "data.augment=null", "pairs=taught", f"pairs.ckpt={file}", "pairs.area=[0.0,1.0]", *more,
    )  # fmt: skip
    return config, method


def test_pupil_learns_from_masks_of_its_teacher(compose: Compose, tmp_path: Path) -> None:
    write_folder(tmp_path / "mine", 30)
    config, teacher = taught(compose, tmp_path)
    data = build(config.data)
    count = len(data.datasets["train"])
    build(config.pairs).attach(data)
    train, kept = data.datasets["train"], data.datasets["val_pairs"]
    assert (len(train) + len(kept), len(kept)) == (count, round(count * 0.1))
    sample = data.store("val_pairs").load(0)
    assert sample.soft is not None
    assert np.array_equal(sample.mask, sample.soft >= 128)
    image = torch.tensor(sample.image).permute(2, 0, 1)[None] / 127.5 - 1
    wide = F.interpolate(image, (32, 32), mode="bilinear", antialias=True)
    with torch.no_grad():
        found = teacher.eval().segment(wide)
    found = F.interpolate(found, (16, 16), mode="bilinear", antialias=True)
    assert np.abs(found[0, 1].numpy() * 255 - sample.soft).max() < 2


def test_teachers_that_find_nothing_are_refused(compose: Compose, tmp_path: Path) -> None:
    write_folder(tmp_path / "mine", 30)
    config, _ = taught(compose, tmp_path, "pairs.area=[0.31,0.310001]")
    with pytest.raises(DataError, match=r"cover 0.31 to 0.310001 of \d+ of \d+ pictures.*too few"):
        build(config.pairs).attach(build(config.data))
    method, _ = build_tiny("ilsgan")
    checkpoint = {"state_dict": method.state_dict()}
    method.on_save_checkpoint(checkpoint)
    VerifiedCheckpointIO().save_checkpoint(checkpoint, tmp_path / "drawer.ckpt")
    config.pairs.ckpt = str(tmp_path / "drawer.ckpt")
    with pytest.raises(ConfigError, match="ILSGAN cannot segment"):
        build(config.pairs)
