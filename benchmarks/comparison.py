"""The comparison of methods: results of finished runs in one file, README's table made from it.

    python src/reproduce.py sweep=comparison          # or parts of it, at any time
    python benchmarks/comparison.py                   # reads outputs/comparison
    python benchmarks/comparison.py RUN ... [--dry]   # other run directories, or folders of them

A run is one of `reproduce` with an experiment `compare-*`. It takes the place of an earlier one of
the same method, data, budget and seed; all others stay, so runs may come one by one. Runs with
options of their own are left out, and runs with another budget make a row of their own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "comparison.json"
README = ROOT / "README.md"
BEGIN, END = "<!-- comparison: begin -->", "<!-- comparison: end -->"
#: Options that do not make a run another one.
SAME = {"experiment", "sweep", "chain.data", "seed", "redo", "paths.output_dir"}
SCORES = ("iou/img/fixed", "iou/img/set", "iou/img/oracle", "ari/img")

Run = dict[str, Any]


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
    overrides = yaml.safe_load((folder / ".hydra" / "overrides.yaml").read_text("utf-8"))
    others = [each for each in overrides if each.partition("=")[0] not in SAME]
    if others:
        raise NotComparedError(f"was given options of its own: {', '.join(others)}")
    scores = {
        name.removeprefix("test/"): value
        for name, value in sorted(content.items())
        if name.startswith("test/") and not name.startswith("test/raw/")
    }
    chain = {"method": content["chain"]["method"], "data": content["chain"]["data"]}
    facts = {key: content[key] for key in ("seed", "trainings", "seconds", "cpu_seconds")}
    return {**chain, **facts, "restarts": content["restarts"], "scores": scores}


def find_runs(paths: Iterable[Path]) -> tuple[list[Run], list[str]]:
    """Read the runs at and below `paths`; return them, and a line for each that is left out."""
    runs, left_out = [], []
    for path in paths:
        folders = [path] if (path / ".hydra").is_dir() else sorted(path.glob("*/.hydra/.."))
        for folder in map(Path.resolve, folders):
            try:
                runs.append(read_run(folder))
            except NotComparedError as error:
                left_out.append(f"left out: {folder} {error}")
    return runs, left_out


def budget_of(run: Run) -> tuple[tuple[Any, ...], ...]:
    """Iterations, pictures in each and their side, of every training in turn."""
    return tuple(tuple(each["budget"].values()) for each in run["trainings"].values())


def merge(before: Sequence[Run], runs: Sequence[Run]) -> list[Run]:
    """Add `runs`, each in the place of an earlier one of the same kind and seed; sorted."""
    known = {(*_kind(run), run["seed"]): run for run in (*before, *runs)}
    return [known[key] for key in sorted(known, key=str)]


def make_table(runs: Sequence[Run]) -> str:
    """Markdown: one row for each data set, method and budget, those of toy first."""
    rows: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        rows.setdefault(_kind(run), []).append(run)
    head = ["data", "method", "runs", *(f"`{name}`" for name in SCORES), "training", "minutes",
            "CPU minutes"]  # fmt: skip
    lines = [head, ["---"] * len(head)]
    for (data, method, budget), group in sorted(rows.items(), key=_order):
        scores = [_cell([run["scores"].get(name) for run in group]) for name in SCORES]
        training = " + ".join(f"{iterations} x {batch}" for iterations, batch, _ in budget)
        times = [_minutes([run[key] for run in group]) for key in ("seconds", "cpu_seconds")]
        lines.append([f"`{data}`", f"`{method}`", _count(group), *scores, training, *times])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def describe(runs: Sequence[Run]) -> str:
    """One sentence on machines and versions."""
    trainings = [each for run in runs for each in run["trainings"].values()]
    devices = sorted({str(each["device"]) for each in trainings})
    versions = sorted({f"torch {(each['versions'] or {}).get('torch')}" for each in trainings})
    return f"Trained on: {', '.join(devices)}; {', '.join(versions)}.\n"


def render(runs: Sequence[Run]) -> str:
    """What stands between the marks in README."""
    return f"{BEGIN}\n\n{make_table(runs)}\n{describe(runs)}\n{END}" if runs else f"{BEGIN}\n{END}"


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
    parser.add_argument("--dry", action="store_true", help="print the table, write nothing")
    options = parser.parse_args()
    found, left_out = find_runs(options.runs)
    for line in left_out:
        sys.stderr.write(f"{line}\n")
    before = json.loads(RESULTS.read_text("utf-8"))["runs"] if RESULTS.is_file() else []
    runs = merge(before, found)
    if not options.dry:
        RESULTS.write_text(json.dumps({"runs": runs}, indent=1) + "\n", "utf-8")
        README.write_text(replace_block(README.read_text("utf-8"), render(runs)), "utf-8")
    print(f"{len(found)} runs read, {len(runs)} in all\n\n{make_table(runs)}")


def _kind(run: Run) -> tuple[Any, ...]:
    return run["data"], run["method"], budget_of(run)


def _order(row: tuple[tuple[Any, ...], list[Run]]) -> tuple[bool, str]:
    return row[0][0] != "toy", str(row[0])


def _count(group: Sequence[Mapping[str, Any]]) -> str:
    restarts = sum(run["restarts"] for run in group)
    seeds = ", ".join(str(run["seed"]) for run in group)
    more = f"; {restarts} restarted" if restarts else ""
    return f"n = {len(group)} (seed {seeds}{more})"


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
