"""DTI-Sprites beyond the authors' numbers: searches against brute force, options, re-assignment."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny import Run
from torch import Tensor
from torch.testing import assert_close

from faults import build_tiny
from figureground.core.errors import UserError
from figureground.core.types import Batch
from figureground.methods.dti_sprites import DTISprites
from figureground.methods.dti_sprites.composition import (
    compose,
    join_changes,
    order_by_depth,
    score_all,
    search_greedily,
    split_choice,
)
from figureground.methods.dti_sprites.parts import BYTES_AT_ONCE
from figureground.methods.dti_sprites.reassignment import replace_sprites
from figureground.methods.dti_sprites.selection import indecision, lack_of_use, occupancy
from figureground.methods.dti_sprites.shadows import Shadows
from figureground.methods.dti_sprites.sprites import SpriteBank
from figureground.methods.dti_sprites.transforms import (
    Perceptrons,
    TransformGroup,
    parse_sequence,
    soft_clamp,
)
from figureground.methods.dti_sprites.usage import SpriteUsage
from figureground.metrics.clustering import ClusteringScores

TINY: dict[str, Any] = {
    "resolution": 20, "num_sprites": 3, "encoder": "default", "hidden_width": 8,
    "sprite_transform": "color_affine", "background_transform": "color",
}  # fmt: skip


def scene(layers: int = 3, sprites: int = 4, batch: int = 2) -> tuple[Tensor, ...]:
    image = torch.rand(batch, 3, 6, 5)
    color = torch.rand(layers, batch, sprites, 3, 6, 5)
    mask = torch.rand(layers, batch, sprites, 1, 6, 5)
    occlusion = torch.rand(batch, layers, layers) * (1 - torch.eye(layers))
    return image, color, mask, torch.rand(batch, 3, 6, 5), occlusion


def composite(
    color: Tensor, mask: Tensor, ground: Tensor, occlusion: Tensor, choice: list[int], b: int
) -> Tensor:
    """One composite by loops over pixels' layers, empty where the choice is -1."""
    layers = [ground[b]] + [color[i, b, k] for i, k in enumerate(choice)]
    masks = [torch.ones(1, 6, 5)]
    masks += [mask[i, b, k] if k >= 0 else torch.zeros(1, 6, 5) for i, k in enumerate(choice)]
    total = torch.zeros(3, 6, 5)
    for i, (layer, own) in enumerate(zip(layers, masks, strict=True)):
        seen = own.clone()
        for j, other in enumerate(masks):
            hides = (
                0.0 if j == 0 or j == i else 1.0 if i == 0 else float(occlusion[b, j - 1, i - 1])
            )
            seen = seen * (1 - hides * other)
        total += seen * layer
    return total


@pytest.mark.parametrize("sweeps", [1, 3, 8])
def test_greedy_search_equals_composing_every_candidate(sweeps: int) -> None:
    image, color, mask, ground, occlusion = scene()
    penalty = torch.tensor([0.01, 0.01, 0.01, 0.0])
    found, changes = search_greedily(
        image, color, mask, ground, occlusion, num_sweeps=sweeps, penalty=penalty
    )
    for b in range(2):
        choice = [-1, -1, -1]
        for _ in range(sweeps):
            for layer in range(3):
                errors = []
                for k in range(4):
                    choice[layer] = k
                    made = composite(color, mask, ground, occlusion, choice, b)
                    errors.append(float((made - image[b]).square().mean() + penalty[k]))
                choice[layer] = errors.index(min(errors))
        assert found[b].tolist() == choice
    assert changes[0] == 1.0
    assert len(changes) <= sweeps


def test_changes_are_logged_between_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    method = DTISprites(**TINY, selection="greedy", greedy_sweeps=4)
    logged: dict[str, float] = {}
    monkeypatch.setattr(method, "log", lambda name, value: logged.update({name: value}))
    method._log_changes([])
    assert logged == {}
    method._log_changes([1.0, 0.25, 0.0])
    name = "train/selection_change/sweep"
    assert logged == {f"{name}2": 0.25, f"{name}3": 0.0, f"{name}4": 0.0}


def test_shares_of_changes_join_over_pictures() -> None:
    assert join_changes([(3, [1.0, 0.0]), (1, [1.0, 0.4, 0.2, 0.0])]) == [1.0, 0.1, 0.05, 0.0]


@pytest.mark.parametrize("selection", ["greedy", "exhaustive"])
def test_parts_of_a_batch_change_nothing(monkeypatch: pytest.MonkeyPatch, selection: str) -> None:
    method = DTISprites(
        **(TINY | {"num_layers": 2, "selection": selection, "empty_sprite": True,
                   "occlusion": "predicted", "greedy_sweeps": 3})
    ).double()  # fmt: skip
    with torch.no_grad():
        for parameter in [*method.model.predictors(), method.model.sprites.color]:
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    noise = torch.rand(4, 1, 20, 20, dtype=torch.float64) - 0.5
    monkeypatch.setattr(method.model, "_draw_noise", lambda image, iteration: noise)
    image = torch.rand(3, 3, 20, 20, dtype=torch.float64)
    found = []
    for size in (2**25, 1):
        monkeypatch.setitem(BYTES_AT_ONCE, "cpu", size)
        method.zero_grad()
        fit = method.model(image, 1)
        (fit.composite() - image).square().mean().backward()
        gradients = [p.grad for p in method.model.parameters()]
        found.append((fit.choice, fit.changes, fit.composite(), gradients))
    assert_close(found[0], found[1])


def test_exhaustive_search_numbers_combinations_as_documented() -> None:
    image, color, mask, _, occlusion = scene(2, 3)
    grounds = torch.rand(2, 2, 3, 6, 5)
    errors = score_all(image, color, mask, grounds, occlusion)
    assert errors.shape == (2, 2 * 9)
    for number, (m, *choice) in enumerate(itertools.product(range(2), range(3), range(3))):
        for b in range(2):
            made = composite(color, mask, grounds[m], occlusion, choice, b)
            assert_close(errors[b, number], (made - image[b]).square().mean())
        ground, sprites = split_choice(torch.tensor([number]), 3, 2)
        assert (int(ground), sprites[0].tolist()) == (m, choice)


def test_depths_give_orders_without_circles() -> None:
    occlusion = order_by_depth(torch.tensor([[3.0, -3.0, 0.0]]))[0]
    assert_close(occlusion + occlusion.mT, 1 - torch.eye(3))
    assert (occlusion > 0.5).tolist() == [[False, True, True], [False, False, False],
                                          [False, True, False]]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"num_layers": 3, "num_sprites": 19}, "selection=exhaustive would try 6859 combinations"),
        ({"selection": "greedy", "num_backgrounds": 2}, "knows one background"),
        ({"selection": "predicted"}, "balances usage by frequency_penalty, got reassign_every=100"),
        (
            {"empty_penalty": 0.1, "selection": "greedy"},
            "add empty_sprite=true or use empty_penalty=0",
        ),
        (
            {"empty_penalty": 0.1, "empty_sprite": True},
            "has no part in selection=exhaustive; use selection=greedy or empty_penalty=0",
        ),
        ({"shadows": True, "num_backgrounds": 0}, "needs a background to fall on"),
        ({"binary_penalty": 0.1}, "use selection=predicted or leave them at 0"),
        ({"sprite_size": [8, 8]}, "layer_transform must place sprites"),
        ({"sprite_size": [8]}, "expected height and width"),
        ({"sprite_size": [8, 8], "layer_transform": "color"}, "layer_transform must place sprites"),
        (
            {"sprite_size": [8, 8], "layer_transform": "color_pos", "layer_milestones": [5]},
            "from the first iteration on, but color_pos with layer_milestones=[5] does so after "
            "iteration 5 only",
        ),
        (
            {
                "sprite_size": [8, 8],
                "layer_transform": "identity_color_affine_position",
                "layer_milestones": [0, 3, 4],
            },
            "does so after iteration 3 only",
        ),
        ({"background_transform": "morphological"}, "works on single-channel pictures"),
        ({"layer_milestones": [5]}, "names 1 transformations, but identity has 0"),
        ({"sprite_milestones": [10, 20]}, "names 2 transformations, but color_affine has 1"),
        ({"sprite_transform": "color_twist"}, "there is no transformation 'twist'"),
        ({"sprite_transform": "color_morpho"}, "works on single-channel pictures"),
        (
            {"sprite_transform": "color_affine_tps", "sprite_milestones": [20, 10]},
            "expected increasing iterations",
        ),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], fragment: str) -> None:
    with pytest.raises(ValueError, match=fragment.replace("[", r"\[")):
        DTISprites(**(TINY | options))


def test_the_empty_sprite_is_a_cluster_in_the_scores() -> None:
    options = TINY | {"empty_sprite": True}
    with pytest.raises(ValueError, match=r"3 sprites and the empty one .*num_clusters=4"):
        DTISprites(**options, metrics={"clustering": ClusteringScores(3, 2)})
    method = DTISprites(**options, metrics={"clustering": ClusteringScores(4, 2)}).eval()
    with torch.no_grad():
        method.model.sprites.background.fill_(0.5)
    image = torch.zeros(2, 3, 20, 20)
    assert method.cluster(image).tolist() == [3, 3]
    method.validation_step(Batch(image, ("a", "b"), label=torch.tensor([0, 1])), 0)
    assert float(method._scores["val/clustering"].compute()["clusters"]) == 1


def test_small_sprites_are_placed_from_the_first_iteration_on() -> None:
    for sequence, milestones in (("color_position", [0]), ("position_color", [5])):
        method = DTISprites(
            **TINY, sprite_size=[8, 8], layer_transform=sequence, layer_milestones=milestones
        )
        image = torch.rand(2, 3, 20, 20)
        assert method.model(image, 1).composite().shape == image.shape
        assert method.analyze(image).composite().shape == image.shape


def test_short_names_are_known() -> None:
    assert DTISprites(**(TINY | {"sprite_size": [8, 8], "layer_transform": "col_pos"})) is not None
    assert parse_sequence("col_homography_thinplatespline") == ["color", "projective", "tps"]


def test_soft_clamp_keeps_a_slope() -> None:
    x = torch.tensor([-1.0, 0.5, 3.0])
    assert_close(soft_clamp(x), torch.tensor([-0.01, 0.5, 1.02]))


@pytest.mark.parametrize(("clamp", "bright"), [("soft", 1.025), ("hard", 1.0), ("none", 1.5)])
def test_changed_colors_are_clamped_as_parameters_are(clamp: Any, bright: float) -> None:
    bank = SpriteBank(1, (4, 4), 0, (4, 4), clamp=clamp, slope=0.05)
    group = TransformGroup("color", 1, 2, (4, 4), clamp=bank.clamp)
    brighter = torch.tensor([[0, 0.5] * 3])
    assert_close(group(torch.ones(1, 3, 4, 4), {0: brighter}), torch.full((1, 3, 4, 4), bright))
    method = DTISprites(**TINY, clamp=clamp)
    assert method.model.sprite_group.clamp is method.model.sprites.clamp


@pytest.mark.parametrize(
    "init", ["constant", "random", "random_color", "gaussian", "mean", "sample", "kmeans"]
)
def test_sprites_start_from_what_was_asked_for(init: Any) -> None:
    bank = SpriteBank(3, (8, 8), 1, (16, 16), color_init=init, background_init=init)
    pictures = torch.rand(20, 3, 16, 16)
    bank.reset_parameters(pictures)
    assert bank.needs_pictures == (init in {"mean", "sample", "kmeans"})
    if init == "mean":
        assert_close(bank.background[0].detach(), pictures.mean(dim=0))
    if init == "constant":
        assert_close(bank.color.detach(), torch.full((3, 3, 8, 8), 0.9))
    if init == "random_color":
        assert_close(bank.color[..., :1, :1].expand_as(bank.color), bank.color)
    for mask_init in ("constant", "random"):
        assert SpriteBank(2, (8, 8), 0, (8, 8), mask_init=mask_init).mask.max() <= 1  # type: ignore[arg-type]


def test_unused_sprites_take_over_everything_of_the_most_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    method = DTISprites(**TINY, reassign_threshold=0.1)
    optimizers = method.configure_optimizers()
    method.model(torch.rand(4, 3, 20, 20), 1).composite().sum().backward()
    for optimizer in optimizers:
        optimizer.step()
    logged: dict[str, float] = {}
    strategy = SimpleNamespace(broadcast=lambda x: x, reduce=lambda x, reduce_op: x)
    trainer: Any = SimpleNamespace(strategy=strategy, optimizers=optimizers)
    monkeypatch.setattr(method, "_trainer", trainer)
    monkeypatch.setattr(DTISprites, "trainer", trainer)
    monkeypatch.setattr(method, "log", lambda name, value: logged.update({name: value}))
    method.usage.update(torch.tensor([[1]] * 9 + [[0]] * 4))
    method._reassign(is_frozen=False)
    assert logged["train/reassigned"] == 1
    sprites = method.model.sprites
    assert_close(sprites.mask[2], sprites.mask[1])
    assert_close(sprites.color[2], sprites.color[1], atol=1e-2, rtol=0)
    for stack in method.model.sprite_group.regressors.values():
        for parameter in stack.parameters():
            assert_close(parameter[2], parameter[1])
            moments = optimizers[1].state[parameter]
            assert_close(moments["exp_avg"][2], moments["exp_avg"][1])
    assert int(method.usage.chosen.sum()) == 0


def test_objects_and_samples_have_their_shapes() -> None:
    method = DTISprites(
        **(TINY | {"num_layers": 2, "selection": "greedy", "empty_sprite": True,
                   "occlusion": "depth"})
    ).eval()  # fmt: skip
    image = torch.rand(3, 3, 20, 20) * 2 - 1
    maps = method.find_objects(image)
    assert maps.found.shape == maps.filled.shape == maps.classes.shape == (3, 20, 20)
    assert int(maps.filled.min()) >= 1
    assert int(maps.found.max()) <= 2
    assert method.segment(image).shape == (3, 3, 20, 20)
    assert method.cluster(image).shape == (3,)
    assert method.sample(2).composite.shape == (2, 3, 20, 20)
    grids = method.pictures(Batch(image, ("a", "b", "c")))
    assert {len(grid) % 3 for name, grid in grids.items() if name != "usage"} == {0}
    assert len(grids["usage"]) == 1


def test_rates_drop_by_group() -> None:
    method = DTISprites(**TINY, milestones=(10,), sprite_gamma=1.0, predictor_gamma=0.1)
    optimizers = method.configure_optimizers()
    for iteration, expected in ((10, 1e-3), (11, 1e-4), (11, 1e-4)):
        method.rates.apply(optimizers, iteration)
        assert optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-3)
        assert optimizers[1].param_groups[0]["lr"] == pytest.approx(expected)


def test_composition_without_layers_in_front_is_the_layer() -> None:
    color = torch.rand(2, 1, 3, 4, 4)
    assert_close(compose(color, torch.ones(2, 1, 1, 4, 4), torch.zeros(2, 1, 1)), color[:, 0])


def test_mask_noise_fades_out() -> None:
    model = DTISprites(**TINY, mask_noise=0.4, noise_until=100).model
    assert [model.noise_level(n) for n in (0, 50, 100, 200)] == pytest.approx([0.4, 0.2, 0, 0])
    image = torch.rand(2, 3, 20, 20)
    assert model._draw_noise(image, 50).abs().max() <= 0.2  # type: ignore[union-attr]
    assert model._draw_noise(image, 100) is None
    assert DTISprites(**TINY).model.noise_level(10**6) == 0.4


PREDICTED = TINY | {
    "selection": "predicted", "reassign_every": 0, "num_layers": 2, "empty_sprite": True,
}  # fmt: skip


def test_predicted_choices_are_drawn_in_training_and_fixed_after() -> None:
    model = DTISprites(**PREDICTED).model
    image = torch.rand(16, 3, 20, 20)
    scene = model(image, 1)
    assert_close(scene.probabilities, torch.full((2, 16, 4), 0.25))
    assert len(scene.choice.unique()) > 1
    model.eval()
    assert (model.explain(image).choice == 0).all()  # The first of equals.
    scene.composite().square().mean().backward()
    moved = [p.grad is not None and bool(p.grad.any()) for p in model.selector.parameters()]  # type: ignore[union-attr]
    assert any(moved)


def test_drawn_rendering_equals_that_of_the_choice() -> None:
    model = DTISprites(**(PREDICTED | {"mask_noise": 0.0})).eval().model
    image = torch.rand(4, 3, 20, 20)
    betas = model._predict(model.encoder(image), 1)
    stack = model.sprites.stack(with_canvas=False, with_empty=True)
    choice = torch.tensor([[0, 1], [2, 3], [3, 3], [1, 0]])
    drawn = model._render_drawn(betas, stack, F.one_hot(choice.mT, 4).float(), None)
    color, mask = model._render_chosen(betas, stack, choice, None)
    # The colour of an empty layer is never seen.
    assert_close(drawn[1], mask)
    assert_close(drawn[0] * mask, color * mask)


def test_frozen_sprites_are_never_predicted_empty() -> None:
    model = DTISprites(**(PREDICTED | {"freeze": 5})).model
    scene = model(torch.rand(32, 3, 20, 20), 5)
    assert int(scene.choice.max()) < 3
    assert_close(scene.probabilities[..., -1], torch.zeros(2, 32))
    assert int(model(torch.rand(64, 3, 20, 20), 6).choice.max()) == 3


def test_penalties_are_those_of_loops() -> None:
    p = torch.rand(2, 5, 4).softmax(dim=2)
    usage = [sum(float(p[layer, b, k]) for layer in range(2) for b in range(5)) / 5
             for k in range(4)]  # fmt: skip
    assert float(lack_of_use(p, 0.6)) == pytest.approx(
        sum(max(0, 0.6 - u) for u in usage), abs=1e-5
    )
    densities = [6 * float(x) * (1 - float(x)) for x in p.flatten()]
    assert float(indecision(p)) == pytest.approx(sum(densities) / 40, abs=1e-5)
    shown = sum(1 - float(p[layer, b, 3]) for layer in range(2) for b in range(5)) / 5
    assert float(occupancy(p)) == pytest.approx(shown, abs=1e-5)
    method = DTISprites(
        **PREDICTED, frequency_penalty=2.0, binary_penalty=3.0, frequency_floor=0.9,
        empty_penalty=0.5,
    )  # fmt: skip
    method.log_losses = lambda losses: None  # type: ignore[method-assign, assignment]
    expected = 2 * lack_of_use(p[..., :3], 0.9) + 3 * indecision(p) + 0.5 * occupancy(p)
    assert_close(method._penalize(p), expected)


def test_shadows_darken_the_background_beside_their_layer() -> None:
    shadows = Shadows(2, 5, Perceptrons(0, 8))
    ground, mask = torch.full((1, 3, 32, 32), 0.5), torch.zeros(1, 2, 1, 32, 32)
    assert_close(shadows(ground, mask, torch.rand(1, 5)), ground)
    mask[0, 1, 0, 12:20, 4:12] = 1
    with torch.no_grad():
        shadows.perceptrons.biases[-1][1, 0] = torch.tensor([10.0, 10.0, 0.0])
    cast = shadows(ground, mask.requires_grad_(), torch.rand(1, 5))
    # Moved to the right by a quarter of the picture, as dark as can be.
    assert_close(cast[0, :, 16, 16], torch.full((3,), 0.1), atol=1e-3, rtol=0)
    assert_close(cast[0, :, 16, 2], torch.full((3,), 0.5))
    cast.sum().backward()
    assert mask.grad is None
    assert shadows.perceptrons.biases[-1].grad is not None


def test_shadows_are_learned_with_the_rest() -> None:
    method = DTISprites(**TINY, shadows=True)
    owned = {id(p) for p in method.model.predictors()}
    assert {id(p) for p in method.model.shadows.parameters()} <= owned  # type: ignore[union-attr]
    image = torch.rand(2, 3, 20, 20)
    assert DTISprites(**TINY).model.shadows is None
    assert method.eval().model.explain(image).background.mean() < 0.5
    method.train().model(image, 1).composite().square().mean().backward()
    assert any(p.grad is not None for p in method.model.shadows.parameters())  # type: ignore[union-attr]


def test_generated_sprites_start_as_learned_ones_and_move_by_their_codes() -> None:
    learned, generated = (
        DTISprites(**TINY, sprite_source=source).model.sprites  # type: ignore[arg-type]
        for source in ("learned", "generated")
    )
    for one, two in zip(learned.raw(), generated.raw(), strict=True):
        assert_close(one, two)
    method = DTISprites(**TINY, sprite_source="generated")
    optimizers = method.configure_optimizers()
    owned = {id(p) for o in optimizers for group in o.param_groups for p in group["params"]}
    assert owned == {id(p) for p in method.parameters() if p.requires_grad}
    before = method.model.sprites.color.clone()
    for _ in range(2):
        method.model(torch.rand(4, 3, 20, 20), 1).composite().sum().backward()
        for optimizer in optimizers:
            optimizer.step()
    color, mask = method.model.sprites.raw()
    assert (color - before).abs().max() > 0
    assert mask.shape == (3, 1, 20, 20)
    assert len(method.pictures(Batch(torch.rand(2, 3, 20, 20), ("a", "b")))["sprites"]) == 4


def test_generated_sprites_are_replaced_by_codes() -> None:
    model = DTISprites(**TINY, sprite_source="generated").model
    with torch.no_grad():
        for parameter in model.sprites.decoder.parameters():  # type: ignore[union-attr, operator]
            parameter.normal_(0, 0.1)
    assert (model.sprites.raw()[0][2] - model.sprites.raw()[0][1]).abs().max() > 0.01
    replace_sprites(model, [2], 1)
    color, mask = model.sprites.raw()
    assert_close(color[2], color[1], atol=1e-2, rtol=0)
    assert_close(mask[2], mask[1], atol=1e-2, rtol=0)
    assert not torch.equal(color[2], color[1])


def test_what_is_active_outside_training_is_what_training_has_come_to() -> None:
    method = DTISprites(**TINY, sprite_milestones=(10,), freeze=5).eval()
    with torch.no_grad():
        for parameter in method.model.predictors():
            parameter.normal_(0, 0.1)
    image = torch.rand(2, 3, 20, 20) * 2 - 1
    shown = {}
    for iteration in (0, 1, 10, 11):
        method.trained_until.fill_(iteration)
        shown[iteration] = method.analyze(image)
        names = [name for name in shown[iteration].parameters if name.startswith("sprite")]
        assert names == ["sprite.0.color", *["sprite.1.affine"] * (iteration > 10)]
    assert_close(shown[0].composite(), shown[1].composite())
    assert_close(shown[10].composite(), shown[1].composite())
    assert (shown[11].composite() - shown[1].composite()).abs().max() > 1e-3
    label = int(shown[10].choice[0, 0]) + 1
    method.trained_until.fill_(10)
    color, _ = method.recast(image, 1, label)
    assert_close((color[0] + 1) / 2, shown[10].color[0, 0])


@pytest.mark.parametrize("options", [{}, {"selection": "predicted", "reassign_every": 0}])
def test_no_layer_is_empty_outside_training_while_sprites_are_frozen(
    options: dict[str, Any],
) -> None:
    method = DTISprites(
        **(TINY | {"empty_sprite": True, "freeze": 5, "num_backgrounds": 1} | options)
    ).eval()
    with torch.no_grad():
        if method.model.selector is None:
            # The background alone explains it.
            image = torch.full((2, 3, 20, 20), 0.5)
            method.model.sprites.background.fill_(0.5)
        else:
            image = torch.rand(2, 3, 20, 20)
            method.model.selector.perceptrons.biases[-1][..., -1] = 5.0
    for iteration, is_empty in ((5, False), (6, True)):
        method.trained_until.fill_(iteration)
        assert bool((method.cluster(image * 2 - 1) == 3).all()) == is_empty


def test_training_tells_how_far_it_has_come(tmp_path: Path) -> None:
    def make() -> Any:
        return build_tiny("dti_sprites", "method.sprite_milestones=[2]",
                          "method.sprite_transform=identity_color", "method.freeze=1")  # fmt: skip

    part = Run(tmp_path / "a", iterations=2, make=make).start()
    assert int(part.method.trained_until) == 2
    part.method.reset_parameters()
    assert int(part.method.trained_until) == 0
    # A model that was trained to the end elsewhere stays so.
    done = torch.iinfo(torch.int64).max
    other = Run(tmp_path / "b", iterations=1, make=make)
    other.method.trained_until.fill_(done)
    before = other.method.model.sprites.mask.clone()
    other.start()
    assert int(other.method.trained_until) == done
    assert not torch.equal(other.method.model.sprites.mask, before)


def test_usage_is_counted_over_processes_once() -> None:
    # Some strategies sum in place.
    strategy = SimpleNamespace(reduce=lambda x, reduce_op: x.mul_(2))
    usage = SpriteUsage(1, 3)
    usage.update(torch.tensor([[0], [0], [2]]), strategy)
    usage.update(torch.tensor([[2]]), strategy)
    assert usage.chosen.tolist() == [[4, 0, 4]]
    for _ in range(2):
        assert usage.shares("mean").tolist() == [0.5, 0, 0.5]
    # Whoever goes on from what one process has saved goes on from all.
    other = SpriteUsage(1, 3)
    other.load_state_dict(usage.state_dict())
    other.update(torch.tensor([[1], [1]]), strategy)
    assert other.chosen.tolist() == [[4, 4, 4]]


def test_scenes_are_not_drawn_of_pictures_that_nobody_knows() -> None:
    method = DTISprites(**TINY).eval()
    method.trained_until.fill_(torch.iinfo(torch.int64).max)
    with pytest.raises(UserError, match="remembers no training pictures"):
        method.sample(1)
    method.references.fill_(100)
    assert method.sample(1).composite.shape == (1, 3, 20, 20)
