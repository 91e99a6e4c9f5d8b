"""Runs that earlier versions began go on, though options have been added since."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from figureground.cli.check import check_run_directory
from figureground.core.config import to_plain
from figureground.core.errors import ConfigError


@pytest.mark.parametrize("data", ["folder", "voc"])
def test_a_run_without_options_of_later_versions_goes_on(
    compose: Callable[..., DictConfig], tmp_path: Path, data: str
) -> None:
    now = to_plain(compose("method=redo", f"data={data}", "data.root=x", "ckpt=last"))
    before, void = copy.deepcopy(now), copy.deepcopy(now)
    before["data"].pop("masks", None)
    for split in ("train", "val", "test"):
        before["data"][split].pop("masks", None)
        before["data"][split].pop("borders", None)
    (tmp_path / "config.json").write_text(json.dumps(before))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/last.ckpt").touch()
    check_run_directory(tmp_path, now)
    if data == "folder":
        void["data"]["masks"]["void"] = 255
    else:
        void["data"]["train"]["borders"] = "void"
    with pytest.raises(ConfigError, match="was run with other settings"):
        check_run_directory(tmp_path, void)
