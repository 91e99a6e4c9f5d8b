"""What a file says is copied once into exact containers, or refused in one line."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Any

import pytest
import torch
from hostile import hide, wind

from figureground.core.errors import CheckpointError
from figureground.core.plain import copy_containers, copy_options, strip_attributes, summarize


def test_options_become_exact_dicts_lists_and_scalars() -> None:
    given = OrderedDict(
        {"a": (1, 2.5), "b": {"_target_": "x", "_partial_": True}, "c": [None, "t"]}
    )
    copied = copy_options(given, "options")
    assert copied == {"a": [1, 2.5], "b": {"_target_": "x", "_partial_": True}, "c": [None, "t"]}
    assert type(copied) is dict
    assert copied["b"] is not given["b"]


def test_what_hides_itself_is_copied_whole() -> None:
    hidden = hide({"x": hide({"_target_": "os.system"})})
    assert list(hidden.items()) != [("x", hidden["x"])]
    assert copy_options(hidden, "options") == {"x": {"_target_": "os.system"}}
    strip_attributes(hidden)
    assert list(hidden.items()) == [("x", hidden["x"])]


@pytest.mark.parametrize(
    ("value", "fragment"),
    [
        ({"a": "x${oc.env:HOME}"}, "options.a is the reference 'x${oc.env:HOME}'"),
        ({"${a}": 1}, "options has the key '${a}'"),
        ({"a": "???"}, "options.a is the reference"),
        ({"a": {"_args_": []}}, "options.a._args_ has a meaning of its own"),
        ({"_convert_": "all"}, "options._convert_ has"),
        ({"_recursive_": False}, "options._recursive_ has"),
        ({"__class__": 1}, "options.__class__ has"),
        ({1: 2}, "options has a key of type int"),
        ({"a\nb": 1}, r"options has the key 'a\nb'"),
        ({"a": 2**63}, "options.a is a number beyond 64 bits"),
        ({"a": "\ud800"}, "options.a is no text that could be written"),
        ({"a": "x" * 5000}, "options.a is a text of 5000 characters"),
        ({"a": torch.zeros(1)}, "options.a is of type Tensor"),
        ({"a": Counter("ab")["a"] and {1}}, "options.a is of type set"),
        (dict.fromkeys(map(str, range(300))), "options has 300 keys"),
        ({"a": wind("x", 40)}, "is nested deeper than 32 levels"),
        ({"a": wind("x", 20)}, "is one of more than 10000 values"),
        ({"a": wind("x", 1)}, "or holds itself"),
    ],
)
def test_all_else_is_refused_by_its_place(value: Any, fragment: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        copy_options(value, "options")
    assert fragment in str(caught.value)
    assert str(caught.value).endswith("which is not allowed in a file; nothing was run")
    assert str(caught.value).isprintable()


def test_containers_of_tensors_keep_their_values_and_lose_attributes() -> None:
    tensor = torch.nn.Parameter(torch.arange(3.0))
    vars(tensor)["detach"] = tuple
    copied = copy_containers(hide({"a": (tensor, [1]), "b": Counter("aab")}), "the checkpoint")
    assert type(copied) is dict
    assert torch.equal(copied["a"][0], torch.arange(3.0))
    assert vars(copied["a"][0]) == {}
    assert copied["a"][1] == [1]
    assert copied["b"] == Counter(a=2, b=1)
    with pytest.raises(CheckpointError, match=r"checkpoint\.x is of type function"):
        copy_containers({"x": summarize}, "the checkpoint")
    with pytest.raises(CheckpointError, match="holds itself"):
        copy_containers({"x": wind(1, 1)}, "the checkpoint")


def test_messages_are_one_short_line() -> None:
    assert summarize("a\n  b\x1b[2J") == "a b\\x1b[2J"
    assert len(summarize("x" * 10_000)) == 500
