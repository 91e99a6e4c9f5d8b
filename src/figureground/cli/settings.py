"""Top-level options of each command, with their types and ranges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from figureground.core.bounds import Bounds, Count, Fraction, PositiveInt
from figureground.core.edits import find_problems

Code = Literal["z", "c", "b"]
Seed = Annotated[int, Bounds(0, 2**32 - 1)]


@dataclass
class Settings:
    """What every command has."""

    task: str = ""
    name: str = ""
    seed: Seed = 0
    tags: Sequence[str] = ()
    paths: Mapping[str, Any] = field(default_factory=dict)
    #: Free for the user: whatever is below is carried along and not checked.
    extra: Mapping[str, Any] = field(default_factory=dict)
    overwrite: bool = False


@dataclass
class TrainSettings(Settings):
    """Options of `train`."""

    method: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    generator: Mapping[str, Any] | None = None
    pairs: Mapping[str, Any] | None = None
    trainer: Mapping[str, Any] = field(default_factory=dict)
    logger: Mapping[str, Any] | None = None
    callbacks: Mapping[str, Any] | None = None
    experiment: Mapping[str, Any] | None = None
    sweep: Mapping[str, Any] | None = None
    debug: Mapping[str, Any] | None = None
    deterministic: bool = False
    iterations: PositiveInt = 1
    objective: str | None = None
    ckpt: str | None = None
    init: str | None = None
    compile: bool = False
    channels_last: bool = False
    test: bool = True
    resume: Mapping[Literal["force"], bool] = field(default_factory=dict)

    @staticmethod
    def check_options(*, ckpt: str | None, init: str | None = None, **_: object) -> list[str]:
        """Check that one file says what a new run starts from; `ckpt=last` goes on with one."""
        if init is None or ckpt in {None, "last"}:
            return []
        return [
            f"ckpt={ckpt} and init={init} both say what to start from; leave out init to go on "
            "with everything in that checkpoint, or ckpt to start anew from weights alone"
        ]


@dataclass
class EvaluateSettings(Settings):
    """Options of `evaluate`."""

    ckpt: str | Sequence[str] = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    trainer: Mapping[str, Any] = field(default_factory=dict)
    split: Literal["val", "test"] = "test"
    metrics: Mapping[str, Mapping[str, Any]] | None = None
    ensemble: bool = False
    refine: Literal["none", "bilateral"] | None = None

    @staticmethod
    def check_options(
        *, ckpt: str | Sequence[str], ensemble: bool = False,
        metrics: Mapping[str, Mapping[str, Any]] | None = None, **_: object,
    ) -> list[str]:  # fmt: skip
        """An ensemble needs members, and segments."""
        if not ensemble:
            return []
        if isinstance(ckpt, str) or len(ckpt) < 2:
            return ["ensemble=true takes two checkpoints or more: ckpt=[a.ckpt,b.ckpt]"]
        if any("_target_" in (options or {}) for options in (metrics or {}).values()):
            return ["ensemble=true scores masks; leave out metrics=..."]
        return []


@dataclass
class PredictSettings(Settings):
    """Options of `predict`."""

    ckpt: str = ""
    input: str | Sequence[str] = ""
    output: str = ""
    batch_size: PositiveInt = 1
    device: str = "auto"
    layers: bool = True
    objects: bool = True
    refine: Literal["none", "bilateral"] | None = None
    steps: Count = 0
    distance: Literal["pixels", "features"] = "pixels"
    efficientnet: str | None = None
    on_error: Literal["raise", "skip"] = "raise"


def _find_shard_problems(
    form: str, layers: bool, rounding: str, resolution: int | None
) -> list[str]:
    """Refuse options of shards that would change nothing in what is written."""
    if resolution is not None and (layers or form == "png"):
        return [
            f"resolution={resolution} shrinks pictures and masks of shards, not layers; add "
            "format=shards layers=false, or leave it out"
        ]
    if form == "png" and (not layers or rounding != "nearest"):
        return ["layers=false and rounding=down are of shards; add format=shards or leave them out"]
    return []


@dataclass
class GenerateSettings(Settings):
    """Options of `generate`."""

    ckpt: str | None = None
    generator: Mapping[str, Any] | None = None
    output: str = ""
    count: Count = 0
    top: PositiveInt | None = None
    input: str | Sequence[str] | None = None
    swap: Sequence[str] | None = None
    columns: PositiveInt = 1
    explore: Sequence[Literal["walk", "interpolation", "truncation", "mixing"]] = ()
    vary: Code | None = None
    fixed: Sequence[Code] | None = None
    transfer: str | Sequence[str] | None = None
    categories: Sequence[PositiveInt] = ()
    backgrounds: Sequence[PositiveInt] = ()
    rows: PositiveInt = 1
    frames: Annotated[int, Bounds(2, 10_000)] = 2
    format: Literal["png", "shards"] = "png"
    shard_size: PositiveInt = 1
    layers: bool = True
    rounding: Literal["nearest", "down"] = "nearest"
    resolution: PositiveInt | None = None
    truncation: Fraction | None = None
    noise: Literal["const", "random", "none"] = "const"
    device: str = "auto"
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"

    @staticmethod
    def check_options(
        *, ckpt: str | None, generator: object = None, input: object, swap: object, format: str,  # noqa: A002 - names of options
        truncation: object = None, noise: str = "const", count: int = 0, top: int | None = None,
        vary: str | None = None, fixed: Sequence[str] | None = None, transfer: object = None,
        layers: bool = True, rounding: str = "nearest", resolution: int | None = None,
        categories: Sequence[int] = (), backgrounds: Sequence[int] = (), **_: object,
    ) -> list[str]:  # fmt: skip
        """Check what draws, and that it can."""
        if top is not None and top > count:
            return [
                f"top={top} keeps the best of the count={count} samples that are drawn; draw more, "
                f"such as count={5 * top}, or leave out top"
            ]
        if top is not None and format != "png":
            return [
                "top=... keeps single files; leave out format=shards (pairs=saved reads both kinds)"
            ]
        if problems := _find_shard_problems(format, layers, rounding, resolution):
            return problems
        if problems := _find_code_problems(vary, fixed, transfer, categories, backgrounds):
            return problems
        if generator is None:
            return [] if ckpt else ["ckpt is not set; add ckpt=... or generator=..."]
        if ckpt:
            return ["ckpt and generator are both set; one of them draws, leave the other out"]
        if truncation is not None or noise != "const":
            return [
                "truncation and noise are those of a checkpoint's samples; with generator=... use "
                "generator.truncation=..."
            ]
        named = {"input": input, "swap": swap, "vary": vary, "transfer": transfer, "top": top}
        return _beyond_pictures(named, format)


def _find_code_problems(
    vary: str | None, fixed: Sequence[str] | None, transfer: object,
    categories: Sequence[int], backgrounds: Sequence[int],
) -> list[str]:  # fmt: skip
    """Refuse codes that contradict one another, or that nothing asked for would be drawn of."""
    if vary is not None and vary in (fixed or ()):
        return [f"vary={vary} and fixed={list(fixed or ())} want {vary} to change and to stay"]
    if fixed is not None and vary is None:
        return ["fixed=... says what stays while another code changes; add vary=c, or z or b"]
    if categories and vary is None:
        return [
            f"categories={list(categories)} chooses among those of vary=...; add vary=c, or leave "
            "it out"
        ]
    if not backgrounds or transfer is not None:
        return []
    if vary is None:
        return [
            f"backgrounds={list(backgrounds)} chooses among those of vary=... and transfer=...; "
            "add vary=b, or leave it out"
        ]
    if vary != "b" and "b" not in (fixed if fixed is not None else "b"):
        return [
            f"backgrounds={list(backgrounds)}, but those that are not fixed go with their "
            f"categories; add b to fixed={list(fixed or ())}, or leave it out"
        ]
    return []


def _beyond_pictures(named: Mapping[str, object], form: str) -> list[str]:
    """Refuse what a generator, which only paints pictures, cannot do."""
    if form != "png":
        return [
            "format=shards writes pairs, and pictures of a generator have no masks; search "
            "directions first: train method=gan_segmenter generator=..., then generate ckpt=..."
        ]
    if given := [name for name, value in named.items() if value is not None]:
        return [
            "generator takes count=... and explore=[...] only: its pictures have no layers and "
            f"no critic; leave out {', '.join(given)}"
        ]
    return []


@dataclass
class EditSettings(Settings):
    """Options of `edit`."""

    ckpt: str = ""
    input: str | Sequence[str] = ""
    edits: str | Sequence[Mapping[str, Any]] = ()
    output: str = ""
    device: str = "auto"

    @staticmethod
    def check_options(*, edits: str | Sequence[Mapping[str, Any]], **_: object) -> list[str]:
        """Check edits that stand on the command line."""
        return [] if isinstance(edits, str) else find_problems(edits)


@dataclass
class DemoSettings(Settings):
    """Options of `demo`."""

    ckpt: str = ""
    host: str = "127.0.0.1"
    port: Annotated[int, Bounds(1, 65535)] = 7860
    device: str = "auto"


@dataclass
class ConvertSettings(Settings):
    """Options of `convert`."""

    method: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    generator: Mapping[str, Any] | None = None
    pairs: Mapping[str, Any] | None = None
    trainer: Mapping[str, Any] = field(default_factory=dict)
    callbacks: Mapping[str, Any] | None = None
    iterations: PositiveInt = 1
    objective: str | None = None
    channels_last: bool = False
    weights: str = ""
    output: str | None = None
    i_trust_this_file: bool = False


@dataclass
class PrepareSettings(Settings):
    """Options of `prepare`."""

    data: Mapping[str, Any] = field(default_factory=dict)
    on_error: Literal["raise", "skip"] = "raise"
    source: Literal["generate"] | None = None
    count: PositiveInt | None = None


@dataclass
class ReproduceSettings(Settings):
    """Options of `reproduce`."""

    name: str | None = None  # type: ignore[assignment]  # Without an experiment there is none.
    steps: Mapping[str, Any] = field(default_factory=dict)
    #: Values that steps refer to.
    chain: Mapping[str, Any] = field(default_factory=dict)
    redo: str | None = None
    snapshots: Mapping[Literal["folder", "every", "up_to"], Any] | None = None
    curves: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def check_options(
        *, steps: Mapping[str, Any], snapshots: Mapping[str, Any] | None = None,
        curves: Mapping[str, Any], paths: Mapping[str, Any],
        chain: Mapping[str, Any] | None = None, **_: object,
    ) -> list[str]:  # fmt: skip
        """Check the steps by themselves, then as each one's command would."""
        from figureground.cli import plans

        return plans.find_problems(steps, snapshots, curves, paths, chain)


SETTINGS: dict[str, type[Settings]] = {
    "train": TrainSettings,
    "evaluate": EvaluateSettings,
    "predict": PredictSettings,
    "generate": GenerateSettings,
    "edit": EditSettings,
    "demo": DemoSettings,
    "convert": ConvertSettings,
    "prepare": PrepareSettings,
    "reproduce": ReproduceSettings,
}
