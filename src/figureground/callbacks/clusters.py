"""`ClusterPages`: what a method has put together, cluster by cluster."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from figureground.callbacks.member_sheet import MemberSheet
from figureground.core.bounds import PositiveInt
from figureground.core.io import atomic_write
from figureground.core.protocols import Clusterer, Decomposer
from figureground.core.types import Batch
from figureground.viz.grids import Pixels, contact_sheet, save_png, to_uint8


class _Member(NamedTuple):
    """A picture, its reconstruction and the mean squared error between them."""

    error: float
    picture: Pixels
    made: Pixels


@dataclass
class _Cluster:
    """Members seen so far: sums over all, and the few that a page shows."""

    count: int = 0
    error: float = 0.0
    sums: list[Tensor] = field(default_factory=list)  # Of pictures and of reconstructions.
    best: list[_Member] = field(default_factory=list)
    drawn: list[_Member] = field(default_factory=list)


class ClusterPages(Callback):
    """Write a page per cluster after a test or a validation of its own.

    For methods that sort pictures and take each apart into a background and one object. Those that
    only sort get one sheet, `members.png`, of the largest clusters; others are left alone. A page
    shows the averages of members and reconstructions, the members of least error and some drawn at
    random. `clusters.json` has their numbers and mean squared errors. Pages of an earlier test that
    have no part in this one are removed. With several processes, pages show the first one's share.

    Args:
        directory: Where the files go.
        num_members: Members of each kind on a page.
    """

    def __init__(self, directory: str, num_members: PositiveInt = 5) -> None:
        self.directory, self.num_members = Path(directory), num_members
        self._clusters: dict[int, _Cluster] = {}
        self._random = random.Random(0)
        self._sheet = MemberSheet()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start anew."""
        self._clusters, self._random = defaultdict(_Cluster), random.Random(0)
        self._sheet = MemberSheet()

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch,
        batch_idx: int, dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Take in the members of one batch; training pictures tested beside them are left out."""
        if dataloader_idx or not trainer.is_global_zero or not isinstance(pl_module, Clusterer):
            return
        if not isinstance(pl_module, Decomposer):
            self._sheet.add(batch, pl_module.cluster(batch.image))
            return
        layers = pl_module.decompose(batch.image)
        if layers.color.shape[1] != 2:
            return
        made = layers.composite
        # Of values in [0, 1], as papers count.
        errors = ((made - batch.image) / 2).square().mean(dim=(1, 2, 3)).tolist()
        for number, label in enumerate(pl_module.cluster(batch.image).tolist()):
            pair = (batch.image[number].cpu(), made[number].cpu())
            self._add(self._clusters[label], errors[number], pair)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what came together."""
        if self._sheet:
            with atomic_write(self.directory / "members.png") as file:
                save_png(self._sheet.draw(), file)
            self._write_numbers(self._sheet.counts())
        if not self._clusters:
            return
        for label, cluster in self._clusters.items():
            with atomic_write(self.directory / f"cluster{label + 1}.png") as file:
                save_png(self._page(cluster), file)
        self._remove_others()
        total = sum(cluster.count for cluster in self._clusters.values())
        numbers = {
            label + 1: {
                "count": cluster.count,
                "share": cluster.count / total,
                "error": cluster.error / cluster.count,
            }
            for label, cluster in sorted(self._clusters.items())
        }
        self._write_numbers(numbers)

    def _write_numbers(self, numbers: dict[int, dict[str, float]]) -> None:
        with atomic_write(self.directory / "clusters.json", "w") as file:
            json.dump(numbers, file, indent=2)

    def _remove_others(self) -> None:
        for path in self.directory.glob("cluster*.png"):
            number = path.stem.removeprefix("cluster")
            if number.isdecimal() and int(number) - 1 not in self._clusters:
                path.unlink(missing_ok=True)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """As for a test, if it is no part of training."""
        if trainer.state.fn == "validate":
            self.on_test_start(trainer, pl_module)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch,
        batch_idx: int, dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """As for a test, if it is no part of training."""
        if trainer.state.fn == "validate":
            self.on_test_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """As for a test, if it is no part of training."""
        if trainer.state.fn == "validate":
            self.on_test_end(trainer, pl_module)

    def _add(self, cluster: _Cluster, error: float, pair: tuple[Tensor, Tensor]) -> None:
        cluster.count += 1
        cluster.error += error
        sums = cluster.sums or [0 * each for each in pair]
        cluster.sums = [total + each for total, each in zip(sums, pair, strict=True)]
        member = _Member(error, to_uint8(pair[0]), to_uint8(pair[1]))
        cluster.best = sorted([*cluster.best, member], key=lambda m: m.error)[: self.num_members]
        # Reservoir sampling: every member has the same chance, however many follow.
        place = self._random.randrange(cluster.count)
        if len(cluster.drawn) < self.num_members:
            cluster.drawn.append(member)
        elif place < self.num_members:
            cluster.drawn[place] = member

    def _page(self, cluster: _Cluster) -> Pixels:
        averages = [to_uint8(total / cluster.count) for total in cluster.sums]
        rows = [averages]
        captions = [f"average of {cluster.count}: pictures, reconstructions"]
        for kind, members in (("least error", cluster.best), ("at random", cluster.drawn)):
            rows += [[m.picture for m in members], [m.made for m in members]]
            captions += [f"{kind}: pictures", f"{kind}: reconstructions"]
        return contact_sheet(rows, captions, [], cell=96)
