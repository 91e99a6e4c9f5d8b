"""Stored configurations that would run, read or hide something if they were resolved."""

from __future__ import annotations

import copy
from collections import Counter, OrderedDict
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

#: Names of what must never be resolved: ours and others', classes and functions.
TARGETS = [
    "canary.touch", "canary.Thing", "canary.CALLS.append", "os.system", "os.mkdir",
    "builtins.eval", "builtins.exec", "builtins.open", "subprocess.Popen",
    "importlib.import_module", "socket.socket", "functools.partial", "pickle.loads",
    "torch.load", "torch.hub.load", "torch.jit.load", "torch.utils.collect_env.run",
    "torch.nn.functional.relu", "torch.nn.init.os.system",
    "torch.nn.modules.module.register_module_forward_hook", "torch.optim.lr_scheduler.partial",
    "torch.optim.Optimizer", "torch.nn.Linear", "hydra.utils.instantiate",
    "omegaconf.OmegaConf.load", "figureground.core.io.os.system",
    "figureground.core.io.shutil.rmtree", "figureground.cli.main",
    "figureground.core.io.RunLock", "figureground.core.config.build",
    "figureground.__main__.main", "figureground.methods.redo.module.torch.hub.load",
    "figureground.methods.redo.module.partial",
    "figureground.methods.redo.convert.convert_checkpoint",
    "figureground.methods.redo.ReDO.load", "figureground.methods.redo.ReDO",
    "figureground.nn.paths.Path", "figureground.nn.unet.UNet",
    "figureground.metrics.segmentation.SegmentationScores",
    "figureground.metrics.features.load",
    "figureground.generators.checkpoint.CheckpointGenerator",
    "figureground.callbacks.loggers.wandb", "figureground.generators.loading.load_generator",
    "figureground..methods", ".canary", "canary",
]  # fmt: skip
#: Texts that a configuration library or a shell would do something with.
TEXTS = [
    "${oc.create:{_target_:canary.touch}}", "${oc.create:{x:{_target_:canary.touch,y:1}}}",
    "${oc.env:FG_CANARY}", "a${oc.env:FG_CANARY}b", "${oc.decode:${oc.env:FG_CANARY}}", "${x}",
    "${", "${up_to:1,{2:3}}", "${batches:1,2}", "${hydra:runtime.cwd}", "???", "canary:touch",
    "/dev/null", "../../x", "\x1b[2J", "a\nb", "a\0b", "\ud800", "$(touch x)", "x" * 5000,
    "!!python/object/apply:canary.touch", "{{canary}}", "__import__('canary').touch()",
]  # fmt: skip
#: Keys with a meaning of their own, to a configuration library or to Python.
KEYS = [
    "_target_", "_args_", "_partial_", "_convert_", "_recursive_", "_mode_", "__class__",
    "__init__", "self", "cls", "metrics", "optimizer", "generator", "mask_optimizer", "params",
    "weights", "ckpt", "${oc.env:FG_CANARY}", "a.b", "", "x", "resolution", "x" * 300, "a\nb",
    3, None, b"_target_",
]  # fmt: skip


def hide(mapping: dict[Any, Any]) -> OrderedDict[Any, Any]:
    """A mapping whose pickled state has replaced what shows its content."""
    hiding = OrderedDict(mapping)
    for name in ("items", "get", "keys", "values", "copy", "__iter__"):
        vars(hiding)[name] = tuple
    return hiding


def wind(value: Any, times: int) -> list[Any]:
    """A list that holds itself and, many times over, the same list."""
    wound: list[Any] = [value]
    for _ in range(times):
        wound = [wound, wound]
    if times == 1:
        wound.append(wound)
    return wound


_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(),
    st.sampled_from([10**9, -1, 2**70, 1e300]), st.sampled_from(TEXTS),
    st.sampled_from(TARGETS), st.text(max_size=8), st.binary(max_size=3),
)  # fmt: skip
_KEYS = st.one_of(st.sampled_from(KEYS), st.text(max_size=6))


def _nodes(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mappings with a class or function to call, and with everything that could go along."""
    return st.builds(
        lambda target, more, order: (
            {**more, "_target_": target} if order else {"_target_": target, **more}
        ),
        st.one_of(st.sampled_from(TARGETS), st.sampled_from(TEXTS), _SCALARS),
        st.dictionaries(_KEYS, inner, max_size=3),
        st.booleans(),
    )


TREES: st.SearchStrategy[Any] = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        _nodes(inner),
        _nodes(inner).map(hide),
        st.dictionaries(_KEYS, inner, max_size=3),
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.sampled_from([1, 40]).flatmap(lambda times: inner.map(lambda each: wind(each, times))),
        st.just(Counter("ab")),
        st.frozensets(st.integers(), max_size=2),
    ),
    max_leaves=6,
)


def places(tree: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to everything in a plain tree, itself first."""
    yield at
    if isinstance(tree, dict | list):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from places(value, (*at, key))


def replaced(tree: Any, at: tuple[Any, ...], value: Any) -> Any:
    """Copy of a tree with something else at a place."""
    if not at:
        return value
    changed = copy.copy(tree)
    changed[at[0]] = replaced(tree[at[0]], at[1:], value)
    return changed


@st.composite
def configurations(draw: st.DrawFn, stored: list[dict[str, Any]]) -> Any:
    """A stored configuration with hostile trees put in, or nothing but such a tree."""
    node = stored[draw(st.integers(0, len(stored) - 1))]
    where = list(places(node))
    node = replaced(node, where[draw(st.integers(0, len(where) - 1))], draw(TREES))
    if isinstance(node, dict) and draw(st.booleans()):
        dict.__setitem__(node, draw(_KEYS), draw(TREES))
    return node


#: Entries of lists that lead elsewhere, or that no file can be called.
NAMES = [
    "../../../etc/passwd", "/etc/passwd", "..", ".", "/", "\\", "C:\\x", "x/../../y", "~/x", "-1",
    "./x", "x" * 300, "x/" * 100, "\u202ex", "CON", "nan", "1e999", "٣", "²", "0", "1" * 5000,
]  # fmt: skip
ENTRIES = st.one_of(
    st.sampled_from(NAMES), st.sampled_from(TEXTS), st.sampled_from(TARGETS), st.text(max_size=8)
)
_DEEPEST = 8  # Of what becomes JSON, which can neither share nor hold itself.


@st.composite
def spoiled(draw: st.DrawFn, honest: Any, trees: st.SearchStrategy[Any] = TREES) -> Any:
    """What an honest file holds, with hostile trees at one to three places, or added to it.

    Each step down chooses among the children, so that few options are met as often as many weights.
    """
    for _ in range(draw(st.integers(1, 3))):
        at, here = [], honest
        while type(here) in {dict, list} and here and draw(st.integers(0, 4)):
            key = draw(st.sampled_from(list(here if type(here) is dict else range(len(here)))))
            at, here = [*at, key], here[key]
        value = draw(trees)
        if type(here) is dict and draw(st.booleans()):
            value = {**here, draw(_KEYS): value}
        honest = replaced(honest, tuple(at), value)
    return honest


def as_json(tree: Any, depth: int = 0) -> Any:
    """The nearest to a tree that JSON can hold."""
    if depth > _DEEPEST:
        return None
    if isinstance(tree, dict):
        return {_as_key(k): as_json(v, depth + 1) for k, v in dict.items(tree)}
    if isinstance(tree, list | tuple | frozenset):
        return [as_json(each, depth + 1) for each in tree]
    return tree if tree is None or isinstance(tree, str | int | float) else repr(tree)


def _as_key(key: Any) -> str:
    return key if isinstance(key, str) else repr(key)


@st.composite
def lines(draw: st.DrawFn, text: str) -> bytes:
    """A list, of text, with hostile words or lines put in the place of others or between them."""
    rows = [line.split() for line in text.splitlines()]
    for _ in range(draw(st.integers(1, 3))):
        row = rows[draw(st.integers(0, len(rows) - 1))]
        place = draw(st.integers(0, len(row)))
        row[place : place + draw(st.integers(0, 2))] = [draw(ENTRIES)]
    return "\n".join(map(" ".join, rows)).encode("utf-8", "surrogatepass")


@st.composite
def listings(draw: st.DrawFn, honest: list[str]) -> list[Any]:
    """Entries of an array, with hostile texts, or else anything hostile, among them."""
    found: list[Any] = list(honest)
    hostile = ENTRIES if draw(st.booleans()) else _SCALARS
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(found)))
        found[place : place + draw(st.integers(0, 2))] = [draw(hostile)]
    return found
