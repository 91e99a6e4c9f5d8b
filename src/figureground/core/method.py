"""`Method`: what all methods share, so that a subclass states only its paper."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Protocol

import torch
from pytorch_lightning import LightningModule
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, get_total_norm
from torch.optim import Optimizer
from torchmetrics import Metric

from figureground import __version__
from figureground.core.absence import note_absence, require_soft_masks
from figureground.core.checkpoint import check_fits
from figureground.core.errors import ConfigError, DataError, NumericalError
from figureground.core.protocols import Clusterer, ObjectFinder, Segmenter
from figureground.core.scaling import unscale, without_scaler
from figureground.core.types import Batch

CHECKPOINT_FORMAT = 1
#: Names of what the test loaders hold: pictures held out, and training pictures.
_TESTS = ("test", "test_transductive")
#: The same for validation: real pictures, and pairs kept back from those trained on.
_VALIDATIONS = ("val", "val_pairs")
_CAPABILITY = {
    "segmentation": Segmenter,
    "partition": Segmenter,
    "clustering": Clusterer,
    "objects": ObjectFinder,
    "pixel_classes": ObjectFinder,
}


class Average(Protocol):
    """What the base asks of a running average of weights (`nn.ema.WeightAverage`)."""

    def bypassed(self) -> AbstractContextManager[None]:
        """Serve the live weights within this context."""
        ...

    def update(self) -> None:
        """Move the average towards the live weights."""
        ...

    def reset(self) -> None:
        """Make the average equal to the live weights."""
        ...

    def __call__(self, *args: Any) -> Any:
        """Run the averaged network."""
        ...


class Method(LightningModule, ABC):
    """Base of all methods: manual optimisation, evaluation by capability, checkpoint section.

    Args:
        metrics: One metric for each group the method is scored by (`segmentation`, `partition`,
            `clustering`, `objects` or `pixel_classes`); its `compute` returns a dict from metric id
            to scalar.
            None turns off a group that is on by default.

    Attributes:
        num_streams: Independently shuffled draws of the training set in each step; with more
            than one, `training_step` receives a tuple of that many batches.
        learns_from_masks: Whether training batches carry masks.
        draws_layers: Whether what `sample` draws, if it draws, has more than one layer, so that
            there are masks.
        origin: Plain dict with the sections `method` and `data` this method was built from. It
            goes into every checkpoint and is what `load_method` rebuilds from.
        ema: Running average of the weights that serves predictions, if the method keeps one;
            scores of the live weights then appear beside it under `raw/`.
        patience: Consecutive non-finite steps of one player after which training ends.
    """

    num_streams: ClassVar[int] = 1
    learns_from_masks: ClassVar[bool] = False
    draws_layers: ClassVar[bool] = True

    def __init__(self, *, metrics: Mapping[str, Metric | None] | None = None) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.origin: dict[str, Any] = {}
        self.ema: Average | None = None
        self.patience = 10
        self.skipped: Counter[str] = Counter()  # Consecutive skipped steps of each player.
        self.last_losses: dict[str, Tensor] = {}
        self._last_statistics: list[tuple[Tensor, Tensor]] = []  # Buffers, and before this batch.
        self.restarts: list[dict[str, Any]] = []  # One record for each collapse restart.
        self.absent: dict[str, str] = {}  # Why a group of metrics has no scores, by stage.
        self._scores: dict[str, Metric] = {}
        self._num_scored: Counter[str] = Counter()  # Pictures of this process, not yet logged.
        for group, metric in (metrics or {}).items():
            if metric is None:
                continue
            if group not in _CAPABILITY or not isinstance(self, _CAPABILITY[group]):
                raise ValueError(f"{type(self).__name__} cannot be scored by {group!r} metrics")
            for name in (f"{s}/{v}{group}" for s in (*_VALIDATIONS, *_TESTS) for v in ("", "raw/")):
                self._scores[name] = metric.clone()
                self.add_module("scores_" + name.replace("/", "_"), self._scores[name])

    @abstractmethod
    def reset_parameters(self) -> None:
        """Initialise all weights and buffers anew, as the constructor leaves them."""

    @abstractmethod
    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Update all players once on one batch (a tuple of them if `num_streams` > 1)."""

    @abstractmethod
    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Pictures worth logging for a few images: name -> (N, 3, H, W) in [-1, 1].

        Grids of B rows, or single pictures with N = 1.
        """

    def picture_titles(self) -> Mapping[str, Sequence[str]]:
        """Titles of the columns of the grids in `pictures` that have some."""
        return {}

    @property
    def iteration(self) -> int:
        """Batches trained on since the start or the latest restart, counted from 1."""
        return self.trainer.fit_loop.total_batch_idx + 1 - self._restarted_at

    @property
    def _restarted_at(self) -> int:
        return int(self.restarts[-1]["iteration"]) if self.restarts else 0

    def descend(
        self, loss: Tensor, *optimizers: Optimizer, player: str, clip: float | None = None
    ) -> bool:
        """Step down `loss`: zero gradients, backward, clip, step every optimizer.

        An optimizer that is named more than once steps as often, down the same gradient.
        A non-finite loss or gradient leaves the weights alone and is counted under `player`;
        running statistics that it made non-finite go back to what they were before the batch.

        Args:
            loss: Scalar.
            optimizers: Those whose parameters move.
            player: Name of who moves, for counters and messages.
            clip: Largest gradient norm over all moved parameters, or None.

        Returns:
            Whether the step was taken.

        Raises:
            NumericalError: After `patience` skipped steps of this player in a row.
        """
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        self.manual_backward(loss)
        moved = [p for o in optimizers for group in o.param_groups for p in group["params"]]
        gradients = [p.grad for p in moved if p.grad is not None]
        total = loss.detach().float()
        plugin = self.trainer.precision_plugin
        is_scaled = getattr(plugin, "scaler", None) is not None
        if gradients and not is_scaled:
            self.mend_gradients(gradients)
            total = total + get_total_norm(gradients)
        if not self._agree(total):
            self._skip(player, optimizers)
            return False
        self.skipped[player] = 0
        if gradients and is_scaled:
            unscale(plugin, optimizers)
            # Overflow is how a scaler finds its scale, so it does not count as skipped.
            if not self._agree(get_total_norm(gradients)):
                self._undo(optimizers)
                return False
        if clip is not None:
            clip_grad_norm_(moved, clip)
        with without_scaler(plugin):
            for optimizer in optimizers:
                optimizer.step()
        return True

    def compile_networks(self, **options: Any) -> None:
        """Compile networks in place, so that state-dict keys stay.

        What is differentiated twice cannot be compiled: methods that do so name what can.

        Args:
            options: Of `torch.compile`.
        """
        for network in self.children():
            network.compile(**options)

    def mend_gradients(self, gradients: Sequence[Tensor]) -> None:
        """Change the gradients of a step in place before `descend` looks at them.

        Not asked where losses are scaled: what overflows there tells the scaler to lower its scale.
        """

    def _agree(self, value: Tensor) -> bool:
        """Whether `value` is finite on all processes."""
        decide = self.trainer.strategy.reduce_boolean_decision
        return bool(decide(bool(value.isfinite()), all=True))

    def _undo(self, optimizers: tuple[Optimizer, ...]) -> None:
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        for buffer, before in self._last_statistics:
            if not buffer.isfinite().all():
                buffer.copy_(before)

    def _skip(self, player: str, optimizers: tuple[Optimizer, ...]) -> None:
        self._undo(optimizers)
        self.skipped[player] += 1
        self.log(f"train/skipped/{player}", float(self.skipped[player]))
        if self.skipped[player] >= self.patience:
            terms = ", ".join(f"{name} = {float(x):g}" for name, x in self.last_losses.items())
            raise NumericalError(
                f"the {player}'s loss or gradient was not finite {self.patience} times in a row "
                f"(iteration {self.iteration}; last terms: {terms}). Its weights are untouched: "
                "lower the learning rate or use trainer.precision=32-true, then resume"
            )

    def log_losses(self, losses: Mapping[str, Tensor]) -> None:
        """Log loss terms under `train/loss/<name>`."""
        for name, value in losses.items():
            self.last_losses[name] = value.detach()
            self.log(f"train/loss/{name}", value.detach())

    def setup(self, stage: str) -> None:
        """Refuse metrics that need more of the truth than pictures have, before any is trained on.

        Raises:
            ConfigError: They score soft masks, which the data do not have.
        """
        scores = self._scores.get("test/segmentation")
        data = getattr(self.trainer, "datamodule", None)
        # After training, pictures held out are scored, too.
        scored = {"fit": _VALIDATIONS + _TESTS, "validate": _VALIDATIONS, "test": _TESTS}
        if data is not None and getattr(scores, "is_soft", False):
            require_soft_masks(data, scored.get(stage, ()))

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Refuse pictures with non-finite pixels by name, while they are still on the CPU."""
        for part in batch if isinstance(batch, tuple | list) else (batch,):
            if not part.image.isfinite().all():
                broken = ~part.image.isfinite().flatten(1).all(dim=1)
                keys = [key for key, bad in zip(part.key, broken.tolist(), strict=True) if bad]
                raise DataError(f"pictures with non-finite pixels: {', '.join(keys[:10])}")
        return batch

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Remember running statistics: a batch that is skipped may have made them non-finite."""
        self._last_statistics = [
            (buffer, buffer.clone())
            for module in self.modules()
            if not isinstance(module, Metric)
            for buffer in module.buffers(recurse=False)
            if buffer.is_floating_point()
        ]

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Update the metrics of every group the batch has truth for."""
        self._update_scores(_VALIDATIONS[dataloader_idx], batch)

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Update the metrics of every group the batch has truth for."""
        self._update_scores(_TESTS[dataloader_idx], batch)

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the whole validation set, and of pairs if there were any."""
        self._log_scores("val")
        if self._num_scored["val_pairs"]:
            self._log_scores("val_pairs")

    def on_test_epoch_end(self) -> None:
        """Log the scores of the whole test set, and of training pictures if there were any."""
        for stage in _TESTS:
            if self._num_scored[stage]:
                self._log_scores(stage)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Most probable region of each pixel, (B, H, W) int64."""
        # On CPUs argmax over a dimension like this takes 25 times as long.
        return self._segment_to_score(batch).max(dim=1).indices

    def _update_scores(self, stage: str, batch: Batch) -> None:
        self._num_scored[stage] += len(batch)
        self._update_variant(f"{stage}/", batch)
        if self.ema is not None:
            with self.ema.bypassed():
                self._update_variant(f"{stage}/raw/", batch)

    def _update_variant(self, prefix: str, batch: Batch) -> None:
        scores = self._scores.get(f"{prefix}segmentation")
        partition = self._scores.get(f"{prefix}partition")
        wanted = scores is not None or partition is not None
        if wanted and batch.mask is not None and isinstance(self, Segmenter):
            probabilities = self._segment_to_score(batch)
            if scores is not None:
                # Others know nothing of a third argument.
                soft = (batch.soft_mask,) if getattr(scores, "is_soft", False) else ()
                _feed(scores, probabilities, batch.mask, *soft)
            if partition is not None:
                partition.update(probabilities.max(dim=1).indices, batch.mask)
        scores = self._scores.get(f"{prefix}clustering")
        if scores is not None and batch.label is not None and isinstance(self, Clusterer):
            _feed(scores, self.cluster(batch.image), batch.label)
        self._update_objects(prefix, batch)

    def _segment_to_score(self, batch: Batch) -> Tensor:
        """Probabilities (B, K, h, w) of any size; those who can segment at the masks' own do."""
        if not isinstance(self, Segmenter):
            raise TypeError(f"{type(self).__name__} cannot segment")
        return self.segment(batch.image)

    def _update_objects(self, prefix: str, batch: Batch) -> None:
        objects = self._scores.get(f"{prefix}objects")
        classes = self._scores.get(f"{prefix}pixel_classes")
        if (
            batch.mask is None
            or not isinstance(self, ObjectFinder)
            or (objects is None and classes is None)
        ):
            return
        maps = self.find_objects(batch.image)
        if objects is not None:
            objects.update(maps.found, maps.filled, batch.mask)
        if classes is not None and batch.class_mask is not None:
            classes.update(maps.classes, batch.class_mask)

    def _log_scores(self, stage: str) -> None:
        count = torch.tensor(float(self._num_scored[stage]), device=self.device)
        self.log(f"{stage}/images", self.trainer.strategy.reduce(count, reduce_op="sum"))
        had_pictures, self._num_scored[stage] = self._num_scored[stage] > 0, 0
        for name, scores in self._scores.items():
            if not name.startswith(f"{stage}/"):
                continue
            # Summing up over processes waits for all of them.
            decide = self.trainer.strategy.reduce_boolean_decision
            found = scores.compute() if decide(scores.update_called, all=False) else {}
            scores.reset()
            if found:
                prefix = name.rpartition("/")[0]
                self.log_dict({f"{prefix}/{key}": value for key, value in found.items()})
            elif had_pictures and "/raw/" not in name:  # No truth, or all of it void.
                note_absence(self.absent, name)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the section that `load_method` rebuilds this method from."""
        checkpoint["figureground"] = {
            "format": CHECKPOINT_FORMAT,
            "version": __version__,
            "restarts": self.restarts,
            "skipped": dict(self.skipped),
            **self.origin,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights that do not fit before any is loaded; take up the counters."""
        check_fits(self, checkpoint["state_dict"], "the checkpoint")
        section = checkpoint.get("figureground", {})
        self.restarts = list(section.get("restarts", []))
        self.skipped = Counter(section.get("skipped", {}))


def _feed(scores: Metric, *values: Tensor | None) -> None:
    """Update a metric; what it refuses is what it was told of regions, clusters or classes."""
    try:
        scores.update(*values)
    except ValueError as error:
        raise ConfigError(str(error)) from error
