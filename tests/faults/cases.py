"""Every reader of files with what is to be put before it: drawn contents and a way to read them.

Where files of others cannot get past unpickling anyway, they are not written: `torch.load` then
gives the drawn content itself, and everything behind it is real.
"""

from __future__ import annotations

import json
import pickle
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import honest
import torch
import torchvision
from hostile import as_json, spoiled
from hypothesis import strategies as st
from safetensors.torch import save_file
from tiny import Run

from containers import SMALL, write_own
from faults import build_tiny
from figureground import load_generator
from figureground.callbacks.image_grid import ImageGrid
from figureground.callbacks.resume_check import ResumeCheck
from figureground.callbacks.run_card import RunCard
from figureground.cli import edit, records, references, train
from figureground.cli.convert import _read_options as read_options
from figureground.core import checkpoint as checkpoints
from figureground.core.checkpoint import VerifiedCheckpointIO
from figureground.data import arrays, cache, index
from figureground.data.pairs import open_pairs
from figureground.data.shard_manifest import MANIFEST, read_rates
from figureground.data.shards import ShardWriter
from figureground.generators.weights import read_weights
from figureground.metrics import features, pixel_features

_Read = Callable[[Path], object]
_CONVERTERS = ("dti_sprites", "gan_segmenter", "ilsgan", "l2ic", "redo", "segmenter")


@dataclass(frozen=True)
class Case:
    """One reader.

    Attributes:
        hostile: Draws what a file holds.
        honest: The same without anything hostile, which is read without a complaint.
        read: Reads it, from a file or not.
        write: Puts it into a file before; this is not looked at.
        count: Examples of the slow test.
    """

    hostile: st.SearchStrategy[Any]
    honest: Any
    read: Callable[[Any], object]
    write: Callable[[Any], object] = lambda _: None
    count: int = 100


def unpickled(content: Any, read: _Read, path: Path, count: int = 150) -> Case:
    """Content that `torch.load` gives when `path` is read."""
    torch.save({"x": torch.zeros(1)}, path)

    def run(drawn: Any) -> None:
        with (
            mock.patch.object(torch, "load", return_value=drawn),
            mock.patch.object(checkpoints, "find_damage", return_value=None),
        ):
            read(path)

    return Case(spoiled(content), content, run, count=count)


def pickled(content: Any, read: _Read, path: Path, count: int = 30) -> Case:
    """Content of a pickle, read by the real reader of pickles."""

    def write(drawn: Any) -> None:
        path.write_bytes(pickle.dumps(drawn))

    return Case(spoiled(content), content, lambda _: read(path), write, count)


def in_json(content: Any, read: Callable[[], object], path: Path, count: int = 150) -> Case:
    """Content of a JSON file, which has its place among other files."""

    def write(drawn: Any) -> None:
        path.write_text(json.dumps(drawn), "utf-8")

    return Case(spoiled(content).map(as_json), content, lambda _: read(), write, count)


# -- checkpoints -----------------------------------------------------------------------------


def resumed(folder: Path) -> Case:
    """A run that goes on from a checkpoint, as `train ckpt=` lets it."""

    check = ResumeCheck()
    callbacks = (RunCard(str(folder)), ImageGrid(str(folder), every=100), check)
    run = Run(
        folder / "run", *callbacks, iterations=2, every=2, validate_every=2,
        plugins=[VerifiedCheckpointIO(resumes=True)],
    )  # fmt: skip
    with mock.patch.object(ImageGrid, "_write"):
        begun = torch.load(run.start().last, weights_only=True)
    connector = run.trainer._checkpoint_connector

    def restore(path: Path) -> None:
        # PyTorch opens the driver's library to count devices, whatever is in a file.
        counted = mock.patch.object(torch.cuda, "device_count", return_value=0)
        with counted, train._explained_restoring(str(path)):
            connector._restore_modules_and_callbacks(str(path), weights_only=True)
            connector.restore_training_state()
            check.on_train_start(run.trainer, run.method)

    return unpickled(begun, restore, folder / "last.ckpt")


def started(folder: Path, method: str) -> Case:
    """A run that starts from the weights of another."""
    built = build_tiny(method)[0]
    content = honest.checkpoint(method)
    return unpickled(
        content, lambda path: train._start_from(built, str(path)), folder / "init.ckpt", 200
    )


def converted(folder: Path, method: str) -> Case:
    """The authors' weights of a method, and the options that `convert` takes from them."""
    converter = import_module(f"figureground.methods.{method}.convert")

    def convert(path: Path) -> None:
        read_options(converter.convert_checkpoint(path), str(path))

    content = honest.authors_files()[method]
    if method == "ilsgan":
        return pickled(content, convert, folder / "snapshot.pkl")
    case = unpickled(content, convert, folder / "weights.pth")
    if method != "redo":
        return case
    return Case(case.hostile.map(_with_namespace), _with_namespace(content), case.read, count=150)


def _with_namespace(content: Any) -> Any:
    """ReDO's options are a stored namespace."""
    if type(content) is not dict or type(content.get("options")) is not dict:
        return content
    flags = Namespace()
    vars(flags).update(content["options"])
    return {**content, "options": flags}


# -- weights ---------------------------------------------------------------------------------


def released(folder: Path, family: str) -> Case:
    """A released file of a family of generators."""
    kind, name, content = honest.family_files()[family]
    make = pickled if name.endswith(".pkl") else unpickled
    return make(content, partial(read_weights, kind), folder / name, 25)


def owned(folder: Path, family: str) -> Case:
    """The header of a converted generator."""
    (kind,) = (each for each in SMALL if each.__name__ == family)
    path = write_own(kind, folder / "own.safetensors")
    state, header = honest.read_own(path)

    def write(drawn: Any) -> None:
        save_file(state, path, {honest.HEADER: json.dumps(drawn)})

    return Case(spoiled(header).map(as_json), header, lambda _: load_generator(path), write, 25)


def scored(folder: Path, name: str) -> Case:
    """Weights of networks that metrics use."""
    if name == "features":
        content: dict[str, Any] = {"conv1.weight": torch.ones(2), "fc.bias": torch.ones(2)}
        return unpickled(content, lambda p: features.read_weights(str(p)), folder / "x.pth")
    content = honest.checkpoint("mask_contrast")
    if name == "pixels":
        trunk = torchvision.models.resnet18().state_dict()
        content = {"state_dict": {f"module.encoder_q.{k}": v for k, v in trunk.items()}, "epoch": 3}
    return unpickled(content, lambda p: pixel_features.load_features(str(p)), folder / "x.pth", 15)


# -- JSON ------------------------------------------------------------------------------------


def paired(folder: Path) -> Case:
    """The list of written pairs."""
    ShardWriter(folder, checkpoint="c", seed=3, shard_size=4).write(honest.draw, 6)

    def read() -> None:
        read_rates(folder)
        reader = open_pairs(folder, verify=True)
        for part in ("image", "mask"):
            reader.read(0, part)

    content = json.loads((folder / MANIFEST).read_bytes())
    content["shards"][0]["accepted"] = {"all": [6, 4], "area": [6, 5]}
    return in_json(content, read, folder / MANIFEST)


def cached(folder: Path) -> Case:
    """The header of a cache; a damaged one is built anew."""
    dataset = build_tiny("redo")[1].datasets["train"]
    return in_json(
        cache._header(len(dataset), 32), lambda: cache._open(folder, dataset, 32),
        folder / "header.json",
    )  # fmt: skip


def indexed(folder: Path) -> Case:
    """What `prepare` has written about the files of a dataset."""
    path = index.index_path(folder, "x", "y")
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"files": {"a.png": {"size": 3, "mtime_ns": 4}}, "broken": {"b.png": "is cut short"}}
    return in_json(content, lambda: index.read_index([folder], "x", "y"), path)


def generated(folder: Path) -> Case:
    """What a generated set says of itself."""
    facts = {"seed": 3}
    arrays.write_arrays(folder / "set", honest.maps, facts, 2)
    path = folder / "set" / arrays.MANIFEST
    content = json.loads(path.read_bytes())
    return in_json(content, lambda: arrays.open_arrays(folder / "set"), path)


def recorded(folder: Path) -> Case:
    """The record of a step of `reproduce`, and scores."""
    content = {
        "step": "a", "command": "train", "options": ["x=1"], "inputs": {"a": "b"}, "run": "c",
        "seconds": 1.0, "scores": {"iou": {"mean": 0.5}, "pa": 0.5},
    }  # fmt: skip
    content["scores"] = {"iou": 0.5}

    def read() -> None:
        records.read_scores(folder / records.RECORD)
        records.Record.read(folder)

    return in_json(content, read, folder / records.RECORD)


def referenced(folder: Path) -> Case:
    """Scores of several checkpoints."""
    content = {"ckpt": ["a.ckpt", "b.ckpt"], "runs": [{"iou": 0.5}, {"iou": 0.25}]}
    path = folder / "metrics.json"
    return in_json(content, lambda: references._read_scored(path), path)


def edited(folder: Path) -> Case:
    """A list of edits."""
    content = [{"do": "remove", "layer": 1}, {"do": "move", "layer": 1, "x": 0.1}]
    path = folder / "edits.json"
    return in_json(content, lambda: edit._read(Namespace(edits=str(path))), path)


CASES: dict[str, Callable[[Path], Case]] = {
    "resume": resumed,
    "init": partial(started, method="redo"),
    **{f"convert {method}": partial(converted, method=method) for method in _CONVERTERS},
    **{f"released {kind.__name__}": partial(released, family=kind.__name__) for kind in SMALL},
    **{f"converted {kind.__name__}": partial(owned, family=kind.__name__) for kind in SMALL},
    **{
        f"{name} of metrics": partial(scored, name=name)
        for name in ("features", "pixels", "embedder")
    },
    "pairs": paired,
    "cache": cached,
    "index": indexed,
    "generated set": generated,
    "record": recorded,
    "scores": referenced,
    "edits": edited,
}
