"""Checks that run before Hydra creates anything, as a Hydra callback."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf, read_write

from figureground.cli import say_error
from figureground.cli.settings import SETTINGS
from figureground.core.config import flatten, require_valid, to_plain
from figureground.core.errors import (
    ConfigError,
    FiguregroundError,
    UserError,
    WriteError,
    exit_code_of,
)
from figureground.core.hints import nearest
from figureground.core.links import refuse_links
from figureground.core.peers import is_first_process
from figureground.core.presence import SMALL, read_text

RESOLVED = "config.json"  # The resolved options of a run, in its directory.

#: Options that may differ between a run and its continuation.
_MAY_DIFFER = (
    "iterations", "ckpt", "init", "logger", "paths", "callbacks", "tags", "test", "resume", "name",
    "extra", "objective", "overwrite", "task", "compile", "debug",
    "data.num_workers", "data.cache", "data.cache_dir", "data.fallback_cache_dir",
    "data.eval_batch_size", "data.on_error", "data.allow_unannotated", "data.train.root",
    "data.val.root", "data.test.root", "data.predict",
    "trainer.devices", "trainer.num_nodes", "trainer.enable_progress_bar", "trainer.accelerator",
    "trainer.limit_train_batches", "trainer.limit_val_batches", "trainer.log_every_n_steps",
    "trainer.strategy", "trainer.profiler",
)  # fmt: skip
#: Among these, the ones that change what a run learns or selects.
_MUST_AGREE = ("callbacks.checkpoints.monitor", "callbacks.checkpoints.mode", "callbacks.collapse")
#: Options that earlier versions did not have, with the values that mean what these did.
_LATER = {
    f"data.{part}masks._target_": "figureground.data.mask_rule.MaskRule"
    for part in ("", "train.", "val.", "test.")
} | {f"data.{split}.borders": "background" for split in ("train", "val", "test")}
_SHOWN = 8


class ConfigCheck(Callback):
    """Refuse a configuration before its run directory exists."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the one job of an ordinary run; a sweep's jobs check themselves."""
        # What `${hydra:...}` refers to is otherwise set later.
        HydraConfig.instance().set_config(config)
        with read_write(config.hydra.runtime):
            config.hydra.runtime.output_dir = str(Path(config.hydra.run.dir).absolute())
        HydraConfig.instance().set_config(config)
        with _leaving():
            check_job(config)
            _require_resumable(config)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Look for links where the jobs of a sweep go, before Hydra writes there."""
        HydraConfig.instance().set_config(config)
        with _leaving():
            refuse_links(str(config.hydra.sweep.dir), "hydra.sweep.dir")


@contextmanager
def _leaving() -> Iterator[None]:
    """End the process with what is wrong, as exceptions of callbacks are warnings to Hydra."""
    try:
        yield
    except FiguregroundError as error:
        say_error(error)
        sys.exit(exit_code_of(error))


def check_job(config: DictConfig) -> None:
    """Check one job: all options, then that its run directory is free for it.

    Raises:
        ConfigError: An option is wrong, or the directory holds another run.
        UserError: The directory holds links, or what comes with the data does for caches.
        WriteError: The directory cannot be made.
    """
    check_options(config)
    folders = {str(config.paths.output_dir)}
    runtime = HydraConfig.get().runtime if HydraConfig.initialized() else None
    if runtime is not None and not OmegaConf.is_missing(runtime, "output_dir"):
        folders.add(runtime.output_dir)  # It writes options and messages there.
    for folder in sorted(folders):
        refuse_links(folder)
    cache = Path(config.paths.get("data_dir") or "", ".cache")
    if Path(config.paths.get("cache_dir") or "") == cache and cache.is_symlink():
        raise UserError(
            f"{cache}, which may have come with the data, is a link, so no cache is written there; "
            f"remove it, or name the place itself: paths.cache_dir=..."
        )
    if config.task == "train" and is_first_process():
        check_run_directory(Path(config.paths.output_dir), to_plain(config))


def _require_resumable(config: DictConfig) -> None:
    """Raise `CheckpointError` if a run shall go on of which no checkpoint is whole."""
    if config.task != "train" or config.ckpt != "last":
        return
    from figureground.core.checkpoint import find_resumable
    from figureground.core.manifest import find_damage

    folder = Path(config.paths.output_dir) / "checkpoints"
    # The job names those that are damaged, if it can go on with another.
    if all(find_damage(path) for path in folder.glob("*.ckpt")):
        find_resumable(folder)


def check_options(config: DictConfig) -> None:
    """Check all options of one job, whatever is on the disk.

    Raises:
        ConfigError: An option is wrong.
    """
    _check_recipe()
    require_valid(config, SETTINGS[str(config.task)])
    if config.task != "train":
        return
    _check_snapshots(config)
    if config.get("pairs") is not None:
        _check_pairs(config)
    elif config.data.get("train") is None:
        raise ConfigError(
            f"data={config.data.name} is for evaluation alone and has no training pictures; train "
            "method=segmenter with pairs=saved or pairs=live, or on other data, and evaluate"
        )


def _check_recipe() -> None:
    """Refuse a recipe that was typed and is not there: Hydra leaves it out without a word."""
    composer = GlobalHydra.instance()
    if not composer.is_initialized() or not is_typed("recipe"):
        return
    typed = [each.lstrip("+") for each in HydraConfig.get().overrides.task]
    name = next(each for each in typed if each.startswith("recipe=")).partition("=")[2]
    known = composer.config_loader().get_group_options("recipe")
    if name != "null" and name not in known:
        raise ConfigError(f"recipe={name}: there is no such choice{nearest(name, known)}")


def _check_snapshots(config: DictConfig) -> None:
    """Refuse to promise snapshots that training would end before."""
    every = config.callbacks.checkpoints.keep_every
    if every is not None and every > config.iterations:
        raise ConfigError(
            f"callbacks.checkpoints.keep_every={every} is more than iterations="
            f"{config.iterations}, so no snapshot would be kept; lower it"
        )


def _check_pairs(config: DictConfig) -> None:
    """Refuse pairs for a method that would not look at their masks."""
    method = get_object(config.method._target_)
    if not getattr(method, "learns_from_masks", False):
        raise ConfigError(
            f"pairs are for methods that learn from masks, which {method.__name__} does not; drop "
            "pairs=..., or use method=segmenter"
        )


def is_typed(option: str) -> bool:
    """Whether `option` stands on the command line, rather than in a file."""
    typed = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    return any(each.lstrip("+").startswith(f"{option}=") for each in typed)


def check_run_directory(folder: Path, plain: dict[str, Any]) -> None:
    """Refuse to run where another run lives, or to continue it with other settings."""
    parent = next(p for p in (folder, *folder.parents) if p.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise WriteError(
            f"{folder} cannot be made: {parent} is not a writable directory; choose another "
            "paths.output_dir=..."
        )
    stored = folder / RESOLVED
    if not stored.is_file():
        if plain["ckpt"] == "last" and not list(folder.glob("checkpoints/*.ckpt")):
            raise ConfigError(
                f"ckpt=last, but {folder} holds no run to go on with; add paths.output_dir=<its "
                "run directory>, or give ckpt=<file> to start from its state"
            )
        return
    if plain["ckpt"] is None and list(folder.glob("checkpoints/*.ckpt")):
        raise ConfigError(
            f"{folder} already holds a run; add ckpt=last to go on with it, or choose another "
            "paths.output_dir=..."
        )
    if plain["resume"].get("force") or not list(folder.glob("checkpoints/*.ckpt")):
        return  # What ended before it had saved anything keeps nobody out.
    before, now = flatten(_read_options(stored)), flatten(plain)
    before = {key: value for key, value in _LATER.items() if key in now} | before
    differing = [
        f"{key} ({before.get(key)} -> {now.get(key)})"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
        and (_is_below(key, _MUST_AGREE) or not _is_below(key, _MAY_DIFFER))
    ]
    if differing:
        more = f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
        raise ConfigError(
            f"{folder} was run with other settings: {', '.join(differing[:_SHOWN])}{more}; use the "
            "same, or add resume.force=true"
        )


def _read_options(stored: Path) -> dict[str, Any]:
    """Options that a run was begun with.

    Raises:
        ConfigError: The file holds anything else.
    """
    try:
        options = json.loads(read_text(stored, SMALL))
        if not isinstance(options, dict):
            raise TypeError("expected an object")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ConfigError(
            f"{stored} does not hold the options of a run ({type(error).__name__}); put its own "
            "back, or add resume.force=true"
        ) from error
    return options


def _is_below(key: str, groups: tuple[str, ...]) -> bool:
    return any(key == group or key.startswith(f"{group}.") for group in groups)
