"""Seconds per epoch of every model, beside references and floors."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.epochs import Case, Epoch, Ours, PlainCase, Plan, WatchedSampler, by_turns
from benchmarks.floors import Machine, clock, step_work
from benchmarks.output import Row
from benchmarks.plain import Plain, PlainFreedom, PlainLightGCN, PlainSampler
from pipelines.progress import Reporter
from recommend.features import FeatureStore
from recommend.graphs import mixed_neighbours
from recommend.interactions import Split
from recommend.models import MODELS, Recommender, TrainingData
from recommend.models.freedom import FreedomConfig
from recommend.models.lightgcn import LightGCNConfig
from recommend.neighbours import StoredNeighbours
from recommend.sampling import Sampler
from recommend.sources import FrozenFeatures
from recommend.train import trainable

# Models and the plain ones of the same run that they are compared with.
REFERENCES = {"lightgcn": "plain-lightgcn", "freedom": "plain-freedom"}

# Seconds per epoch measured elsewhere, on 2 cores with AVX-512: one epoch of the MMRec toolbox
# (torch 2.13), d 64, batch 2,048, image 4,096-d, text 384-d, without its evaluation; middles of
# ranges for lattice (26-34) and mmgcn (85-100).
ELSEWHERE = {
    "baby": {
        "lightgcn": 5.6,
        "bpr": 0.67,
        "vbpr": 4.0,
        "bm3": 17.4,
        "freedom": 18.3,
        "mgcn": 22.8,
        "slmrec": 23.1,
        "lattice": 30.0,
        "mmgcn": 92.0,
    },
    "sports": {"lightgcn": 25.0, "bm3": 76.9, "freedom": 82.6},
}


@dataclass(frozen=True)
class Bench:
    """What one size is measured with.

    Attributes:
        name: Of the size.
        split: The log.
        store: The items' features.
        machine: Where.
        plan: How long.
        reporter: Where progress goes.
    """

    name: str
    split: Split
    store: FeatureStore
    machine: Machine
    plan: Plan
    reporter: Reporter

    @property
    def device(self) -> torch.device:
        """Where the models are."""
        return self.machine.device


def epoch_rows(bench: Bench, neighbours: Path) -> list[Row]:
    """Seconds per epoch of every model that is trained, and of the plain references.

    Args:
        bench: What is measured.
        neighbours: A folder for nearest neighbours, so that models share them.
    """
    search = StoredNeighbours(neighbours)
    models = dict(_models(bench, search))
    features = FrozenFeatures(bench.store, bench.device)
    cases: dict[str, Case] = {
        name: Ours(model, features, WatchedSampler(bench.split.train, bench.plan, bench.device))
        for name, model in models.items()
    }
    epochs = by_turns(cases | plain_cases(bench, search), bench.plan.rounds, bench.reporter.say)
    floors = dict(_floors(bench, models))
    rows = [
        compared(f"{name}/{bench.name}/epoch", epochs[name].seconds, reference, floors.get(name))
        for name in models
        for reference in [_reference(name, bench.name, epochs)]
    ]
    plain = [name for name in epochs if name not in models]
    return rows + [Row(f"{name}/{bench.name}/epoch", epochs[name].seconds, "s") for name in plain]


def plain_cases(bench: Bench, search: StoredNeighbours) -> dict[str, Case]:
    """The references, FREEDOM with features trained and frozen."""
    train, config = bench.split.train, FreedomConfig()
    graph = mixed_neighbours(bench.store, config.neighbours, config.image_weight, search=search)
    sampler = PlainSampler(train, bench.plan.batch_size)
    torch.manual_seed(0)
    models: dict[str, Plain] = {
        "plain-lightgcn": PlainLightGCN(LightGCNConfig(), train),
        "plain-freedom": PlainFreedom(config, train, bench.store, graph),
        "plain-freedom-frozen": PlainFreedom(config, train, bench.store, graph, trained=False),
    }
    return {
        name: PlainCase(model, sampler, bench.plan, bench.device) for name, model in models.items()
    }


def _models(bench: Bench, search: StoredNeighbours) -> Iterator[tuple[str, Recommender]]:
    """Every model that has something to train."""
    for name, kind in MODELS.items():
        store = bench.store if kind.uses_features else FeatureStore.none()
        start = clock(bench.device)
        torch.manual_seed(0)
        model = kind(kind.config_class(), TrainingData(bench.split.train, store, search))
        if trainable(model):
            bench.reporter.say(f"built {name} in {clock(bench.device) - start:.1f} s")
            yield name, model.to(bench.device)


def _floors(bench: Bench, models: dict[str, Recommender]) -> Iterator[tuple[str, float]]:
    """Seconds of an epoch's work, of the models that are counted, as their last epoch left them."""
    sampler = Sampler(bench.split.train, bench.plan.batch_size, np.random.default_rng(0))
    batch = next(sampler.epoch())
    for name, model in models.items():
        work = step_work(model, batch, bench.store.dims)
        if work:
            yield name, (work * len(sampler)).seconds(bench.machine)


def _reference(model: str, size: str, epochs: dict[str, Epoch]) -> float | None:
    """Seconds of the plain model of this run, or of a known one's figure scaled to this machine."""
    if model in REFERENCES:
        return epochs[REFERENCES[model]].seconds
    elsewhere = ELSEWHERE.get(size, {})
    if model not in elsewhere:
        return None
    return elsewhere[model] * epochs["plain-lightgcn"].seconds / elsewhere["lightgcn"]


def compared(name: str, value: float, reference: float | None, floor: float | None) -> Row:
    """A row of seconds, beside a reference and a floor where there are such."""
    return Row(
        name,
        value,
        "s",
        reference,
        reference / value if reference else None,
        floor,
        floor / value if floor else None,
    )
