"""Seconds per epoch of the models and of the plain references, measured by turns.

A turn trains a number of steps through the real loop and counts an epoch as what is done once
(graphs, sampling) plus the mean step times the number of steps; the first steps of a turn, in which
Adam's moments are allocated, do not count. Turns of all cases alternate, since the speed of a
machine that others share drifts, and the median over the rounds is told.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, TypeVar

import numpy as np
import torch

from benchmarks.floors import clock
from benchmarks.plain import Plain, PlainSampler
from recommend.interactions import Interactions
from recommend.metrics import Metrics
from recommend.models import Embeddings, Recommender
from recommend.sampling import Batch, Sampler
from recommend.sources import FeatureSource
from recommend.state import Record
from recommend.train import TrainOptions, fit

AnyBatch = TypeVar("AnyBatch")


@dataclass(frozen=True)
class Plan:
    """How long it is measured.

    Attributes:
        rounds: Turns of each case.
        warmup: Steps at the start of a turn that do not count.
        steps: Steps that count; no more than an epoch has.
        batch_size: Training pairs per step.
    """

    rounds: int
    warmup: int
    steps: int
    batch_size: int = 2048


@dataclass(frozen=True)
class Epoch:
    """What one turn found.

    Attributes:
        once: Seconds of what is done once an epoch.
        step: Seconds of a step.
        steps: Steps of a whole epoch.
    """

    once: float
    step: float
    steps: int

    @property
    def seconds(self) -> float:
        """Of a whole epoch."""
        return self.once + self.step * self.steps

    def __str__(self) -> str:
        return f"{self.seconds:.3f} s = {self.once:.3f} s + {self.steps} x {1e3 * self.step:.2f} ms"


class Case(Protocol):
    """Something whose epoch is measured."""

    def turn(self) -> Epoch:
        """Train some steps."""


class Stopwatch:
    """Passes batches on and stops the time that whoever takes them needs.

    Args:
        plan: How many there are to be.
        steps: How many an epoch has.
        device: Where the batches are worked on.
    """

    def __init__(self, plan: Plan, steps: int, device: torch.device) -> None:
        self.counted = min(plan.steps, steps)
        self.total = min(plan.warmup + plan.steps, steps)
        self.device = device
        self.started = self.counting = self.ended = 0.0

    def watch(self, batches: Iterator[AnyBatch]) -> Iterator[AnyBatch]:
        """The first batches."""
        for step, batch in enumerate(islice(batches, self.total)):
            if step == 0:
                self.started = self.counting = clock(self.device)
            yield batch
            if step + 1 == self.total - self.counted:
                self.counting = clock(self.device)
        self.ended = clock(self.device)

    @property
    def step(self) -> float:
        """Seconds of a step that counts."""
        return (self.ended - self.counting) / self.counted


class WatchedSampler(Sampler):
    """A sampler whose epochs end early and are timed.

    Args:
        train: The training pairs.
        plan: How many steps.
        device: Where the model is.
    """

    def __init__(self, train: Interactions, plan: Plan, device: torch.device) -> None:
        super().__init__(train, plan.batch_size, np.random.default_rng(0))
        self.stopwatch = Stopwatch(plan, len(self), device)

    def epoch(self, device: torch.device | str = "cpu") -> Iterator[Batch]:
        """The first batches of an epoch; sampling is done for all of it."""
        return self.stopwatch.watch(super().epoch(device))


@dataclass(frozen=True)
class Ours:
    """A model of recommend/models, trained by `fit`."""

    model: Recommender
    features: FeatureSource
    sampler: WatchedSampler

    def turn(self) -> Epoch:
        """`fit` for one epoch that ends early."""
        records: list[Record] = []
        options = TrainOptions(batch_size=self.sampler.batch_size, max_epochs=1)
        fit(self.model, self.features, self.sampler, unmeasured, options, records.append)
        self.model.zero_grad(set_to_none=True)
        watch = self.sampler.stopwatch
        once = records[0]["seconds"] - (watch.ended - watch.started)
        return Epoch(once, watch.step, len(self.sampler))


class PlainCase:
    """A plainly written model, trained in a plain loop, its sampling part of the step.

    Args:
        model: The model.
        sampler: Its batches.
        plan: How many steps.
        device: Where the model is.
    """

    def __init__(
        self, model: Plain, sampler: PlainSampler, plan: Plan, device: torch.device
    ) -> None:
        self.model, self.sampler, self.device = model.to(device), sampler, device
        self.stopwatch = Stopwatch(plan, len(sampler), device)
        trained = [each for each in model.parameters() if each.requires_grad]
        self.optimizer = torch.optim.Adam(trained)

    def turn(self) -> Epoch:
        """Begin an epoch and do some steps."""
        start = clock(self.device)
        self.model.begin_epoch()
        once = clock(self.device) - start
        for batch in self.stopwatch.watch(self.sampler.epoch(self.device)):
            self.optimizer.zero_grad()
            self.model.loss(*batch).backward()
            self.optimizer.step()
        return Epoch(once, self.stopwatch.step, len(self.sampler))


def unmeasured(embeddings: Embeddings) -> Metrics:
    """What stands in for a validation where only training is timed."""
    nothing = np.zeros(1)
    return Metrics(np.zeros(1, np.int64), {TrainOptions().selection: nothing})


def by_turns(
    cases: Mapping[str, Case], rounds: int, say: Callable[[str], None]
) -> dict[str, Epoch]:
    """The median epoch of each case."""
    found: dict[str, list[Epoch]] = {name: [] for name in cases}
    for number in range(rounds):
        for name, case in cases.items():
            found[name].append(case.turn())
            say(f"round {number + 1}/{rounds}  {name:<16} {found[name][-1]}")
    return {name: sorted(epochs, key=_seconds)[rounds // 2] for name, epochs in found.items()}


def _seconds(epoch: Epoch) -> float:
    return epoch.seconds
