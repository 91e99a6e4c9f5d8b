"""A U-Net trained on pairs of pictures and masks: the last stage of three unsupervised papers.

ILSGAN (arXiv 2211.13974, section 6 of its spec), gan-segmenter (arXiv 2105.08127) and L2IC train
it on pairs that a generator has drawn and apply it to photographs. Which pairs is not its
business: `pairs=saved`, `pairs=live`, or the annotated training pictures of a dataset, which makes
it the supervised upper bound.

- two-class cross-entropy on hard masks      `losses.cross_entropy`
- base-2 entropy on soft masks               `losses.binary_entropy`
- distance, and a judge of masks             `game` (DS-ComGAN)
- p = softmax(U(x)), enlarged to the picture `Segmenter.segment`
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer
from torchmetrics import Metric

from figureground.core.bounds import Bounds, Depth, Fraction, PixelSide, PositiveInt, Width
from figureground.core.errors import DataError
from figureground.core.method import Method
from figureground.core.types import VOID, Batch, check_image
from figureground.data.pictures import accepts_pictures
from figureground.methods.segmenter.augment import Augmentation, augment_pairs
from figureground.methods.segmenter.game import (
    MaskJudge,
    judge_terms,
    network_terms,
    real_pictures,
)
from figureground.methods.segmenter.losses import binary_entropy, cross_entropy
from figureground.nn.bilateral import refine_shares
from figureground.nn.optimizers import OptimizerFactory
from figureground.nn.precision import widen
from figureground.nn.unet import BlockNorm, UNet, Upsampling, unet_widths
from figureground.viz.truth import gray_truth

Schedule = Literal["constant", "step", "cosine"]
Refinement = Literal["none", "bilateral"]
Loss = Literal["cross_entropy", "binary_entropy", "ds_comgan"]

_SMALLEST_JUDGED = 8  # Pixels that the judge's convolutions take.


class Segmenter(Method):
    """Tell object from background, having learned from pictures with masks.

    Defaults are ILSGAN's and gan-segmenter's network. Masks are the label in every batch; where
    pairs are drawn, no real label is seen in training or selection.

    Args:
        resolution: Side of the pictures, of training pairs and in `segment` of files.
        input_resolution: Side that pictures (and masks, in training) are shrunk to first; what
            comes out is enlarged to the picture again. ILSGAN tests 128 pixels at 64. None takes
            them as they are.
        width: Channels of the U-Net at full resolution.
        depth: Times that it halves the resolution.
        upsampling: How it enlarges maps; L2IC's is `nearest_conv`.
        norm: Its normalisation.
        loss: `cross_entropy` of two classes, base-2 `binary_entropy` of one, or `ds_comgan`, which
            also trains a judge of masks on those of real training pictures.
        target: Learn from `hard` masks (m >= 0.5), or from `soft` ones where pictures have any.
        ignore: Pixels whose soft mask is nearer to the half than this do not count; 0 counts all.
        augment: Random changes of training pairs: none, colours, geometry, or both; or `photo`,
            what happens to photographs.
        refine: `bilateral` moves what is found to the edges of the picture, see `nn.bilateral`.
        schedule: `constant` is what all papers ran; `step` multiplies the rate by `step_factor`
            every `step_every` iterations; `cosine` falls to zero at `cosine_iterations`.
        step_every: See `schedule`.
        step_factor: See `schedule`.
        cosine_iterations: See `schedule`.
        judge_width: Channels of that judge after its first convolution.
        judge_optimizer: Makes its optimiser; as `optimizer` if None.
        optimizer: Makes the optimiser; Adam with rate 1e-3 if None.
        metrics: See `Method`.
    """

    learns_from_masks = True

    def __init__(
        self,
        *,
        resolution: Width,
        input_resolution: PixelSide | None = None,
        width: Width = 64,
        depth: Depth = 4,
        upsampling: Upsampling = "bilinear_aligned",
        norm: BlockNorm = "batch",
        loss: Loss = "cross_entropy",
        target: Literal["hard", "soft"] = "hard",
        ignore: Annotated[float, Bounds(0, 0.5)] = 0.0,
        augment: Augmentation = "none",
        refine: Refinement = "none",
        schedule: Schedule = "constant",
        step_every: PositiveInt = 4000,
        step_factor: Fraction = 0.2,
        cosine_iterations: PositiveInt = 6000,
        judge_width: Width = 32,
        judge_optimizer: OptimizerFactory | None = None,
        optimizer: OptimizerFactory | None = None,
        metrics: Mapping[str, Metric | None] | None = None,
    ) -> None:
        super().__init__(metrics=metrics)
        if problems := self.check_options(
            resolution=resolution,
            input_resolution=input_resolution,
            depth=depth,
            loss=loss,
            target=target,
            ignore=ignore,
        ):
            raise ValueError("; ".join(problems))
        self.resolution, self.input_resolution = resolution, input_resolution
        self.loss, self.target, self.augment = loss, target, augment
        self.ignore, self.refine = ignore, refine
        self.schedule, self.step_every, self.step_factor = schedule, step_every, step_factor
        self.cosine_iterations = cosine_iterations
        self._optimizer = optimizer or partial(torch.optim.Adam, lr=1e-3)
        self._build = partial(
            UNet,
            num_outputs=2 if loss == "cross_entropy" else 1,
            widths=unet_widths(width, depth, upsampling),
            upsampling=upsampling,
            norm=norm,
        )
        self.network = self._build()
        self._judge_optimizer = judge_optimizer or self._optimizer
        self._build_judge = partial(MaskJudge, input_resolution or resolution, judge_width)
        if loss == "ds_comgan":
            self.judge = self._build_judge()

    @staticmethod
    def check_options(
        *,
        resolution: int,
        input_resolution: int | None,
        depth: int,
        loss: str,
        target: str,
        ignore: float = 0.0,
        **others: Any,
    ) -> list[str]:
        """Problems of options that are fine one by one but not together."""
        problems = []
        side = input_resolution or resolution
        if side < 2**depth:
            problems.append(
                f"a U-Net of depth={depth} needs {2**depth} pixels at least, got {side}; lower "
                "method.depth"
            )
        if input_resolution is not None and input_resolution > resolution:
            problems.append(
                f"input_resolution={input_resolution} is above the resolution of the pictures, "
                f"{resolution}; pictures are only shrunk"
            )
        if target == "soft" and loss == "cross_entropy":
            problems.append("target=soft needs loss=binary_entropy or ds_comgan")
        if ignore and loss == "ds_comgan":
            problems.append("ignore needs loss=cross_entropy or binary_entropy")
        if loss == "ds_comgan" and (side < _SMALLEST_JUDGED or side & (side - 1)):
            problems.append(
                f"loss=ds_comgan judges masks of {_SMALLEST_JUDGED}, 16, 32, ... pixels, got "
                f"{side}; set method.input_resolution"
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

    def _segment_to_score(self, batch: Batch) -> Tensor:
        """Enlarge logits, not probabilities, to the size of the masks, as the authors do."""
        size = batch.image.shape[2:] if batch.mask is None else batch.mask.shape[1:]
        return self._segment_at(batch.image, size)

    def _segment_at(self, image: Tensor, size: torch.Size) -> Tensor:
        if self.refine == "none":
            return self._classify(image, size)
        found = self._refine(image)
        if found.shape[2:] != size:
            found = F.interpolate(found, size, mode="bilinear", align_corners=False)
        return found

    def _classify(self, image: Tensor, size: torch.Size) -> Tensor:
        logits = widen(self.network(self._shrink(image)))
        if logits.shape[2:] != size:
            logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
        if self.loss == "cross_entropy":
            return logits.softmax(dim=1)
        object_ = logits.sigmoid()
        return torch.cat([1 - object_, object_], dim=1)

    def _refine(self, image: Tensor) -> Tensor:
        """Probabilities (B, 2, H, W) of `image` (B, 3, H, W), moved to its edges."""
        share = refine_shares(image, self._classify(image, image.shape[2:])[:, 1])
        return torch.stack([1 - share, share], dim=1)

    def _shrink(self, image: Tensor) -> Tensor:
        """Shrink (B, C, H, W) to the size the network is fed."""
        side = self.input_resolution
        if side is None or image.shape[2:] == (side, side):
            return image
        return F.interpolate(image, (side, side), mode="bilinear", antialias=True)

    # -- training ----------------------------------------------------------------------------

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Step the network once."""
        image, share = augment_pairs(self.augment, self._shrink(batch.image), self._truth(batch))
        given = self.optimizers()
        optimizers: list[Any] = given if isinstance(given, list) else [given]
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * self._rate_factor()
        logits = self.network(image)
        share, void = _split_void(share)
        if self.loss == "ds_comgan":
            self._play(logits[:, 0], share.to(image), void, optimizers)
            return
        unsure = void
        if self.ignore:
            near = (share - 0.5).abs() < self.ignore
            unsure = near if void is None else near | void
        if self.loss == "cross_entropy":
            loss = cross_entropy(logits, (share >= 0.5).long(), unsure)
        else:
            target = share if self.target == "soft" else (share >= 0.5)
            loss = binary_entropy(logits[:, 0], target.to(image), unsure)
        self.log_losses({self.loss: loss})
        self.descend(loss, optimizers[0], player="network")

    def _play(
        self, drawn: Tensor, mask: Tensor, void: Tensor | None, optimizers: Sequence[Optimizer]
    ) -> None:
        """Step the judge on masks, then the network through it; `drawn` are logits (B, S, S)."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]  # set by fit
        image = real_pictures(data, len(drawn), self.iteration, self.global_rank).to(drawn.device)
        real = self.network(self._shrink(image.to(mask)))[:, 0]
        found = [widen(logits).sigmoid() for logits in (drawn, real)]
        if void is not None:
            found[0] = found[0].masked_fill(void, 0)
        terms = judge_terms(self.judge, mask, *found)
        self.log_losses(terms)
        self.descend(torch.stack([*terms.values()]).sum(), optimizers[1], player="judge")
        self.judge.requires_grad_(False)  # It only passes gradients on.
        terms = network_terms(self.judge, mask, drawn, real, void)
        self.log_losses(terms)
        self.descend(torch.stack([*terms.values()]).sum(), optimizers[0], player="network")
        self.judge.requires_grad_(True)

    def _truth(self, batch: Batch) -> Tensor:
        """Masks (B, h, w) at the network's size: int64 in {0, 1}, or soft ones in [0, 1].

        Soft ones where they are the target, or tell which pixels to ignore. Whatever a void pixel
        is shrunk into is void: `VOID` in the former, NaN in the latter.
        """
        if batch.mask is None:
            raise DataError(
                f"{batch.key[0]} and others have no mask to learn from; give pairs=saved, "
                "pairs=live or a dataset with annotated training pictures"
            )
        share = batch.mask.clamp(max=1).to(batch.image)
        is_soft = self.target == "soft" or self.ignore > 0
        if is_soft and batch.soft_mask is not None:
            share = batch.soft_mask
        share = share.masked_fill(batch.mask == VOID, math.nan)
        share = self._shrink(share.unsqueeze(1))[:, 0]
        return share if is_soft else (share >= 0.5).long().masked_fill(share.isnan(), VOID)

    def _rate_factor(self) -> float:
        """Factor of the learning rate in this iteration."""
        done = self.iteration - 1
        if self.schedule == "step":
            return float(self.step_factor ** (done // self.step_every))
        if self.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * min(done / self.cosine_iterations, 1)))
        return 1.0

    def configure_optimizers(self) -> list[Optimizer]:
        """One optimiser for the network, and one for the judge where there is one."""
        optimizers = [self._optimizer(self.network.parameters())]
        if self.loss == "ds_comgan":
            optimizers.append(self._judge_optimizer(self.judge.parameters()))
        return optimizers

    def reset_parameters(self) -> None:
        """Build the networks anew and take over their weights."""
        self.network.load_state_dict(self._build().state_dict())
        if self.loss == "ds_comgan":
            self.judge.load_state_dict(self._build_judge().state_dict())

    @torch.no_grad()
    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """`masks`: rows of picture, true mask (void is grey), hard mask and probability."""
        found = self.segment(batch.image)[:, 1:]
        truth = torch.zeros_like(found)
        if batch.mask is not None:
            truth = F.interpolate(gray_truth(batch.mask).to(found), found.shape[2:])
        maps = [
            (2 * each - 1).expand(-1, 3, -1, -1) for each in (truth, (found >= 0.5).float(), found)
        ]
        return {"masks": torch.stack([batch.image, *maps], dim=1).flatten(0, 1)}

    def picture_titles(self) -> Mapping[str, Sequence[str]]:
        """Of the columns of these rows."""
        return {"masks": ("picture", "true mask", "mask", "probability")}


def _split_void(share: Tensor) -> tuple[Tensor, Tensor | None]:
    """Masks with ground where they are void, and where that is, (B, h, w); None for nowhere."""
    void = share.isnan() if share.is_floating_point() else share == VOID
    # Most masks have none, and losses without exceptions are faster, and the papers' to the bit.
    return (share.masked_fill(void, 0), void) if bool(void.any()) else (share, None)
