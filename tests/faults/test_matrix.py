"""The table of README.md names, for each fault that every method must pass, a test that asks it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
NUMBERS = [
    *range(1, 21),
    *range(22, 28),
    29,
    *range(31, 40),
    41,
    46,
    47,
    48,
    51,
    52,
    58,
    60,
    63,
    64,
    65,
]


def over_methods() -> set[str]:
    """Names of all tests that are repeated for every method."""
    found = set()
    for path in TESTS.rglob("test_*.py"):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                marks = [ast.unparse(mark) for mark in node.decorator_list]
                if "pytest.mark.parametrize('method', METHODS)" in marks:
                    found.add(node.name)
    return found


def test_every_fault_of_the_table_is_tested_over_all_methods() -> None:
    text = (TESTS / "faults/README.md").read_text("utf-8")
    table = re.findall(r"^\| (F\d\d) \| `(\w+)` \|", text, re.MULTILINE)
    assert [fault for fault, _ in table] == [f"F{number:02}" for number in NUMBERS]
    assert {name for _, name in table} <= over_methods()
    for fault, name in table:
        assert f"_{fault.lower()}_" in name


def test_every_reader_and_every_part_of_a_checkpoint_is_in_the_table() -> None:
    text = (TESTS / "faults/README.md").read_text("utf-8")
    row = r"^\| (F6[56]) \| ([\w, ']+) \| `(\w+)` \| `faults/test_g_(\w+)\.py` \|$"
    table = re.findall(row, text, re.MULTILINE)
    assert {fault for fault, *_ in table} == {"F65", "F66"}
    assert {file for *_, file in table} == {"stored", "readers", "odd"}


def test_every_fault_of_files_is_tested_on_released_generators() -> None:
    text = (TESTS / "faults/README.md").read_text("utf-8")
    row = r"^\| (F\d\d) \| ([\w, -]+) \| `(\w+)` \| `([\w/.]+)` \|$"
    table = re.findall(row, text, re.MULTILINE)
    released = {fault for fault, files, *_ in table if files == "released"}
    assert released == {"F51", "F53", "F54", "F55", "F56", "F57"}
    for fault, files, name, path in table:
        (test,) = (
            node
            for node in ast.parse((TESTS / path).read_text("utf-8")).body
            if isinstance(node, ast.FunctionDef) and node.name == name
        )
        marks = [ast.unparse(mark) for mark in test.decorator_list]
        assert f"_{fault.lower()}_" in name
        assert files != "released" or any("EVERY" in m or "NEW" in m for m in marks), name
