"""The comparison of methods: results of finished runs in one file, README's table made from it.

    python src/reproduce.py sweep=comparison          # or parts of it, at any time
    python benchmarks/comparison.py                   # reads outputs/comparison
    python benchmarks/comparison.py RUN ... [--dry]   # other run directories, or folders of them
    python benchmarks/comparison.py --forget redo     # drops its earlier runs, as of an old recipe

A run is one of `reproduce` with an experiment `compare-*`. It takes the place of an earlier one of
the same method, data, recipe and seed; all others stay, so runs may come one by one. Runs that were
given options of their own are left out, and runs of another recipe make a row of their own. Two
guesses that look at no picture stand beside them: a method below these has learned nothing.
"""

from __future__ import annotations

import argparse
import inspect
import json
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.utils import get_class

from figureground.core.config import flatten
from figureground.core.escaping import code, markdown, one_line

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "comparison.json"
README = ROOT / "README.md"
BEGIN, END = "<!-- comparison: begin -->", "<!-- comparison: end -->"
#: Options that do not make a run another one.
SAME = {"experiment", "sweep", "chain.data", "seed", "redo", "paths.output_dir"}
#: Options of `data` that say what is learned from.
LEARNED = ("batch_size", "resolution", "augment", "train")
SCORES = ("iou/img/fixed", "iou/img/set", "iou/img/oracle", "ari/img")

Run = dict[str, Any]
Scores = Mapping[str, float]


class NotComparedError(Exception):
    """A run that cannot stand in the table; says why."""


def read_run(folder: Path) -> Run:
    """Read a finished run.

    Raises:
        NotComparedError: It has not finished, or is no part of the comparison.
    """
    try:
        content = json.loads((folder / "metrics.json").read_text("utf-8"))
    except FileNotFoundError:
        raise NotComparedError("has not finished") from None
    except (OSError, ValueError) as error:
        raise NotComparedError(f"metrics.json cannot be read ({error})") from None
    if not str(content.get("name")).startswith("compare-") or not content.get("trainings"):
        raise NotComparedError("is no run of an experiment compare-*")
    others = [each for each in content["overrides"] if each.partition("=")[0] not in SAME]
    if others:
        raise NotComparedError(f"was given options of its own: {', '.join(others)}")
    scores = {
        name.removeprefix("test/"): value
        for name, value in sorted(content.items())
        if name.startswith("test/") and not name.startswith("test/raw/")
    }
    chain = {"method": content["chain"]["method"], "data": content["chain"]["data"]}
    trainings = {
        name: {**facts, "options": read_options(folder, name)}
        for name, facts in content["trainings"].items()
    }
    facts = {key: content[key] for key in ("seed", "seconds", "cpu_seconds", "restarts")}
    return {**chain, **facts, "trainings": trainings, "scores": scores}


def read_options(folder: Path, step: str) -> dict[str, Any]:
    """Read what the training `step` was asked for, without files and what changes no result."""
    (path,) = folder.glob(f"[0-9][0-9]-{step}/config.json")
    asked = json.loads(path.read_text("utf-8"))
    method = {k: v for k, v in asked["method"].items() if k not in {"metrics", "generator"}}
    data = {key: value for key, value in asked["data"].items() if key in LEARNED}
    flat = flatten({"iterations": asked["iterations"], "method": method, "data": data})
    return {key: value for key, value in flat.items() if "/" not in str(value)}


def find_runs(paths: Iterable[Path]) -> tuple[list[Run], list[str]]:
    """Read the runs at and below `paths`; return them, and a line for each that is left out."""
    runs, left_out = [], []
    for path in paths:
        folders = [path] if (path / ".hydra").is_dir() else sorted(path.glob("*/.hydra/.."))
        for folder in map(Path.resolve, folders):
            try:
                runs.append(read_run(folder))
            except NotComparedError as error:
                left_out.append(one_line(f"left out: {folder} {error}"))
    return runs, left_out


def are_alike(run: Run, other: Run) -> bool:
    """Whether both are of one recipe: an option that only one of them knows must be off there."""
    if (run["data"], run["method"], *run["trainings"]) != (
        other["data"], other["method"], *other["trainings"],
    ):  # fmt: skip
        return False
    options = [[each["options"] for each in x["trainings"].values()] for x in (run, other)]
    return all(
        _is_off(key, a if key in a else b) if (key in a) != (key in b) else a[key] == b[key]
        for a, b in zip(*options, strict=True)
        for key in a.keys() | b.keys()
    )


def _is_off(key: str, options: Mapping[str, Any]) -> bool:
    """Whether the method has by default what `options` ask for: so it was before there was one."""
    part, _, name = key.partition(".")
    target = options.get("method._target_")
    if part != "method" or target is None:
        return False
    known = inspect.signature(get_class(target)).parameters
    return name in known and bool(known[name].default == options[key])


def merge(before: Sequence[Run], runs: Sequence[Run]) -> list[Run]:
    """Add `runs`, each in the place of an earlier one of the same recipe and seed; sorted."""
    merged = list(before)
    for run in runs:
        merged = [
            each for each in merged if each["seed"] != run["seed"] or not are_alike(each, run)
        ]
        merged.append(run)
    return sorted(merged, key=lambda run: (run["data"] != "toy", run["data"], run["method"],
                                           run["seed"]))  # fmt: skip


def group(runs: Sequence[Run]) -> list[list[Run]]:
    """Put runs of one recipe together, in order of the first of each."""
    groups: list[list[Run]] = []
    for run in runs:
        for members in groups:
            if are_alike(members[0], run):
                members.append(run)
                break
        else:
            groups.append([run])
    return groups


def pack(runs: Sequence[Run]) -> dict[str, Any]:
    """What goes into the file: options of trainings are written once for all that share them."""
    recipes: list[dict[str, Any]] = []
    packed = json.loads(json.dumps(list(runs)))
    for run in packed:
        for training in run["trainings"].values():
            options = training.pop("options")
            if options not in recipes:
                recipes.append(options)
            training["recipe"] = recipes.index(options)
    return {"recipes": recipes, "runs": packed}


def unpack(content: Mapping[str, Any]) -> list[Run]:
    """Runs of the file, each with its options."""
    runs: list[Run] = json.loads(json.dumps(content.get("runs", [])))
    for run in runs:
        for training in run["trainings"].values():
            training["options"] = content["recipes"][training.pop("recipe")]
    return runs


def score_guesses() -> dict[str, dict[str, Scores]]:
    """Scores of both guesses by data set, on the pictures that methods are tested on."""
    import numpy as np
    import torch

    from figureground.data.datasets.rooms import Rooms
    from figureground.data.datasets.toy import Toy
    from figureground.metrics.segmentation import SegmentationScores

    axis = (torch.arange(32) + 0.5) / 16 - 1
    # A quarter of the picture, whose half side is one: pi a^2 = 4 / 4.
    ellipse = (axis[:, None] ** 2 + axis**2 <= 1 / torch.pi).float()
    guesses = {"all object": torch.ones(32, 32), "ellipse in the middle": ellipse}
    found: dict[str, dict[str, Scores]] = {}
    for data, pictures in {"toy": Toy("test", 300, 32), "rooms": Rooms("test", 400, 32)}.items():
        masks = [pictures[number].mask for number in range(len(pictures))]
        truth = torch.from_numpy(np.stack([mask for mask in masks if mask is not None]))
        for name, guess in guesses.items():
            metric = SegmentationScores()
            metric.update(torch.stack([1 - guess, guess]).expand(len(truth), -1, -1, -1), truth)
            scores = {key: round(float(value), 6) for key, value in metric.compute().items()}
            found.setdefault(data, {})[name] = scores
    return found


def make_table(runs: Sequence[Run], guesses: Mapping[str, Mapping[str, Scores]]) -> str:
    """Markdown: one row for each data set, method and recipe, after the guesses."""
    head = ["data", "method", "runs", *(f"`{name}`" for name in SCORES), "training", "minutes",
            "CPU minutes"]  # fmt: skip
    lines = [head, ["---"] * len(head)]
    written = set()
    for members in group(runs):
        data, method = members[0]["data"], members[0]["method"]
        for name, guess in guesses.get(data, {}).items() if data not in written else ():
            cells = [f"{guess[score]:.3f}" for score in SCORES]
            lines.append([code(data), markdown(name), "", *cells, "none", "", ""])
        written.add(data)
        scores = [_cell([run["scores"].get(name) for run in members]) for name in SCORES]
        budgets = [each["budget"] for each in members[0]["trainings"].values()]
        training = " + ".join(f"{each['iterations']} x {each['batch_size']}" for each in budgets)
        times = [_minutes([run[key] for run in members]) for key in ("seconds", "cpu_seconds")]
        counted = markdown(_count(members))
        lines.append([code(data), code(method), counted, *scores, markdown(training), *times])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def describe(runs: Sequence[Run]) -> str:
    """One sentence on machines and versions."""
    trainings = [each for run in runs for each in run["trainings"].values()]
    devices = sorted({str(each["device"]) for each in trainings})
    versions = sorted({f"torch {(each['versions'] or {}).get('torch')}" for each in trainings})
    return f"Trained on: {markdown(', '.join(devices))}; {markdown(', '.join(versions))}.\n"


def render(content: Mapping[str, Any]) -> str:
    """What stands between the marks in README, from the file of results."""
    runs = unpack(content)
    return f"{BEGIN}\n\n{make_table(runs, content['guesses'])}\n{describe(runs)}\n{END}"


def replace_block(text: str, block: str) -> str:
    """`text` with `block` in the place of what stands between the marks."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"README.md lacks {BEGIN} ... {END}; put both where the table belongs")
    return f"{head}{block}{tail}"


def main() -> None:
    """Collect, write the file, write and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", nargs="*", type=Path, default=[Path("outputs/comparison")])
    parser.add_argument("--forget", action="append", default=[], metavar="METHOD")
    parser.add_argument("--dry", action="store_true", help="print the table, write nothing")
    options = parser.parse_args()
    found, left_out = find_runs(options.runs)
    for line in left_out:
        sys.stderr.write(f"{line}\n")
    before = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else {}
    guesses = before.get("guesses") or score_guesses()
    known = [run for run in unpack(before) if run["method"] not in options.forget]
    content = {"guesses": guesses, **pack(merge(known, found))}
    if not options.dry:
        RESULTS.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
        README.write_text(replace_block(README.read_text("utf-8"), render(content)), "utf-8")
    print(f"{len(found)} runs read, {len(content['runs'])} in all\n\n{render(content)}")


def _count(runs: Sequence[Run]) -> str:
    restarts = sum(run["restarts"] for run in runs)
    seeds = ", ".join(str(run["seed"]) for run in runs)
    more = f"; {restarts} restarted" if restarts else ""
    return f"n = {len(runs)} (seed {seeds}{more})"


def _cell(values: Sequence[float | None]) -> str:
    """Mean and standard deviation (n - 1); nothing where a run lacks the score."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return ""
    mean = f"{statistics.fmean(known):.3f}"
    return f"{mean} ± {statistics.stdev(known):.3f}" if len(known) > 1 else mean


def _minutes(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{statistics.fmean(known) / 60:.1f}" if len(known) == len(values) else ""


if __name__ == "__main__":
    main()
