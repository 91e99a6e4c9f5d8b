"""Options of another command, composed while this one runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from omegaconf import DictConfig

from figureground.core.command_line import quote
from figureground.core.config import config_dir


@contextmanager
def composed(
    command: str, overrides: Sequence[str], folders: Sequence[str] = ()
) -> Iterator[DictConfig]:
    """Options of `command` as its command line would give them, Hydra's own among them.

    Args:
        command: Or the path of its root file below `conf`, without ending.
        overrides: Its command line.
        folders: Further folders to look for files in.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    given = list(overrides)
    if folders:
        given.append(f"hydra.searchpath=[{','.join(quote(f'file://{f}') for f in folders)}]")
    # Hydra keeps one of each; those of the command that is running come back.
    composer, job = GlobalHydra.instance(), HydraConfig.instance()
    before = composer.hydra, job.cfg
    composer.clear()
    try:
        with initialize_config_dir(config_dir(), version_base="1.3"):
            config = compose(command, given, return_hydra_config=True)
        job.cfg = None
        job.set_config(config)  # What `${hydra:...}` refers to.
        yield config
    finally:
        composer.hydra, job.cfg = before


def config_folders() -> list[str]:
    """Folders given as `--config-dir`."""
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized():
        return []
    sources = HydraConfig.get().runtime.config_sources
    return [str(source.path) for source in sources if source.provider == "command-line"]
