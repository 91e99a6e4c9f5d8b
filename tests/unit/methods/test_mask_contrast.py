"""MaskContrast: losses against loops, the queue, views, its step, and weights to begin with."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from omegaconf import DictConfig

from faults import build_tiny
from figureground.cli.settings import TrainSettings
from figureground.core.checkpoint import VerifiedCheckpointIO, load_method
from figureground.core.config import check
from figureground.core.errors import UserError
from figureground.core.method import Method
from figureground.core.types import Batch
from figureground.methods.mask_contrast import MaskContrast
from figureground.methods.mask_contrast.losses import (
    balanced_entropy,
    contrast_pixels,
    object_keys,
)
from figureground.methods.mask_contrast.pictures import principal_colors
from figureground.methods.mask_contrast.queue import KeyQueue
from figureground.methods.mask_contrast.views import ViewMaker, change_colors
from figureground.metrics.pixel_features import load_features
from weights import write_resnet

Compose = Callable[..., DictConfig]
PLAIN = {"jitter_probability": 0.0, "gray_probability": 0.0}


def unit(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape), dim=1)


def tiny(**options: Any) -> MaskContrast:
    usual = {"resolution": 16, "trunk": "resnet20", "trunk_width": 2, "head": "none"}
    return MaskContrast(**{**usual, "embedding_dim": 4, "queue_size": 6, **options})


class Steps:
    """What a method asks of its trainer in a step; counts iterations from 1."""

    def __init__(self, method: MaskContrast, monkeypatch: pytest.MonkeyPatch) -> None:
        self.method, self.rates, self.stepped = method, [], True
        loop = SimpleNamespace(total_batch_idx=-1)
        method._trainer = SimpleNamespace(fit_loop=loop, world_size=1)
        self.loop, (self.optimizer,) = loop, method.configure_optimizers()
        monkeypatch.setattr(method, "optimizers", lambda: self.optimizer)
        monkeypatch.setattr(method, "log", lambda *_: None)
        monkeypatch.setattr(method, "descend", self.descend)

    def descend(self, loss: torch.Tensor, optimizer: Any, player: str) -> bool:
        self.rates.append(optimizer.param_groups[0]["lr"])
        optimizer.zero_grad()
        loss.backward()
        if self.stepped:
            optimizer.step()
        return self.stepped

    def take(self, batch: Batch) -> None:
        self.loop.total_batch_idx += 1
        self.method.training_step(batch, 0)


def objects(count: int = 3, side: int = 16) -> Batch:
    mask = torch.zeros(count, side, side, dtype=torch.int64)
    mask[:, 4:12, 3:13] = 1
    return Batch(torch.rand(count, 3, side, side) * 2 - 1, tuple("abcdef"[:count]), mask)


# -- losses ------------------------------------------------------------------------------------


@pytest.mark.parametrize("negatives", ["queue", "all"])
@pytest.mark.parametrize("weighting", ["pixels", "frequency"])
def test_contrast_is_that_of_a_loop(negatives: str, weighting: str) -> None:
    keys, queue, query = unit(3, 5).double(), unit(4, 5).double(), unit(9, 5).double()
    owner, t = torch.tensor([0, 0, 0, 0, 1, 2, 2, 0, 0]), 0.3
    total = weights = 0.0
    for z, k in zip(query, owner.tolist(), strict=True):
        others = [*queue, *(keys[j] for j in range(3) if j != k and negatives == "all")]
        positive = math.exp(float(z @ keys[k]) / t)
        bottom = positive + sum(math.exp(float(z @ other) / t) for other in others)
        weight = 1.0
        if weighting == "frequency":
            weight = 1 / math.log(1.02 + owner.tolist().count(k) / len(owner))
        total -= weight * math.log(positive / bottom)
        weights += weight
    found = contrast_pixels(
        query, owner, keys, queue, temperature=t, negatives=negatives, weighting=weighting
    )
    assert float(found) == pytest.approx(total / weights)


def test_contrast_without_pixels_is_nothing_and_has_a_gradient() -> None:
    query = torch.zeros(0, 4, requires_grad=True)
    none = torch.zeros(0, dtype=torch.int64)
    found = contrast_pixels(query, none, torch.zeros(0, 4), unit(3, 4), temperature=1)
    found.backward()
    assert found == 0


def test_key_is_the_mean_of_its_pixels() -> None:
    embedding, mask = unit(2, 3, 4, 4), torch.rand(2, 4, 4).round()
    mask[1] = 0
    mean = torch.stack([embedding[0, :, y, x] for y in range(4) for x in range(4) if mask[0, y, x]])
    wanted = mean.mean(0) / mean.mean(0).norm()
    found = object_keys(embedding, mask)
    torch.testing.assert_close(found[0], wanted)
    assert (found[1] == 0).all()


def test_balanced_entropy_is_that_of_a_loop() -> None:
    logits, mask = torch.randn(2, 3, 3), torch.zeros(2, 3, 3)
    mask[0, :2, 0] = 1
    share, total = 2 / 18, 0.0
    for x, y in zip(logits.flatten().tolist(), mask.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-x))
        total -= (1 - share) * math.log(p) if y else share * math.log(1 - p)
    assert float(balanced_entropy(logits, mask)) == pytest.approx(total / 18)


# -- queue -------------------------------------------------------------------------------------


def test_queue_replaces_the_oldest() -> None:
    queue, pushed = KeyQueue(5, 2), [unit(n, 2) for n in (3, 4, 0, 12)]
    before = queue.keys.clone()
    torch.testing.assert_close(before.norm(dim=1), torch.ones(5))
    queue.push(pushed[0])
    assert torch.equal(queue.keys, torch.cat([pushed[0], before[3:]]))
    queue.push(pushed[1])
    assert torch.equal(queue.keys, torch.cat([pushed[1][2:], pushed[0][2:], pushed[1][:2]]))
    queue.push(pushed[2])
    assert int(queue.place) == 2
    queue.push(pushed[3])
    assert {tuple(k) for k in queue.keys.tolist()} == {tuple(k) for k in pushed[3][-5:].tolist()}
    assert set(queue.state_dict()) == {"keys", "place"}


# -- views -------------------------------------------------------------------------------------


def test_mask_moves_along_with_its_picture() -> None:
    mask = objects(8).mask
    image = (mask * 2.0 - 1).unsqueeze(1).expand(-1, 3, -1, -1)
    view = ViewMaker(**PLAIN).draw(image, mask, 24)
    assert view.image.shape == (8, 3, 24, 24)
    same = (view.image[:, 0] > 0) == (view.mask > 0)
    assert same.float().mean() > 0.95  # Nearest and bilinear differ at edges.
    assert not torch.equal(view.mask[0], view.mask[1])


def test_objects_of_no_or_all_pixels_are_not_usable() -> None:
    batch = objects(4)
    batch.mask[1], batch.mask[2] = 0, 1
    view = ViewMaker().draw(batch.image, batch.mask, 16)
    assert view.is_usable.tolist() == [True, False, False, True]
    assert view.image.abs().max() <= 1


def test_masks_do_not_change_what_is_drawn_afterwards() -> None:
    after = []
    for mask in (objects().mask, torch.zeros(3, 16, 16)):
        torch.manual_seed(4)
        ViewMaker().draw(objects().image, mask, 16)
        after.append(torch.randn(2))
    torch.manual_seed(4)
    assert torch.equal(after[0], after[1])


def test_colors_change_as_asked() -> None:
    image = torch.rand(1, 3, 4, 4) * 1.6 - 0.8
    torch.testing.assert_close(change_colors(image, torch.zeros(1, 4)), image)
    third = change_colors(image, torch.tensor([[0, 0, 0, 1 / 3]]))
    torch.testing.assert_close(third, image.roll(1, dims=1))
    gray = change_colors(image, torch.tensor([[0, 0, -1.0, 0]]))
    torch.testing.assert_close(gray[:, 0], gray[:, 2])
    lighter = change_colors(image, torch.tensor([[0.1, 0, 0, 0]]))
    assert (lighter >= image).all()


# -- the step ----------------------------------------------------------------------------------


def test_step_moves_key_encoder_and_queue_by_their_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    method = tiny(momentum=0.9)
    steps = Steps(method, monkeypatch)
    weight = method.network.embedding.weight
    key = method.key_encoder.average.embedding.weight
    assert torch.equal(weight, key)
    steps.take(objects())
    first, queue = weight.detach().clone(), method.queue.keys.clone()
    assert int(method.queue.place) == 3
    torch.testing.assert_close(method.queue.keys.norm(dim=1), torch.ones(6))
    before = key.clone()
    steps.stepped = False
    steps.take(objects())
    torch.testing.assert_close(key, 0.9 * before + 0.1 * first)
    assert torch.equal(method.queue.keys, queue)  # What was skipped leaves no trace in it.
    assert all(p.grad is None for p in method.key_encoder.parameters())


def test_pictures_without_objects_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    method, batch = tiny(), objects()
    steps = Steps(method, monkeypatch)
    batch.mask[1] = 0
    steps.take(batch)
    assert int(method.queue.place) == 2
    batch.mask[:] = 0
    steps.take(batch)
    assert int(method.queue.place) == 2
    assert method.last_losses["contrast"] == 0
    assert method.last_losses["saliency"].isfinite()


def test_keys_of_all_processes_are_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    method = tiny(queue_size=8)
    steps = Steps(method, monkeypatch)
    method._trainer.world_size = 2
    monkeypatch.setattr(method, "all_gather", lambda values: torch.stack([values, values]))
    steps.take(objects())
    assert int(method.queue.place) == 6
    assert torch.equal(method.queue.keys[:3], method.queue.keys[3:6])


def test_rate_falls_to_zero_and_checkpoints_keep_where_it_began(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    method = tiny(decay_iterations=2, power=0.5)
    steps = Steps(method, monkeypatch)
    for _ in range(4):
        steps.take(objects(2))
    assert steps.rates == pytest.approx([4e-3, 4e-3 * 0.5**0.5, 0, 0])
    assert steps.optimizer.param_groups[0]["lr"] == 4e-3


# -- networks and files ------------------------------------------------------------------------


def test_published_head_and_trunk_see_an_eighth_and_take_their_files(tmp_path: Path) -> None:
    file = write_resnet(tmp_path / "net.pth", "maskcontrast", embedding=4)
    method = MaskContrast(resolution=32, trunk="resnet18", embedding_dim=4, weights=str(file))
    method._trainer = SimpleNamespace(ckpt_path=None, datamodule=SimpleNamespace(batch_size=2))
    method.setup("fit")
    stored = torch.load(file, weights_only=True)["model"]
    state = method.network.state_dict()
    for ours, theirs in (
        ("trunk.layer3.0.conv1.weight", "backbone.layer3.0.conv1.weight"),
        ("head.0.convs.1.0.weight", "decoder.0.convs.1.0.weight"),
        ("embedding.weight", "head.weight"),
    ):
        assert torch.equal(state[ours], stored[f"module.model_q.{theirs}"])
    assert torch.equal(method.key_encoder.average.embedding.weight, state["embedding.weight"])
    image = torch.rand(1, 3, 40, 40) * 2 - 1
    method.eval()
    assert method.embed(image).shape == (1, 4, 5, 5)
    wanted = F.normalize(load_features(str(file))(image), dim=1)
    torch.testing.assert_close(method.embed(image), wanted)
    method._trainer.datamodule.batch_size = 1
    with pytest.raises(UserError, match=r"needs two pictures in it, got data\.batch_size=1"):
        method.setup("fit")


def test_weights_of_another_trunk_or_place_are_named(compose: Compose, tmp_path: Path) -> None:
    file = write_resnet(tmp_path / "net.pth", "moco")
    method = tiny(weights=str(file))
    method._trainer = SimpleNamespace(ckpt_path=None)
    with pytest.raises(UserError, match=r"holds a resnet18, expected resnet20; set method\.trunk="):
        method.setup("fit")
    method._trainer.ckpt_path = "last.ckpt"
    method.setup("fit")  # A run that goes on needs no file.
    options = ("method.crop=[0.5]", "method.jitter=[0.5]", f"method.weights={file}")
    found = check(compose("method=mask_contrast", *options), TrainSettings)
    for line, problem in zip(
        (
            "crop=[0.5]: expected [least, largest]",
            "jitter=[0.5]: expected brightness",
            "needs a trunk of torchvision, got resnet20",
        ),
        found,
        strict=True,
    ):
        assert line in problem
    usual = {"crop": (0.2, 1.0), "area": (0.0, 1.0), "jitter": (0.0,) * 4}
    (problem,) = MaskContrast.check_options(trunk="resnet18", weights="no.pth", **usual)
    assert "weights=no.pth is not a file" in problem


def save(method: Method, path: Path) -> Path:
    checkpoint = {"state_dict": method.state_dict()}
    method.on_save_checkpoint(checkpoint)
    VerifiedCheckpointIO().save_checkpoint(checkpoint, path)
    return path


def test_features_come_from_checkpoints_of_methods_that_have_some(tmp_path: Path) -> None:
    file = save(build_tiny("mask_contrast")[0], tmp_path / "own.ckpt")
    image = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        wanted = load_method(file).embed(image)
    assert torch.equal(load_features(str(file))(image), wanted)
    other = save(build_tiny("segmenter")[0], tmp_path / "other.ckpt")
    with pytest.raises(UserError, match=r"Segmenter has no features of pixels; expected"):
        load_features(str(other))


def test_checkpoint_is_read_without_the_file_it_began_with(tmp_path: Path) -> None:
    method, _ = build_tiny("mask_contrast")
    method.origin["method"]["weights"] = str(tmp_path / "gone.pth")
    assert load_method(save(method, tmp_path / "m.ckpt")).weights.endswith("gone.pth")


def test_principal_components_are_colours() -> None:
    features = unit(2, 6, 4, 4)
    colors = principal_colors(features)
    assert colors.shape == (2, 3, 4, 4)
    assert colors.abs().max() <= 1
    points = features.movedim(1, -1).reshape(-1, 6)
    left = torch.linalg.svd(points - points.mean(0), full_matrices=False).U[:, 0]
    found = colors[:, 0].flatten()
    inner = found.abs() < 1
    assert torch.corrcoef(torch.stack([left[inner], found[inner]]))[0, 1].abs() > 0.999
    assert torch.equal(principal_colors(features[:, :2])[:, 2], torch.zeros(2, 4, 4))
    assert principal_colors(torch.zeros(1, 4, 2, 2)).isfinite().all()
