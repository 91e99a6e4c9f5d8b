"""No reader of files runs, writes or imports what is in them (F51, F65)."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from audit import audited
from crafted import HOSTILE, Payload, write_legacy_program, write_program
from hostile import hide
from safetensors.torch import save_file
from scipy.io import savemat

from faults import METHODS, build_tiny
from figureground import load_generator
from figureground.cli import records, references, train
from figureground.core.checkpoint import VerifiedCheckpointIO, load_method, read_checkpoint
from figureground.core.edits import find_problems
from figureground.core.errors import FiguregroundError
from figureground.core.manifest import find_damage
from figureground.data import cache, splits
from figureground.data.matlab import read_matlab, read_numbers
from figureground.data.pairs import LivePairs, open_pairs
from figureground.data.shard_manifest import MANIFEST, read_manifest
from figureground.data.taught import TaughtPairs
from figureground.generators.weights import families, read_weights
from figureground.methods.gan_segmenter.latents import LatentSource
from figureground.metrics import features, pixel_features

_Read = Callable[[Path], object]
_CONVERTERS = ("dti_sprites", "gan_segmenter", "ilsgan", "l2ic", "redo", "segmenter")
_NODE = {"_target_": "canary.touch", "_args_": ["${oc.create:{_target_:canary.touch}}"]}


def _start(path: Path) -> object:
    """What `init=` does."""
    return train._start_from(build_tiny("redo")[0], str(path))


def _read_beside(read: _Read, name: str, path: Path) -> object:
    """Read a folder in which the file has the name that is looked for."""
    folder = path.parent / "folder"
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(path.read_bytes())
    return read(folder)


def _read_cache(folder: Path) -> object:
    return cache._open(folder, build_tiny("redo")[1].datasets["train"], 32)


def _read_edits(path: Path) -> object:
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None
    return find_problems(content if isinstance(content, list) else [content])


READERS: dict[str, _Read] = {
    "read_checkpoint": read_checkpoint,
    "load_method": load_method,
    "resume": VerifiedCheckpointIO(resumes=True).load_checkpoint,
    "init": _start,
    "damage": find_damage,
    "load_generator": load_generator,
    "live pairs": lambda path: LivePairs(str(path)),
    "taught pairs": lambda path: TaughtPairs(str(path), device="cpu"),
    "features": lambda path: features.read_weights(str(path)),
    "pixel features": lambda path: pixel_features.load_features(str(path)),
    "latents": lambda path: LatentSource(str(path)),
    "pairs": partial(_read_beside, partial(open_pairs, verify=True), MANIFEST),
    "list of pairs": partial(_read_beside, read_manifest, MANIFEST),
    "cache": partial(_read_beside, _read_cache, "images.npy"),
    "header of a cache": partial(_read_beside, _read_cache, "header.json"),
    "matlab": lambda path: read_matlab(path, "list", "the page"),
    "numbers": lambda path: read_numbers(path, "list", "the page"),
    "split": splits.read_pairs,
    "classes": splits.read_classes,
    "record": partial(_read_beside, records.Record.read, records.RECORD),
    "scores": records.read_scores,
    "scored": references._read_scored,
    "edits": _read_edits,
    **{
        f"convert {name}": import_module(f"figureground.methods.{name}.convert").convert_checkpoint
        for name in _CONVERTERS
    },
    **{f"weights {family.__name__}": partial(read_weights, family) for family in families()},
}


def _save(content: Any, path: Path, made: Path, *, new: bool = True) -> None:
    del made
    torch.save(content, path, _use_new_zipfile_serialization=new)


def _save_payload(path: Path, made: Path, *, new: bool) -> None:
    spoiled = {"state_dict": {"x": torch.zeros(2)}, "figureground": {}, "model_kwargs": {}}
    _save({**spoiled, "model_state": Payload(made), "payload": Payload(made)}, path, made, new=new)


def _save_header(path: Path, made: Path) -> None:
    facts = {
        "format": 1,
        "family": "dcgan.DCGAN",
        "options": _NODE,
        "sha256": "",
        "made": str(made),
    }
    save_file({"x": torch.zeros(1)}, path, {"figureground_generator": json.dumps(facts)})


def _save_array(path: Path, made: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.array([Payload(made)], object), allow_pickle=True)


def _save_matlab(path: Path, made: Path) -> None:
    savemat(path, {"list": np.array(["${oc.create:x}", "../../x", str(made)], object)})


def _save_zip(path: Path, made: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w/code/__torch__.py", f"import os; os.mkdir({str(made)!r})")
        archive.writestr("../escaped.py", "x")


def _write_text(text: str, path: Path, made: Path) -> None:
    path.write_text(text.replace("MADE", str(made)), "utf-8")


_SECTION = {"format": 1, "version": "0", "restarts": [], "skipped": {}}
_STORED = {"state_dict": {}, "figureground": {**_SECTION, "method": _NODE}}
_KWARGS = {"n_sprites": 2, "transformation_sequence": _NODE["_args_"][0], "use_clamp": _NODE}

FILES: dict[str, Callable[[Path, Path], object]] = {
    **{
        f"{name} {place.__name__}": lambda path, made, make=make, place=place: place(
            path, make(made)
        )
        for name, make in HOSTILE.items()
        for place in (Path.write_bytes, write_program, write_legacy_program)
    },
    "payload": partial(_save_payload, new=True),
    "old payload": partial(_save_payload, new=False),
    "node": partial(_save, _STORED),
    "hidden": partial(_save, hide(_STORED)),
    "hidden state": partial(_save, {"netEncM": hide({"x": torch.zeros(1)}), "model": hide({})}),
    "options": partial(_save, {"model_kwargs": _KWARGS, "model_state": {}}),
    "odd options": partial(_save, {"model_kwargs": {"n_sprites": []}, "model_state": {"x": 3}}),
    "odd networks": partial(
        _save, {"G": 3, "netG": [1], "G_ema": {"state": 3}, "generator": {1: 2}}
    ),
    "header": _save_header,
    "array": _save_array,
    "matlab": _save_matlab,
    "program": _save_zip,
    "json": partial(_write_text, json.dumps([{"do": "move", "layer": 1, **_NODE}])),
    "odd json": partial(_write_text, json.dumps([{"do": ["move"], **_NODE}])),
    "record": partial(_write_text, json.dumps({"ckpt": ["${oc.env:FG_CANARY}"], "runs": [{}]})),
    "deep": partial(_write_text, "[" * 100_000),
    "list": partial(_write_text, "../../etc/passwd 1\n/MADE ${oc.env:FG_CANARY}\n"),
    "python": partial(_write_text, "!!python/object/apply:os.mkdir ['MADE']"),
}


#: Tried with every change; the others take some seconds each.
_QUICK = ("load_method", "load_generator", "record", "edits", "convert dti_sprites")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in _QUICK else [pytest.mark.slow]) for name in READERS],
)
def test_f51_f65_no_reader_runs_what_is_in_a_file(name: str, tmp_path: Path) -> None:
    read, path, made = READERS[name], tmp_path / "crafted", tmp_path / "made"
    path.write_bytes(b"x")
    with pytest.MonkeyPatch.context() as patch:  # A first time without looking, for imports.
        patch.chdir(tmp_path)
        _attempt(read, path)
        for kind, write in FILES.items():
            write(path, made)
            with audited(allowed=tmp_path / "folder"):
                _attempt(read, path)
            assert not made.exists(), kind
            assert not list(tmp_path.rglob("escaped*")), kind


def _attempt(read: _Read, path: Path) -> None:
    """Read; whatever is wrong is said in one line."""
    try:
        read(path)
    except FiguregroundError as error:
        problem = str(error)
        if error.exit_code not in {2, 3} or "\n" in problem:
            raise AssertionError(problem) from error


@pytest.mark.parametrize("method", METHODS)
def test_f65_checkpoint_of_every_method_is_loaded_without_running_anything(
    tmp_path: Path, method: str
) -> None:
    built = build_tiny(method)[0]
    content: dict[str, Any] = {"state_dict": built.state_dict()}
    built.on_save_checkpoint(content)
    path = tmp_path / "last.ckpt"
    torch.save(content, path)
    load_method(path)
    with audited():
        loaded = load_method(path)
    assert type(loaded) is type(built)
    assert loaded.origin["method"] == built.origin["method"]
    assert all(torch.equal(v, loaded.state_dict()[k]) for k, v in built.state_dict().items())
