"""The comparison of methods: its experiments, its sweep, and the table of what has finished."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from figureground.cli.composing import composed

ROOT = Path(__file__).parents[3]
EXPERIMENTS = sorted(
    path.stem for path in (ROOT / "conf/reproduce/experiment").glob("compare-*.yaml")
)
SCORES = {"test/iou/img/fixed": 0.5, "test/iou/img/set": 0.5, "test/raw/iou/img/set": 0.4}


@pytest.fixture(scope="module")
def script() -> Any:
    found = importlib.util.spec_from_file_location("comparison", ROOT / "benchmarks/comparison.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture
def _no_hydra() -> Iterator[None]:
    yield
    GlobalHydra.instance().clear()


def load(*overrides: str) -> dict[str, Any]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf/reproduce"), version_base="1.3"):
        config = compose("reproduce", list(overrides), return_hydra_config=True)
    plan = {name: OmegaConf.to_container(config[name], resolve=True) for name in ("steps", "chain")}
    return {**plan, "sweep": config.hydra.sweep, "sweeper": config.hydra.sweeper.params}


def test_five_methods_are_compared() -> None:
    methods = ("dti_sprites", "gan_segmenter", "ilsgan", "l2ic", "redo")
    assert set(EXPERIMENTS) >= {f"compare-{name}" for name in methods}


@pytest.mark.usefixtures("_no_hydra")
def test_sweep_has_every_experiment_data_and_seed_in_places_of_their_own() -> None:
    plan = load("sweep=comparison")
    assert dict(plan["sweeper"]) == {
        "experiment": "glob(compare-*)", "chain.data": "toy,rooms", "seed": "0,1,2",
    }  # fmt: skip
    assert plan["sweep"].dir == "outputs/comparison"
    raw = OmegaConf.to_container(plan["sweep"], resolve=False)
    assert isinstance(raw, dict)
    assert raw["subdir"] == "${name}-${chain.data}-${seed}"


@pytest.mark.usefixtures("_no_hydra")
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_compared_methods_learn_from_pictures_of_one_size_without_labels(experiment: str) -> None:
    plan = load(f"experiment={experiment}", "chain.data=rooms")
    assert plan["chain"]["method"] == experiment.removeprefix("compare-")
    taken = {name: node for name, node in plan["steps"].items() if node is not None}
    assert list(taken)[-1] == "test"
    assert taken["test"]["options"].keys() == {"ckpt", "data", "seed"}
    for step in taken.values():
        options = step["options"]
        if step["command"] != "train" or options["data"] == "latents":
            continue
        chosen = [f"{key}={options[key]}" for key in ("method", "data", "recipe")]
        with composed("train", chosen) as config:
            assert config.data.resolution == 32
            monitored = config.callbacks.checkpoints.monitor
        assert monitored is None or "pairs" in options


TARGET = "figureground.methods.l2ic.L2IC"


def add_run(folder: Path, method: str = "redo", seed: int = 0, **more: Any) -> Path:
    (folder / ".hydra").mkdir(parents=True)
    overrides = [f"experiment=compare-{method}", f"seed={seed}", *more.pop("overrides", [])]
    iterations = more.pop("iterations", 1000)
    asked = {
        "iterations": iterations, "seed": seed, "data": {"batch_size": 20, "root": "/somewhere"},
        "method": {"_target_": TARGET, "width": 8, "metrics": {"x": 1}, **more.pop("options", {})},
    }  # fmt: skip
    (folder / "01-train").mkdir()
    (folder / "01-train/config.json").write_text(json.dumps(asked))
    training = {
        "budget": {"iterations": iterations, "batch_size": 20, "resolution": 32},
        "device": "cpu (1 threads)", "versions": {"torch": "2"}, "commit": "abc",
    }  # fmt: skip
    content = {
        "name": f"compare-{method}", "seed": seed, "overrides": overrides,
        "chain": {"method": method, "data": "toy"},
        "seconds": 120.0, "cpu_seconds": 60.0, "restarts": 0, "trainings": {"train": training},
        **SCORES, **more,
    }  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(content))
    return folder


def test_runs_are_added_and_take_the_place_of_earlier_ones(tmp_path: Path, script: Any) -> None:
    for seed, score in ((0, 0.5), (1, 0.7)):
        add_run(tmp_path / f"a/{seed}", seed=seed, **{"test/iou/img/set": score})
    runs, left_out = script.find_runs([tmp_path / "a"])
    assert not left_out
    assert [run["scores"] for run in runs] == [
        {"iou/img/fixed": 0.5, "iou/img/set": score} for score in (0.5, 0.7)
    ]
    again = add_run(tmp_path / "b", seed=1, **{"test/iou/img/set": 0.9})
    merged = script.merge(runs, script.find_runs([again])[0])
    assert [(run["seed"], run["scores"]["iou/img/set"]) for run in merged] == [(0, 0.5), (1, 0.9)]
    assert script.merge(merged, runs[:1]) == merged


def test_what_is_no_run_of_the_comparison_is_left_out_and_said(tmp_path: Path, script: Any) -> None:
    (tmp_path / "unfinished/.hydra").mkdir(parents=True)
    own = ["+steps.train.options={iterations:9}", "chain.pairs=5"]
    add_run(tmp_path / "other", overrides=own)
    add_run(tmp_path / "chain", name="ilsgan-toy")
    add_run(tmp_path / "broken")
    (tmp_path / "broken/metrics.json").write_text("{")
    runs, left_out = script.find_runs([tmp_path])
    assert runs == []
    text = "\n".join(left_out)
    for place, reason in {
        "unfinished": "has not finished",
        "other": "options of its own: +steps.train.options={iterations:9}, chain.pairs=5",
        "chain": "is no run of an experiment compare-",
        "broken": "cannot be read",
    }.items():
        assert f"left out: {tmp_path / place} " in text
        assert reason in text


def test_runs_of_another_recipe_make_a_row_of_their_own(tmp_path: Path, script: Any) -> None:
    add_run(tmp_path / "old", seed=0)
    # Added since: by default it is off, so that the first had it off, and the third has not.
    add_run(tmp_path / "new", seed=1, options={"background_latent": "shared"})
    add_run(tmp_path / "on", seed=2, options={"background_latent": "exchanged"})
    add_run(tmp_path / "other", seed=1, options={"width": 9})
    add_run(tmp_path / "long", seed=0, iterations=2000)
    runs = script.merge([], script.find_runs([tmp_path])[0])
    groups = [[run["seed"] for run in members] for members in script.group(runs)]
    assert sorted(groups) == [[0], [0, 1], [1], [2]]
    packed = script.pack(runs)
    assert script.unpack(packed) == runs
    recipe = {"iterations": 1000, "method.width": 8, "data.batch_size": 20}
    assert {**recipe, "method._target_": TARGET} in packed["recipes"]
    assert len(packed["recipes"]) == 5


def test_table_has_mean_spread_number_of_runs_and_budget(tmp_path: Path, script: Any) -> None:
    for seed, score in ((0, 0.5), (1, 0.7)):
        add_run(
            tmp_path / f"two{seed}", seed=seed, restarts=seed,
            **{"test/iou/img/set": score, "test/ari/img": score},
        )  # fmt: skip
    add_run(tmp_path / "one", "l2ic", 3, cpu_seconds=None, **{"test/ari/img": 0.25})
    add_run(tmp_path / "short", "redo", 0, iterations=10)
    rooms = add_run(tmp_path / "rooms", "redo", 0, chain={"method": "redo", "data": "rooms"})
    runs = script.merge([], script.find_runs([tmp_path])[0])
    guess = {"rooms": {"all object": dict.fromkeys(script.SCORES, 0.25)}}
    lines = script.make_table(runs, guess).splitlines()[2:]
    rows = [line.removeprefix("| ").removesuffix(" |").split(" | ") for line in lines]
    assert rows.pop(3)[:4] == ["`rooms`", "all object", "", "0.250"]
    assert [row[:3] for row in rows] == [
        ["`toy`", "`l2ic`", "n = 1 (seed 3)"],
        ["`toy`", "`redo`", "n = 1 (seed 0)"],
        ["`toy`", "`redo`", "n = 2 (seed 0, 1; 1 restarted)"],
        ["`rooms`", "`redo`", "n = 1 (seed 0)"],
    ]
    # A score that one of the runs lacks, and time of which a part is unknown, are left out.
    assert rows[0][5:] == ["", "0.250", "1000 x 20", "2.0", ""]
    assert rows[1][6:] == ["", "10 x 20", "2.0", "1.0"]
    assert rows[2][3:] == [
        "0.500 ± 0.000", "0.600 ± 0.141", "", "0.600 ± 0.141", "1000 x 20", "2.0", "1.0",
    ]  # fmt: skip
    assert script.find_runs([rooms])[0] == [run for run in runs if run["data"] == "rooms"]


def test_only_what_stands_between_the_marks_is_replaced(script: Any) -> None:
    text = f"a\n{script.BEGIN}\nold\n{script.END}\nb\n"
    block = f"{script.BEGIN}\nnew\n{script.END}"
    assert script.replace_block(text, block) == f"a\n{block}\nb\n"
    with pytest.raises(SystemExit, match="lacks <!-- comparison: begin"):
        script.replace_block("a\n", block)


def test_readme_has_what_the_file_of_results_gives(script: Any) -> None:
    content = json.loads(script.RESULTS.read_text("utf-8"))
    assert content["runs"]
    runs = script.unpack(content)
    assert script.merge([], runs) == runs
    assert script.pack(runs) == {key: content[key] for key in ("recipes", "runs")}
    text = script.README.read_text("utf-8")
    assert script.replace_block(text, script.render(content)) == text
