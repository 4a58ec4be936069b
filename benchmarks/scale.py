"""One size in a process of its own: seconds and peak memory.

python -m benchmarks.scale lightgcn|freedom INTERACTIONS [--batch-size N] [--device ...]
python -m benchmarks.scale evaluate baby|sports

A model is trained on that many simulated interactions of a tenth as many users and a thirty-third
as many items (FREEDOM with 64-d vectors of one modality), a whole epoch at a time, and evaluated on
10,000 users. `evaluate` ranks and measures all users of a simulated data set of that size. The last
line printed is a JSON object.
"""

import json
import subprocess
import sys
import time
from statistics import median

import click
import numpy as np
import torch

from benchmarks.epochs import unmeasured
from benchmarks.floors import Machine, Work, step_work
from benchmarks.output import Row
from benchmarks.simulated import SIZES, Size, simulated_features, simulated_split
from pipelines.cli import keep_freed_memory
from pipelines.devices import resolve_device
from pipelines.memory import peak_bytes
from recommend.evaluate import evaluate
from recommend.features import FeatureStore
from recommend.interactions import Interactions
from recommend.models import Embeddings, Recommender, TrainingData, model_class
from recommend.sampling import Sampler
from recommend.sources import FrozenFeatures
from recommend.train import TrainOptions, encode, fit

MODELS = ("lightgcn", "freedom")
# Interactions to the batch size that suits them.
BATCHES = {10**4: 2048, 10**5: 2048, 10**6: 32_768, 10**7: 262_144}
EVALUATED = 10_000
WIDTH = 64


def scaled(interactions: int) -> Size:
    """The size of a data set with so many training pairs."""
    return Size(interactions // 10, interactions // 33, interactions, {"text": WIDTH})


def growth_rows(machine: Machine, model: str, interactions: int) -> list[Row]:
    """Seconds per epoch and for 10,000 users, set-up and peak memory of one model and size."""
    told = apart(model, str(interactions), "--device", str(machine.device))
    name, floor = f"{model}/{interactions}", Work(told["bytes"], told["flops"]).seconds(machine)
    return [
        Row(f"{name}/setup", told["setup"], "s"),
        Row(f"{name}/epoch", told["epoch"], "s", floor=floor, of_floor=floor / told["epoch"]),
        Row(f"{name}/evaluate", told["evaluate"], "s"),
        Row(f"{name}/peak", told["peak"] / 1e9, "GB"),
    ]


def apart(*arguments: str) -> dict[str, float]:
    """What this file finds in a new process."""
    command = [sys.executable, "-m", "benchmarks.scale", *arguments]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    found: dict[str, float] = json.loads(told.splitlines()[-1])
    return found


def train_and_evaluate(
    name: str, size: Size, batch_size: int, device: torch.device
) -> dict[str, float]:
    """One model, from the log to the metrics of 10,000 users."""
    split = simulated_split(size)
    kind = model_class(name)
    store = simulated_features(size) if kind.uses_features else FeatureStore.none()
    start = time.perf_counter()
    train = _anew(split.train)
    torch.manual_seed(0)
    model = kind(kind.config_class(), TrainingData(train, store)).to(device)
    sampler = Sampler(train, batch_size, np.random.default_rng(0))
    features = FrozenFeatures(store, device)
    found: dict[str, float] = {"setup": time.perf_counter() - start}
    found["epoch"] = _epoch_seconds(model, features, sampler)
    start = time.perf_counter()
    evaluate(encode(model, features), _of_some_users(split.test), train.matrix)
    found["evaluate"] = time.perf_counter() - start
    work = (step_work(model, next(sampler.epoch()), size.dims) or Work()) * len(sampler)
    return found | {"bytes": work.bytes, "flops": work.flops}


def evaluate_all(size: Size, device: torch.device) -> dict[str, float]:
    """All users of a data set, by random vectors."""
    split, embeddings = simulated_split(size), random_embeddings(size.users, size.items, device)
    start = time.perf_counter()
    evaluate(embeddings, split.test, split.train.matrix)
    seconds = time.perf_counter() - start
    return {"evaluate": seconds}


def random_embeddings(n_users: int, n_items: int, device: torch.device) -> Embeddings:
    """Gaussian vectors of all users and items."""
    generator = torch.Generator().manual_seed(0)
    users, items = (torch.randn(n, WIDTH, generator=generator) for n in (n_users, n_items))
    return Embeddings(users, items).to(device)


def _anew(pairs: Interactions) -> Interactions:
    """The same pairs, checked once more, and with nothing derived from them yet."""
    return Interactions(pairs.users, pairs.items, pairs.n_users, pairs.n_items)


def _epoch_seconds(model: Recommender, features: FrozenFeatures, sampler: Sampler) -> float:
    """The median of three whole epochs; of the largest size one."""
    epochs = 3 if len(sampler.train) < max(BATCHES) else 1
    options = TrainOptions(batch_size=sampler.batch_size, max_epochs=epochs, evaluate_every=epochs)
    fitted = fit(model, features, sampler, unmeasured, options)
    return median(record["seconds"] for record in fitted.history)


def _of_some_users(pairs: Interactions) -> Interactions:
    """The pairs of 10,000 users, spread over all."""
    users = np.linspace(0, pairs.n_users - 1, min(EVALUATED, pairs.n_users)).astype(np.int64)
    rows = np.isin(pairs.users, users)
    return Interactions(pairs.users[rows], pairs.items[rows], pairs.n_users, pairs.n_items)


@click.command(help=__doc__)
@click.argument("what", type=click.Choice([*MODELS, "evaluate"]))
@click.argument("size")
@click.option("--batch-size", type=int, help="Training pairs per step; the default suits the size.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
def main(what: str, size: str, batch_size: int | None, device: str) -> None:
    """Measure and print."""
    keep_freed_memory()
    place = resolve_device(device)
    if what == "evaluate":
        found = evaluate_all(SIZES[size], place)
    else:
        suits = batch_size or BATCHES.get(int(size), 2048)
        found = train_and_evaluate(what, scaled(int(size)), suits, place)
    print(json.dumps(found | {"peak": peak_bytes()}))


if __name__ == "__main__":
    main()
