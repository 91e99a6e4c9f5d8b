"""L2IC beyond the authors' numbers: codes, joins, views, losses by loops, options."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from figureground.core.checkpoint import check_fits
from figureground.core.errors import CheckpointError, ConfigError
from figureground.core.protocols import Clusterer, LayerGenerator, LayerMixer, Segmenter
from figureground.core.types import Batch
from figureground.methods.l2ic import L2IC
from figureground.methods.l2ic.blocks import JoinedConv, gate, initialise
from figureground.methods.l2ic.codes import draw_categories, parent_of
from figureground.methods.l2ic.composition import ComposedPicture, exchange_backgrounds
from figureground.methods.l2ic.generator import CompositionGenerator
from figureground.methods.l2ic.losses import (
    area_hinge,
    assignment_entropies,
    category_loss,
    cluster_contrast,
    pair_contrast,
    similarities,
)
from figureground.methods.l2ic.networks import Architecture
from figureground.methods.l2ic.perturbation import draw_moves
from figureground.methods.l2ic.pictures import TITLES, code_grids
from figureground.methods.l2ic.scores import CompositionScores
from figureground.methods.l2ic.views import augment_view, change_colors, draw_crops, turn_hue
from figureground.methods.l2ic.weights import Weights
from figureground.metrics.clustering import ClusteringScores
from figureground.nn.strided import PictureBase

TINY: dict[str, Any] = {
    "resolution": 16, "batch_size": 4, "num_categories": 6, "latent_dim": 5, "generator_width": 8,
    "discriminator_width": 4, "reader_width": 4,
}  # fmt: skip
ONLY_GAME = Weights(info=0, swap=0, view=0, cluster_head=0)
OPTIONS: dict[Architecture, dict[str, Any]] = {
    "l2ic": {"num_blocks": (1, 0, 1)},
    "c3gan": {"variation_dim": 3, "weights": replace(ONLY_GAME, info=5), "num_blocks": (1, 1, 1)},
    "ds_comgan": {"weights": replace(ONLY_GAME, layer_codes=1, sketch=1)},
    "comgan": {"weights": ONLY_GAME, "num_blocks": (1, 0, 1)},
}


def chance(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(architecture: Architecture = "l2ic", **changed: Any) -> L2IC:
    options = {**TINY, "architecture": architecture, **OPTIONS[architecture], **changed}
    return L2IC(**options).eval()


# -- codes -----------------------------------------------------------------------------------


def test_no_picture_is_drawn_without_a_category() -> None:
    drawn = draw_categories(64, 60, "distinct")
    assert drawn.shape == (64,)
    assert drawn[:60].sort().values.tolist() == list(range(60))
    assert drawn.min() >= 0
    assert drawn.max() < 60
    assert len(draw_categories(10, 60, "distinct").unique()) == 10


def test_categories_are_drawn_uniformly_or_equally_often() -> None:
    counts = torch.bincount(draw_categories(6000, 6, "uniform"), minlength=6)
    assert counts.min() > 850
    assert torch.bincount(draw_categories(12, 6, "balanced")).tolist() == [2] * 6
    # Of batches smaller than that, every category gets its turn.
    parts = [draw_categories(4, 6, "balanced") for _ in range(300)]
    assert all(len(part.unique()) == 4 for part in parts)
    assert torch.bincount(torch.cat(parts), minlength=6).min() > 150
    own = [torch.Generator().manual_seed(3) for _ in "ab"]
    assert torch.equal(*(draw_categories(9, 6, "distinct", chance) for chance in own))


def test_each_background_belongs_to_as_many_categories() -> None:
    assert parent_of(torch.arange(6), 6, 3).tolist() == [0, 0, 1, 1, 2, 2]
    assert parent_of(torch.arange(6), 6, 6).tolist() == list(range(6))


# -- networks --------------------------------------------------------------------------------


@pytest.mark.parametrize("code_first", [True, False])
def test_code_joins_maps_as_if_it_were_repeated_at_each_pixel(code_first: bool) -> None:
    join = JoinedConv(3, 5, 2, code_first=code_first).double()
    features, code = torch.randn(4, 3, 6, 7).double(), torch.tensor([0, 4, 2, 2])
    tiled = F.one_hot(code, 5)[:, :, None, None].expand(-1, -1, 6, 7).double()
    parts = [tiled, features] if code_first else [features, tiled]
    expected = F.glu(join.norm(join.conv(torch.cat(parts, dim=1))), dim=1)
    assert_close(join(features, code), expected)


def test_gate_is_glu_and_keeps_the_order_of_channels() -> None:
    maps = torch.randn(2, 6, 4, 5).double()
    last = maps.to(memory_format=torch.channels_last)
    for each in (maps.requires_grad_(), last.requires_grad_()):
        assert_close(gate(each), F.glu(each, dim=1))
        assert torch.autograd.gradcheck(gate, each)
        assert torch.autograd.gradgradcheck(gate, each)
    gated = gate(last)
    (gradient,) = torch.autograd.grad(gated.sum(), last)
    for each in (gated, gradient):
        assert each.is_contiguous(memory_format=torch.channels_last)


def test_another_background_leaves_mask_and_foreground_alone() -> None:
    method = make()
    codes = method.draw_codes(3)
    other = (codes.background + 1) % 6
    with torch.no_grad():
        picture, swapped = method.draw(codes), method.draw(replace(codes, background=other))
        short = method.generator(codes, other)
    assert torch.equal(picture.mask, swapped.mask)
    assert torch.equal(picture.foreground, swapped.foreground)
    assert not torch.equal(picture.background, swapped.background)
    assert_close(short.swapped, swapped.composite)
    assert not method.generator(codes, other).swapped.requires_grad


@pytest.mark.parametrize("resolution", [16, 32, 64, 128])
def test_networks_of_all_sizes(resolution: int) -> None:
    network = CompositionGenerator(
        resolution, latent_dim=3, width=4, num_categories=2, num_backgrounds=2, num_blocks=(0, 0, 0)
    ).eval()
    method = make(resolution=resolution, generator_width=4, num_blocks=(0, 0, 0))
    codes = replace(method.draw_codes(2), latent=torch.randn(2, 3))
    codes = replace(codes, category=codes.category % 2, background=codes.background % 2)
    with torch.no_grad():
        picture = network(codes)
        assert picture.composite.shape == (2, 3, resolution, resolution)
        assert PictureBase(resolution, 2).eval()(picture.composite).shape == (2, 16, 4, 4)


def test_weights_begin_as_in_the_papers() -> None:
    network = CompositionGenerator(
        16, latent_dim=3, width=8, num_categories=2, num_backgrounds=2, num_blocks=(1, 1, 1)
    )
    initialise(network)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            rows = layer.weight.flatten(1)
            product = rows @ rows.T if rows.shape[0] <= rows.shape[1] else rows.T @ rows
            assert_close(product, torch.eye(len(product)), rtol=0, atol=1e-4)
        if isinstance(layer, nn.BatchNorm2d):
            assert (layer.weight - 1).abs().max() < 0.12
            assert not layer.bias.any()


# -- losses ----------------------------------------------------------------------------------


def test_contrast_of_pairs_is_that_of_a_loop() -> None:
    one, other = torch.randn(3, 4).double(), torch.randn(3, 4).double()
    both = [*one, *other]
    total = 0.0
    for i, anchor in enumerate(both):
        logits = {
            j: float(F.cosine_similarity(anchor, x, dim=0)) / 0.1
            for j, x in enumerate(both)
            if j != i
        }
        total -= logits[(i + 3) % 6] - math.log(sum(math.exp(x) for x in logits.values()))
    assert pair_contrast(one, other, 0.1).item() == pytest.approx(total / 6)


def test_similarities_keep_their_bits_in_half_precision() -> None:
    info, other, centroids = torch.randn(6, 32), torch.randn(6, 32), torch.randn(5, 32)
    category = torch.arange(6) % 5
    judge = make().discriminator

    def found() -> list[torch.Tensor]:
        return [
            similarities(info, centroids, 0.1), category_loss(info, centroids, category, 0.1),
            pair_contrast(info, other, 0.1), *assignment_entropies(info, centroids, 0.1),
            cluster_contrast(info.softmax(1), other.softmax(1)), judge.find_clusters(info),
        ]  # fmt: skip

    whole = found()
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            assert all(map(torch.equal, found(), whole))


def test_contrast_of_clusters_rewards_clear_ones_in_equal_use() -> None:
    clear = F.one_hot(torch.arange(12) % 4, 4).double()
    vague, lazy = torch.full_like(clear, 0.25), F.one_hot(torch.zeros(12, dtype=torch.long), 4)
    best = cluster_contrast(clear, clear)
    assert best < cluster_contrast(vague, vague)
    assert best < cluster_contrast(lazy.double(), lazy.double())


def test_entropies_of_assignments_and_area_hinge() -> None:
    centroids = torch.eye(4)
    each, together = assignment_entropies(torch.eye(4), centroids, 0.01)
    assert each.item() == pytest.approx(0, abs=1e-4)
    assert together.item() == pytest.approx(-math.log(4), abs=1e-4)
    each, _ = assignment_entropies(torch.ones(2, 4), centroids, 0.1)
    assert each.item() == pytest.approx(math.log(4), abs=1e-4)
    masks = torch.stack([torch.full((1, 4, 4), area) for area in (0.0, 0.05, 0.5, 1.0)])
    assert area_hinge(masks, 0.1, 0.9).item() == pytest.approx((0.1 + 0.05 + 0 + 0.1) / 4)


# -- views and moves -------------------------------------------------------------------------


def test_views_stay_in_range_and_repeat() -> None:
    image = 2 * torch.rand(8, 3, 16, 16) - 1
    views = []
    for _ in "ab":
        torch.manual_seed(4)
        views.append(augment_view(image))
    assert torch.equal(*views)
    assert views[0].shape == image.shape
    assert views[0].abs().max() <= 1
    assert not torch.allclose(views[0], image)


def test_crops_stay_inside_and_keep_the_stated_share() -> None:
    crops = draw_crops(500)
    corners = torch.tensor([[x, y, 1.0] for x in (-1, 1) for y in (-1, 1)])
    assert (crops @ corners.T).abs().max() <= 1 + 1e-5
    area = (crops[:, 0, 0] * crops[:, 1, 1]).abs()
    assert area.min() > 0.19
    assert area.max() <= 1
    assert 0.4 < (crops[:, 0, 0] < 0).float().mean() < 0.6


def test_hue_turns_as_in_the_standard_library() -> None:
    import colorsys

    image, share = torch.rand(2, 3, 3, 3), torch.tensor([0.1, -0.3])
    found = turn_hue(image, share.view(2, 1, 1, 1))
    for b, y, x in ((0, 0, 0), (0, 2, 1), (1, 1, 1), (1, 0, 2)):
        hue, saturation, value = colorsys.rgb_to_hsv(*image[b, :, y, x].tolist())
        expected = colorsys.hsv_to_rgb((hue + share[b].item()) % 1, saturation, value)
        assert found[b, :, y, x].tolist() == pytest.approx(expected, abs=1e-5)


def test_neutral_colours_change_nothing_and_grey_is_grey() -> None:
    image = torch.rand(2, 3, 5, 5)
    colors = torch.tensor([[1.0, 1], [1, 1], [1, 1], [0, 0], [0, 1]])
    found = change_colors(image, colors)
    assert_close(found[0], image[0])
    assert_close(found[1].std(dim=0), torch.zeros(5, 5), rtol=0, atol=1e-6)


def test_moves_keep_to_their_ranges() -> None:
    assert draw_moves(3, "none") is None
    moves = draw_moves(400, "strong")
    scale = moves[:, :, :2].det().sqrt()
    assert 0.8 <= scale.min() < scale.max() <= 1.5
    assert moves[:, :, 2].abs().max() <= 0.15


# -- the method ------------------------------------------------------------------------------


def test_independent_backgrounds_say_nothing_of_categories() -> None:
    for how in ("tied", "independent"):
        codes = make(background_drawing=how).draw_codes(300)
        same = (codes.background == codes.category).float().mean()
        assert same == (1 if how == "tied" else pytest.approx(1 / 6, abs=0.08))
    # Fewer backgrounds than categories are all in use.
    few = make(background_drawing="independent", num_backgrounds=2).draw_codes(300)
    assert set(few.background.tolist()) == {0, 1}
    many = make(background_drawing="independent", num_backgrounds=9)
    assert set(many.draw_codes(300).background.tolist()) == set(range(9))
    assert many.sample(4).composite.shape == (4, 3, 16, 16)


def test_foregrounds_move_in_training_and_not_where_they_are_drawn() -> None:
    method = make(perturbation="strong")
    torch.manual_seed(0)
    codes, moved = method._make(4, swaps=True)
    still = method.draw(codes)
    assert torch.equal(moved.background, still.background)
    assert moved.other_background is not None
    assert not torch.allclose(moved.mask, still.mask, atol=1e-2)


def test_exchanged_backgrounds_are_behind_other_foregrounds_in_training_only() -> None:
    pictures = {}
    for how in ("shared", "exchanged"):
        torch.manual_seed(0)
        method = make(background_drawing="independent", background_latent=how)
        pictures[how] = (*method._make(4, swaps=True), method.sample(3, generator=chance(1)))
    codes, picture, sample = pictures["shared"]
    others, exchanged, same = pictures["exchanged"]
    assert torch.equal(sample.composite, same.composite)
    assert torch.equal(exchanged.mask, picture.mask)
    assert torch.equal(exchanged.foreground, picture.foreground)
    assert torch.equal(exchanged.other_background, picture.other_background)
    assert torch.equal(others.category, codes.category)
    for place, before in enumerate([3, 0, 1, 2]):
        assert torch.equal(exchanged.background[place], picture.background[before])
        assert others.background[place] == codes.background[before]


def test_what_a_background_hides_behind_its_object_is_paid_for_once_it_is_exchanged() -> None:
    # Masks of two pictures cover two halves: each hides of its own background what the other shows.
    mask = torch.zeros(2, 1, 4, 4)
    mask[0, ..., :2], mask[1, ..., 2:] = 1, 1
    background = torch.zeros(2, 3, 4, 4, requires_grad=True)
    picture = ComposedPicture(mask, torch.ones(2, 3, 4, 4), background)
    codes = make().draw_codes(2)
    for made, shown in (
        (picture, 1 - mask),
        (exchange_backgrounds(picture, codes)[0], (1 - mask).flip(0)),
    ):
        (gradient,) = torch.autograd.grad(made.composite.sum(), background)
        assert torch.equal(gradient, shown.expand_as(gradient))


@pytest.mark.parametrize("architecture", OPTIONS)
def test_every_paper_draws_and_sorts(architecture: Architecture) -> None:
    method = make(architecture)
    assert isinstance(method, LayerGenerator)
    assert isinstance(method, LayerMixer)
    assert isinstance(method, Clusterer)
    assert not isinstance(method, Segmenter)
    with torch.no_grad():
        latent = method.latent(3)
        layers = method.decode(latent)
        mixed = method.decode_layers(torch.stack([latent, latent.flip(0)], dim=1))
        found = method.cluster(layers.composite)
    assert torch.equal(mixed.color[:, 0], layers.color[:, 0])
    assert_close(mixed.color[:, 1], layers.color[:, 1].flip(0), rtol=0, atol=1e-5)
    assert found.shape == (3,)
    assert found.dtype == torch.long
    assert found.min() >= 0
    assert found.max() < 6


@pytest.mark.parametrize("name", sorted(Weights(masked_info=1, entropy=1).in_use()))
def test_a_term_of_weight_nought_is_not_computed(name: str) -> None:
    every = Weights(masked_info=1, entropy=1, binarity=1, area=1)
    for weights in (every, replace(every, **{name: 0.0})):
        method = make(weights=weights).train()
        codes, picture = method._make(4, swaps=True)
        real = 2 * torch.rand(4, 3, 16, 16) - 1
        judged, _ = method.objective.of_discriminator(method.discriminator, real, picture, codes)
        made = method.objective.of_generator(method.discriminator, method.readers, picture, codes)
        terms = judged | made
        if name != "adversarial":  # Always there: nothing else says what is real.
            assert (name in terms) == (name in weights.in_use())
        assert all(value.isfinite() for value in terms.values())
        assert method.objective.total(judged).isfinite()


def test_gradients_of_swapped_pictures_reach_the_discriminator_only() -> None:
    method = make(weights=replace(ONLY_GAME, adversarial=0, swap=1)).train()
    codes, picture = method._make(4, swaps=True)
    real = 2 * torch.rand(4, 3, 16, 16) - 1
    terms, _ = method.objective.of_discriminator(method.discriminator, real, picture, codes)
    method.objective.total(terms).backward()
    assert all(p.grad is None for p in method.generator.parameters())
    assert method.discriminator.info.last.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("architecture", OPTIONS)
def test_each_player_is_moved_by_its_own_terms_alone(
    architecture: Architecture, fresh: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {"masked_info": 1, "entropy": 1} if architecture in {"l2ic", "c3gan"} else {}
    weights = replace(OPTIONS[architecture].get("weights", Weights()), binarity=1, area=1, **more)
    method = make(architecture, weights=weights, fresh_codes=fresh).train()
    moved: dict[str, set[str]] = {}

    def descend(loss: torch.Tensor, *optimizers: object, player: str) -> None:
        loss.backward()
        moved[player] = {name for name, p in method.named_parameters() if p.grad is not None}
        method.zero_grad()

    monkeypatch.setattr(method, "descend", descend)
    monkeypatch.setattr(method, "log", lambda *_, **__: None)
    monkeypatch.setattr(method, "optimizers", lambda: [None, None])
    image = 2 * torch.rand(4, 3, 16, 16) - 1
    method.training_step(Batch(image, tuple("abcd")), 0)
    names = {part: {f"{part}.{name}" for name, _ in getattr(method, part).named_parameters()}
             for part in ("generator", "discriminator", "readers")}  # fmt: skip
    # Among those of D are its centroids.
    assert moved["discriminator"] == names["discriminator"]
    assert moved["generator"] == names["generator"] | names["readers"]
    assert all(p.requires_grad for p in method.parameters())


def test_a_second_background_moves_statistics_of_its_branch_alone() -> None:
    method = make().train()
    method._make(4, swaps=True)
    passes = {
        name: int(buffer)
        for name, buffer in method.generator.named_buffers()
        if name.endswith("num_batches_tracked")
    }
    assert {count for name, count in passes.items() if name.startswith("background")} == {2}
    assert {count for name, count in passes.items() if not name.startswith("background")} == {1}


@pytest.mark.parametrize("how", ["tied", "independent"])
def test_pictures_of_given_categories_are_otherwise_those_of_sample(how: str) -> None:
    method = make(background_drawing=how, num_backgrounds=3)
    drawn = method.draw_codes(5, generator=chance(2))
    again = method.sample_of(drawn.category, generator=chance(2))
    assert torch.equal(again.composite, method.sample(5, generator=chance(2)).composite)
    category = torch.arange(5)
    kept = drawn.background if how == "independent" else category // 2
    expected = method.draw(replace(drawn, category=category, background=kept))
    found = method.sample_of(category, generator=chance(2))
    assert_close(found.composite, expected.composite)


def test_scores_find_trivial_masks_and_known_categories() -> None:
    method, scores = make(), CompositionScores(6)
    with torch.no_grad():
        method.generator.mask.head[0].weight.zero_()
        scores.update(method, torch.zeros(8, 3, 16, 16), 0)
    found = {name: float(value) for name, value in scores.compute().items()}
    assert found["mask/area"] == pytest.approx(0.5)
    assert found["mask/grey"] == 1
    assert found["mask/trivial"] == 0
    assert found["clusters/used"] == 1
    assert found["clusters/effective"] == pytest.approx(1)
    assert 0 <= found["score/recognised"] <= 1


@pytest.mark.parametrize(
    ("architecture", "names"),
    [
        ("l2ic", {"decomposition", "backgrounds", "categories", "poses", "clusters"}),
        ("c3gan", {"decomposition", "categories", "poses", "clusters"}),
        ("comgan", {"decomposition"}),
    ],
)
def test_grids_are_of_codes_that_are_there(architecture: Architecture, names: set[str]) -> None:
    method = make(architecture)
    grids = code_grids(method, torch.zeros(3, 3, 16, 16))
    assert set(grids) == names
    assert set(grids) <= set(TITLES)
    for grid in grids.values():
        assert grid.shape == (15, 3, 16, 16)
        for row in grid.unflatten(0, (3, 5)):
            assert len(row.unique(dim=0)) == 5


def test_what_has_no_categories_is_not_scored_by_them() -> None:
    scores = {"clustering": ClusteringScores(6, 2)}
    method = make("comgan", metrics=scores)
    assert not any("clustering" in name for name in method._scores)
    assert "no categories" in method.absent["test/clustering"]
    method.composition_scores.update(method, torch.zeros(4, 3, 16, 16), 0)
    assert set(method.composition_scores.compute()) == {
        "score/composite", "score/real", "mask/area", "mask/grey", "mask/trivial"
    }  # fmt: skip
    assert any("clustering" in name for name in make(metrics=scores)._scores)


@pytest.mark.parametrize("how", ["distinct", "uniform"])
def test_more_pictures_than_categories_are_mentioned(
    how: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        make(category_drawing=how, batch_size=8).on_fit_start()
    message = "num_categories=6 is below data.batch_size=8"
    assert (message in caplog.text) == (how == "distinct")


def test_a_discriminator_that_was_not_converted_sorts_nothing() -> None:
    method = make()
    method.origin = {"missing": ["discriminator"]}
    with pytest.raises(CheckpointError, match="without the discriminator"):
        method.cluster(torch.zeros(2, 3, 16, 16))


def test_classes_beyond_those_stated_end_in_one_line() -> None:
    method = make(metrics={"clustering": ClusteringScores(6, 2)})
    batch = Batch(torch.zeros(3, 3, 16, 16), ("a", "b", "c"), label=torch.tensor([0, 1, 4]))
    with pytest.raises(ConfigError, match=r"classes go up to 4.*set .*num_classes"):
        method.validation_step(batch, 0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batch_size": 1}, "batch_size must be 2 at least"),
        ({"generator_width": 6}, "multiple of 4, got 6"),
        ({"num_blocks": (1, 1)}, "three numbers"),
        ({"num_categories": 1, "num_backgrounds": None}, "architecture=comgan"),
        ({"num_backgrounds": 7}, r"\(6\) at most, got 7"),
        ({**OPTIONS["comgan"], "architecture": "comgan", "perturbation": "weak"}, "=l2ic or c3gan"),
        ({"num_backgrounds": 4}, "=4 does not divide num_categories=6"),
        ({"background_latent": "exchanged"}, "set background_drawing=independent"),
        ({"weights": Weights(sketch=1)}, "sketch=1 needs architecture=ds_comgan"),
        ({"weights": Weights(area=1, area_low=0.9, area_high=0.1)}, "is above"),
        ({"architecture": "comgan", "weights": Weights()}, "info=5 needs .* set it to 0"),
    ],
)
def test_options_that_do_not_fit_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**changed)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({}, []),
        ({"batch_size": 7}, ["num_backgrounds=6"]),
        ({"num_backgrounds": 3}, ["num_backgrounds=3"]),
        ({"batch_size": 7, "category_drawing": "distinct", "weights": ONLY_GAME},
         ["num_categories=6"]),
    ],
)  # fmt: skip
def test_batches_larger_than_the_number_of_codes_are_one_line(
    changed: dict[str, Any], named: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    method = make(**changed)
    method.on_fit_start()
    said = [record.getMessage() for record in caplog.records]
    size = method.batch_size
    assert [line.partition(":")[0] for line in said] == [
        f"method.{name} is below data.batch_size={size}" for name in named
    ]


def test_a_checkpoint_of_other_blocks_is_one_line() -> None:
    with pytest.raises(CheckpointError, match=r"mask\.residuals\.0\..* is missing") as caught:
        check_fits(make(num_blocks=(0, 1, 1)), make().state_dict(), "last.ckpt")
    assert "last.ckpt does not fit L2IC as configured" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_latents_of_another_size_are_refused() -> None:
    method = make()
    with pytest.raises(ValueError, match=r"must be \(B, 17\), got \(2, 5\)"):
        method.decode(torch.zeros(2, 5))
    with pytest.raises(ValueError, match="one for each of two layers"):
        method.decode_layers(torch.zeros(2, 3, 17))
