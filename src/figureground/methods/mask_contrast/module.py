"""MaskContrast: pixels of an object are drawn to the object, and away from those of other pictures.

Van Gansbeke, Vandenhende, Georgoulis, Van Gool, "Unsupervised Semantic Segmentation by Contrasting
Object Mask Proposals", ICCV 2021 (arXiv 2102.06191). Masks come from elsewhere: those of a trained
segmenter by `pairs=taught`, or of annotated pictures.

- L = w_c contrast + w_s class-balanced cross-entropy of saliency   `losses`
- key encoder k <- m k + (1 - m) q, queue of K objects              `nn.ema`, `queue.KeyQueue`
- two views, masks moved along                                      `views.ViewMaker`
- lr (1 - t / t_end)^power                                          `MaskContrast._rate_factor`
- z_i and saliency of a picture                                     `embed`, `segment`
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer
from torchmetrics import Metric

from figureground.core.bounds import (
    Bounds,
    Decay,
    Fraction,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Width,
)
from figureground.core.errors import DataError, UserError
from figureground.core.method import Method
from figureground.core.types import VOID, Batch, check_image
from figureground.data.pictures import accepts_pictures
from figureground.methods.mask_contrast.losses import (
    Negatives,
    Weighting,
    balanced_entropy,
    contrast_pixels,
    object_keys,
)
from figureground.methods.mask_contrast.networks import (
    FOR_PHOTOGRAPHS,
    EmbeddingNetwork,
    Head,
    TrunkName,
    load_initial,
)
from figureground.methods.mask_contrast.pictures import TITLES, feature_rows
from figureground.methods.mask_contrast.queue import KeyQueue
from figureground.methods.mask_contrast.views import View, ViewMaker
from figureground.metrics.pixel_features import read_resnet
from figureground.nn.ema import WeightAverage
from figureground.nn.optimizers import OptimizerFactory
from figureground.nn.precision import widen

Schedule = Literal["poly", "constant"]
_Side = Annotated[int, Bounds(16, 4096)]
_ViewSide = Annotated[int, Bounds(16, 4096, in_pixels=True)]


class MaskContrast(Method):
    """Learn features of pixels that tell objects apart, from masks without classes.

    Args:
        resolution: Side of the pictures.
        view_resolution: Side of the views that are learned from; as the pictures if None.
        trunk: Residual network, see `EmbeddingNetwork`.
        trunk_width: Channels of the first stage of the small trunks `resnet20` and `resnet32`.
        head: What follows: DeepLab's convolutions of several rates, or nothing.
        head_width: Its channels.
        rates: Its dilations.
        embedding_dim: Length D of an embedding.
        weights: File of a ResNet to begin with: MoCo v2's, torchvision's or MaskContrast's. Read
            when training begins; never downloaded.
        temperature: T of the contrast.
        momentum: m, share of the key encoder that stays in each step.
        queue_size: K, objects of batches before that pixels are held against.
        negatives: `queue`, or `all`: other objects of the batch too, as in the released code.
        weighting: `pixels` alike, or by `frequency` of their object, as in the released code.
        contrast_weight: w_c.
        saliency_weight: w_s.
        crop: See `ViewMaker`, as the four that follow.
        area: Objects that cover less or more of a view are not contrasted.
        jitter: Changes of brightness, contrast, saturation and hue.
        jitter_probability: Of these.
        gray_probability: Of none but grey.
        schedule: `poly` lowers the learning rate to zero at `decay_iterations`.
        decay_iterations: t_end.
        power: Of that decay.
        optimizer: Makes the optimiser; the published SGD if None.
        metrics: See `Method`.
    """

    learns_from_masks = True

    def __init__(
        self,
        *,
        resolution: _Side,
        view_resolution: _ViewSide | None = None,
        trunk: TrunkName = "resnet50",
        trunk_width: Width = 16,
        head: Head = "deeplab",
        head_width: Width = 256,
        rates: Sequence[PositiveInt] = (12, 24, 36),
        embedding_dim: Width = 32,
        weights: str | None = None,
        temperature: PositiveFloat = 0.5,
        momentum: Decay = 0.999,
        queue_size: PositiveInt = 256,
        negatives: Negatives = "queue",
        weighting: Weighting = "pixels",
        contrast_weight: NonNegativeFloat = 1.0,
        saliency_weight: NonNegativeFloat = 1.0,
        crop: Sequence[Fraction] = (0.2, 1.0),
        area: Sequence[Fraction] = (0.01, 0.99),
        jitter: Sequence[Fraction] = (0.4, 0.4, 0.4, 0.1),
        jitter_probability: Fraction = 0.8,
        gray_probability: Fraction = 0.2,
        schedule: Schedule = "poly",
        decay_iterations: PositiveInt = 3280,
        power: PositiveFloat = 0.9,
        optimizer: OptimizerFactory | None = None,
        metrics: Mapping[str, Metric | None] | None = None,
    ) -> None:
        super().__init__(metrics=metrics)
        self.resolution, self.weights = resolution, weights
        self.view_resolution = view_resolution or resolution
        self.contrast_weight, self.saliency_weight = contrast_weight, saliency_weight
        self.schedule, self.decay_iterations, self.power = schedule, decay_iterations, power
        self._contrast = partial(
            contrast_pixels, temperature=temperature, negatives=negatives, weighting=weighting
        )
        # The file to begin with need not be there once there is a checkpoint.
        if problems := self.check_options(
            trunk=trunk, weights=None, crop=crop, area=area, jitter=jitter
        ):
            raise ValueError("; ".join(problems))
        self.views = ViewMaker(crop, area, jitter, jitter_probability, gray_probability)
        self.trunk, self.head = trunk, head
        self._build = partial(
            EmbeddingNetwork,
            trunk=trunk,
            trunk_width=trunk_width,
            head=head,
            head_width=head_width,
            rates=tuple(rates),
            embedding_dim=embedding_dim,
        )
        self.network = self._build()
        self.key_encoder = WeightAverage(self.network, momentum)
        self.queue = KeyQueue(queue_size, embedding_dim)
        self._optimizer = optimizer or partial(
            torch.optim.SGD, lr=4e-3, momentum=0.9, weight_decay=1e-4
        )

    @staticmethod
    def check_options(
        *,
        trunk: str,
        weights: str | None,
        crop: Sequence[float],
        area: Sequence[float],
        jitter: Sequence[float],
        **_: object,
    ) -> list[str]:
        """Problems of lists, and of a file to begin with that is not there or for no such trunk."""
        problems = ViewMaker.check_options(crop=crop, area=area, jitter=jitter)
        if weights is not None and trunk not in FOR_PHOTOGRAPHS:
            problems.append(
                f"weights={weights} needs a trunk of torchvision, got {trunk}; set method.trunk to "
                f"one of {', '.join(FOR_PHOTOGRAPHS)}, or method.weights=null"
            )
        elif weights is not None and not Path(weights).is_file():
            problems.append(
                f"weights={weights} is not a file; expected MoCo v2's, MaskContrast's or a ResNet "
                "of torchvision, or null to begin with random weights"
            )
        return problems

    # -- capabilities ------------------------------------------------------------------------

    @accepts_pictures
    def segment(self, image: Tensor) -> Tensor:
        """Probabilities of background and object for `image` (B, 3, H, W): (B, 2, H, W).

        Also takes one picture of any size (file, Pillow image, array), see `accepts_pictures`.
        """
        check_image(image)
        return self._segment_at(image, image.shape[2:])

    def embed(self, image: Tensor) -> Tensor:
        """Features (B, D, h, w) of `image` (B, 3, H, W), each cell's of length one."""
        check_image(image)
        return F.normalize(widen(self.network(image)[0]), dim=1)

    def _segment_to_score(self, batch: Batch) -> Tensor:
        """Enlarge logits, not probabilities, to the size of the masks."""
        size = batch.image.shape[2:] if batch.mask is None else batch.mask.shape[1:]
        return self._segment_at(batch.image, size)

    def _segment_at(self, image: Tensor, size: torch.Size) -> Tensor:
        object_ = _enlarge(self.network(image)[1], size).sigmoid()
        return torch.cat([1 - object_, object_], dim=1)

    # -- training ----------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Read the weights to begin with, unless a run goes on that has some.

        Raises:
            UserError: The file holds none, or those of another trunk; or batches are too small.
            ConfigError: See `Method.setup`.
        """
        super().setup(stage)
        if stage != "fit":
            return
        data = getattr(self.trainer, "datamodule", None)
        if self.head == "deeplab" and getattr(data, "batch_size", 2) < 2:
            raise UserError(
                "head=deeplab normalises over a batch and needs two pictures in it, got "
                "data.batch_size=1; set data.batch_size=2 or more, or method.head=none"
            )
        if self.weights is None or self.trainer.ckpt_path is not None:
            return
        found = read_resnet(self.weights)
        if found.name != self.trunk:
            raise UserError(
                f"weights={self.weights} holds a {found.name}, expected {self.trunk}; set "
                f"method.trunk={found.name} or give another file"
            )
        load_initial(self.network, found.trunk, found.head, self.weights)
        self.key_encoder.reset()

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Step the network once, after the key encoder; then queue what that has seen."""
        mask = self._masks(batch)
        query, other = (self.views.draw(batch.image, mask, self.view_resolution) for _ in "qk")
        usable = query.is_usable & other.is_usable
        self.key_encoder.update()
        with torch.no_grad():
            keys = object_keys(self._embed_view(other, self.key_encoder(other.image)), other.mask)
        found = self.network(query.image)
        losses = {
            "contrast": self._contrast_objects(query, found, keys, usable),
            "saliency": balanced_entropy(
                _enlarge(found[1], query.image.shape[2:])[:, 0], query.mask
            ),
        }
        self.log_losses(losses)
        total = self.contrast_weight * losses["contrast"]
        total = total + self.saliency_weight * losses["saliency"]
        optimizer: Any = self.optimizers()
        with self._paced(optimizer):
            stepped = self.descend(total, optimizer, player="network")
        keys, usable = self._gather(keys), self._gather(usable)
        if stepped:
            self.queue.push(keys[usable])

    def _masks(self, batch: Batch) -> Tensor:
        """Objects (B, H, W), 0, 1 or void."""
        if batch.mask is None:
            raise DataError(
                f"{batch.key[0]} and others have no mask to learn from; give pairs=taught "
                "pairs.ckpt=<segmenter>, pairs=saved or a dataset with annotated training pictures"
            )
        return batch.mask.clamp(max=1).masked_fill(batch.mask == VOID, VOID)

    def _embed_view(self, view: View, found: tuple[Tensor, Tensor]) -> Tensor:
        """Embeddings (B, D, S, S) of length one."""
        return F.normalize(_enlarge(found[0], view.image.shape[2:]), dim=1)

    def _contrast_objects(
        self, view: View, found: tuple[Tensor, Tensor], keys: Tensor, usable: Tensor
    ) -> Tensor:
        embedding = self._embed_view(view, found)[usable]
        inside = view.mask[usable] == 1  # (b, S, S)
        query = embedding.movedim(1, -1)[inside]  # (N, D)
        owner = inside.nonzero()[:, 0]
        return self._contrast(query, owner, keys[usable], self.queue.keys)

    def _gather(self, values: Tensor) -> Tensor:
        """Join what the processes have, (B, ...) each."""
        if self.trainer.world_size == 1:
            return values
        gathered = self.all_gather(values)
        return torch.as_tensor(gathered).flatten(0, 1)

    @contextmanager
    def _paced(self, optimizer: Optimizer) -> Iterator[None]:
        """Lower the learning rate within this context, by where training is."""
        factor = self._rate_factor()
        rates = [float(group["lr"]) for group in optimizer.param_groups]
        self.log("train/rate", rates[0] * factor)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        try:
            yield
        finally:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate

    def _rate_factor(self) -> float:
        if self.schedule == "constant":
            return 1.0
        left = 1 - min((self.iteration - 1) / self.decay_iterations, 1.0)
        return float(left**self.power)

    def configure_optimizers(self) -> list[Optimizer]:
        """One optimiser; the key encoder only follows."""
        return [self._optimizer(self.network.parameters())]

    def reset_parameters(self) -> None:
        """Build the network anew, and begin with an empty queue."""
        self.network.load_state_dict(self._build().state_dict())
        self.key_encoder.reset()
        self.queue.reset_parameters()

    @torch.no_grad()
    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """`features`: rows of picture, mask, saliency and first principal components."""
        saliency = self.segment(batch.image)[:, 1:]
        rows = feature_rows(batch.image, batch.mask, saliency, self.embed(batch.image))
        return {"features": rows}

    def picture_titles(self) -> Mapping[str, Sequence[str]]:
        """Of the columns of these rows."""
        return {"features": TITLES}


def _enlarge(maps: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(widen(maps), tuple(size), mode="bilinear", align_corners=False)
