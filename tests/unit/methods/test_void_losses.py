"""Methods that learn from masks learn nothing from void pixels."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from figureground.core.types import VOID, Batch
from figureground.methods.mask_contrast.losses import balanced_entropy, object_keys
from figureground.methods.mask_contrast.views import ViewMaker
from figureground.methods.redo import ReDO
from figureground.methods.segmenter import Segmenter
from figureground.methods.segmenter.augment import augment_pairs, warp_mask
from figureground.methods.segmenter.game import MaskJudge, network_terms
from figureground.methods.segmenter.losses import mask_distance


def make_batch(side: int = 16) -> Batch:
    """Pictures whose upper half is void; of the last one, all is."""
    soft = torch.rand(3, side, side)
    mask = (soft >= 0.5).long()
    mask[:, : side // 2], mask[2] = VOID, VOID
    return Batch(torch.rand(3, 3, side, side) * 2 - 1, ("a", "b", "c"), mask, soft_mask=soft)


def change_void(batch: Batch) -> Batch:
    """The same with other shares where it is void."""
    assert batch.soft_mask is not None
    share = torch.where(batch.mask == VOID, 1 - batch.soft_mask, batch.soft_mask)
    return Batch(batch.image, batch.key, batch.mask, soft_mask=share)


def step(method: Segmenter, batch: Batch) -> tuple[dict[str, float], Tensor]:
    """Losses of one step, and the gradient of the last of the network's weights."""
    torch.manual_seed(0)
    method.reset_parameters()
    losses: dict[str, float] = {}
    found = method.configure_optimizers()
    method.optimizers = lambda: found  # type: ignore[method-assign, assignment]
    method.log_losses = lambda terms: losses.update(  # type: ignore[method-assign]
        {name: float(value.detach()) for name, value in terms.items()}
    )
    method.descend = lambda loss, *_, **__: loss.backward()  # type: ignore[method-assign]
    method.trainer = SimpleNamespace(fit_loop=SimpleNamespace(total_batch_idx=0))  # type: ignore[assignment]
    method.zero_grad()
    method.training_step(batch, 0)
    gradient = method.network.head.weight.grad
    assert gradient is not None
    return losses, gradient.clone()


def tiny(**options: Any) -> Segmenter:
    return Segmenter(**{"resolution": 16, "width": 2, "depth": 2, "norm": "none", **options})


@pytest.mark.parametrize(
    "options",
    [
        {}, {"loss": "binary_entropy"}, {"loss": "binary_entropy", "target": "soft"},
        {"loss": "binary_entropy", "target": "soft", "ignore": 0.1}, {"ignore": 0.2},
    ],
)  # fmt: skip
def test_the_segmenters_loss_is_the_mean_over_labelled_pixels(options: dict[str, Any]) -> None:
    batch, method = make_batch(), tiny(**options)
    losses, gradient = step(method, batch)
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0
    with torch.no_grad():
        logits = method.network(batch.image)
    assert batch.mask is not None
    assert batch.soft_mask is not None
    total, count = 0.0, 0
    for n, y, x in (batch.mask != VOID).nonzero().tolist():
        share = float(batch.soft_mask[n, y, x])
        if abs(share - 0.5) < method.ignore:
            continue
        target = share if method.target == "soft" else float(share >= 0.5)
        if method.loss == "cross_entropy":
            total -= float(logits[n, :, y, x].log_softmax(0)[int(target)])
        else:
            p = 1 / (1 + math.exp(-float(logits[n, 0, y, x])))
            total -= target * math.log2(p + 1e-6) + (1 - target) * math.log2(1 - p + 1e-6)
        count += 1
    assert losses[method.loss] == pytest.approx(total / count, rel=1e-4)
    others, same = step(method, change_void(batch))
    assert others == losses
    assert torch.equal(same, gradient)


def test_a_batch_without_a_label_teaches_nothing() -> None:
    batch = make_batch()
    assert batch.mask is not None
    batch.mask[:] = VOID
    losses, gradient = step(tiny(), batch)
    assert losses == {"cross_entropy": 0.0}
    assert (gradient == 0).all()


@pytest.mark.parametrize("soft", [False, True])
def test_shrunken_pixels_are_void_where_a_void_one_falls_into_them(soft: bool) -> None:
    options = {"loss": "binary_entropy", "target": "soft"} if soft else {}
    method = tiny(resolution=32, input_resolution=16, **options)
    batch = make_batch(32)
    assert batch.mask is not None
    batch.mask[0], batch.mask[0, 10, 20] = 1, VOID
    truth = method._truth(batch)
    void = truth.isnan() if soft else truth == VOID
    assert void[0, 5, 10]
    assert void[0].sum() <= 9  # That pixel, and those the filter reaches.
    assert void[1, :8].all()
    assert not void[1, 10:].any()
    assert void[2].all()
    if not soft:
        assert (truth[0][~void[0]] == 1).all()


@pytest.mark.parametrize("soft", [False, True])
def test_void_is_warped_with_its_picture(soft: bool) -> None:
    mask = torch.zeros(1, 8, 8).long()
    mask[:, :, 2:5], mask[:, :, 5:] = 1, VOID
    given = mask.float().masked_fill(mask == VOID, math.nan) if soft else mask
    flip = torch.diag(torch.tensor([-1.0, 1.0, 1.0]))[None]
    moved = warp_mask(given, flip)
    void = moved.isnan() if soft else moved == VOID
    wanted = mask.flip(2)
    assert void[wanted == VOID].all()
    assert int(void.sum()) <= int((wanted == VOID).sum()) + 8  # At most a column more.
    assert (moved[~void] == wanted[~void]).all()
    outside = torch.tensor([[[1.0, 0, 1.5], [0, 1, 0], [0, 0, 1]]])  # From beyond the right side.
    assert (warp_mask(given, outside)[:, :, -2:] == 0).all()
    _, kept = augment_pairs("color", torch.rand(1, 3, 8, 8), given)
    assert kept is given


def test_the_judge_is_not_told_of_void_pixels() -> None:
    judge, mask = MaskJudge(16, 8), torch.rand(2, 16, 16).round()
    void = torch.rand(2, 16, 16) < 0.4
    drawn, real = torch.randn(2, 2, 16, 16)
    known = mask.masked_fill(void, 0)
    terms = network_terms(judge, known, drawn, real, void)
    other = torch.where(void, -drawn, drawn)
    for name, value in network_terms(judge, known, other, real, void).items():
        assert_close(value, terms[name])
    each = (drawn.sigmoid() - mask).abs()[~void]
    assert_close(mask_distance(drawn, known, void), each.mean())
    assert_close(terms["distance"], 2 * each.mean())


def test_mask_contrast_leaves_void_out() -> None:
    logits, mask = torch.randn(2, 5, 5), torch.zeros(2, 5, 5)
    mask[:, :2], mask[:, 3] = 1, VOID
    kept = mask != VOID
    share, total = float((mask[kept] == 1).float().mean()), 0.0
    for x, y in zip(logits[kept].tolist(), mask[kept].tolist(), strict=True):
        p = 1 / (1 + math.exp(-x))
        total -= (1 - share) * math.log(p) if y else share * math.log(1 - p)
    assert float(balanced_entropy(logits, mask)) == pytest.approx(total / int(kept.sum()))
    assert balanced_entropy(logits, torch.full_like(mask, VOID)) == 0
    embedding = torch.randn(2, 4, 5, 5)
    labelled = mask.masked_fill(~kept, 0)
    assert torch.equal(object_keys(embedding, mask), object_keys(embedding, labelled))


def test_views_keep_void_and_do_not_take_it_for_an_object() -> None:
    mask = torch.full((2, 8, 8), VOID)
    mask[1, 2:6, 2:6] = 1
    view = ViewMaker(crop=(1.0, 1.0)).draw(torch.zeros(2, 3, 8, 8), mask, 8)
    assert (view.mask[0] == VOID).all()
    assert set(view.mask[1].unique().tolist()) == {1, VOID}
    assert view.is_usable.tolist() == [False, True]


def test_grids_show_void_as_grey() -> None:
    mask = torch.zeros(2, 32, 32, dtype=torch.long)
    mask[:, :8], mask[:, 8:16] = VOID, 1
    batch = Batch(torch.rand(2, 3, 32, 32), ("a", "b"), mask)
    method = tiny(resolution=32).eval()
    rows = {1: method.pictures(batch)["masks"]}
    redo = ReDO(
        resolution=32, num_regions=2, latent_dim=4, mask_width=4, mask_blocks=1, generator_width=4,
        discriminator_width=4, encoder_width=4,
    ).eval()  # fmt: skip
    rows[2] = redo.pictures(batch)["redraw_object"]
    for shown in (rows[1][1], rows[2][1]):
        assert (shown[:, :8] == 0).all()
        assert (shown[:, 8:16] == 1).all()
        assert (shown[:, 16:] == -1).all()
