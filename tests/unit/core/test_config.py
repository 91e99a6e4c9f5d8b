"""Wrong options are found, all at once, with the nearest right one (F46-F49)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import DictConfig, OmegaConf

from figureground.cli.settings import TrainSettings
from figureground.core.config import (
    build,
    build_trusted,
    check,
    config_dir,
    drop_hydra_keys,
    require_valid,
    to_plain,
)
from figureground.core.errors import CheckpointError, ConfigError
from figureground.core.hints import nearest

Compose = Callable[..., DictConfig]


def problems(compose: Compose, *overrides: str) -> str:
    return "\n".join(check(compose(*overrides), TrainSettings))


def test_default_is_valid(compose: Compose) -> None:
    assert problems(compose) == ""


def test_f48_option_that_others_refer_to_is_asked_for_once(compose: Compose) -> None:
    assert problems(compose, "data=folder") == "data.root is not set; add data.root=..."


@pytest.mark.parametrize(
    ("override", "fragment"),
    [
        ("method.mask_width=abc", "method.mask_width=abc: expected a whole number from 1 to 4096"),
        ("method.mask_width=2.5", "expected a whole number"),
        ("method.latent_weight=-1", "method.latent_weight=-1: expected a number"),
        ("method.redraw=al", "expected one of all, sampled; did you mean 'all'?"),
        ("method.generator_attention=1", "expected true or false"),
        ("method.mask_optimizer.lr=fast", "expected a number above 0"),
        ("method.mask_optimizer.lr=0", "expected a number above 0"),
        ("method.mask_optimizer.betas=[0.5,1.5]", "element 1: expected a number"),
        ("method.mask_optimizer.betas=0.5", "expected a list, such as [0.5]"),
        ("+method.mask_optimizer.momentumm=1", "there is no such option"),
        ("+method.lattent_dim=3", "did you mean 'latent_dim'?"),
        ("method.ema_decay=1", "expected a number from 0 to 0.999999 or null"),
        ("data.batch_size=0", "expected a whole number from 1"),
        ("data.resolution=33", "a power of two"),
        ("data.train=5", "expected a node with `_target_`"),
        ("seed=-1", "seed=-1: expected a whole number"),
        ("seed=x", "seed=x: expected a whole number"),
        ("iterations=0", "iterations=0: expected"),
        ("+typo=1", "typo: there is no such option"),
        ("iterations=???", "iterations is not set; add iterations=..."),
        ("name=${nothing.here}", "name"),
        ("method.num_regions=1", "num_regions must be at least 2"),
        ("data.resolution=16", "ReDO needs a resolution of 32"),
        ("method._target_=figureground.methods.nothing", "cannot be imported"),
    ],
)
def test_f46_f47_wrong_option_is_named(compose: Compose, override: str, fragment: str) -> None:
    config = compose()
    key, _, value = override.lstrip("+").partition("=")
    OmegaConf.update(
        config,
        key,
        OmegaConf.create(f"v: {value}").v if "$" not in value and "?" not in value else value,
        force_add=True,
    )
    assert fragment in "\n".join(check(config, TrainSettings))


def test_all_problems_come_at_once(compose: Compose) -> None:
    found = problems(compose, "method.mask_width=0", "data.batch_size=x", "trainer.devices=1")
    assert "mask_width" in found
    assert "batch_size" in found


def test_f48_circular_reference_is_named(compose: Compose) -> None:
    config = compose()
    OmegaConf.update(config, "extra", {"a": "${extra.b}", "b": "${extra.a}"}, force_add=True)
    assert "extra.a" in "\n".join(check(config, TrainSettings))


def test_extra_is_free(compose: Compose) -> None:
    assert problems(compose, "+extra.anything=1") == ""


METHODS = sorted(path.stem for path in (Path(config_dir()) / "method").glob("*.yaml"))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [-1, 10**12, float("nan"), float("inf"), "many"])
def test_f47_every_number_of_every_method_has_a_range(
    compose: Compose, method: str, value: Any
) -> None:
    options = yaml.safe_load((Path(config_dir()) / f"method/{method}.yaml").read_text())
    numbers = [key for key, default in options.items() if type(default) in {int, float}]
    config = compose(f"method={method}")
    for key in numbers:
        config.method[key] = value
    found = "\n".join(check(config, TrainSettings))
    assert [key for key in numbers if f"method.{key}=" not in found] == []


@pytest.mark.parametrize("method", METHODS)
def test_f46_misspelt_option_of_every_method_is_named_with_the_nearest(
    compose: Compose, method: str
) -> None:
    options = yaml.safe_load((Path(config_dir()) / f"method/{method}.yaml").read_text())
    keys = [key for key in options if key != "_target_"]
    config = compose(f"method={method}")
    for key in keys:
        OmegaConf.update(config, f"method.{key}{key[-1]}", 1, force_add=True)
    found = check(config, TrainSettings)
    for key in keys:
        (line,) = [line for line in found if f"method.{key}{key[-1]}" in line.split(":")[0]]
        assert f"did you mean '{key}'?" in line


@pytest.mark.parametrize("method", METHODS)
def test_f48_unset_and_circular_options_of_every_method_are_named(
    compose: Compose, method: str
) -> None:
    options = yaml.safe_load((Path(config_dir()) / f"method/{method}.yaml").read_text())
    numbers = [key for key, value in options.items() if type(value) in {int, float}]
    unset, missing, circular = numbers[:3]
    config = compose(f"method={method}")
    config.method[unset] = "???"
    found = "\n".join(check(config, TrainSettings))
    assert f"method.{unset} is not set; add method.{unset}=..." in found
    config = compose(f"method={method}")
    config.method[missing] = "${nothing.here}"
    assert f"method.{missing}" in "\n".join(check(config, TrainSettings))
    config = compose(f"method={method}")
    config.method[circular] = f"${{method.{circular}}}"
    assert f"method.{circular}" in "\n".join(check(config, TrainSettings))


def test_require_valid_raises_one_error(compose: Compose) -> None:
    config = compose("seed=-1")
    with pytest.raises(ConfigError, match="seed=-1"):
        require_valid(config, TrainSettings)


def test_build_explains_refusals_of_constructors() -> None:
    node = OmegaConf.create({"_target_": "figureground.methods.redo.ReDO", "num_regions": 1})
    with pytest.raises(ConfigError, match="ReDO: num_regions"):
        build(node)


def test_build_lets_our_errors_through() -> None:
    node = {"_target_": "figureground.data.datasets.folder.Folder", "root": "/nowhere"}
    with pytest.raises(Exception, match="is not a folder") as caught:
        build(OmegaConf.create(node))
    assert type(caught.value).__name__ == "DataError"


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "torch.hub.load",
        "figureground.core.manifest.os.link",
        "figureground.core.config.build",
        "torch.nn.functional.relu",
        "figureground.nothing.Here",
        7,
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_f52_only_trusted_classes_are_made(target: Any, nested: bool) -> None:
    node: dict[str, Any] = {"_target_": target}
    if nested:
        node = {"_target_": "torch.nn.Linear", "in_features": 1, "out_features": [node]}
    with pytest.raises(CheckpointError, match="is not allowed in a file"):
        build_trusted(node)


def test_trusted_class_is_made() -> None:
    made = build_trusted({"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 3})
    assert made.weight.shape == (3, 2)


def test_positional_arguments_are_not_trusted() -> None:
    with pytest.raises(CheckpointError):
        build_trusted({"_target_": "torch.nn.Linear", "_args_": [1, 2]})


def test_nearest_lists_what_there_is() -> None:
    assert nearest("redoo", ["redo", "other"]) == "; did you mean 'redo'?"
    assert "a, b" in nearest("zzzz", ["b", "a"])
    assert nearest("x", []) == ""


def test_plain_form_has_no_hydra(compose: Compose) -> None:
    plain = to_plain(compose())
    assert "hydra" not in plain
    assert plain["method"]["resolution"] == 32


def test_keys_for_hydra_alone_are_not_stored() -> None:
    node = {"_target_": "a.B", "_convert_": "all", "x": [{"_recursive_": False, "y": 1}], "z": 2}
    assert drop_hydra_keys(node) == {"_target_": "a.B", "x": [{"y": 1}], "z": 2}
