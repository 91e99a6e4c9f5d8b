"""Trainings on real photographs: curves so far of all runs, finished or not, in one file.

    python src/reproduce.py experiment=real-dti_sprites-gtsrb8    # any real-*, at any time
    python benchmarks/real.py                                     # reads outputs/real
    python benchmarks/real.py FOLDER --commit abc1234             # runs that another checkout began

Each run of `reproduce` with an experiment `real-*` takes the place of its earlier state in
`benchmarks/results/real.json`. Hours are on the clock, whatever else the machine did.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import torch

from figureground.callbacks.run_card import find_commit

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "real.json"
#: Scores that a curve shows, where the run has them.
SHOWN = (
    "val/acc", "val/nmi", "val/miou", "val/iou/img/set", "val/iou/img/fixed",
    "val/iou/global/fixed", "val/mask/grey", "val/mask/area", "val/mask/trivial",
    "val/score/info", "val/score/composite",
)  # fmt: skip
MOST_POINTS = 60


def read_curve(path: Path) -> dict[str, list[list[float]]]:
    """Validation scores over iterations, thinned to `MOST_POINTS`, the last one kept."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if any(row.get(name) for name in SHOWN)]
    every = -(-len(rows) // MOST_POINTS) or 1
    kept = rows[::-1][::every][::-1]
    return {
        name: [[int(row["step"]) + 1, round(float(row[name]), 4)] for row in kept if row[name]]
        for name in SHOWN
        if rows and rows[-1].get(name)
    }


def read_training(folder: Path) -> dict[str, Any] | None:
    """Budget, progress and curve of one training; None if it has not begun to save."""
    checkpoint, table = folder / "checkpoints/last.ckpt", folder / "csv/metrics.csv"
    if not (checkpoint.is_file() and table.is_file()):
        return None
    options = json.loads((folder / "config.json").read_text("utf-8"))
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    card = next((v for k, v in state["callbacks"].items() if "RunCard" in k), {})
    done = state["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["completed"]
    size = options["data"]["batch_size"]
    return {
        "data": options["data"]["name"],
        "resolution": options["data"]["resolution"],
        "iterations": done,
        "of": options["iterations"],
        "images_seen": done * size,
        "hours": round(card.get("seconds", 0.0) / 3600, 2),
        "curve": read_curve(table),
    }


def read_run(folder: Path, commit: str) -> dict[str, Any]:
    """All trainings of one run, and its test scores once it has finished."""
    trainings = {}
    for path in sorted(folder.glob("[0-9][0-9]-*/config.json")):
        if training := read_training(path.parent):
            trainings[path.parent.name[3:]] = training
    run: dict[str, Any] = {"commit": commit, "trainings": trainings}
    result = folder / "metrics.json"
    if result.is_file():
        content = json.loads(result.read_text("utf-8"))
        run["scores"] = {k: v for k, v in sorted(content.items()) if k.startswith("test/")}
        run["cpu_hours"] = round((content.get("cpu_seconds") or 0) / 3600, 2)
    return run


def main() -> None:
    """Read the runs, write the file, print the last point of each curve."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("outputs/real"))
    parser.add_argument("--commit", help="that the runs are of; this checkout's if left out")
    options = parser.parse_args()
    commit = options.commit or find_commit()
    content = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else {}
    for folder in sorted(path for path in options.folder.glob("real-*") if path.is_dir()):
        run = read_run(folder, commit)
        if not run["trainings"]:
            continue
        content[folder.name] = run
        for step, training in run["trainings"].items():
            last = {name: points[-1][1] for name, points in training["curve"].items()}
            print(f"{folder.name} {step}: {training['iterations']} of {training['of']} {last}")
    RESULTS.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
