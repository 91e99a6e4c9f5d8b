"""Fixtures shared by all tests; every test is seeded and has no network."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict

from figureground.core.config import config_dir

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - libraries draw from it


@pytest.fixture(autouse=True, scope="session")
def _interrupts() -> None:
    # Shells make jobs in the background ignore SIGINT, and so would every command a test starts.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.socket.connect

    def refuse(self: socket.socket, address: Any) -> None:
        if self.family in {socket.AF_INET, socket.AF_INET6}:
            host = str(address[0])
            if not host.startswith("127.") and host not in {"localhost", "::1"}:
                raise OSError(f"tests may not reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def compose(tmp_path: Path) -> Iterator[Callable[..., DictConfig]]:
    """Compose a configuration as a command would; its run directory is below tmp_path."""

    def build(
        *overrides: str, config_name: str = "train", output: Path | None = None
    ) -> DictConfig:
        GlobalHydra.instance().clear()
        with initialize_config_dir(config_dir(), version_base="1.3"):
            config = hydra_compose(config_name, list(overrides), return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        with open_dict(config):
            config.name = "test"
            config.paths.output_dir = str(output or tmp_path / "run")
            del config["hydra"]
        return config

    yield build
    GlobalHydra.instance().clear()


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Path]:
    """Folder with the authors' outputs for a method; skips where there is none."""

    def find(name: str) -> Path:
        folder = Path(os.environ.get("FIGUREGROUND_GOLDEN", ROOT.parent / "shared/golden")) / name
        if not folder.is_dir():
            pytest.skip(f"no golden data at {folder}; set FIGUREGROUND_GOLDEN")
        return folder

    return find


@pytest.fixture(scope="session")
def splits() -> Path:
    """Folder with published split lists; skips where there is none."""
    folder = Path(os.environ.get("FIGUREGROUND_SPLITS", ROOT.parent / "shared/splits"))
    if not folder.is_dir():
        pytest.skip(f"no split lists at {folder}; set FIGUREGROUND_SPLITS")
    return folder


@pytest.fixture(scope="session")
def photographs() -> Callable[[str], Path]:
    """Unpacks an archive of real photographs once, into a folder of its own; skips without it."""
    return _unpack


@cache
def _unpack(name: str) -> Path:
    folder = Path(os.environ.get("FIGUREGROUND_PHOTOGRAPHS", ROOT.parent / "shared/data"))
    if not (folder / name).is_file():
        pytest.skip(f"no {name} at {folder}; set FIGUREGROUND_PHOTOGRAPHS")
    place = Path(tempfile.mkdtemp(prefix="figureground-photographs-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    with tarfile.open(folder / name) as archive:
        archive.extractall(place, filter="data")
    return place
