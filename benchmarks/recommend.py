"""How fast recommenders train and are evaluated, beside plain code and what the machine can do.

python -m benchmarks.recommend [--data DIR] [--quick] [--json FILE] [--device ...]

Epochs of all models at the sizes of Amazon Baby and Sports (the real logs where they lie under DIR,
else simulated ones; the vectors are simulated), d = 64, batches of 2,048. LightGCN and FREEDOM
stand beside plainly written ones of the same run, measured by turns; others beside figures measured
elsewhere, scaled by what plain LightGCN takes on the two machines. An epoch is not trained to its
end: benchmarks/epochs.py says what is counted. Evaluation of all users stands beside a plain loop
over 500 of them, scaled to all. Floors: benchmarks/floors.py. Growth: benchmarks/scale.py.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median

import click
import numpy as np
import torch

from benchmarks.epochs import Plan
from benchmarks.floors import Machine, clock, scoring_work
from benchmarks.output import Row, print_rows, write_rows
from benchmarks.plain_evaluation import plain_evaluation
from benchmarks.published import DEFAULT_DATA
from benchmarks.scale import BATCHES, WIDTH, apart, growth_rows, random_embeddings
from benchmarks.scale import MODELS as GROWING
from benchmarks.simulated import SIZES, simulated_features, simulated_split
from benchmarks.training_speed import Bench, compared, epoch_rows
from pipelines import prepare
from pipelines.cli import keep_freed_memory
from pipelines.devices import resolve_device
from pipelines.loading import load_log
from pipelines.progress import Reporter
from pipelines.sources.inter import InterConfig
from pipelines.workspace import Workspace
from recommend.evaluate import evaluate
from recommend.interactions import Split

FULL, QUICK = Plan(rounds=5, warmup=2, steps=12), Plan(rounds=3, warmup=1, steps=5)
SAMPLED_USERS = 500


def evaluation_rows(bench: Bench) -> list[Row]:
    """All users of the test split, beside a plain loop over some of them and the scores alone."""
    train, test = bench.split.train, bench.split.test
    users = np.flatnonzero(test.user_degrees)
    sample = users[np.linspace(0, len(users) - 1, min(SAMPLED_USERS, len(users))).astype(int)]
    embeddings = random_embeddings(train.n_users, train.n_items, bench.device)
    vectors = [each.cpu().numpy() for each in (embeddings.users, embeddings.items)]
    ours, plain = [], []
    for _ in range(bench.plan.rounds):
        start = clock(bench.device)
        evaluate(embeddings, test, train.matrix)
        ours.append(clock(bench.device) - start)
        start = clock(bench.device)
        plain_evaluation(vectors[0], vectors[1], train, test, sample)
        plain.append((clock(bench.device) - start) * len(users) / len(sample))
        bench.reporter.say(f"{len(users)} users: {ours[-1]:.2f} s, plainly {plain[-1]:.1f} s")
    floor = scoring_work(len(users), train.n_items, WIDTH).seconds(bench.machine)
    return [compared(f"evaluate/{bench.name}", median(ours), median(plain), floor)]


def real_split(name: str, data: Path, reporter: Reporter) -> Split | None:
    """The log of that data set in the MMRec form, if it is there."""
    file = data / f"amazon_{name}" / f"{name}.inter.tsv"
    if not file.is_file():
        return None
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        prepare.run("inter", InterConfig(dataset=name, interactions=file), workspace, reporter)
        return load_log(workspace.dataset(name)).split


def size_rows(
    name: str, data: Path, machine: Machine, plan: Plan, reporter: Reporter
) -> tuple[str, list[Row]]:
    """All figures of one size, and what they are figures of."""
    real = real_split(name, data, reporter)
    told = f"{name}: {'the real' if real else 'a simulated'} log, simulated vectors"
    split = real or simulated_split(SIZES[name])
    store = simulated_features(replace(SIZES[name], items=split.train.n_items))
    bench = Bench(name, split, store, machine, plan, reporter)
    with tempfile.TemporaryDirectory() as folder:
        rows = epoch_rows(bench, Path(folder))
    rows += evaluation_rows(bench)
    peak = apart("evaluate", name, "--device", str(machine.device))["peak"]
    return told, [*rows, Row(f"evaluate/{name}/peak", peak / 1e6, "MB")]


def measure(
    data: Path, quick: bool, device: torch.device, reporter: Reporter
) -> Iterator[tuple[str, list[Row]]]:
    """All tables, one after the other."""
    machine = Machine.measured(device)
    yield (
        "the machine",
        [
            Row("machine/copy", machine.bandwidth / 1e9, "GB/s"),
            Row("machine/matmul", machine.rate / 1e9, "GFLOP/s"),
        ],
    )
    # First, as this process is still small, and the largest size needs the machine's memory.
    for model in () if quick else GROWING:
        rows = []
        for interactions in BATCHES:
            reporter.say(f"{model}, {interactions} interactions")
            rows += growth_rows(machine, model, interactions)
        yield f"{model}, by the number of interactions", rows
    for name in ("baby",) if quick else SIZES:
        yield size_rows(name, data, machine, QUICK if quick else FULL, reporter)


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path), default=DEFAULT_DATA, show_default=True)
@click.option("--quick", is_flag=True, help="Baby only, few steps, in less than five minutes.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Where to write the tables.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
def main(data: Path, quick: bool, file: Path | None, device: str) -> None:
    """Measure and print."""
    keep_freed_memory()
    place, every = resolve_device(device), []
    for told, rows in measure(data, quick, place, Reporter()):
        print_rows(told, rows)
        every += rows
        if file:
            write_rows(file, every, place.type)


if __name__ == "__main__":
    main()
