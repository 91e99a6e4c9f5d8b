"""Whole models against the authors' code: forward, selection, losses, gradients, Adam steps."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from torch.testing import assert_close

from figureground import load_method
from figureground.cli.convert import convert
from figureground.core.errors import CheckpointError
from figureground.methods.dti_sprites.composition import score_all
from figureground.methods.dti_sprites.convert import convert_checkpoint, convert_state
from figureground.methods.dti_sprites.module import DTISprites
from figureground.methods.dti_sprites.pictures import (
    fill_background,
    instance_map,
    semantic_map,
)

CASES = ["multi", "tetro", "cluster", "exhaustive"]
CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}
WARPED: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4}


def read(folder: Path, name: str) -> dict[str, Tensor]:
    with safe_open(folder / f"{name}.safetensors", "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no dict


def take(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


class Case:
    """One of the authors' models, ours with its weights, and what theirs computed."""

    def __init__(self, folder: Path, name: str, visits: str = "once") -> None:
        settings = json.loads((folder / "cases.json").read_text())[name]
        model = settings["model"]
        self.tensors = read(folder, name)
        self.greedy = bool(model.get("estimate_minimum"))
        self.iteration = 10**6  # all active, nothing frozen
        adam = partial(torch.optim.Adam, lr=1e-3)
        milestones = {
            f"{ours}_milestones": tuple(model.get(f"curriculum_learning{theirs}") or ())
            for ours, theirs in (("sprite", ""), ("layer", "_layer"), ("background", "_bkg"))
        }
        self.method = DTISprites(
            resolution=settings["img_size"][0],
            num_sprites=model["n_sprites"],
            num_layers=model.get("n_objects", 1),
            num_backgrounds=model.get("n_backgrounds", 0),
            sprite_size=model.get("sprite_size"),
            encoder=model["encoder_name"],
            encoder_pool=model.get("with_pool", (1, 1)),
            sprite_transform=model["transformation_sequence"],
            layer_transform=model.get("transformation_sequence_layer", "identity"),
            background_transform=model["transformation_sequence_bkg"],
            hidden_width=settings["hidden_units"],
            mask_noise=model["inject_noise"],
            freeze=model.get("freeze_sprite", 0),
            occlusion="predicted" if model.get("pred_occlusion") else "fixed",
            selection="greedy" if self.greedy else "exhaustive",
            greedy_sweeps=model.get("greedy_algo_iter", 1),
            empty_sprite=model.get("add_empty_sprite", False),
            empty_penalty=model.get("lambda_empty_sprite", 0.0),
            encoder_visits=visits,
            sprite_optimizer=adam,
            predictor_optimizer=partial(adam, weight_decay=1e-6),
            encoder_optimizer=partial(adam, weight_decay=1e-6),
            **milestones,
        )
        self.load(take(self.tensors, "sd."))

    def convert(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return convert_state(state, self.method.model.num_choices)

    def gradients(self) -> dict[str, Tensor]:
        """Their gradients, the encoder's under its own name instead of an owner's."""
        named = take(self.tensors, "grad.").items()
        return {re.sub(r"^.*?(?=encoder\.encoder\.)", "", key): tensor for key, tensor in named}

    def load(self, state: dict[str, Tensor]) -> None:
        missing, unexpected = self.method.load_state_dict(self.convert(state), strict=False)
        assert not unexpected
        ours = ("has_begun", "references", "trained_until", "usage.chosen",
                "model.sprites.background")  # fmt: skip
        assert all(key in ours for key in missing), missing
        self.method.trained_until.fill_(self.iteration)

    def train_scene(self, monkeypatch: pytest.MonkeyPatch, iteration: int) -> Any:
        noise = self.tensors["train.noise"] * 2 - 1
        monkeypatch.setattr(
            self.method.model,
            "_draw_noise",
            lambda image, iteration: noise * self.method.model.mask_noise,
        )
        return self.method.train().model(self.tensors["input"], iteration)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, golden: Callable[[str], Path]) -> Case:
    return Case(golden("dti_sprites"), request.param)


@torch.no_grad()
def test_candidates_match(case: Case) -> None:
    method, tensors = case.method.eval(), case.tensors
    assert_close(method.model.encoder(tensors["input"]), tensors["eval.features"], **CLOSE)
    color, mask = method.model.candidates(tensors["input"])
    shape = tensors["eval.layers"].shape
    assert_close(color.transpose(1, 2).expand(shape), tensors["eval.layers"], **WARPED)
    theirs = tensors["eval.masks"]
    assert_close(mask.transpose(1, 2).expand(theirs.shape), theirs, **WARPED)


def _pick(labels: Tensor, index: tuple[Tensor, Tensor]) -> Tensor:
    """Label map of the chosen combination, where theirs has one for each."""
    return labels[index] if labels.dim() > 3 else labels


@torch.no_grad()
def test_scene_matches(case: Case) -> None:
    method, tensors = case.method.eval(), case.tensors
    image = tensors["input"]
    scene = method.model.explain(image)
    if method.num_layers > 1:
        assert_close(scene.occlusion, tensors["eval.occ_grid"].permute(2, 0, 1), **CLOSE)
    if case.greedy:
        chosen = tensors["eval.class_prob"].argmax(dim=1).mT
        assert torch.equal(scene.choice, chosen)
        assert_close(scene.composite(), tensors["eval.target"], **WARPED)
        errors = torch.zeros(len(image), 1)
    else:
        color, mask = method.model.candidates(image)
        betas = method.model._predict(method.model.encoder(image), None)
        grounds = method.model._render_backgrounds(betas["background"], len(image))
        errors = score_all(image, color, mask, grounds, scene.occlusion)
        assert_close(errors, tensors["eval.distances"], **CLOSE)
    index = (torch.arange(len(image)), errors.argmin(dim=1))
    loss = (scene.composite() - image).square().mean()
    assert_close(loss, tensors["eval.loss"].squeeze(), **CLOSE)
    shown, hard = scene.clamped(), scene.clamped(hard_occlusion=True)
    assert_close(shown.composite(), tensors["eval.recon"][index], **WARPED)
    assert_close(hard.composite(), tensors["eval.recon_hard_occ"][index], **WARPED)
    instances = instance_map(shown)
    theirs = {
        name: _pick(tensors[f"eval.{name}"], index).view_as(instances).long()
        for name in ("instance", "semantic", "instance_nobkg")
        if f"eval.{name}" in tensors
    }
    assert torch.equal(instances, theirs["instance"])
    assert torch.equal(semantic_map(shown, method.model.num_choices), theirs["semantic"])
    if "instance_nobkg" in theirs:
        assert torch.equal(fill_background(shown, instances, image), theirs["instance_nobkg"])


def test_training_loss_and_gradients_match(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    method, tensors = case.method, case.tensors
    scene = case.train_scene(monkeypatch, case.iteration)
    loss = (scene.composite() - tensors["input"]).square().mean()
    assert_close(loss, tensors["train.loss"].squeeze(), **CLOSE)
    if case.greedy:
        assert torch.equal(scene.choice, tensors["train.class_prob"].argmax(dim=1).mT)
    loss.backward()
    theirs = case.convert(case.gradients())
    parameters = dict(method.named_parameters())
    assert any(name.startswith("model.encoder.") for name in theirs)
    for name, gradient in theirs.items():
        mine = parameters[name].grad
        assert mine is not None, name
        assert_close(mine, gradient, **CLOSE, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("visits", ["once", "original"])
@pytest.mark.parametrize("name", CASES)
def test_adam_step_matches(
    golden: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, name: str, visits: str
) -> None:
    case = Case(golden("dti_sprites"), name, visits)
    scene = case.train_scene(monkeypatch, case.iteration)
    loss = (scene.composite() - case.tensors["input"]).square().mean()
    sprites, predictors, encoder = case.method.configure_optimizers()
    loss.backward()
    for optimizer in (sprites, predictors, *[encoder] * case.method.visits):
        optimizer.step()
    stored = take(case.tensors, "after_nodup.")
    if visits == "original":
        stored |= take(case.tensors, "after_dup.")
    theirs = case.convert(stored)
    mine = case.method.state_dict()
    gradients = case.convert(case.gradients())
    for key, tensor in theirs.items():
        # Adam's first step is the gradient's sign, so where that is rounding error (biases before
        # a batch norm, say) the direction is chance, and only the length can be compared.
        told = gradients.get(key, torch.ones_like(tensor, dtype=torch.float)).abs() > 1e-5
        assert_close(mine[key][told], tensor[told], **CLOSE, msg=lambda text, key=key: key + text)


@pytest.mark.parametrize("name", ["multi", "tetro"])
def test_frozen_phase_matches(
    golden: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    case = Case(golden("dti_sprites"), name)
    stored = take(case.tensors, "frozen.")
    case.method.model.sprite_group.milestones = [0] * len(case.method.model.sprite_group.milestones)
    scene = case.train_scene(monkeypatch, 1)
    loss = (scene.composite() - case.tensors["input"]).square().mean()
    assert_close(loss, stored["loss"].squeeze(), **CLOSE)
    if "class_prob" in stored:
        assert torch.equal(scene.choice, stored["class_prob"].argmax(dim=1).mT)
    loss.backward()
    assert case.method.model.sprites.color.grad is None
    assert case.method.model.sprites.mask.grad is None


@pytest.mark.parametrize("name", ["multi", "tetro", "cluster"])
def test_files_are_converted_and_explain_alike(
    golden: Callable[[str], Path], tmp_path: Path, compose: Callable[..., Any], name: str
) -> None:
    folder = golden("dti_sprites")
    settings = json.loads((folder / "cases.json").read_text())[name]
    case = Case(folder, name)
    state = take(case.tensors, "sd.")
    # As they are saved: by a data-parallel wrapper, with the encoder under its owners' names too.
    state |= {f"layer_transformer.{k}": v for k, v in state.items() if k.startswith("encoder.")}
    state = {f"module.{k}": v for k, v in state.items()}
    file = tmp_path / "model.pkl"
    torch.save({"epoch": 3, "model_kwargs": settings["model"], "model_state": state}, file)
    output = tmp_path / "dti.ckpt"
    size = f"data.resolution={settings['img_size'][0]}"
    config = compose(
        "method=dti_sprites", f"weights={file}", f"output={output}", size, config_name="convert"
    )
    convert(config)
    method = load_method(str(output))
    assert int(method.trained_until) == torch.iinfo(torch.int64).max
    image = case.tensors["input"]
    with torch.no_grad():
        theirs = case.method.eval().analyze(image * 2 - 1)
        mine = method.analyze(image * 2 - 1)
    assert torch.equal(mine.choice, theirs.choice)
    assert_close(mine.composite(), theirs.composite())


@pytest.fixture
def multi(golden: Callable[[str], Path]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Options and weights of a model of theirs."""
    folder = golden("dti_sprites")
    settings = json.loads((folder / "cases.json").read_text())["multi"]
    return settings["model"], take(read(folder, "multi"), "sd.")


def save(file: Path, options: dict[str, Any], state: dict[str, Tensor]) -> Path:
    torch.save({"model_kwargs": options, "model_state": state}, file)
    return file


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"clamp": "soft", "clamp_slope": 0.01, "hidden_layers": 2, "hidden_width": 16}),
        ({"use_clamp": "soft0.1"}, {"clamp": "soft", "clamp_slope": 0.1}),
        ({"use_clamp": "clamp"}, {"clamp": "hard"}),
        ({"use_clamp": "diff"}, {"clamp": "straight"}),
        ({"use_clamp": None}, {"clamp": "none"}),
        ({"n_hidden_layers": 1, "pred_occlusion": False}, {"hidden_layers": 1}),
        ({"n_hidden_layers": 1, "n_linear_layers": 1}, {"hidden_layers": 1}),
        ({"norm_layer": "bn", "pred_occlusion": False}, {"occlusion": "fixed"}),
        ({"transformation_sequence_bkg": "id"}, {"background_transform": "identity"}),
        # The penalty has no part in their exhaustive search.
        ({"estimate_minimum": False}, {"selection": "exhaustive", "empty_penalty": 0.0}),
        ({"add_empty_sprite": False}, {"empty_sprite": False, "empty_penalty": 0.0}),
    ],
)
def test_options_are_converted_by_what_they_compute(
    tmp_path: Path, multi: Any, changes: dict[str, Any], expected: dict[str, Any]
) -> None:
    options, state = multi
    found = convert_checkpoint(save(tmp_path / "model.pkl", options | changes, state)).options
    assert {name: found[name] for name in expected} == expected


def test_what_a_file_leaves_out_is_their_default(tmp_path: Path, multi: Any) -> None:
    options, state = multi
    for name in ("inject_noise", "greedy_algo_iter", "lambda_empty_sprite", "encoder_name"):
        del options[name]
    found = convert_checkpoint(save(tmp_path / "model.pkl", options, state)).options
    named = ("mask_noise", "greedy_sweeps", "empty_penalty", "encoder", "grid_size", "kernel_size")
    assert [found[name] for name in named] == [0.0, 1, 0.0, "resnet20", 4, 3]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"use_clamp": "sigmoid"}, "use_clamp=sigmoid"),
        ({"padding_mode": "reflection"}, "padding_mode=reflection"),
        ({"norm_layer": "batch_norm"}, "norm_layer=batch_norm"),
        ({"n_linear_layers": 1}, "n_linear_layers=1"),
        ({"n_hidden_layers": 3}, "n_linear_layers=2"),
        ({"with_pool": False}, "with_pool=False"),
    ],
)
def test_options_that_ours_cannot_compute_are_refused(
    tmp_path: Path, multi: Any, changes: dict[str, Any], named: str
) -> None:
    options, state = multi
    file = save(tmp_path / "model.pkl", options | changes, state)
    with pytest.raises(CheckpointError, match=f"^{named} in the file's model_kwargs cannot"):
        convert_checkpoint(file)


def test_files_from_before_the_end_of_a_curriculum_are_refused(tmp_path: Path, multi: Any) -> None:
    options, state = multi
    key = "sprite_transformers.1.tsf_sequences.0.activations"
    state[key] = torch.tensor([True, False])
    with pytest.raises(CheckpointError, match=r"saved before its curriculum had ended"):
        convert_checkpoint(save(tmp_path / "model.pkl", options, state))
    state[key] = torch.tensor([False])  # Of another length: all are.
    convert_checkpoint(save(tmp_path / "model.pkl", options, state))


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    for number, content in enumerate(({}, [1], {"model_kwargs": {}, "model_state": {}})):
        file = tmp_path / f"{number}.pkl"
        torch.save(content, file)
        with pytest.raises(CheckpointError, match=r"expected the authors' model\.pkl"):
            convert_checkpoint(file)
