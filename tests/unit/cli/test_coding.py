"""`generate vary=...` and `transfer=...`: codes are set one by one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor
from torch.testing import assert_close

from archives import picture
from figureground.cli import coding
from figureground.cli.coding import load_square, require_codes, transfer, vary
from figureground.cli.settings import GenerateSettings
from figureground.core.errors import DataError, UserError
from figureground.core.protocols import CodeDrawer
from figureground.methods.l2ic import L2IC
from figureground.methods.l2ic.weights import Weights

GAME = {"info": 0, "swap": 0, "view": 0, "cluster_head": 0}


def make(architecture: Any = "l2ic", **options: Any) -> L2IC:
    sizes: dict[str, Any] = {
        "resolution": 16, "batch_size": 4, "num_categories": 6, "num_backgrounds": 3,
        "latent_dim": 5, "generator_width": 8, "discriminator_width": 4, "reader_width": 4,
        "num_blocks": (0, 0, 0),
    }  # fmt: skip
    return L2IC(**{**sizes, "architecture": architecture, **options}).eval()


def options(**changed: Any) -> Any:
    usual = {
        "vary": None, "fixed": None, "transfer": None, "categories": [], "backgrounds": [],
        "rows": 2, "columns": 3, "seed": 0,
    }  # fmt: skip
    return OmegaConf.create({**usual, **changed})


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """Codes of each grid, and its pictures."""
    found: list[dict[str, Tensor]] = []
    compose = coding._compose

    def watch(method: Any, values: dict[str, Tensor], check: Any) -> list[Tensor]:
        pictures = compose(method, values, check)
        found.append({**values, "picture": pictures[0], "mask": pictures[1]})
        return pictures

    monkeypatch.setattr(coding, "_compose", watch)
    return found


def grid(values: Tensor) -> Tensor:
    return values.view(2, 3, *values.shape[1:])


def test_one_code_changes_and_others_stay(tmp_path: Path, written: list[dict[str, Tensor]]) -> None:
    method = make()
    assert isinstance(method, CodeDrawer)
    for code in ("z", "c", "b"):
        vary(method, tmp_path, options(vary=code))
        assert (tmp_path / f"vary_{code}.png").is_file()
    for code, found in zip(("z", "c", "b"), written, strict=True):
        for other in ("z", "c", "b"):
            values = grid(found[other])
            if other == code:  # The same in each row.
                assert torch.equal(values[0], values[1])
                assert len(values[0].unique(dim=0)) == 3
            else:
                assert torch.equal(values[:, :1].expand_as(values), values)
                assert not torch.equal(values[0], values[1])
    masks = grid(written[2]["mask"])
    assert_close(masks[:, :1].expand_as(masks), masks)  # Backgrounds leave masks alone.


def test_codes_that_are_not_fixed_are_each_pictures_own(
    tmp_path: Path, written: list[dict[str, Tensor]]
) -> None:
    method = make()
    vary(method, tmp_path, options(vary="c", fixed=["z"]))
    (found,) = written
    assert torch.equal(found["b"], found["c"] // 2)  # Backgrounds go with their categories.
    vary(method, tmp_path, options(vary="b", fixed=["c"], backgrounds=[3, 1, 2]))
    assert grid(written[1]["b"]).tolist() == [[2, 0, 1]] * 2
    assert len(written[1]["z"].unique(dim=0)) == 6


def test_a_picture_is_sorted_and_its_category_drawn_elsewhere(
    tmp_path: Path, written: list[dict[str, Tensor]]
) -> None:
    method, files = make(), [tmp_path / f"{number}.png" for number in range(2)]
    for number, file in enumerate(files):
        picture(number, (40, 24)).save(file)
    config = options(transfer=[str(file) for file in files], backgrounds=[2, 3])
    transfer(method, tmp_path / "out", config)
    facts = json.loads((tmp_path / "out/transfer.json").read_text())
    for file, found in zip(files, written, strict=True):
        category = int(method.cluster(load_square(method, file)))
        assert facts[str(file)] == category + 1
        assert found["c"].tolist() == [category] * 2
        assert found["b"].tolist() == [1, 2]
    assert torch.equal(written[0]["z"], written[1]["z"])
    assert (tmp_path / "out/transfer.png").is_file()


def test_without_backgrounds_a_category_is_drawn_in_several_poses(
    tmp_path: Path, written: list[dict[str, Tensor]]
) -> None:
    method = make(
        "c3gan", variation_dim=2, num_backgrounds=None, weights=Weights(**GAME),
        num_blocks=(1, 0, 1),
    )  # fmt: skip
    picture(0, (40, 24)).save(tmp_path / "a.png")
    transfer(method, tmp_path, options(transfer=str(tmp_path / "a.png")))
    (found,) = written
    assert len(found["c"].unique()) == 1
    assert len(found["z"].unique(dim=0)) == 3
    assert len(found["picture"].unique(dim=0)) == 3


def test_pictures_to_sort_that_are_not_there_are_refused(tmp_path: Path) -> None:
    config = options(transfer=str(tmp_path / "none"))
    with pytest.raises(DataError, match="transfer=.* matches no picture"):
        transfer(make(), tmp_path, config)
    (tmp_path / "broken.png").write_text("no")
    config = options(transfer=str(tmp_path / "broken.png"))
    with pytest.raises(DataError, match="mend or remove them$"):  # There is no on_error here.
        transfer(make(), tmp_path, config)


@pytest.mark.parametrize(
    ("architecture", "more", "changed", "fragment"),
    [
        ("c3gan", {"variation_dim": 2, "num_backgrounds": None}, {"vary": "b"},
         "this L2IC has no b (background) to set; it has: z, c"),
        ("comgan", {}, {"transfer": "x"}, "has no c (category) to set; it has: z"),
        ("c3gan", {"variation_dim": 2, "num_backgrounds": None},
         {"transfer": "x", "backgrounds": [1]}, "has no b (background) to set; it has: z, c"),
        ("l2ic", {}, {"vary": "c", "categories": [2, 7]},
         "categories=[7]: they are numbered from 1 to 6"),
        ("l2ic", {}, {"vary": "b", "backgrounds": [4]}, "numbered from 1 to 3"),
    ],
)  # fmt: skip
def test_codes_that_are_not_there_are_refused(
    architecture: str, more: dict[str, Any], changed: dict[str, Any], fragment: str
) -> None:
    if architecture != "l2ic":
        more = {**more, "weights": Weights(**GAME), "num_blocks": (1, 0, 1)}
    with pytest.raises(UserError) as caught:
        require_codes(make(architecture, **more), options(**changed))
    assert fragment in str(caught.value)
    with pytest.raises(UserError, match="object draws from no codes"):
        require_codes(object(), options(**changed))


def test_options_that_contradict_are_refused() -> None:
    check = GenerateSettings.check_options
    given: dict[str, Any] = {"ckpt": "x", "input": None, "swap": None, "format": "png"}
    assert check(**given, vary="c", fixed=["z", "b"]) == []
    assert "want c to change and to stay" in check(**given, vary="c", fixed=["c"])[0]
    assert "add vary=c" in check(**given, fixed=["z"])[0]
    assert "chooses among those of vary" in check(**given, transfer="x", categories=[1])[0]
    assert "add vary=b" in check(**given, backgrounds=[1])[0]
    assert "add b to fixed=['c']" in check(**given, vary="z", fixed=["c"], backgrounds=[1])[0]
    for chosen in ({"transfer": "x"}, {"vary": "z"}, {"vary": "b", "fixed": ["c"]}):
        assert check(**given, **chosen, backgrounds=[1]) == []
    (problem,) = check(**{**given, "ckpt": None}, generator={}, vary="c")
    assert problem.endswith("leave out vary")
    (problem,) = check(**{**given, "ckpt": None, "format": "shards"}, generator={})
    assert "train method=gan_segmenter" in problem


@pytest.mark.parametrize("given", [{"layers": False}, {"rounding": "down"}])
def test_options_of_shards_are_refused_where_single_files_are_written(given: Any) -> None:
    found = {
        form: GenerateSettings.check_options(ckpt="x", input=None, swap=None, format=form, **given)
        for form in ("png", "shards")
    }
    assert found["shards"] == []
    assert "add format=shards" in found["png"][0]
