"""gan-segmenter: the search, its pairs, what it refuses, and files of directions."""

from __future__ import annotations

import math
import os
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from figureground.cli.convert import convert
from figureground.cli.generate import generate
from figureground.cli.settings import TrainSettings
from figureground.core.checkpoint import VerifiedCheckpointIO, load_method
from figureground.core.config import build, check, read_choice
from figureground.core.errors import CheckpointError, DataError, NumericalError, UserError
from figureground.core.passages import describe
from figureground.core.protocols import FilteringGenerator, LayerGenerator
from figureground.core.types import Batch, Latent
from figureground.data.chunks import CHUNK
from figureground.data.pairs import LivePairs, SavedPairs
from figureground.data.shards import ShardWriter
from figureground.generators.dcgan import DCGAN
from figureground.generators.studiogan import StudioGAN
from figureground.generators.stylegan2 import StyleGAN2
from figureground.generators.toy import ToyGenerator
from figureground.methods.gan_segmenter import GANSegmenter
from figureground.methods.gan_segmenter.convert import convert_checkpoint
from figureground.methods.gan_segmenter.directions import Directions, ShiftLength
from figureground.methods.gan_segmenter.drawing import join
from figureground.methods.gan_segmenter.filters import (
    Acceptance,
    PairFilters,
    count_peaks,
    judge,
    roundness,
)
from figureground.methods.gan_segmenter.latents import LatentSource
from figureground.methods.gan_segmenter.masks import (
    clean_together,
    keep_large_components,
    mask_of_one,
    mask_of_two,
)
from figureground.methods.gan_segmenter.objective import SearchObjective, cone_map, square_map

OPEN = PairFilters(components=0.0, area=(0.0, 1.0), histogram_bins=0)
Compose = Callable[..., DictConfig]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def searched(steps: int = 40, **options: object) -> GANSegmenter:
    """A method after a short search in the toy generator."""
    method = GANSegmenter(generator=ToyGenerator(), **options)
    (optimizer,) = method.configure_optimizers()
    for group in optimizer.param_groups:
        group["lr"] = 0.05
    for _ in range(steps):
        latent = method.latents.draw(method.generator, 8)
        loss, _ = method.search_loss(latent, method.shift.draw(latent.vector))
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
        method.directions.project()
        method.directions.observe(loss.detach())
    return method


@pytest.fixture(scope="module")
def method() -> GANSegmenter:
    torch.manual_seed(0)
    return searched()


def test_colours_that_are_not_finite_are_reported(
    method: GANSegmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ToyGenerator, "forward", lambda *_: torch.full((12, 3, 8, 8), torch.nan))
    with pytest.raises(NumericalError, match="candidates have colours that are not finite"):
        method.sample(4, generator=seeded(0))


def test_both_directions_are_found_in_one_run(method: GANSegmenter) -> None:
    drawn = method.draw_candidates(16, generator=seeded(5))
    truth = method.generator.layers(
        method.latents.draw(method.generator, 16, generator=seeded(5))
    ).foreground[:, 0]
    truth = truth > 0.5
    assert _iou(drawn.mask, truth) > 0.6
    for side, mask in drawn.sides.items():
        assert _iou(mask, truth) > 0.5, side
    inside = drawn.shifted["light"].mean(dim=1)[truth].mean()
    assert inside > drawn.shifted["dark"].mean(dim=1)[truth].mean() + 0.5


def test_samples_are_filtered_repeat_and_hold_the_picture(method: GANSegmenter) -> None:
    assert isinstance(method, LayerGenerator)
    assert isinstance(method, FilteringGenerator)
    one, two = (method.sample(5, generator=seeded(3)) for _ in "ab")
    assert one.color.shape == (5, 2, 3, 32, 32)
    assert torch.equal(one.alpha, two.alpha)
    assert torch.equal(one.color[:, 0], one.color[:, 1])
    torch.testing.assert_close(one.composite, one.color[:, 0])
    assert set(one.foreground.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(one.color, method.sample(5, generator=seeded(4)).color)
    assert method.sample(0).color.shape == (0, 2, 3, 32, 32)
    counted = method.count_passed()
    assert counted["all"].passed >= 10
    assert counted["all"].seen == counted["area_light"].seen
    assert "candidates kept (area_light" in describe(counted)


@pytest.mark.parametrize("side", ["light", "dark"])
def test_one_direction_alone_masks_by_its_own_rule(side: str) -> None:
    alone = GANSegmenter(generator=ToyGenerator(), directions=side, filters=OPEN)
    drawn = alone.draw_candidates(4, generator=seeded())
    assert list(drawn.sides) == [side]
    assert torch.equal(drawn.mask, mask_of_one(drawn.image, drawn.shifted[side], side))


def test_opposite_directions_are_one_vector() -> None:
    tied = searched(3, directions="opposite", num_seeds=2)
    assert [name for name, _ in tied.directions.named_parameters()] == ["light"]
    assert torch.equal(tied.directions.unit("dark"), -tied.directions.unit("light"))
    assert torch.equal(tied.directions.best("dark"), -tied.directions.best("light"))
    assert tied.directions.loss.shape == (1, 2)


def test_seeds_are_searched_side_by_side_and_the_best_is_used() -> None:
    many = GANSegmenter(generator=ToyGenerator(), num_seeds=3, directions="light")
    latent = many.latents.draw(many.generator, 4, generator=seeded())
    loss, _ = many.search_loss(latent, torch.full_like(latent.vector, 2.0))
    loss[0, 1].backward()
    moved = many.directions.light.grad.flatten(1).abs().sum(dim=1) > 0
    assert moved.tolist() == [False, True, False]
    many.directions.observe(torch.tensor([[3.0, 1.0, 2.0]]))
    many.directions.observe(torch.tensor([[1.0, 2.0, 6.0]]))
    torch.testing.assert_close(many.directions.loss, torch.tensor([[2.0, 1.5, 4.0]]))
    assert torch.equal(many.directions.best("light"), many.directions.unit("light")[1])


def test_one_run_of_both_is_two_runs_of_one() -> None:
    both = GANSegmenter(generator=ToyGenerator())
    latent = both.latents.draw(both.generator, 3, generator=seeded())
    length = both.shift.draw(latent.vector)
    loss, terms = both.search_loss(latent, length)
    for row, side in enumerate(("light", "dark")):
        alone = GANSegmenter(generator=ToyGenerator(), directions=side)
        with torch.no_grad():
            getattr(alone.directions, side).copy_(getattr(both.directions, side))
        torch.testing.assert_close(alone.search_loss(latent, length)[0][0], loss[row])
    assert set(terms) == {"center", "edges"}


def test_norms_differ_for_latents_of_several_layers() -> None:
    quirk, plain = (
        Directions((6, 12), num_seeds=2, norm=norm) for norm in ("per_coordinate", "global")
    )
    assert quirk.unit("light").norm(dim=1).allclose(torch.ones(2, 12))
    assert quirk.unit("light").flatten(1).norm(dim=1).allclose(torch.tensor(12.0).sqrt())
    assert plain.unit("light").flatten(1).norm(dim=1).allclose(torch.ones(2))


def test_random_directions_are_fresh_at_each_call_and_seeded() -> None:
    random = Directions((9,), kind="random")
    assert not torch.equal(random.unit("light"), random.unit("light"))
    one, two = (random.best("dark", generator=seeded(2)) for _ in "ab")
    assert torch.equal(one, two)
    torch.testing.assert_close(one.norm(), torch.tensor(1.0))


def test_shift_lengths_are_bounded_and_may_be_one_a_picture() -> None:
    vector = torch.zeros(50, 4, 3)
    length = ShiftLength(mean=0.0, deviation=1.0).draw(vector)
    assert length.shape == vector.shape
    assert float(length.min()) == pytest.approx(0.1)
    assert ShiftLength(per="picture").draw(vector).shape == (50, 1, 1)


@pytest.mark.parametrize("form", ["code", "paper"])
def test_objective_against_loops(form: str) -> None:
    weights = {"lightness": 0.5, "square": 0.25, "edge_change": 2.0}
    objective = SearchObjective(form=form, center=3.0, edges=7.0, **weights)
    x, shifted = torch.rand(2, 3, 5, 6) * 2 - 1, torch.rand(2, 2, 3, 5, 6) * 2 - 1
    terms = objective.terms(x, shifted, torch.tensor([1.0, -1.0]))
    for m, sign in enumerate((1.0, -1.0)):
        expected = dict.fromkeys(terms, 0.0)
        for b in range(2):
            for i in range(5):
                for j in range(6):
                    for name, value in _terms_at(form, x[b], shifted[m, b], i, j).items():
                        expected[name] += value / 60
        scales = {"center": 3.0, "edges": 7.0, **weights}
        for name, value in expected.items():
            turned = 1.0 if name.startswith("edge") else sign
            assert float(terms[name][m]) == pytest.approx(scales[name] * turned * value, abs=1e-5)


def _terms_at(form: str, x: Tensor, y: Tensor, i: int, j: int) -> dict[str, float]:
    """Terms of one pixel, by the definitions."""
    height, width = x.shape[1:]
    weights = (0.2989, 0.587, 0.114) if form == "code" else (1.0, 1.0, 1.0)

    def value(image: Tensor) -> float:
        return sum(w * float(c[i, j]) for w, c in zip(weights, image, strict=True))

    def squared(plane: Tensor) -> float:
        def at(a: int, b: int) -> float:
            return float(plane[min(max(i + a, 0), height - 1), min(max(j + b, 0), width - 1)])

        across = at(-1, 1) + 2 * at(0, 1) + at(1, 1) - at(-1, -1) - 2 * at(0, -1) - at(1, -1)
        down = at(1, -1) + 2 * at(1, 0) + at(1, 1) - at(-1, -1) - 2 * at(-1, 0) - at(-1, 1)
        return (across / 8) ** 2 + (down / 8) ** 2

    def edges(image: Tensor) -> float:
        if form == "paper":
            return sum(squared(plane) for plane in image)
        plane = sum(w * c for w, c in zip(weights, image, strict=True))
        return math.sqrt(squared(plane) + 1e-6)

    places = [(2 * a / (height - 1) - 1, 2 * b / (width - 1) - 1)
              for a in range(height) for b in range(width)]  # fmt: skip
    u, v = 2 * i / (height - 1) - 1, 2 * j / (width - 1) - 1
    circle = 4 * (math.hypot(u, v) - sum(math.hypot(*p) for p in places) / len(places))
    square = 4 * (max(abs(u), abs(v)) - sum(max(map(abs, p)) for p in places) / len(places))
    if form == "paper":
        alpha = math.hypot(height - 1, width - 1) / 4
        circle = math.hypot(i - (height - 1) / 2, j - (width - 1) / 2) / alpha - 1
    change = edges(x) - edges(y)
    return {
        "center": value(y) * circle, "edges": change**2, "lightness": -value(y),
        "square": value(y) * square, "edge_change": abs(change),
    }  # fmt: skip


def test_maps_of_the_paper_and_of_the_square() -> None:
    cone = cone_map(33, 65)
    assert float(cone[16, 32]) == 1.0
    assert float(cone[0, 0]) == pytest.approx(-1.0)
    assert float(square_map(9, 9).mean()) == pytest.approx(0, abs=1e-6)


def test_components_against_flooding() -> None:
    mask = torch.rand(3, 12, 12, generator=seeded()) > 0.62
    mask[1] = False
    for threshold in (0.0, 0.3, 0.5, 0.999):
        expected = torch.stack([_flood(each, threshold) for each in mask])
        assert torch.equal(keep_large_components(mask, threshold), expected)


def test_masks_cleaned_in_one_call_are_those_of_several() -> None:
    masks = [torch.rand(3, 12, 12, generator=seeded(n)) > 0.62 for n in range(3)]
    masks[2][1] = False
    thresholds = [0.3, 0.0, 0.999]
    for mask, threshold, found in zip(
        masks, thresholds, clean_together(masks, thresholds), strict=True
    ):
        assert torch.equal(found, keep_large_components(mask, threshold))


def test_candidates_are_those_of_each_direction_by_itself(method: GANSegmenter) -> None:
    drawn = method.draw_candidates(6, generator=seeded(8))
    latent = method.latents.draw(method.generator, 6, generator=seeded(8))
    assert torch.equal(drawn.image, method.generator(latent))
    for side, shifted in drawn.shifted.items():
        mask = mask_of_one(drawn.image, shifted, side)
        assert torch.equal(drawn.sides[side], keep_large_components(mask, 0.2))
    both = mask_of_two(drawn.shifted["light"], drawn.shifted["dark"])
    assert torch.equal(drawn.mask, keep_large_components(both, 0.2))


def test_soft_and_hard_pairs_hold_the_very_picture() -> None:
    image = torch.rand(4, 3, 8, 8, generator=seeded()) * 2 - 1
    share = torch.rand(4, 8, 8, generator=seeded(1))
    layers = join(image, share)
    assert torch.equal(layers.composite, image)
    torch.testing.assert_close((layers.alpha * layers.color).sum(dim=1), image)
    torch.testing.assert_close(layers.foreground[:, 0], share)


def _flood(mask: Tensor, threshold: float) -> Tensor:
    left = {(int(i), int(j)) for i, j in mask.nonzero()}
    parts = []
    while left:
        part, waiting = set(), [left.pop()]
        while waiting:
            i, j = waiting.pop()
            part.add((i, j))
            near = {(i + a, j + b) for a in (-1, 0, 1) for b in (-1, 0, 1)} & left
            left -= near
            waiting += near
        parts.append(part)
    kept = torch.zeros_like(mask)
    largest = max(map(len, parts), default=1)
    for part in parts:
        if len(part) / largest > threshold or threshold == 0:
            for place in part:
                kept[place] = True
    return kept


def test_peaks_against_loops() -> None:
    image = torch.randn(6, 3, 4, 4, generator=seeded())
    for bins in (2, 5, 12):
        for found, each in zip(count_peaks(image, bins), image, strict=True):
            counts = np.histogram(each.numpy(), bins, (-1, 1))[0].tolist()
            smooth = [sum(counts[max(k - 1, 0) : k + 2]) for k in range(bins)]
            around = [-1, *smooth, -1]
            peaks = sum(around[k] <= around[k + 1] >= around[k + 2] for k in range(bins))
            assert int(found) == peaks
    assert len(count_peaks(image[:0], 12)) == 0


@pytest.mark.parametrize("bins", [12, 5])
def test_histograms_of_both_directions_are_judged_by_their_own_bins(bins: int) -> None:
    shifted = {
        side: torch.linspace(0.1, 2, 9).view(-1, 1, 1, 1)
        * torch.randn(9, 3, 8, 8, generator=seeded(n))
        for n, side in enumerate(("light", "dark"))
    }
    masks = {side: torch.zeros(9, 8, 8, dtype=torch.bool) for side in shifted}
    filters = {"light": PairFilters(), "dark": PairFilters(histogram_bins=bins)}
    peaks = count_peaks(shifted["light"], 12), count_peaks(shifted["dark"], bins)
    expected = (peaks[0] >= 2) & (peaks[1] >= 2)
    assert torch.equal(judge(masks, shifted, filters), expected)
    assert 0 < int(expected.sum()) < 9


def test_round_masks_are_rounder_and_empty_ones_do_not_count() -> None:
    axis = torch.arange(40) - 19.5
    disc = torch.hypot(axis[:, None], axis[None]) < 12
    bar = torch.zeros(40, 40, dtype=torch.bool)
    bar[18:22, 2:38] = True
    value, fits = roundness(torch.stack([disc, bar, torch.zeros_like(bar)]))
    assert float(value[0]) == pytest.approx(1 / (4 * math.pi), rel=0.05)
    assert value[0] > 2 * value[1] > value[2] == 0
    assert fits.tolist() == [True, True, False]


def test_filters_count_what_comes_to_them() -> None:
    masks = torch.zeros(4, 4, 4, dtype=torch.bool)
    masks[1, :2], masks[2, :3], masks[3] = True, True, True
    both = {"light": masks, "dark": masks.flip(0)}
    lead = PairFilters(area=(0.1, 1.0), histogram_bins=0, overlap=0.7)
    filters = {"light": lead, "dark": PairFilters(area=(0.0, 0.6))}
    seen = Acceptance()
    keep = judge(both, {}, filters, seen)
    # Light: 1, 2 and 3 are large enough; dark: of these 2 and 3 are small enough; 2 agrees.
    assert keep.tolist() == [False, False, True, False]
    rates = {name: (tally.seen, tally.passed) for name, tally in seen.tallies.items()}
    assert rates == {"area_light": (4, 3), "area_dark": (3, 2), "overlap": (2, 1)}
    assert seen.rate == 0.25


def test_filters_that_keep_nothing_end_with_their_name() -> None:
    tight = PairFilters(area=(0.9, 1.0), histogram_bins=0)
    method = GANSegmenter(
        generator=ToyGenerator(), filters=tight, dark_filters=OPEN, max_rejected=20
    )
    with pytest.raises(UserError, match=r"none of 2\d candidates .* area_light threw away .* 0.9"):
        method.sample(4, generator=seeded())


def test_stored_latents_are_drawn_with_noise(tmp_path: Path) -> None:
    rows = np.stack([np.full(16, n, np.float32) for n in range(3)])
    np.save(tmp_path / "zs.npy", rows)
    source = LatentSource(str(tmp_path / "zs.npy"))
    network = ToyGenerator()
    drawn = source.draw(network, 50, generator=seeded()).vector
    assert {float(v) for v in drawn[:, 0]} == {0.0, 1.0, 2.0}
    assert torch.equal(drawn, drawn[:, :1].expand(-1, 16))
    noisy = LatentSource(str(tmp_path / "zs.npy"), noise=0.1).draw(network, 50, generator=seeded())
    assert 0.05 < float((noisy.vector - drawn).std()) < 0.15
    with pytest.raises(DataError, match=r"holds latents \(3, 16\), expected \('N', 100\)"):
        GANSegmenter(generator=DCGAN(width=1, resolution=16), latents=source)
    (tmp_path / "bad.npy").write_bytes(b"no array")
    with pytest.raises(DataError, match=r"not a \.npy file"):
        LatentSource(str(tmp_path / "bad.npy"))


REFUSED = {
    "filters.area=[0.6,0.5]": "expected [least, largest]",
    "filters.histogram_bins=1": "no two peaks",
    "step=0": "moves nothing",
    "directions=lighter": "expected one of both, opposite, light, dark",
    "objective.form=papers": "did you mean 'paper'",
    "latents.file=nowhere.npy": "does not exist",
    "generator=bigbigan": "expected a node with `_target_`",
    "filters.roundnes=1": "did you mean",
}


def test_wrong_options_are_refused_before_anything_is_made(compose: Compose) -> None:
    composed = compose("method=gan_segmenter")
    OmegaConf.set_struct(composed, False)
    for option, message in REFUSED.items():
        config = OmegaConf.merge(composed, OmegaConf.from_dotlist([f"method.{option}"]))
        (problem,) = check(config, TrainSettings)
        assert message in problem


def test_objective_needs_a_term() -> None:
    problems = SearchObjective.check_options(
        center=0.0, edges=0.0, lightness=0.0, square=0.0, edge_change=0.0
    )
    assert "nothing to search by" in problems[0]


def test_only_a_search_warns_that_its_generator_is_an_example(
    caplog: pytest.LogCaptureFixture,
) -> None:
    method = GANSegmenter()
    assert caplog.text == ""  # As when pairs are drawn by a checkpoint.
    method.on_fit_start()
    assert "add generator=bigbigan" in caplog.text
    caplog.clear()
    GANSegmenter(generator=ToyGenerator()).on_fit_start()
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("choice", "small"),
    [
        ("bigbigan", ["width=2", "latent_dim=24"]),
        ("studiogan", ["width=2", "num_classes=3"]),
        ("stylegan2", ["resolution=16", "channel_base=64", "channel_max=4", "mapping_depth=1"]),
    ],
)
def test_generators_are_searched_on_random_weights(
    compose: Compose, choice: str, small: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    options = [f"generator.{option}" for option in small]
    config = compose("method=gan_segmenter", f"generator={choice}", *options)
    assert check(config, TrainSettings) == []
    method = build(config.method)
    assert "has random weights" in caplog.text
    latent = method.latents.draw(method.generator, 2)
    loss, _ = method.search_loss(latent, method.shift.draw(latent.vector))
    loss.sum().backward()
    assert method.directions.light.grad.abs().sum() > 0
    assert method.directions.light.shape == (1, *method.generator.latent_shape)


def test_usual_names_are_those_of_the_files_they_stand_for() -> None:
    for name, full in (("studiogan", "_imagenet_sagan"), ("stylegan2", "_afhqwild")):
        assert read_choice("generator", name) == read_choice("generator", f"{name}{full}")


def test_classes_are_the_same_before_and_after_the_shift_and_kept() -> None:
    network = StudioGAN(resolution=32, width=2, latent_dim=8, num_classes=4)
    method = GANSegmenter(generator=network, filters=OPEN)
    latent = method.latents.draw(network, 3, generator=seeded())
    still, moved = method.paint_along(latent, [torch.zeros(8), torch.ones(8)])
    # In one batch of both, too: for another size a processor may take other kernels.
    vectors = torch.cat([latent.vector, latent.vector + 1])
    both = network(Latent(vectors, torch.cat([latent.label, latent.label])))
    torch.testing.assert_close(torch.cat([still, moved]), both)
    drawn = method.sample(5, generator=seeded(2))
    expected = method.latents.draw(network, 5, generator=seeded(2)).label
    assert torch.equal(drawn.label, expected)
    torch.testing.assert_close(
        drawn.composite, method.draw_candidates(5, generator=seeded(2)).image
    )


def test_pictures_have_a_row_for_each_latent(method: GANSegmenter) -> None:
    batch = Batch(torch.zeros(3, 3, 16, 16), ("a", "b", "c"))
    grids, titles = method.pictures(batch), method.picture_titles()
    assert set(grids) == set(titles) == {"directions", "shifts_light", "shifts_dark"}
    for name, pictures in grids.items():
        assert pictures.shape == (3 * len(titles[name]), 3, 32, 32)
        assert pictures.abs().max() <= 1


def test_generators_from_files_stay_out_of_checkpoints(tmp_path: Path) -> None:
    network = DCGAN(width=1, resolution=16, latent_dim=4)
    file = tmp_path / "g.pt"
    torch.save(network.state_dict(), file)
    node = {
        "_target_": "figureground.methods.gan_segmenter.GANSegmenter",
        "generator": {
            "_target_": "figureground.generators.dcgan.DCGAN", "width": 1, "resolution": 16,
            "latent_dim": 4, "weights": str(file),
        },
    }  # fmt: skip
    method = build(node)
    method.origin = {"method": node}
    checkpoint = {"state_dict": method.state_dict()}
    assert not [key for key in checkpoint["state_dict"] if key.startswith("generator.")]
    method.on_save_checkpoint(checkpoint)
    VerifiedCheckpointIO().save_checkpoint(checkpoint, tmp_path / "m.ckpt")
    again = load_method(tmp_path / "m.ckpt")
    one, two = (m.draw_candidates(2, generator=seeded()).shifted["dark"] for m in (method, again))
    assert torch.equal(one, two)
    torch.save(DCGAN(width=1, resolution=16, latent_dim=4).state_dict(), file)
    with pytest.raises(CheckpointError, match="found in other weights"):
        load_method(tmp_path / "m.ckpt")


def test_pairs_are_written_and_drawn_while_training(method: GANSegmenter, tmp_path: Path) -> None:
    method.origin = {"method": {"_target_": "figureground.methods.gan_segmenter.GANSegmenter"}}
    checkpoint = {"state_dict": method.state_dict()}
    method.on_save_checkpoint(checkpoint)
    VerifiedCheckpointIO().save_checkpoint(checkpoint, tmp_path / "m.ckpt")
    drawn = LivePairs(str(tmp_path / "m.ckpt"), val_count=2).draw(3, 0, 7)
    again = LivePairs(str(tmp_path / "m.ckpt"), val_count=2).draw(3, 0, 7)
    assert torch.equal(drawn.alpha, again.alpha)
    assert 0 < float(drawn.foreground.mean()) <= 0.6

    writer = ShardWriter(
        tmp_path / "pairs", checkpoint="x", seed=1, shard_size=4, layers=False, rounding="down"
    )
    writer.write(lambda chance: method.sample(CHUNK, generator=chance), 6)
    pairs = SavedPairs(str(tmp_path / "pairs"), val_share=0.4)
    assert len(pairs.reader) == 6
    mask = pairs.reader.read(5, "mask")
    assert set(np.unique(mask)) <= {0, 255}
    assert mask.any()


def test_generate_ends_with_the_rates_of_all_that_was_drawn(
    method: GANSegmenter, tmp_path: Path, compose: Compose, caplog: pytest.LogCaptureFixture
) -> None:
    method.origin = {"method": {"_target_": "figureground.methods.gan_segmenter.GANSegmenter"}}
    checkpoint = {"state_dict": method.state_dict()}
    method.on_save_checkpoint(checkpoint)
    VerifiedCheckpointIO().save_checkpoint(checkpoint, tmp_path / "m.ckpt")

    def last_line(*options: str) -> str:
        files = [f"ckpt={tmp_path}/m.ckpt", f"output={tmp_path}/pairs", "device=cpu"]
        with caplog.at_level("INFO"):
            generate(compose(*files, *options, config_name="generate"))
        return caplog.records[-1].getMessage()

    shards = ("format=shards", "shard_size=10", "layers=false")
    part = last_line("count=10", *shards)
    line = last_line("count=20", *shards)
    assert line.startswith("32 of ")
    assert "candidates kept (area_light" in line
    assert line != part.replace("16 of", "32 of")
    assert last_line("count=20", *shards) == line  # Nothing is drawn, yet all is known.
    assert "candidates kept" in last_line("count=2", f"output={tmp_path}/png")


def test_direction_files_of_the_authors_are_read_without_running_them(tmp_path: Path) -> None:
    """Their `cfg` is an object of a configuration library; others are refused."""
    direction, stored = torch.randn(1, 16), OmegaConf.create({"a": {"b": [1, "x"]}, "c": 1.5})
    content = {"state_dict": {"d": direction}, "iteration": 300, "cfg": stored}
    torch.save(content, tmp_path / "latest.pth")
    found = convert_checkpoint(tmp_path / "latest.pth")
    assert torch.equal(found.state_dict["directions.light"], direction)
    assert found.options["directions"] == "light"
    torch.save(direction[0], tmp_path / "bg_dark_direction.pth")
    found = convert_checkpoint(tmp_path)
    assert found.options["directions"] == "both"
    assert torch.equal(found.state_dict["directions.dark"], direction)

    harm = {"state_dict": {"d": direction}, "cfg": _Harmful(tmp_path / "touched")}
    for name, zipped in (("harm.pth", True), ("old_harm.pth", False)):
        torch.save(harm, tmp_path / name, _use_new_zipfile_serialization=zipped)
        with pytest.raises(CheckpointError, match=r"system.*nothing in it was run"):
            convert_checkpoint(tmp_path / name)
    with warnings.catch_warnings(action="ignore"):  # Of its age.
        torch.jit.save(torch.jit.script(_Program()), str(tmp_path / "program.pth"))
    with pytest.raises(CheckpointError, match=r"TorchScript.*nothing in it was run"):
        convert_checkpoint(tmp_path / "program.pth")
    assert not (tmp_path / "touched").exists()
    torch.save({"inc.double_conv.0.weight": direction}, tmp_path / "unet.pth")
    with pytest.raises(CheckpointError, match="method=segmenter"):
        convert_checkpoint(tmp_path / "unet.pth")
    (tmp_path / "junk.pth").write_bytes(b"junk")
    for name in ("junk.pth", "missing.pth"):
        with pytest.raises(CheckpointError):
            convert_checkpoint(tmp_path / name)


def test_direction_files_that_unpack_without_end_or_are_damaged_are_refused(tmp_path: Path) -> None:
    torch.save({"d": torch.zeros(2**25 + 1)}, tmp_path / "whole.pth")
    with (
        zipfile.ZipFile(tmp_path / "whole.pth") as whole,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for member in whole.namelist():
            bomb.writestr(member, whole.read(member))
    with pytest.raises(CheckpointError, match="claims to unpack to"):
        convert_checkpoint(tmp_path / "bomb.pth")
    torch.save({"d": torch.ones(1, 1000)}, tmp_path / "flipped.pth")
    content = bytearray((tmp_path / "flipped.pth").read_bytes())
    content[content.index(np.ones(8, np.float32).tobytes())] ^= 1
    (tmp_path / "flipped.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        convert_checkpoint(tmp_path / "flipped.pth")
    torch.save({"d": torch.ones(1, 1).expand(1000, 1000)}, tmp_path / "wide.pth")
    with pytest.raises(CheckpointError, match="not stored"):
        convert_checkpoint(tmp_path / "wide.pth")


class _Harmful:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.system, (f"touch {self.target}",)


class _Program(torch.nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image


def test_convert_writes_a_checkpoint_that_draws(compose: Compose, tmp_path: Path) -> None:
    direction = torch.nn.functional.normalize(torch.randn(1, 16))
    torch.save(direction[0], tmp_path / "bg_direction.pth")

    def converting(*more: str) -> DictConfig:
        files = [f"weights={tmp_path}/bg_direction.pth", f"output={tmp_path}/d.ckpt"]
        choice = ["method=gan_segmenter", "data=latents"]
        return compose(*choice, *files, *more, config_name="convert")

    method = load_method(convert(converting()))
    torch.testing.assert_close(method.directions.best("light"), direction[0])
    assert len(method.draw_candidates(2).image) == 2
    with pytest.raises(CheckpointError, match=r"light is \(1, 16\), expected \(1, 100\)"):
        convert(converting("generator=dcgan_faces", "generator.width=1", "overwrite=true"))


def _iou(one: Tensor, two: Tensor) -> float:
    return float((one & two).sum() / (one | two).sum())


def test_styles_shift_in_every_layer() -> None:
    network = StyleGAN2(resolution=16, latent_dim=6, style_dim=5, channel_base=64, channel_max=4)
    method = GANSegmenter(generator=network, filters=OPEN, norm="global")
    assert method.directions.light.shape == (1, 6, 5)
    assert method.sample(1, generator=seeded()).color.shape == (1, 2, 3, 16, 16)
