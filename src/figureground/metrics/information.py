"""How much layers tell about one another: mutual information, estimated by training a network.

- `donsker_varadhan`: mean T(x, y) - log mean exp T(x, y~), the bound of MINE (Belghazi et al.
  2018).
- `info_nce`: mean log-softmax of T(x_i, y_i) among T(x_i, y_j), plus log B (van den Oord et al.
  2018); never above log B, but of little variance.
- `pair_layers`: what of the layers is compared, as ILSGAN (Zou et al. 2023) publishes it.

On thousands of pixels the published estimate is biased upwards: it is trained and measured on the
same samples. The one on samples held out, beside it, is not, but says little unless there are many.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from figureground.core.bounds import Count, LearningRate, PositiveInt
from figureground.core.types import Layers

logger = logging.getLogger(__name__)

Objective = Literal["mine", "infonce"]
Pairs = Mapping[str, tuple[Tensor, Tensor]]

_EVALUATION_BATCH = 128
_LAST = 20  # Evaluations whose mean is reported.
_PATIENCE, _FACTOR = 10, 0.1  # Of the learning rate, in evaluations.


class StatisticsNetwork(nn.Module):
    """T(x, y): one hidden layer on both at once.

    Args:
        num_inputs: Numbers in x and y together.
        num_hidden: Hidden units.
    """

    def __init__(self, num_inputs: PositiveInt, num_hidden: PositiveInt = 3000) -> None:
        super().__init__()
        self.hidden = nn.Linear(num_inputs, num_hidden)
        self.out = nn.Linear(num_hidden, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """T of pairs x (B, ...), y (B, ...), as (B,)."""
        both = torch.cat([x.flatten(1), y.flatten(1)], dim=1)
        score: Tensor = self.out(self.hidden(both).relu()).squeeze(1)
        return score

    def compare_all(self, x: Tensor, y: Tensor) -> Tensor:
        """T of every x (B, ...) with every y (N, ...), as (B, N)."""
        x, y = x.flatten(1), y.flatten(1)
        # The first layer is linear, so it sees each x and each y once, not each pair.
        left, right = torch.split(self.hidden.weight, [x.shape[1], y.shape[1]], dim=1)
        hidden = (x @ left.T).unsqueeze(1) + (y @ right.T + self.hidden.bias)
        score: Tensor = self.out(hidden.relu()).squeeze(2)
        return score


class MutualInformation:
    """Trains one network for each pair of quantities and reports what they know of one another.

    Defaults are those of the authors of ILSGAN. All networks learn together, on the same samples.

    Args:
        objective: Bound that is maximised.
        iterations: Training steps.
        batch_size: Samples in each.
        num_hidden: Hidden units of a network.
        lr: Learning rate of Adam; divided by ten when 10 evaluations bring nothing new.
        evaluate_every: Iterations between evaluations on all samples.
        seed: Of initialisation, batches and shuffles.
    """

    def __init__(
        self,
        objective: Objective = "mine",
        iterations: PositiveInt = 100_000,
        batch_size: PositiveInt = 64,
        num_hidden: PositiveInt = 3000,
        lr: LearningRate = 2e-4,
        evaluate_every: PositiveInt = 400,
        seed: Count = 0,
    ) -> None:
        self.objective, self.iterations, self.batch_size = objective, iterations, batch_size
        self.num_hidden, self.lr = num_hidden, lr
        self.evaluate_every, self.seed = evaluate_every, seed

    def estimate(
        self,
        pairs: Pairs,
        held_out: Pairs | None = None,
        check: Callable[[], object] | None = None,
    ) -> dict[str, float]:
        """Estimate the information between the two sides of each of `pairs`, in nats.

        Args:
            pairs: From a name to x and y, (N, ...) each: the samples to train and measure on.
            held_out: The same of other samples, to measure on only.
            check: Called before each step, to stop by raising.

        Returns:
            `<objective>/<name>`, the mean of the last 20 evaluations, and
            `<objective>/<name>/held_out`.

        Raises:
            ValueError: There are less than two samples, or x and y differ in number.
        """
        _check_pairs(pairs)
        generator = torch.Generator().manual_seed(self.seed)
        networks = self._make_networks(pairs)
        found: dict[str, list[float]] = {}
        parameters = [p for network in networks.values() for p in network.parameters()]
        optimizer = torch.optim.Adam(parameters, lr=self.lr)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, "max", factor=_FACTOR, patience=_PATIENCE
        )
        batches = self._draw_batches(pairs, generator)
        for iteration in range(1, self.iterations + 1):
            if check is not None:
                check()
            chosen = next(batches)
            bounds = []
            for name, network in networks.items():
                x, y = (side[chosen.to(side.device)] for side in pairs[name])
                bounds.append(self._bound(network, x, y, generator))
            _ascend(torch.stack(bounds).sum(), optimizer)
            if iteration % self.evaluate_every == 0 or iteration == self.iterations:
                scores = self._evaluate(networks, pairs, generator)
                for name, value in scores.items():
                    found.setdefault(name, []).append(value)
                if held_out is not None:
                    for name, value in self._evaluate(networks, held_out, generator).items():
                        found.setdefault(f"{name}/held_out", []).append(value)
                scheduler.step(sum(scores.values()))
        return {
            f"{self.objective}/{name}": math.fsum(values[-_LAST:]) / len(values[-_LAST:])
            for name, values in found.items()
        }

    def _make_networks(self, pairs: Pairs) -> dict[str, StatisticsNetwork]:
        networks = {}
        # Drawn from the global generator, as layers are, but leaving no trace in it.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            for name, (x, y) in pairs.items():
                size = x[0].numel() + y[0].numel()
                networks[name] = StatisticsNetwork(size, self.num_hidden).to(x.device)
        return networks

    def _draw_batches(self, pairs: Pairs, generator: torch.Generator) -> Iterator[Tensor]:
        """Numbers of samples without end: epochs in random orders, without their short rests."""
        count = len(next(iter(pairs.values()))[0])
        size = min(self.batch_size, count)
        while True:
            order = torch.randperm(count, generator=generator)
            for start in range(0, count - size + 1, size):
                yield order[start : start + size]

    def _bound(
        self, network: StatisticsNetwork, x: Tensor, y: Tensor, generator: torch.Generator
    ) -> Tensor:
        if self.objective == "infonce":
            return info_nce(network.compare_all(x, y))
        shuffled = torch.randint(len(y), (len(y),), generator=generator).to(y.device)
        return donsker_varadhan(network(x, y), network(x, y[shuffled]))

    @torch.no_grad()
    def _evaluate(
        self, networks: dict[str, StatisticsNetwork], pairs: Pairs, generator: torch.Generator
    ) -> dict[str, float]:
        """Mean over batches of the bound on all samples; what is not finite is left out."""
        scores = {}
        for name, network in networks.items():
            parts = zip(
                *(torch.split(side, _EVALUATION_BATCH) for side in pairs[name]), strict=True
            )
            bounds = torch.stack([self._bound(network, x, y, generator) for x, y in parts])
            scores[name] = float(bounds[bounds.isfinite()].mean())
        return scores


def donsker_varadhan(joint: Tensor, shuffled: Tensor) -> Tensor:
    """Lower bound mean T - log mean exp T~ of true scores (B,) and of shuffled ones (N,)."""
    return joint.mean() - (shuffled.logsumexp(dim=0) - math.log(len(shuffled)))


def info_nce(scores: Tensor) -> Tensor:
    """Lower bound from scores (B, B) whose diagonal is that of the true pairs."""
    return scores.log_softmax(dim=1).diagonal().mean() + math.log(len(scores))


def pair_layers(
    background: Tensor, foreground: Tensor, mask: Tensor, protocol: Literal["separate", "single"]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Pair what should be independent.

    `separate`: the visible part of one layer with what it hides of the other, `visible_fg` =
    (f m; b m) and `visible_bg` = (b (1 - m); f (1 - m)). `single`: `whole` = (f; b).

    Args:
        background: b, (N, 3, H, W), in [-1, 1].
        foreground: f, likewise.
        mask: m, (N, 1, H, W), in [0, 1].
        protocol: Which.
    """
    if protocol == "single":
        return {"whole": (foreground, background)}
    rest = 1 - mask
    return {
        "visible_fg": (foreground * mask, background * mask),
        "visible_bg": (background * rest, foreground * rest),
    }


def flatten_layers(layers: Layers) -> tuple[Tensor, Tensor, Tensor]:
    """Background, foreground (B, 3, H, W) and mask (B, 1, H, W) of layers; all objects are one."""
    mask = layers.foreground
    shares, colors = layers.alpha[:, 1:], layers.color[:, 1:]
    if colors.shape[1] == 1:
        return layers.color[:, 0], colors[:, 0], mask
    # Where no object is seen any colour would do: their mean.
    mixed = (shares * colors).sum(dim=1) / mask.clamp(min=1e-6)
    return layers.color[:, 0], torch.where(mask > 1e-6, mixed, colors.mean(dim=1)), mask


def _ascend(bound: Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad(set_to_none=True)
    if not bool(bound.isfinite()):
        logger.debug("a batch with a bound of %s is left out", bound.item())
        return
    torch.autograd.backward(-bound)
    optimizer.step()


def _check_pairs(pairs: Pairs) -> None:
    counts = {len(side) for pair in pairs.values() for side in pair}
    if len(counts) != 1 or min(counts) < 2:
        raise ValueError(f"expected equally many samples everywhere, two or more, got {counts}")
