"""Benchmarks run, so that their ratios can be taken again at any time; nothing is timed here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
#: What makes a script short and keeps it from writing its results; the others start only.
SHORT = {
    "bigbigan_forward": ["--rounds", "1", "--batches", "2", "--width", "8", "--quick"],
    "dti_step": ["--rounds", "1", "--only", "tetro"],
    "ilsgan_outputs": ["--quick", "--count", "16"],
    "ilsgan_step": ["--rounds", "1", "--only", "toy"],
    "l2ic_step": ["--rounds", "1", "--only", "toy"],
    "max_f": ["--rounds", "1", "--images", "2", "--size", "60", "80", "--quick"],
    "pairs_written": ["--rounds", "1", "--count", "64", "--generators", "toy", "--quick"],
}
NAMES = sorted(p.stem for p in BENCHMARKS.glob("*.py") if "argparse" in p.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_benchmark_runs(name: str) -> None:
    written = {path: path.read_bytes() for path in (BENCHMARKS / "results").iterdir()}
    arguments = SHORT.get(name, ["--help"])
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / f"{name}.py"), *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert {path: path.read_bytes() for path in (BENCHMARKS / "results").iterdir()} == written
