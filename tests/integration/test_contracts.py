"""What every method keeps, found by its config file; and that adding one edits nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Callback, Trainer

from faults import METHODS, build_tiny, command, run
from figureground.core.checkpoint import VerifiedCheckpointIO, load_method
from figureground.core.method import Method
from figureground.core.protocols import (
    Decomposer,
    FilteringGenerator,
    LatentDecoder,
    LayerGenerator,
    LayerMixer,
    NoisyGenerator,
    Projector,
    Redrawer,
    Segmenter,
    StyleDecoder,
    TruncatedDecoder,
)

KEYS = Path(__file__).parent / "state_dict_keys"


class Watch(Callback):
    """Keeps the batches that training saw."""

    def __init__(self) -> None:
        self.batches: list[object] = []

    def on_train_batch_start(
        self, trainer: object, module: object, batch: object, *_: object
    ) -> None:
        self.batches.append(batch)

    def on_before_optimizer_step(
        self, trainer: object, module: Method, optimizer: torch.optim.Optimizer
    ) -> None:
        self.owned = {id(p) for group in optimizer.param_groups for p in group["params"]}


def fit(method: Method, data: object, iterations: int, **options: object) -> Watch:
    watch = Watch()
    trainer = Trainer(
        accelerator="cpu", max_epochs=-1, limit_train_batches=iterations, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, limit_val_batches=1, use_distributed_sampler=False,
        callbacks=[watch, Stop(iterations)], **options,
    )  # fmt: skip
    trainer.fit(method, data)
    return watch


class Stop(Callback):
    def __init__(self, iterations: int) -> None:
        self.iterations = iterations

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        trainer.should_stop = trainer.fit_loop.total_batch_idx + 1 >= self.iterations


@pytest.fixture(params=METHODS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_optimisers_own_every_trainable_parameter_once(name: str) -> None:
    method, _ = build_tiny(name)
    optimizers = method.configure_optimizers()
    owned = [id(p) for o in optimizers for group in o.param_groups for p in group["params"]]
    assert len(owned) == len(set(owned))
    assert set(owned) == {id(p) for p in method.parameters() if p.requires_grad}


def test_losses_are_finite_and_weights_move(name: str) -> None:
    method, data = build_tiny(name)
    before = {key: value.clone() for key, value in method.named_parameters()}
    fit(method, data, 2)
    assert method.last_losses
    assert all(torch.isfinite(value) for value in method.last_losses.values())
    moved = [k for k, v in method.named_parameters() if not torch.equal(v, before[k])]
    assert len(moved) > len(before) / 2


def test_training_batches_carry_masks_only_for_methods_that_learn_from_them(name: str) -> None:
    method, data = build_tiny(name)
    for batch in fit(method, data, 2).batches:
        for part in batch if isinstance(batch, tuple | list) else (batch,):
            assert (part.mask is not None) == method.learns_from_masks
            assert part.label is None or method.learns_from_masks


def test_capabilities_keep_their_promises(name: str) -> None:
    method, data = build_tiny(name)
    method.eval()
    data.setup("validate")
    batch = data.batch("val", [0, 1, 2])
    if isinstance(method, Segmenter):
        probabilities = method.segment(batch.image)
        assert probabilities.shape[0] == 3
        assert probabilities.shape[2:] == batch.image.shape[2:]
        torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(3, *batch.image.shape[2:]))
    if isinstance(method, Decomposer):
        layers = method.decompose(batch.image)
        shares = layers.alpha.sum(dim=1)
        torch.testing.assert_close(shares, torch.ones_like(shares))
        # Methods that cut show the picture itself, methods that reconstruct only come near it.
        assert layers.composite.shape == batch.image.shape
        assert layers.composite.abs().max() <= 1 + 1e-5
    if isinstance(method, LayerGenerator):
        one, two = (method.sample(2, generator=torch.Generator().manual_seed(3)) for _ in "ab")
        assert torch.equal(one.composite, two.composite)
        torch.testing.assert_close((one.alpha * one.color).sum(dim=1), one.composite)
    if isinstance(method, LatentDecoder):
        latent = method.latent(2, generator=torch.Generator().manual_seed(3))
        assert torch.equal(method.decode(latent).composite, method.decode(latent).composite)
    if isinstance(method, Redrawer):
        latent = method.recover_latent(batch.image)
        assert method.redraw(batch.image, latent).shape[:2] == latent.shape[:2]
    for pictures in method.pictures(batch).values():
        assert pictures.ndim == 4
        assert pictures.shape[1] == 3
        assert len(pictures) == 1 or len(pictures) % len(batch) == 0


def test_base_class_has_no_capability() -> None:
    drawing = (
        LayerGenerator, NoisyGenerator, LatentDecoder, TruncatedDecoder, StyleDecoder, LayerMixer,
        Projector, FilteringGenerator,
    )  # fmt: skip
    for protocol in (Segmenter, Decomposer, Redrawer, *drawing):
        for attribute in (n for n in vars(protocol) if not n.startswith("_")):
            assert not hasattr(Method, attribute)


def test_saved_method_is_loaded_bit_for_bit(name: str, tmp_path: Path) -> None:
    method, _ = build_tiny(name)
    checkpoint = {"state_dict": method.state_dict()}
    method.on_save_checkpoint(checkpoint)
    VerifiedCheckpointIO().save_checkpoint(checkpoint, tmp_path / "m.ckpt")
    loaded = load_method(tmp_path / "m.ckpt")
    assert not loaded.training
    for key, value in method.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)
    assert loaded.origin["method"]["_target_"] == method.origin["method"]["_target_"]


def test_reset_is_a_fresh_start(name: str) -> None:
    torch.manual_seed(5)
    method, _ = build_tiny(name)
    torch.manual_seed(5)
    method.reset_parameters()
    torch.manual_seed(5)
    fresh, _ = build_tiny(name)
    for key, value in fresh.state_dict().items():
        assert torch.equal(method.state_dict()[key], value), key


def test_state_dict_keys_are_the_published_ones(name: str) -> None:
    keys = sorted(build_tiny(name)[0].state_dict())
    path = KEYS / f"{name}.json"
    assert path.is_file(), f"write the public keys to {path}: {json.dumps(keys)[:60]}"
    assert keys == json.loads(path.read_text())


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
def test_other_precisions_run(name: str, precision: str) -> None:
    method, data = build_tiny(name)
    fit(method, data, 1, precision=precision)
    assert all(torch.isfinite(value) for value in method.last_losses.values())


def test_validation_frequency_changes_nothing(name: str) -> None:
    states = []
    for interval in (1, 3):
        torch.manual_seed(0)
        method, data = build_tiny(name)
        fit(method, data, 3, val_check_interval=interval, check_val_every_n_epoch=None)
        states.append(method.state_dict())
    for key, value in states[0].items():
        if not key.startswith("scores_"):
            assert torch.equal(value, states[1][key]), key


METHOD = '''
from collections.abc import Mapping
import torch
from torch import Tensor, nn
from figureground.core.method import Method
from figureground.core.types import Batch

class Threshold(Method):
    """Brighter than learned: object."""

    def __init__(self, *, resolution: int = 32, metrics: Mapping | None = None) -> None:
        super().__init__(metrics=metrics)
        self.level = nn.Parameter(torch.zeros(1))

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.level)

    def segment(self, image: Tensor) -> Tensor:
        share = torch.sigmoid(image.mean(1, keepdim=True) - self.level)
        return torch.cat([1 - share, share], 1)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        loss = self.segment(batch.image)[:, 1].var()
        self.log_losses({"variance": loss})
        self.descend(loss, self.optimizers(), player="level")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        return {"pictures": batch.image}
'''
DATASET = """
import numpy as np
from figureground.data.samples import ImageDataset, Sample

class Stripes(ImageDataset):
    def __init__(self, count: int) -> None:
        self.keys = [f"s{i}" for i in range(count)]

    def __getitem__(self, index: int) -> Sample:
        mask = np.zeros((32, 32), np.uint8)
        mask[:, index % 16 : index % 16 + 8] = 1
        return Sample(np.repeat(mask[..., None] * 200, 3, 2), self.keys[index], mask)

    def fingerprint(self) -> str:
        return f"stripes-{len(self)}"
"""


@pytest.mark.slow
def test_adding_a_method_and_a_dataset_edits_no_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(METHOD + DATASET)
    for group in ("method", "data", "recipe"):
        (tmp_path / "conf" / group).mkdir(parents=True)
    scores = "figureground.metrics.segmentation.SegmentationScores"
    (tmp_path / "conf/method/threshold.yaml").write_text(
        "_target_: mine.Threshold\nresolution: ${data.resolution}\n"
        f"metrics:\n  segmentation:\n    _target_: {scores}\n"
    )
    splits = "".join(
        f"{s}:\n  _target_: mine.Stripes\n  count: 12\n" for s in ("train", "val", "test")
    )
    (tmp_path / "conf/data/stripes.yaml").write_text(
        "_target_: figureground.data.datamodule.ImageDataModule\nname: stripes\nresolution: 32\n"
        f"batch_size: 4\nseed: ${{seed}}\n{splits}"
    )
    (tmp_path / "conf/recipe/threshold-stripes.yaml").write_text(
        "# @package _global_\niterations: 3\ntrainer:\n  val_check_interval: 2\n"
    )
    train = command("redo", tmp_path / "run")[1]
    done = run(
        ["python", train, "--config-dir", "conf", "method=threshold", "data=stripes",
         f"paths.output_dir={tmp_path / 'run'}", "trainer.accelerator=cpu"],
        cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.code == 0, done.err
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["iterations"] == 3
    assert metrics["test/iou/img/set"] > 0.9
    assert (tmp_path / "run/images/pictures.png").is_file()
