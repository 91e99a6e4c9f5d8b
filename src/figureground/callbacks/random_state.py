"""`RandomState`: resumed training draws the numbers the uninterrupted run would have drawn."""

from __future__ import annotations

import logging
import random
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from figureground.core.content import require_state
from figureground.core.errors import CheckpointError
from figureground.core.escaping import one_line
from figureground.core.plain import summarize
from figureground.core.seeds import seed_process

logger = logging.getLogger(__name__)


class RandomState(Callback):
    """Keep the global random states in the checkpoint and put them back before the first batch.

    By then the loaders' iterators exist and validation has been repeated, so nothing draws from the
    global generators between the restoration and the training step.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, Any] | None = None
        self._rank = 0
        self._begun = False
        self._circumstances: dict[str, Any] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Note what exact resumption depends on."""
        self._rank = trainer.global_rank
        self._circumstances = {
            "torch": str(torch.__version__),
            "device": trainer.strategy.root_device.type,
            "processes": trainer.world_size,
        }

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Restore a loaded state, or part from the other processes, once."""
        if self._loaded is not None:
            states = self._loaded["states"]
            restore_random_state(states[self._rank % len(states)])
            self._loaded = None
        elif self._rank and not self._begun:
            # All processes build the same weights, then each draws noise of its own.
            seed_process(torch.initial_seed(), self._rank)
        self._begun = True

    def state_dict(self) -> dict[str, Any]:
        """Random states of all processes; the loaded ones as long as they were not put back."""
        if self._loaded is not None:
            return self._loaded
        states: list[Any] = [capture_random_state()]
        if self._circumstances.get("processes", 1) > 1:
            states *= self._circumstances["processes"]
            torch.distributed.all_gather_object(states, states[0])
        return {"states": states, **self._circumstances}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember what to restore; say so if the resumed run cannot be exact.

        Raises:
            CheckpointError: It cannot be restored.
        """
        _require_restorable(self, state_dict)
        self._loaded = state_dict
        for name, now in self._circumstances.items():
            if state_dict.get(name) != now:
                logger.warning(
                    "resume is not bit-exact because %s was %s and is %s now",
                    name,
                    one_line(state_dict.get(name)),  # Anything may stand in a file.
                    now,
                )


def _require_restorable(owner: object, state: dict[str, Any]) -> None:
    """Try the states of all processes, and put back what was before."""
    require_state(owner, state, {"states": list[dict[str, Any]]})
    before = capture_random_state()
    try:
        for each in state["states"]:
            restore_random_state(each)
        if not state["states"]:
            raise ValueError("there is none")
    except Exception as error:  # They hold anything that plain values and tensors can be.
        raise CheckpointError(
            "the checkpoint is damaged: its random states cannot be restored "
            f"({summarize(error)}); resume from another one"
        ) from error
    finally:
        restore_random_state(before)


def capture_random_state() -> dict[str, Any]:
    """State of torch's, Python's and numpy's global generators as tensors and plain values.

    A numpy array in it would make a checkpoint unreadable under `weights_only=True`.
    """
    version, words, gauss = random.getstate()
    kind, key, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002 - the global one
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": [version, list(words), gauss],
        "numpy": [str(kind), torch.tensor(np.asarray(key, np.int64)), position, has_gauss, cached],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Put back what `capture_random_state` returned.

    States of more devices than there are now are left out: such a run is not bit-exact anyway.
    """
    torch.set_rng_state(state["torch"].cpu())
    if torch.cuda.is_available():
        for device, cuda in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(cuda.cpu(), device)
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    kind, key, position, has_gauss, cached = state["numpy"]
    if not 0 <= position <= len(key):  # NumPy reads there without looking.
        raise ValueError(f"the position {position} is beyond the state")
    np.random.set_state(  # noqa: NPY002 - libraries draw from the global one
        (kind, key.numpy().astype(np.uint32), position, has_gauss, cached)
    )
