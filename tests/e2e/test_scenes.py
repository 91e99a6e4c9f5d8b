"""Commands on methods that know sprites: what `predict`, `generate` and `edit` write."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from PIL import Image

from faults import build_tiny
from figureground.cli.edit import edit
from figureground.cli.generate import generate
from figureground.cli.objects import list_objects
from figureground.cli.predict import predict
from figureground.core.checkpoint import VerifiedCheckpointIO
from figureground.core.errors import UserError
from figureground.core.method import Method
from figureground.core.protocols import ObjectFacts

Compose = Callable[..., DictConfig]


def save(method: Method, path: Path) -> Path:
    checkpoint: dict[str, Any] = {"state_dict": method.state_dict()}
    method.on_save_checkpoint(checkpoint)
    VerifiedCheckpointIO().save_checkpoint(checkpoint, path)
    return path


@pytest.fixture(scope="module")
def sprites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of two layers of square sprites in front of a background."""
    torch.manual_seed(0)
    method, _ = build_tiny(
        "dti_sprites", "method.num_layers=2", "method.selection=greedy", "method.num_sprites=2",
        "method.sprite_transform=identity", "method.layer_transform=position",
        "method.sprite_size=[8,8]", "method.empty_sprite=true", "method.occlusion=depth",
    )  # fmt: skip
    bank: Any = method.model.sprites  # type: ignore[union-attr]
    with torch.no_grad():
        bank.mask.zero_()[:, :, 2:6, 2:6] = 1
        bank.color[0], bank.color[1] = 0.9, torch.tensor([0.9, 0.1, 0.1])[:, None, None]
        bank.background.fill_(0.2)
    method.references.fill_(200)  # type: ignore[union-attr, operator]
    return save(method, tmp_path_factory.mktemp("sprites") / "m.ckpt")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A picture with a bright square in the middle."""
    pixels = np.full((40, 60, 3), 51, np.uint8)
    pixels[15:25, 22:38] = (230, 26, 26)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_predict_writes_objects(
    compose: Compose, sprites: Path, photo: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = [f"ckpt={sprites}", f"input={photo}", f"output={out}"]
    predict(compose(*arguments, config_name="predict"))
    facts = json.loads((out / "photo_objects.json").read_text())
    assert (facts["width"], facts["height"]) == (60, 40)
    instances = Image.open(out / "photo_instances.png")
    assert (instances.mode, instances.size) == ("P", (60, 40))
    values = np.asarray(instances)
    seen = {each["layer"]: each for each in facts["objects"] if each["area"]}
    assert set(np.unique(values).tolist()) - {0} == set(seen)
    assert seen
    for layer, each in seen.items():
        assert each["area"] == (values == layer).sum()
        left, top, right, bottom = each["box"]
        assert (values[top:bottom, left:right] == layer).any(axis=0).all()
        classes = np.asarray(Image.open(out / "photo_classes.png"))
        assert set(classes[values == layer].tolist()) == {each["class"]}
        assert set(each["parameters"]) == {"layer.0.position"}
    assert sorted(each["depth"] for each in facts["objects"]) == sorted(
        range(1, len(facts["objects"]) + 1)
    )
    background = facts["background"]
    assert background["class"] == 1
    assert "background.0.color" in background["parameters"]
    assert Image.open(out / "photo_reconstruction.png").size == (60, 40)
    assert Image.open(out / "photo_layer2.png").mode == "RGBA"


def test_predict_leaves_objects_out(
    compose: Compose, sprites: Path, photo: Path, tmp_path: Path
) -> None:
    arguments = [f"ckpt={sprites}", f"input={photo}", f"output={tmp_path / 'out'}"]
    predict(compose(*arguments, "objects=false", "layers=false", config_name="predict"))
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"photo_mask.png", "photo_overlay.png", "contact_sheet.png"}


def test_objects_are_described_with_and_without_facts() -> None:
    found, classes = np.zeros((4, 6), np.uint8), np.zeros((4, 6), np.uint8)
    found[1:3, 2:5], classes[1:3, 2:5] = 2, 7
    plain = list_objects(found, classes, None, None)
    assert plain["objects"] == [
        {"layer": 2, "class": 7, "area": 6, "share": 0.25, "box": [2, 1, 5, 3], "depth": 1,
         "parameters": {}}
    ]  # fmt: skip
    facts = [ObjectFacts(n, 7, {"size": [0.5]}) for n in range(3)]
    full = list_objects(found, classes, facts, [0, 2, 1])
    assert full["order"] == [2, 1]
    assert [each["depth"] for each in full["objects"]] == [1, 2]
    assert full["objects"][0]["box"] is None
    assert full["background"] == {"class": 7, "parameters": {"size": [0.5]}}


def test_generate_draws_scenes_by_seed(compose: Compose, sprites: Path, tmp_path: Path) -> None:
    def draw(name: str, seed: int) -> list[bytes]:
        out = tmp_path / name
        generate(compose(f"ckpt={sprites}", f"output={out}", "count=3", f"seed={seed}",
                         config_name="generate"))  # fmt: skip
        return [path.read_bytes() for path in sorted((out / "layers").iterdir())]

    one = draw("a", 1)
    assert len(one) == 9
    assert one == draw("b", 1)
    assert (tmp_path / "a/samples.png").is_file()


def test_edit_writes_pictures_and_what_was_done(
    compose: Compose, sprites: Path, photo: Path, tmp_path: Path
) -> None:
    def change(out: str, edits: str, *arguments: str) -> bytes:
        given = [f"ckpt={sprites}", f"input={photo}", f"output={tmp_path / out}", f"edits={edits}"]
        edit(compose(*given, *arguments, config_name="edit"))
        with Image.open(tmp_path / out / "photo_edited.png") as result:
            assert result.size == (60, 40)
        assert (tmp_path / out / "photo_edit.png").is_file()
        return (tmp_path / out / "photo_edited.png").read_bytes()

    both = "{do:move,layer:1,x:0.3},{do:swap,layer:1,to:2},{do:recolor,layer:2,color:[0,255,0]}"
    one = change("a", f"[{both}]")
    done = json.loads((tmp_path / "a/photo_edit.json").read_text())
    assert [each["do"] for each in done["edits"]] == ["move", "swap", "recolor"]
    assert done["picture"] == photo.name  # Not where it lies.
    assert (sorted(done["before"]), done["hidden_parts"]) == ([1, 2], "known")
    assert change("b", str(tmp_path / "a/photo_edit.json")) == one
    assert change("c", "[{do:remove,layer:1},{do:remove,layer:2}]") != one


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ("[{do:moove,layer:1}]", r"edits\[0\]\.do=moove: .* did you mean 'move'"),
        ("[]", "edits is empty"),
        ("[{do:remove,layer:3}]", "there is no layer 3; there are: 1, 2"),
        ("[{do:swap,layer:1,to:9}]", "there is no sprite 9; expected 1 to 2"),
        ("nowhere.json", "cannot be read as JSON"),
        ("{tmp}/number.json", "expected a list such as"),
        ("{tmp}/wrong.json", r"edits\[0\]\.by is not set"),
    ],
)
def test_edit_says_what_is_wrong(
    compose: Compose, sprites: Path, photo: Path, tmp_path: Path, edits: str, message: str
) -> None:
    (tmp_path / "number.json").write_text("3")
    (tmp_path / "wrong.json").write_text('[{"do": "scale", "layer": 1}]')
    given = [f"ckpt={sprites}", f"input={photo}", f"output={tmp_path / 'out'}"]
    with pytest.raises(UserError, match=message):
        edit(compose(*given, f"edits={edits.replace('{tmp}', str(tmp_path))}", config_name="edit"))
    assert not (tmp_path / "out").exists()
