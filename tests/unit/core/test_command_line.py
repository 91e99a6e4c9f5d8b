"""Printed commands: what a shell and then Hydra make of them is what was meant."""

from __future__ import annotations

import random
import subprocess

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from figureground.core.command_line import as_value, join, option, quote, shell

ODD = (
    *(
        "my file.pth",
        "a;touch pwned",
        "it's",
        'a"b',
        "a\\",
        "a\\'b",
        '\\"',
        "a=b",
        "[a,b]",
        "{a:b}",
    ),
    *(
        "a,b",
        "$HOME `ls` $(ls)",
        "${oc.env:HOME}",
        "\\${x}",
        "x${y}z\\",
        "null",
        "True",
        "1",
        "1e5",
    ),
    *("nan", "-1", "~x", "!x", "#x", " x ", "", "ü 漢字", "\x1b]0;x\x07", "a\nb", "a\u202eb"),
    "not UTF-8 \udcff",
)


def read(override: str) -> object:
    """What Hydra sets the option to."""
    value = OverridesParser.create().parse_override(override).value()
    return OmegaConf.create({"x": value}).x


@pytest.mark.parametrize("mark", ["'", '"'])
def test_hydra_reads_back_what_was_quoted(mark: str) -> None:
    chance = random.Random(0)
    letters = "\\\\'\"${} a=,[]:\n;\x1b"
    drawn = ["".join(chance.choices(letters, k=chance.randint(1, 7))) for _ in range(200)]
    for text in (*ODD, *drawn):
        assert read(f"x={quote(text, mark)}") == text  # type: ignore[arg-type]


def test_ordinary_values_are_not_quoted() -> None:
    assert quote("outputs/a-1/last.ckpt") == "outputs/a-1/last.ckpt"
    assert option("data.root", "/data/my_photos") == "data.root=/data/my_photos"
    assert as_value({"a": [1, True, None, "b c"], "d": 0.5}) == "{a:[1,true,null,'b c'],d:0.5}"


def test_a_shell_hands_on_what_was_meant() -> None:
    words = [word.encode("utf-8", "surrogateescape") for word in ODD]
    command = f"printf '%s\\0' {join(ODD)}"
    assert command.isprintable()
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=True)
    assert done.stdout.split(b"\0")[:-1] == words


def test_an_option_goes_through_shell_and_hydra() -> None:
    command = f"printf '%s\\0' {' '.join(option('x', value) for value in ODD[:-1])}"
    assert command.isprintable()
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=True)
    assert [read(each) for each in done.stdout.decode().split("\0")[:-1]] == list(ODD[:-1])


def test_hidden_characters_are_spelt_out() -> None:
    assert option("weights", "a;b\x1b.pth") == r"""weights='"a;b'$'\x1b''.pth"'"""
    assert shell("\u202e") == r"$'\xe2\x80\xae'"
    assert shell("<b>", hidden="<>") == r"$'\x3c'b$'\x3e'"
    assert shell("ü") == "'ü'"
