"""What a finished `reproduce` was and what came out, as one `metrics.json` like that of `train`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig

from figureground.cli.check import RESOLVED
from figureground.cli.records import Record
from figureground.cli.steps import Step
from figureground.core.io import atomic_write
from figureground.core.presence import SMALL, read_text
from figureground.core.publishing import publish, publish_override

#: What the `metrics.json` of a training says of it.
_FACTS = ("iterations", "restarts", "device", "precision", "commit", "versions")


def write_summary(
    output: Path, plain: Mapping[str, Any], steps: Sequence[tuple[Step, Record]]
) -> None:
    """Write `metrics.json` into `output`, so that runs can be set side by side.

    Args:
        output: Run directory.
        plain: All options of the run.
        steps: Those taken, with what they left.
    """
    records = [record for _, record in steps]
    seconds, cpu_seconds = zip(*map(_read_times, records), strict=True)
    content: dict[str, Any] = {
        "name": plain["name"],
        "seed": plain["seed"],
        # Those of the command that finished it: the file that Hydra writes changes with each try.
        "overrides": [publish_override(each, output) for each in _list_overrides()],
        "chain": publish(plain["chain"], "chain", output),
        "seconds": round(sum(seconds), 1),
        # A sum of which a part is missing would look like a small one.
        "cpu_seconds": round(sum(cpu_seconds), 1) if all(cpu_seconds) else None,
        "restarts": int(sum(record.scores.get("restarts", 0) for record in records)),
        "trainings": {step.name: _describe(step) for step, _ in steps if step.command == "train"},
    }
    # Of a score that two steps have, the later one counts: it tests what the chain has made.
    for record in records:
        content |= {n: value for n, value in record.scores.items() if n.startswith("test/")}
    with atomic_write(output / "metrics.json", "w") as file:
        json.dump(content, file, indent=2)


def _list_overrides() -> list[str]:
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def _read_times(record: Record) -> tuple[float, float]:
    """Seconds on the clock and of processors, 0 if these are not known."""
    own = record.scores.get("seconds", 0.0)
    # A training that began before its step did: only its own clock knows all of it.
    return (own, 0.0) if own > record.seconds else (record.seconds, record.cpu_seconds)


def _describe(step: Step) -> dict[str, Any]:
    """Budget of a training as it was asked for, and facts of the run."""
    asked, done = _read(step.folder / RESOLVED), _read(step.folder / "metrics.json")
    data = asked.get("data")
    data = data if isinstance(data, dict) else {}
    return {
        "budget": {
            "iterations": asked.get("iterations"),
            "batch_size": data.get("batch_size"),
            "resolution": data.get("resolution"),
        },
        **{name: done.get(name) for name in _FACTS},
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(read_text(path, SMALL))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
