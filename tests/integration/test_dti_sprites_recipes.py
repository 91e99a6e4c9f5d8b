"""The recipes of DTI-Sprites say what the authors' seven configurations say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig

from figureground.cli.settings import TrainSettings
from figureground.core.config import build, check, to_plain
from figureground.core.types import Batch
from figureground.methods.dti_sprites.schedules import Milestones

Compose = Callable[..., DictConfig]

SINGLE = "color_projective_tps"
#: sprites, layers, backgrounds, sprite size, encoder, pool, sprite / background / layer sequence,
#: mask std, frozen epochs, occlusion, selection, sweeps, empty sprite, penalty.
MODELS: dict[str, tuple[Any, ...]] = {
    "tetrominoes": (19, 3, 0, [24, 24], "resnet32", [1, 1], "identity", "color", "color_position",
                    5, 1, "fixed", "greedy", 1, False, 0),
    "dsprites": (3, 5, 1, [28, 28], "resnet32", [4, 4], "identity_similarity", "color",
                 "color_position", 7, 10, "predicted", "greedy", 3, True, 1e-4),
    "clevr6": (6, 6, 1, [40, 40], "resnet18", [2, 2], "identity_projective", "color",
               "color_position", 10, 40, "predicted", "greedy", 3, True, 1e-4),
    "gtsrb8": (8, 1, 1, None, "resnet32", [1, 1], SINGLE, SINGLE, "identity",
               5, 0, "fixed", "exhaustive", 1, False, 0),
    "svhn": (10, 1, 1, None, "resnet32", [1, 1], SINGLE, SINGLE, "identity",
             8, 0, "fixed", "exhaustive", 1, False, 0),
    "weizmann_horse": (1, 1, 1, None, "resnet18", [1, 1], SINGLE, SINGLE, "identity",
                       20, 0, "fixed", "exhaustive", 1, False, 0),
    "instagram": (40, 1, 1, None, "resnet18", [1, 1], "color_projective", "color_projective",
                  "identity", 20, 0, "fixed", "exhaustive", 1, False, 0),
}  # fmt: skip
#: batch, pictures, epochs, iterations, lr, gamma of sprites, milestones, sprite and background
#: curriculum (epochs), validation and re-assignment intervals, resolution.
TRAINING: dict[str, tuple[Any, ...]] = {
    "tetrominoes": (32, 60_000, 210, 393_750, 1e-4, 1, [100, 200], [], [], 1000, 50, 35),
    "dsprites": (32, 60_000, 510, 956_250, 1e-4, 1, [250, 500], [20], [], 4000, 100, 64),
    "clevr6": (32, 34_963, 450, 491_850, 1e-4, 1, [250, 400], [150], [], 2000, 250, 128),
    "gtsrb8": (128, 10_650, 700, 58_800, 1e-3, 0.1, [600], [100, 350], [100, 350], 200, 25, 28),
    "svhn": (128, 630_420, 55, 270_930, 1e-3, 0.1, [50], [10, 35], [10, 35], 800, 100, 32),
    "weizmann_horse": (32, 327, 15_000, 165_000, 1e-3, 0.1, [14_000], [3000, 8000], [3000, 8000],
                       600, 300, 128),
    # The number of pictures is not published; their script fetches 10,000 at most.
    "instagram": (32, 10_000, 850, 266_050, 1e-3, 0.1, [700], [100], [100], 2000, 250, 128),
}  # fmt: skip
PARAMETERS = {
    "tetrominoes": 659_755, "dsprites": 5_230_173, "clevr6": 26_934_405, "gtsrb8": 1_215_975,
    "svhn": 1_393_685, "weizmann_horse": 11_796_382, "instagram": 20_664_871,
}  # fmt: skip
METRICS = {
    "tetrominoes": {"objects", "pixel_classes"}, "dsprites": {"objects", "pixel_classes"},
    "clevr6": {"objects", "pixel_classes"}, "gtsrb8": {"clustering"}, "svhn": {"clustering"},
    "weizmann_horse": {"segmentation", "pixel_classes"}, "instagram": set(),
}  # fmt: skip
GOLDEN = {"tetrominoes": "tetro", "weizmann_horse": "horse"}
ALL = pytest.mark.parametrize("data", list(MODELS))


def load(compose: Compose, data: str) -> dict[str, Any]:
    config = compose("method=dti_sprites", f"data={data}")
    assert check(config, TrainSettings) == []
    return to_plain(config)


def epoch_of(data: str) -> int:
    """Iterations per epoch; the last, smaller batch counts."""
    batch, pictures = TRAINING[data][:2]
    return -(-pictures // batch)


@ALL
def test_models_are_the_published_ones(compose: Compose, data: str) -> None:
    method = load(compose, data)["method"]
    names = (
        "num_sprites", "num_layers", "num_backgrounds", "sprite_size", "encoder", "encoder_pool",
        "sprite_transform", "background_transform", "layer_transform", "mask_std", "freeze",
        "occlusion", "selection", "greedy_sweeps", "empty_sprite", "empty_penalty",
    )  # fmt: skip
    wanted = dict(zip(names, MODELS[data], strict=True))
    wanted["freeze"] *= epoch_of(data)
    assert {name: method[name] for name in names} == wanted
    assert method["mask_noise"] == 0.4
    assert (method["sprite_init"], method["mask_init"]) == ("constant", "gaussian")
    if data != "tetrominoes":
        assert method["background_init"] == ("constant" if data == "dsprites" else "mean")
    assert method["encoder_visits"] == "original"
    assert method["reassign_threshold"] is None


@ALL
def test_schedules_are_the_published_ones_in_iterations(compose: Compose, data: str) -> None:
    plain = load(compose, data)
    method, size = plain["method"], epoch_of(data)
    batch, _, epochs, total, lr, gamma, drops, sprites, grounds, every, check_every, side = (
        TRAINING[data]
    )
    assert plain["iterations"] == total == epochs * size
    assert plain["data"]["batch_size"] == batch
    assert plain["data"]["resolution"] == side
    assert plain["data"]["augment"] is None
    assert method["milestones"] == [size * epoch for epoch in drops]
    assert method["sprite_milestones"] == [size * epoch for epoch in sprites]
    assert method["background_milestones"] == [size * epoch for epoch in grounds]
    assert method["layer_milestones"] == []
    assert (method["sprite_gamma"], method["predictor_gamma"]) == (gamma, 0.1)
    assert method["reassign_every"] == check_every
    assert plain["trainer"]["val_check_interval"] == every
    for name, decay in (("sprite", 0), ("predictor", 1e-6), ("encoder", 1e-6)):
        optimizer = method[f"{name}_optimizer"]
        assert (optimizer["_target_"], optimizer["lr"]) == ("torch.optim.Adam", lr)
        assert optimizer["weight_decay"] == decay


@ALL
def test_schedules_agree_with_the_authors_by_epoch(
    compose: Compose, golden: Callable[[str], Path], data: str
) -> None:
    stored = json.loads((golden("dti_sprites") / "schedules.json").read_text())
    method, size = load(compose, data)["method"], epoch_of(data)
    rates = Milestones(method["milestones"], method["sprite_gamma"], method["predictor_gamma"])
    lr = method["sprite_optimizer"]["lr"]
    groups = {"": "sprite", "_bkg": "background", "_layer": "layer"}
    changes = stored[GOLDEN.get(data, data)]["changes"]
    assert len(changes) > 1
    for change in changes:
        for iteration in ((change["epoch"] - 1) * size + 1, change["epoch"] * size):
            found = [lr * rates.factor(iteration, number) for number in (0, 1)]
            assert found == pytest.approx(change["lr"])
            assert (iteration <= method["freeze"]) == change["sprites_frozen"]
            for theirs, ours in groups.items():
                active = change["active"].get(f"transformation_sequence{theirs}", [])
                begins = [0, *method[f"{ours}_milestones"]]
                if len(begins) == len(active):
                    assert [iteration > begin for begin in begins] == active
                else:
                    assert all(active)


@ALL
def test_models_have_as_many_parameters_as_the_authors(compose: Compose, data: str) -> None:
    method = build(compose("method=dti_sprites", f"data={data}").method)
    count = sum(p.numel() for p in method.parameters() if p.requires_grad)
    assert count == PARAMETERS[data]


@ALL
def test_scores_are_those_of_the_paper_and_can_be_taken_at_once(
    compose: Compose, data: str
) -> None:
    plain = load(compose, data)
    metrics = plain["method"]["metrics"] or {}
    assert {group for group, node in metrics.items() if node is not None} == METRICS[data]
    if data not in {"dsprites", "gtsrb8", "weizmann_horse"}:
        return  # The others differ in sizes only.
    method = build(compose("method=dti_sprites", f"data={data}").method).eval()
    side, kinds = plain["data"]["resolution"], metrics.get("pixel_classes", {}).get("num_classes")
    mask = torch.zeros(2, side, side, dtype=torch.long)
    mask[:, 4:9, 4:9] = 1
    batch = Batch(
        torch.rand(2, 3, side, side) * 2 - 1,
        ("a", "b"),
        mask=mask if kinds else None,
        label=torch.tensor([0, 1]),
        classes=torch.tensor([[1], [min(kinds - 1, 3)]]) if kinds else None,
    )
    # Before the first step no layer hides another, so that numbers of sprites add up.
    method.validation_step(batch, 0)
    found = {
        name
        for key, scores in method._scores.items()
        if key.startswith("val/") and scores.update_called
        for name in scores.compute()
    }
    assert plain["objective"].removeprefix("val/") in found
