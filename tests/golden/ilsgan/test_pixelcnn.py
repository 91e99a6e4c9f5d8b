"""The conditional PixelCNN++ and its likelihoods, against the authors' code."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from figureground.methods.ilsgan.mixtures import color_log_likelihood, mixture_log_likelihood
from figureground.methods.ilsgan.pixelcnn import PixelDensity
from weights import fill_by_sines

Golden = Callable[[str], Path]

_STREAMS = {"above": "u", "before": "ul"}
_PARTS = {
    "conv_in.conv": "conv_input.conv", "conv_out.conv": "conv_out.conv", "side": "nin_skip.lin_a",
    "condition": "hw",
}  # fmt: skip
_LAST = {"direction": "weight_v", "gain": "weight_g"}


def their_name(key: str) -> str:
    """The authors' name of one of our weights."""
    if key.startswith("encoder."):
        return key.replace("encoder.", "extractor.")
    if key.startswith("to_condition."):
        return key.replace("to_condition.", "to_h.")
    stem, _, last = key.rpartition(".")
    last = _LAST.get(last, last)
    if found := re.fullmatch(r"(down|up)\.(\d)\.(above|before)\.(\d)\.(.+)", stem):
        # They name ways by what they do to depth: ours down is their up.
        way = "up" if found[1] == "down" else "down"
        part, stream = _PARTS[found[5]], _STREAMS[found[3]]
        return f"{way}_layers.{found[2]}.{stream}_stream.{found[4]}.{part}.{last}"
    if found := re.fullmatch(r"(shrink|enlarge)\.(\d)\.(above|before)\.conv", stem):
        way, kind = ("downsize", "conv") if found[1] == "shrink" else ("upsize", "deconv")
        return f"{way}_{_STREAMS[found[3]]}_stream.{found[2]}.{kind}.{last}"
    rest = {
        "first_above.conv": "u_init.conv", "first_row.conv": "ul_init.0.conv",
        "first_before.conv": "ul_init.1.conv", "head": "nin_out.lin_a",
    }  # fmt: skip
    return f"{rest[stem]}.{last}"


def test_names_and_sizes_are_the_published_ones(golden: Golden) -> None:
    stored = json.loads((golden("ilsgan") / "scalars_eval.json").read_text())
    with torch.device("meta"):
        network = PixelDensity()
    assert sum(p.numel() for p in network.parameters()) == stored["pixelcnn_full_params"]
    theirs = {their_name(key) for key in network.state_dict()}
    assert theirs >= set(stored["pixelcnn_keys_example"])
    assert len(theirs) == len(network.state_dict())


@torch.no_grad()
def test_parameters_of_pixels_match(golden: Golden) -> None:
    tensors = load_file(golden("ilsgan") / "eval_nets.safetensors")
    network = PixelDensity(8, num_blocks=1, condition_width=12).eval()
    fill_by_sines(network, {their_name(key): key for key in network.state_dict()})
    found = network(tensors["pixelcnn.x"], network.describe(tensors["pixelcnn.cond"]))
    assert_close(found, tensors["pixelcnn.out"], rtol=1e-4, atol=2e-5)


def test_likelihoods_match(golden: Golden) -> None:
    tensors = load_file(golden("ilsgan") / "losses.safetensors")
    x, parameters = tensors["dml.x"], tensors["dml.l"]
    apart = color_log_likelihood(x, parameters)
    assert_close(apart, tensors["dml.sample_log_prob"], rtol=1e-5, atol=1e-3)
    expected = json.loads((golden("ilsgan") / "scalars.json").read_text())["losses"]["dml.loss"]
    assert_close(-mixture_log_likelihood(x, parameters).sum(), torch.tensor(expected), rtol=1e-5,
                 atol=0)  # fmt: skip
