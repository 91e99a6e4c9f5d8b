"""`reproduce`: which steps are taken, which are not, and what is said."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict

from figureground.cli import explain_composition, plans
from figureground.cli import reproduce as module
from figureground.cli.records import RECORD, Record, read_scores
from figureground.cli.references import fill, find_references
from figureground.cli.reproduce import reproduce
from figureground.cli.semantic_scores import SemanticScoring
from figureground.cli.steps import followers, read_steps, split_steps
from figureground.core.checkpoint import VerifiedCheckpointIO
from figureground.core.config import config_dir
from figureground.core.errors import (
    ConfigError,
    StepError,
    StoppedBySignalError,
    UserError,
    exit_code_of,
)
from figureground.data.shard_manifest import FORMAT
from figureground.metrics import features

Call = Callable[[list[str]], int]
ROOT = Path(config_dir()) / "reproduce"
CHAIN: dict[str, Any] = {
    "train": {"command": "train", "options": {"method": "redo"}, "result": "checkpoints/last.ckpt"},
    "sample": {
        "command": "generate",
        "options": {"ckpt": "{train}/checkpoints/last.ckpt", "count": 3},
        "result": "pictures/pairs.json",
    },
    "test": {
        "command": "evaluate",
        "options": {"ckpt": "{train}/checkpoints/last.ckpt"},
        "result": "metrics.json",
        "scores": ["test/iou*"],
    },
}


def configure(folder: Path, steps: dict[str, Any] | None = None, **more: Any) -> DictConfig:
    root = OmegaConf.load(ROOT / "reproduce.yaml")
    del root["hydra"], root["defaults"]
    node = {"name": "chain", "steps": steps or CHAIN, "paths": {"output_dir": str(folder)}}
    config = OmegaConf.merge(root, node, more)
    assert isinstance(config, DictConfig)
    return config


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[str]]]:
    """Command lines of the steps, which leave what they should at once."""
    made: list[list[str]] = []

    def call(arguments: list[str], stop: object) -> int:
        made.append(arguments)
        return leave(arguments)

    monkeypatch.setattr(module, "_call", call)
    monkeypatch.setattr(plans, "_refusal", lambda *_: None)
    yield made
    GlobalHydra.instance().clear()


@pytest.fixture(autouse=True)
def _forget_refusals() -> None:
    plans._refusal.cache_clear()


def folder_of(arguments: list[str]) -> Path:
    found = [a.partition("=")[2] for a in arguments if a.startswith("paths.output_dir=")]
    return Path(found[0].strip("'"))


def leave(arguments: list[str]) -> int:
    folder = folder_of(arguments)
    for name in ("checkpoints/last.ckpt", "checkpoints/snapshots/0000004.ckpt"):
        if arguments[0] == "train":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(str(arguments))
    if arguments[0] == "generate":
        (folder / "pictures").mkdir(parents=True)
        (folder / "pictures/pairs.json").write_text("{}")
    if arguments[0] == "evaluate":
        scores = {"test/iou": {"mean": 0.5, "std": 0.0}, "test/other": {"mean": 1.0, "std": 0.0}}
        (folder / "metrics.json").write_text(json.dumps({"ckpt": ["x"], "runs": [{}], **scores}))
    return 0


def commands(calls: list[list[str]]) -> list[str]:
    found = [each[0] for each in calls]
    calls.clear()
    return found


def test_pairs_show_what_their_filters_let_through(
    tmp_path: Path, calls: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(arguments: list[str], stop: object) -> int:
        code = leave(arguments)
        if arguments[0] == "generate":
            record = {"file": "pairs-000000.safetensors", "count": 4, "size": 9, "sha256": ""}
            record |= {"accepted": {"all": [8, 4], "area": [8, 6]}}
            manifest = json.dumps({"format": FORMAT, "shards": [record, following]})
            (folder_of(arguments) / "pictures/pairs.json").write_text(manifest)
        return code

    following = {"file": "pairs-000001.safetensors", "count": 4, "size": 9, "sha256": "",
            "accepted": {"all": [2, 1], "area": [2, 2]}}  # fmt: skip
    monkeypatch.setattr(module, "_call", call)
    steps = json.loads(json.dumps(CHAIN))
    steps["sample"]["scores"] = ["pairs/*"]
    reproduce(configure(tmp_path, steps))
    rows = json.loads((tmp_path / "table.json").read_text())
    assert [(row["score"], row["value"]) for row in rows[1:3]] == [
        ("pairs/accepted", "0.5000"), ("pairs/accepted/area", "0.8000"),
    ]  # fmt: skip


def test_steps_are_taken_in_order_and_once(tmp_path: Path, calls: list[list[str]]) -> None:
    reproduce(configure(tmp_path))
    assert calls[1] == [
        "generate", f"ckpt={tmp_path}/01-train/checkpoints/last.ckpt", "count=3",
        f"paths.output_dir={tmp_path}/02-sample",
    ]  # fmt: skip
    assert commands(calls) == ["train", "generate", "evaluate"]
    rows = json.loads((tmp_path / "table.json").read_text())
    assert [(row["step"], row["score"], row["value"]) for row in rows] == [
        ("train", "", ""), ("sample", "", ""), ("test", "test/iou", "0.5000"),
    ]  # fmt: skip
    assert "| test | evaluate |" in (tmp_path / "table.md").read_text()
    reproduce(configure(tmp_path))
    assert commands(calls) == []


def test_a_step_without_its_result_is_taken_again(tmp_path: Path, calls: list[list[str]]) -> None:
    reproduce(configure(tmp_path))
    calls.clear()
    (tmp_path / "03-test/metrics.json").unlink()
    reproduce(configure(tmp_path))
    assert commands(calls) == ["evaluate"]


def test_other_options_are_refused_until_redo(tmp_path: Path, calls: list[list[str]]) -> None:
    reproduce(configure(tmp_path))
    calls.clear()
    other = configure(tmp_path)
    other.steps.sample.options.count = 4
    with pytest.raises(UserError, match=r"'sample' .* count \(3 -> 4\); .* redo=sample"):
        reproduce(other)
    assert commands(calls) == []
    other.redo = "sample"
    reproduce(other)
    assert commands(calls) == ["generate"]
    other.redo, other.steps.test.options = "train", {
        "ckpt": "{train}/checkpoints/last.ckpt", "paths.cache_dir": "elsewhere",
    }  # fmt: skip
    reproduce(other)
    assert commands(calls) == ["train", "generate", "evaluate"]
    with pytest.raises(ConfigError, match=r"redo=tests: .* did you mean 'test'"):
        reproduce(configure(tmp_path, redo="tests"))


def test_options_that_only_say_where_to_run_may_differ(
    tmp_path: Path, calls: list[list[str]]
) -> None:
    reproduce(configure(tmp_path))
    calls.clear()
    other = configure(tmp_path)
    other.steps.train.options = {"method": "redo", "trainer.accelerator": "cpu"}
    reproduce(other)
    assert commands(calls) == []


def test_results_of_an_earlier_run_are_not_mixed(tmp_path: Path, calls: list[list[str]]) -> None:
    reproduce(configure(tmp_path))
    (tmp_path / "01-train/checkpoints/last.ckpt").unlink()
    with pytest.raises(UserError, match="'sample' was made from another result of train"):
        reproduce(configure(tmp_path))
    with pytest.raises(UserError, match="'test' was made from another result of train"):
        reproduce(configure(tmp_path, redo="sample"))
    reproduce(configure(tmp_path, redo="test"))


def test_what_a_step_needs_is_looked_for(tmp_path: Path, calls: list[list[str]]) -> None:
    steps = {**CHAIN, "late": {
        "command": "predict", "options": {"input": "{sample}/gone"}, "result": "x",
    }}  # fmt: skip
    with pytest.raises(UserError, match=r"'late' needs .*/02-sample/gone, .* redo=sample"):
        reproduce(configure(tmp_path, steps))
    assert commands(calls) == ["train", "generate", "evaluate"]
    steps["late"] = {"command": "generate", "options": {}, "result": "never"}
    with pytest.raises(StepError, match="ended well but left no .*04-late/never"):
        reproduce(configure(tmp_path, steps))


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [(3, "'sample' failed, see above", 3), (-9, "most often memory", 137), (143, "SIGTERM", 143)],
)
def test_exit_code_of_a_step_is_handed_on(
    tmp_path: Path, calls: list[list[str]], monkeypatch: pytest.MonkeyPatch,
    code: int, message: str, expected: int,
) -> None:  # fmt: skip
    def call(arguments: list[str], stop: object) -> int:
        calls.append(arguments)
        return code if arguments[0] == "generate" else leave(arguments)

    monkeypatch.setattr(module, "_call", call)
    with pytest.raises((StepError, StoppedBySignalError), match=message) as caught:
        reproduce(configure(tmp_path))
    assert exit_code_of(caught.value) == expected
    assert commands(calls) == ["train", "generate"]
    monkeypatch.setattr(module, "_call", lambda arguments, stop: leave(arguments))
    reproduce(configure(tmp_path))
    assert (tmp_path / "table.md").is_file()


def test_stopped_training_goes_on_from_its_last_checkpoint(
    tmp_path: Path, calls: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop_after_saving(arguments: list[str], stop: object) -> int:
        leave(arguments)
        return 143

    with monkeypatch.context() as patch:
        patch.setattr(module, "_call", stop_after_saving)
        with pytest.raises(StoppedBySignalError):
            reproduce(configure(tmp_path))
    # The same command line, redo and all, goes on; with other options redo starts anew.
    reproduce(configure(tmp_path, redo="train"))
    assert calls[0][-1] == "ckpt=last"
    calls.clear()
    reproduce(configure(tmp_path, redo="train"))
    assert "ckpt=last" not in calls[0]


def test_signals_reach_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "figureground.py"
    script.write_text(
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        "os.kill(os.getppid(), signal.SIGINT)\n"
        "time.sleep(20)\n"
    )
    monkeypatch.setattr(plans, "_refusal", lambda *_: None)
    # In the place of the package, so that `-m figureground` runs it.
    monkeypatch.setattr(module, "__file__", str(tmp_path / "a/b/c.py"))
    monkeypatch.setattr(os, "environ", {**os.environ, "PYTHONPATH": ""})
    with pytest.raises(StoppedBySignalError) as caught:
        reproduce(configure(tmp_path / "run"))
    assert caught.value.signum == signal.SIGINT
    record = Record.read(tmp_path / "run/01-train")
    assert record is not None
    assert not record.run


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"steps": {"a": None}}, "there are no steps; add experiment=..., one of .*ilsgan-toy"),
    ({"steps": {"a b": CHAIN["train"]}}, "a step's name is letters"),
    ({"steps": {"a": 3}}, "steps.a=3: expected null or a node"),
    ({"steps": {"a": {"command": "trian", "result": "x"}}}, "steps.a.command=trian: expected one"),
    ({"steps": {"a": {"command": "train"}}}, "steps.a.result is not set"),
    ({"steps": {"a": {**CHAIN["train"], "optionz": {}}}}, "did you mean 'options'"),
    ({"steps": {"a": {**CHAIN["train"], "options": [1]}}}, r"a.options=\[1\]: expected a node"),
    ({"steps": {"a": {**CHAIN["train"], "scores": "x"}}}, "steps.a.scores=x: expected a list"),
    ({"steps": {**CHAIN, "tset": {"options": {"a": 1}}}}, "no such step; .*'steps.test'"),
    ({"steps": {"test": CHAIN["test"]}}, "refers to 'train', which is no earlier step"),
    ({"snapshots": {"folder": None, "every": 0}}, "snapshots.folder is not set.*\n.*every=0"),
    ({"snapshots": {"folder": "{trian}", "every": 1}}, "'trian', which is no step"),
    ({"snapshots": {"folder": "x", "every": 1}}, "no step refers to {snapshot}"),
    ({"snapshots": {"folder": "x", "every": 1}, "curves": {"a": {"step": "b"}}}, "step and score"),
    (
        {"snapshots": {"folder": "x", "every": 1}, "curves": {"a": {"step": "tset", "score": "b"}}},
        "no step 'tset'; did you mean 'test'",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("node", "message"), WRONG)
def test_wrong_plans_are_refused(
    tmp_path: Path, calls: list[list[str]], node: dict[str, Any], message: str
) -> None:
    config = configure(tmp_path / "run")
    with open_dict(config):
        for key, value in node.items():
            config[key] = value
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        reproduce(config)
    assert not calls
    assert not (tmp_path / "run").exists()


def test_a_wrong_option_of_any_step_is_refused_before_the_first(tmp_path: Path) -> None:
    config = configure(tmp_path / "run")
    config.steps.test.options = {"ckpt": "{train}/x", "splitt": "val"}
    with pytest.raises(ConfigError, match="step 'test': splitt: there is no such option.*'split'"):
        reproduce(config)
    assert not (tmp_path / "run").exists()


def test_an_option_that_the_experiment_does_not_set_is_added_with_a_plus() -> None:
    def explain(option: str) -> str:
        error = HydraException(f"Could not override '{option}'.")
        return str(explain_composition(error, plans.ROOT, ["experiment=gan-segmenter-toy"]))

    added = "steps.search.options.iterations"
    assert explain(added).endswith(f"to add it, write +{added}=...")
    assert explain("chain.pairz").endswith("did you mean 'chain.pairs'?")


def load(*overrides: str) -> dict[str, Any]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT), version_base="1.3"):
        config = compose("reproduce", [*overrides, "name=x", "paths.output_dir=x"])
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


@pytest.mark.parametrize(
    "overrides",
    [
        *([f"experiment={path.stem}"] for path in sorted((ROOT / "experiment").glob("*"))),
        ["experiment=ilsgan-toy", "analysis=training"],
    ],
    ids=" ".join,
)
def test_every_experiment_composes(overrides: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "find_spec", lambda name: object())  # Not installed everywhere.
    monkeypatch.setattr(SemanticScoring, "check_options", lambda **_: [])  # Whose file is no one's.
    plain = load(*overrides)
    nodes = (plain[key] for key in ("steps", "snapshots", "curves", "paths"))
    assert plans.find_problems(*nodes) == []


def test_whole_pictures_are_tested_at_full_resolution() -> None:
    plan = load("experiment=gan-segmenter-bigbigan", "chain.data=duts", "chain.crop=false")
    assert plans.find_problems(*(plan[k] for k in ("steps", "snapshots", "curves", "paths"))) == []


@pytest.mark.parametrize("name", ["bigbigan", "bigbigan-ensemble"])
def test_published_seeds_and_shares_of_gan_segmenter(name: str) -> None:
    plan = load(f"experiment=gan-segmenter-{name}", "seed=7")
    for step, node in plan["steps"].items():
        options = node["options"] if node else {}
        if step.startswith("search"):
            assert options["seed"] == 42
        elif step.startswith("segment"):
            assert (options["seed"], options["pairs.val_share"]) == (4321, 0.01)
        elif options:
            assert options["seed"] == 7


@pytest.mark.parametrize("name", ["biggan_deep", "cips", "stylegan2"])
def test_pairs_of_large_generators_are_shrunk_before_they_are_written(name: str) -> None:
    options = load(f"experiment=gan-segmenter-{name}")["steps"]["sample"]["options"]
    assert (options["resolution"], options["layers"]) == (128, False)


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        (None, None),  # Features begin with random weights, and semantic takes what they become.
        ("chain.features=gone", "step 'contrast': method: weights=gone is not a file"),
        (
            "+steps.semantic.options={metrics.semantic.weights:none.pth}",
            "step 'semantic': metrics.semantic: weights=none.pth is not a file",
        ),
    ],
)
def test_network_for_classes_is_missed_before_anything_runs(
    option: str | None, problem: str | None
) -> None:
    plan = load("experiment=voc-semantic", *filter(None, [option]))
    nodes = ("steps", "snapshots", "curves", "paths", "chain")
    found = plans.find_problems(*(plan[key] for key in nodes))
    assert len(found) == (problem is not None)
    assert all(str(problem) in line for line in found)


def test_missing_weights_are_missed_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "find_spec", lambda name: None)
    plan = load("experiment=ilsgan-cub64", "chain.inception=gone.pth")
    nodes = (plan[key] for key in ("steps", "snapshots", "curves", "paths"))
    (problem,) = plans.find_problems(*nodes)
    assert "step 'choose': metrics.generation: gone.pth is not a file" in problem
    other = tmp_path / "other.pth"
    other.write_bytes(b"no weights")
    plan = load("experiment=ilsgan-cub64", f"chain.inception={other}")
    (problem,) = plans.find_problems(*(plan[k] for k in ("steps", "snapshots", "curves", "paths")))
    assert "step 'choose'" in problem
    assert "other.pth is not a PyTorch file of tensors" in problem
    assert "figureground[generation]" in (features.find_wrong_weights(None, None) or "")


def test_only_what_an_earlier_step_leaves_may_be_missing() -> None:
    plan = load("experiment=gan-segmenter-trained", "chain.weights=gone")
    nodes = ("steps", "snapshots", "curves", "paths", "chain")
    (problem,) = plans.find_problems(*(plan[k] for k in nodes))
    assert problem.endswith("steps.search.options, or chain.weights)")
    assert problem.startswith("step 'search': generator: gone does not exist")
    assert "generator: gone" not in problem.partition("gone")[2]  # It is said once.


def test_published_numbers_of_the_chains() -> None:
    for name in ("cub64", "cub128", "dogs64", "dogs128", "cars64", "cars128"):
        steps = load(f"experiment=ilsgan-{name}")["steps"]
        assert list(steps) == ["train", "choose", "sample", "segment", "test", "information"]
        assert steps["sample"]["options"]["ckpt"] == "{choose:least fid*}"
        assert steps["sample"]["options"]["count"] == 10_000
        assert steps["segment"]["options"]["recipe"] == "segmenter-cub_drc"
        assert steps["information"]["options"]["metrics"] == "information_published"


def test_values_and_references_are_quoted_for_hydra(tmp_path: Path) -> None:
    options = {"a": [1, None, True, "x y"], "b": {"c": "é"}, "d": "it's"}
    options["e.f"] = "[{one}/x,{one}/y]"
    folder = tmp_path / "ä b"
    (step,) = read_steps({"s": {"command": "train", "options": options, "result": "x"}}, folder)
    assert step.arguments({"one": folder}) == [
        "a=[1,null,true,'x y']", "b.c='é'", "d='it\\'s'", f"e.f=['{folder}/x','{folder}/y']",
        f"paths.output_dir='{folder}/01-s'",
    ]  # fmt: skip


def score(folder: Path, *values: float) -> None:
    runs = [{"other": 0.0, "fid_a": value} for value in values]
    content = {"ckpt": [f"{n}.ckpt" for n in range(len(values))], "runs": runs}
    (folder / "metrics.json").write_text(json.dumps(content))


def test_the_checkpoint_with_the_least_score_is_chosen(tmp_path: Path) -> None:
    folders = {"choose": tmp_path}
    # Before the step was taken there is nothing to choose from.
    assert fill("ckpt={choose:least fid*}", folders) == f"ckpt={tmp_path}/metrics.json"
    score(tmp_path, 3.0, math.nan, 1.0, 2.0)
    assert fill("ckpt={choose:least fid*}", folders) == "ckpt=2.ckpt"
    score(tmp_path, math.nan)
    with pytest.raises(UserError, match=r"no finite score fid\* to choose a checkpoint by"):
        fill("ckpt={choose:least fid*}", folders)


def test_checkpoints_to_choose_from_are_limited(tmp_path: Path) -> None:
    folders, files = {"choose": tmp_path}, []
    for number, sigma in enumerate([0.2, 0.2, 1.0, 1.0], start=1):
        files.append(str(tmp_path / f"{number * 100:07d}.ckpt"))
        section = {"format": 1, "sigma": sigma}
        VerifiedCheckpointIO().save_checkpoint(
            {"state_dict": {}, "figureground": section}, files[-1]
        )
    runs = [{"fid": value} for value in (3.0, 2.0, 4.0, 1.0)]
    (tmp_path / "metrics.json").write_text(json.dumps({"ckpt": files, "runs": runs}))
    for limits, place in {
        "": 3, " up to 300": 1, " up to 100": 0, " with sigma 0.2": 1, " with sigma 1": 3,
        " up to 300 with sigma 1.0": 2,
    }.items():  # fmt: skip
        text = f"ckpt={{choose:least fid*{limits}}}"
        assert [each.name for each in find_references(text)] == ["choose"]
        assert fill(text, folders) == f"ckpt={files[place]}"
    with pytest.raises(UserError, match=r"score fid\* up to iteration 200 with sigma 1 to choose"):
        fill("{choose:least fid* up to 200 with sigma 1}", folders)


def test_wildcards_stand_for_all_files(tmp_path: Path) -> None:
    folders = {"train": tmp_path}
    assert fill("ckpt={train}/*.ckpt", folders) == f"ckpt=['{tmp_path}/*.ckpt']"
    for name in ("b", "a"):
        (tmp_path / f"{name}.ckpt").touch()
    assert fill("ckpt={train}/*.ckpt", folders) == f"ckpt=[{tmp_path}/a.ckpt,{tmp_path}/b.ckpt]"


def test_steps_are_parted_by_snapshots(tmp_path: Path) -> None:
    steps = read_steps(load("experiment=ilsgan-toy", "analysis=training")["steps"], tmp_path)
    source = "{train}/checkpoints/snapshots"
    once, repeated = split_steps(steps, source)
    assert [step.name for step in once] == ["train"]
    assert [s.name for s in repeated] == ["sample", "segment", "test", "information", "quality"]
    # Snapshots of another run: nothing is trained.
    assert split_steps(steps, "elsewhere")[0] == []
    assert [step.name for step in followers(steps, "segment", source)] == ["segment", "test"]
    assert len(followers(steps, "train", source)) == len(steps)
    assert [step.name for step in followers(steps, "train", "elsewhere")] == ["train"]


def analysed(folder: Path, **more: Any) -> DictConfig:
    steps = {**CHAIN, "test": {**CHAIN["test"], "options": {"ckpt": "{snapshot}"}}}
    source = {"folder": "{train}/checkpoints/snapshots", "every": 2, "up_to": None}
    curves = {
        "IoU": {"step": "test", "score": "test/iou*"},
        "gone": {"step": "train", "score": "x"},
    }
    return configure(folder, steps, snapshots=source, curves=curves, **more)


def test_analysis_takes_every_few_snapshots(tmp_path: Path, calls: list[list[str]]) -> None:
    snapshots = tmp_path / "01-train/checkpoints/snapshots"
    snapshots.mkdir(parents=True)
    for number in (1, 2, 3):
        (snapshots / f"{number:07d}.ckpt").write_text(str(number))
    reproduce(analysed(tmp_path))
    # `sample` is not asked for; of four snapshots the last and the one two before.
    assert [call[:2] for call in calls[1:]] == [
        ["evaluate", f"ckpt={snapshots}/{number}.ckpt"] for number in ("0000002", "0000004")
    ]
    content = json.loads((tmp_path / "analysis.json").read_text())
    assert [point["iteration"] for point in content] == [2, 4]
    assert content[0]["scores"]["test"]["test/other"] == 1
    assert "| 2 | 0.5000 |" in (tmp_path / "analysis.md").read_text()
    assert (tmp_path / "analysis.png").is_file()
    calls.clear()
    reproduce(analysed(tmp_path))
    assert commands(calls) == []
    (snapshots / "0000002.ckpt").write_text("another")
    with pytest.raises(UserError, match="'test' was made from another snapshot"):
        reproduce(analysed(tmp_path))
    reproduce(analysed(tmp_path, redo="test"))
    assert commands(calls) == ["evaluate", "evaluate"]


def test_analysis_without_snapshots_says_how_to_keep_them(
    tmp_path: Path, calls: list[list[str]]
) -> None:
    config = analysed(tmp_path)
    config.snapshots.up_to = 3
    with pytest.raises(UserError, match=r"no snapshot up to iteration 3; train with .*keep_every"):
        reproduce(config)


def test_scores_of_both_kinds_of_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    assert read_scores(path) == {}
    path.write_text(
        '{"name": "x", "val/iou": 0.5, "best": null, "ok": true, "versions": {"a": "1"}}'
    )
    assert read_scores(path) == {"val/iou": 0.5}
    (tmp_path / RECORD).write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        Record.read(tmp_path)
