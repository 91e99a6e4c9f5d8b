"""`evaluate` prepares data as training did, and goes on where it was stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from figureground.cli import evaluate as command
from figureground.cli.recipe_data import _OTHER, follow_recipe

Compose = Callable[..., DictConfig]


def trained(name: str) -> Any:
    return SimpleNamespace(origin={"method": {"_target_": f"figureground.methods.{name}.Some"}})


def show(config: DictConfig) -> dict[Any, Any]:
    plain = OmegaConf.to_container(config.data, resolve=False)
    assert isinstance(plain, dict)
    return {key: value for key, value in plain.items() if key not in _OTHER}


@pytest.mark.parametrize(
    ("method", "data", "differs"),
    [("ilsgan", "cub", True), ("segmenter", "cub", True), ("ilsgan", "flowers", False)],
)
def test_data_are_prepared_as_in_training(
    compose: Compose, method: str, data: str, differs: bool
) -> None:
    expected = show(compose(f"method={method}", f"data={data}"))
    config = compose("ckpt=x", f"data={data}", config_name="evaluate")
    assert (show(config) != expected) == differs
    follow_recipe(config, trained(method))
    assert show(config) == expected
    assert config.data.transform is not None


def test_typed_options_stay(compose: Compose) -> None:
    typed = "data.transform.interpolation=nearest"
    config = compose("ckpt=x", "data=cub", typed, config_name="evaluate")
    follow_recipe(config, trained("ilsgan"))
    assert config.data.transform.interpolation == "nearest"
    assert config.data.train.crop == "centre"


def test_stopped_evaluation_scores_the_rest(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / f"{name}.ckpt" for name in "abc"]
    for file in files:
        file.write_text(file.name)
    asked: list[str] = []
    broken = {str(files[1])}

    def score(config: DictConfig, paths: list[str], *_: object) -> dict[str, float]:
        (path,) = paths
        asked.append(path)
        if path in broken:
            raise KeyboardInterrupt
        return {"x": float(len(asked)), "nothing": float("nan")}

    monkeypatch.setattr(command, "_score", score)

    def run(*more: str) -> dict[str, float]:
        listed = ",".join(map(str, files))
        return command.evaluate(compose(f"ckpt=[{listed}]", *more, config_name="evaluate"))

    with pytest.raises(KeyboardInterrupt):
        run()
    broken.clear()
    assert run()["x"] == pytest.approx((1 + 3 + 4) / 3)
    assert asked == [str(files[number]) for number in (0, 1, 1, 2)]
    assert len(json.loads((tmp_path / "run/metrics.json").read_text())["runs"]) == 3
    assert not (tmp_path / "run/metrics.partial.json").exists()
    # With other options, or another file, nothing that was kept is taken.
    broken.add(str(files[1]))
    for number, more in enumerate(([], ["seed=1"], ["seed=1"])):
        if number == 2:
            files[0].write_text("another")
        asked.clear()
        with pytest.raises(KeyboardInterrupt):
            run(*more)
        assert asked == [str(file) for file in files[:2]]
