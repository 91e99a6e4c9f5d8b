"""Which pictures make up training batch b: a pure function of the seed and b."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Sampler

from figureground.core.errors import DataError
from figureground.core.seeds import mix_seed


class Draw(NamedTuple):
    """One picture of a batch: its stream, the pass through the data, and its number."""

    stream: int
    epoch: int
    number: int


class EndlessBatchSampler(Sampler[list[Draw]]):
    """Batches without end, reshuffled at each pass through the data.

    Every stream has shuffles of its own. A pass drops the incomplete last batch, so no batch mixes
    passes. Nothing is remembered between batches: resuming is starting at another batch number.

    Args:
        num_samples: Pictures in the set.
        batch_size: Pictures per batch, stream and process.
        seed: Seed of all shuffles.
        num_streams: Independent draws of the set in each batch.
        start: Number of the first batch, asked when an iterator is made.
        rank: This process's number.
        world_size: Processes; they share each batch of `batch_size * world_size` pictures.

    Raises:
        DataError: The set is smaller than one batch of all processes.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        seed: int,
        num_streams: int = 1,
        start: Callable[[], int] = int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.global_batch = batch_size * world_size
        if num_samples < self.global_batch:
            raise DataError(
                f"the training set has {num_samples} pictures, fewer than one batch of "
                f"{self.global_batch}; lower data.batch_size or add pictures"
            )
        self.num_samples, self.batch_size, self.seed = num_samples, batch_size, seed
        self.num_streams, self.start = num_streams, start
        self.rank, self.world_size = rank, world_size
        self._shuffles: dict[int, tuple[int, list[int]]] = {}

    @property
    def batches_per_epoch(self) -> int:
        """Batches in one pass through the data."""
        return self.num_samples // self.global_batch

    def __iter__(self) -> Iterator[list[Draw]]:
        number = self.start()
        while True:
            yield self.batch(number)
            number += 1

    def batch(self, number: int) -> list[Draw]:
        """Draws of batch `number` from 0 on, stream after stream."""
        epoch, place = divmod(number, self.batches_per_epoch)
        first = place * self.global_batch + self.rank * self.batch_size
        return [
            Draw(stream, epoch, index)
            for stream in range(self.num_streams)
            for index in self._shuffle(stream, epoch)[first : first + self.batch_size]
        ]

    def _shuffle(self, stream: int, epoch: int) -> list[int]:
        known = self._shuffles.get(stream)
        if known is None or known[0] != epoch:
            generator = torch.Generator().manual_seed(mix_seed(self.seed, stream, epoch))
            order = torch.randperm(self.num_samples, generator=generator).tolist()
            known = self._shuffles[stream] = (epoch, order)
        return known[1]


class WatchfulLoader(DataLoader[Any]):
    """Loader that names a worker's death, also while it hands over a batch, and bad data alike."""

    def __iter__(self) -> Any:
        """Start an iterator over the batches, which raises RuntimeError when a worker has died."""
        return _name_lost_worker(super().__iter__())


def _name_lost_worker(batches: Iterator[Any]) -> Iterator[Any]:
    try:
        yield from batches
    # torch looks for dead workers when a hand-over fails, but a killed process closes its
    # connections a moment before it counts as dead.
    except (ConnectionError, EOFError) as error:
        raise RuntimeError("DataLoader worker died while it handed over a batch") from error
    except DataError as error:  # With the traceback of the worker as its message.
        _, is_from_worker, message = str(error).rpartition(f"{DataError.__module__}.DataError: ")
        if not is_from_worker:
            raise
        raise DataError(message.removesuffix("\\n")) from error


class EndlessLoader(WatchfulLoader):
    """Loader that Lightning takes for resumable: its sampler starts at the trainer's counter."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the position is the trainer's counter of batches."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to take up."""
