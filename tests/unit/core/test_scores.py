"""Scores of held-out pictures and of training pictures come out of one test, apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Trainer
from torch import Tensor
from torchmetrics import Metric

from archives import write_flowers, write_folder
from figureground.callbacks.run_card import RunCard
from figureground.core.errors import ConfigError
from figureground.data.datamodule import ImageDataModule
from figureground.data.datasets.flowers import Flowers
from figureground.data.datasets.folder import Folder
from figureground.data.datasets.tetrominoes import Tetrominoes
from figureground.data.transforms import ResizeCrop
from figureground.methods.dti_sprites import DTISprites
from figureground.methods.l2ic import L2IC
from figureground.methods.segmenter import Segmenter
from figureground.metrics.clustering import ClusteringScores
from figureground.metrics.objects import ObjectScores, PixelClassScores
from figureground.metrics.segmentation import SegmentationScores

_SPLITS = ("train", "val", "test")


def run_test(folder: Path, transductive: bool) -> list[dict[str, float]]:
    data = ImageDataModule(
        name="tetrominoes",
        resolution=35,
        batch_size=4,
        train=Tetrominoes("train", 12, transductive=transductive),
        test=Tetrominoes("test", 6, transductive=transductive),
        test_transductive=Tetrominoes("train", 6, transductive=transductive),
    )
    method = DTISprites(
        resolution=35, num_sprites=2, encoder="default", hidden_width=8, sprite_size=(24, 24),
        sprite_transform="identity", layer_transform="color_position",
        background_transform="color",
        metrics={
            "segmentation": None,
            "objects": ObjectScores(), "pixel_classes": PixelClassScores(20),
        },
    )  # fmt: skip
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[RunCard(str(folder))],
    )  # fmt: skip
    return [dict(found) for found in trainer.test(method, data, verbose=False)]


def test_both_protocols_are_scored_in_one_test(tmp_path: Path) -> None:
    found = {name: value for each in run_test(tmp_path, False) for name, value in each.items()}
    assert found["test/images"] == found["test_transductive/images"] == 6
    for name in ("ari", "ari/fg", "miou"):
        assert f"test/{name}" in found
        assert f"test_transductive/{name}" in found
    assert found["test/ari"] != found["test_transductive/ari"]
    assert not any("iou/img" in name for name in found)
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written["test_transductive/ari"] == found["test_transductive/ari"]
    card = (tmp_path / "card.md").read_text()
    assert "| score | validation | test | training pictures (transductive) |" in card
    assert "| `images` |  | 6 | 6 |" in card


def test_missing_labels_leave_clusters_unscored_and_say_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = str(write_folder(tmp_path / "mine", 8, masks=False))
    data = ImageDataModule(
        name="mine", resolution=16, batch_size=4, transform=ResizeCrop(16), cache="off",
        train=Folder(root), val=Folder(root), test=Folder(root),
    )  # fmt: skip
    method = L2IC(
        resolution=16, batch_size=4, num_categories=6, latent_dim=5, generator_width=8,
        discriminator_width=4, num_blocks=(0, 0, 0),
        metrics={"clustering": ClusteringScores(6, 3)},
    )  # fmt: skip
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[RunCard(str(tmp_path))], limit_train_batches=1,
        max_epochs=1,
    )  # fmt: skip
    with caplog.at_level("WARNING"):
        trainer.fit(method, data)
        (found,) = trainer.test(method, data, verbose=False)
    assert "test/acc" not in found
    assert "test/score/info" in found
    reason = "has no scores: its pictures carry no labels (the class of each picture)"
    said = [record.getMessage() for record in caplog.records]
    for stage in ("val", "test"):
        assert said.count(f"{stage}/clustering {reason}") == 1
        assert f"- `{stage}/clustering` {reason}." in (tmp_path / "card.md").read_text()


def test_one_protocol_is_scored_once(tmp_path: Path) -> None:
    (found,) = run_test(tmp_path, True)
    assert found["test/images"] == 6
    assert not any(name.startswith("test_transductive") for name in found)
    assert "transductive" not in (tmp_path / "card.md").read_text()


@pytest.mark.parametrize(
    ("stage", "masks", "named"),
    [("fit", {}, "val and test"), ("fit", {"val": "soft"}, "test"), ("validate", {}, "val"),
     ("test", {"val": "soft"}, "test")],
)  # fmt: skip
def test_soft_truth_without_soft_masks_is_refused_before_anything_runs(
    tmp_path: Path, stage: str, masks: dict[str, str], named: str
) -> None:
    data = soft_flowers(tmp_path, **masks)
    metrics = {"segmentation": SegmentationScores(truth="soft")}
    method = Segmenter(resolution=16, width=4, depth=1, metrics=metrics)
    with pytest.raises(ConfigError, match=f"truth=soft, but {named} pictures of data=flowers have"):
        getattr(quiet_trainer(), stage)(method, datamodule=data)


def test_soft_truth_is_scored(tmp_path: Path) -> None:
    metrics = {"segmentation": SegmentationScores(truth="soft")}
    method = Segmenter(resolution=16, width=4, depth=1, metrics=metrics)
    data = soft_flowers(tmp_path, val="soft", test="soft")
    (found,) = quiet_trainer().test(method, datamodule=data, verbose=False)
    assert 0 < found["test/iou/img/oracle"] < 1


def test_metrics_of_two_arguments_are_scored_and_their_refusals_are_lines(tmp_path: Path) -> None:
    class Own(Metric):
        def __init__(self) -> None:
            super().__init__()
            self.add_state("count", torch.tensor(0.0), dist_reduce_fx="sum")

        def update(self, probabilities: Tensor, mask: Tensor) -> None:
            self.count += len(mask)

        def compute(self) -> dict[str, Tensor]:
            return {"count": self.count}

    method = Segmenter(resolution=16, width=4, depth=1, metrics={"segmentation": Own()})
    data = soft_flowers(tmp_path, test="soft")
    (found,) = quiet_trainer().test(method, datamodule=data, verbose=False)
    assert found["test/count"] == 4
    metrics = {"segmentation": SegmentationScores(num_regions=3)}
    method = Segmenter(resolution=16, width=4, depth=1, metrics=metrics)
    with pytest.raises(ConfigError, match="expected probabilities of 3 regions"):
        quiet_trainer().test(method, datamodule=data)


def soft_flowers(folder: Path, **masks: str) -> ImageDataModule:
    """Four pictures a split; `masks` of each, hard unless given."""
    root = str(write_flowers(folder / "flowers", 4))
    sets = {name: Flowers(root, name, masks=masks.get(name, "hard")) for name in _SPLITS}
    transform = ResizeCrop(16, "bilinear")
    return ImageDataModule(name="flowers", resolution=16, batch_size=4, transform=transform, **sets)


def quiet_trainer() -> Trainer:
    return Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, max_steps=1,
    )  # fmt: skip
