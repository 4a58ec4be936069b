"""Trainings that are killed again and again and resumed, against ones that are not.

python -m benchmarks.resume [--kills 20] [--seed 0] [--json FILE]

`mmrec-train` runs in a process of its own on the toy shop, gets SIGKILL at a random moment, and is
resumed with `--resume`, until that many kills are done. Whenever a run comes to its end, its files
are compared byte by byte with those of an undisturbed run, and the next one starts. Epochs that
were trained more than once are counted: at most those since the last checkpoint.
"""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import click

from benchmarks.output import Row, print_rows, write_rows
from pipelines import prepare
from pipelines.progress import Reporter
from pipelines.sources.toy import ToyConfig
from pipelines.workspace import Workspace

FOLDER = Path("runs/toy/killed")
FILES = (
    "embeddings.safetensors",
    "model.safetensors",
    "per_user.parquet",
    "recommendations.parquet",
)
# Models that draw in every way: a graph in each epoch, dropout in each step; and tuned features.
CASES = (
    ("--model", "freedom", "--feature-source", "tuned"),
    ("--model", "bm3"),
    ("--model", "lightgcn"),
)
EPOCHS = 120
CHECKPOINT_SECONDS = 0.3


@dataclass(frozen=True)
class Whole:
    """An undisturbed run.

    Attributes:
        seconds: How long its process took.
        training: How long it took from the first epoch's end to the last's.
        results: Its files' content.
    """

    seconds: float
    training: float
    results: dict[str, bytes]


@dataclass
class Outcome:
    """What became of a series of kills.

    Attributes:
        kills: Processes that were killed while they ran.
        went_on: Processes that went on from a checkpoint.
        finished: Runs that came to their end.
        epochs: Epochs of those.
        repeated: Epochs that were trained more than once.
        unequal: Files that differ from those of the undisturbed run.
    """

    kills: int = 0
    went_on: int = 0
    finished: int = 0
    epochs: int = 0
    repeated: int = 0
    unequal: list[str] = field(default_factory=list)


def write_shop(root: Path, items: int = 800, users: int = 1000) -> None:
    """The toy shop, without features: the training's own random ones do."""
    config = ToyConfig(items=items, users=users)
    prepare.run("toy", config, Workspace(root), Reporter(quiet=True))


def killed_runs(
    root: Path,
    kills: int,
    seed: int,
    cases: Sequence[Sequence[str]] = CASES,
    epochs: int = EPOCHS,
) -> Outcome:
    """Kill trainings at random moments until `kills` are done, and the last run has finished.

    Args:
        root: A workspace with the toy shop.
        kills: How many.
        seed: Of the moments.
        cases: Options of the runs, which take turns.
        epochs: Of each run.
    """
    beginnings = [_beginning(root, case, epochs) for case in cases]
    wholes = [_undisturbed(root, beginning) for beginning in beginnings]
    moments, outcome = random.Random(seed), Outcome()
    for beginning, whole in cycle(zip(beginnings, wholes, strict=True)):
        while not (root / FOLDER / "metrics.json").exists():
            _go_on(root, beginning, whole, moments if outcome.kills < kills else None, outcome)
        found = results(root / FOLDER)
        outcome.finished += 1
        outcome.epochs += epochs
        outcome.unequal += [n for n in found if found[n] != whole.results[n]]
        shutil.rmtree(root / FOLDER)
        if outcome.kills >= kills:
            return outcome
    raise AssertionError


def results(folder: Path) -> dict[str, bytes]:
    """The content of a finished run's files, but for its times."""
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics.pop("seconds")
    records = map(json.loads, (folder / "history.jsonl").read_text().splitlines())
    history = [{k: v for k, v in record.items() if "second" not in k} for record in records]
    files = {name: (folder / name).read_bytes() for name in FILES}
    texts = {"metrics.json": metrics, "history.jsonl": history}
    return files | {name: json.dumps(value).encode() for name, value in texts.items()}


def _beginning(root: Path, case: Sequence[str], epochs: int) -> list[str]:
    settings = {"max_epochs": epochs, "patience": epochs, "batch_size": 256}
    sets = [f"--set=train.{name}={value}" for name, value in settings.items()]
    every = ("--checkpoint-seconds", str(CHECKPOINT_SECONDS), "--run", FOLDER.name)
    return ["--root", str(root), "--features", "random", *case, *every, *sets]


def _start(arguments: Sequence[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pipelines.cli", "train", *arguments]
    devnull, pipe = subprocess.DEVNULL, subprocess.PIPE
    return subprocess.Popen(command, stdout=devnull, stderr=pipe, text=True)


def _undisturbed(root: Path, beginning: Sequence[str]) -> Whole:
    start = time.monotonic()
    process = _start(beginning)
    _wait_for_epoch(root / FOLDER, process, None)
    first = time.monotonic()
    _check_end(process)
    end = time.monotonic()
    whole = Whole(end - start, end - first, results(root / FOLDER))
    shutil.rmtree(root / FOLDER)
    return whole


def _go_on(
    root: Path,
    beginning: Sequence[str],
    whole: Whole,
    moments: random.Random | None,
    outcome: Outcome,
) -> None:
    """Start or resume the run, and kill its process at one of the moments, if there are such."""
    folder = root / FOLDER
    begun = (folder / "config.toml").exists()
    done, size = _epochs(folder), _size(folder)
    process = _start(["--root", str(root), "--resume", FOLDER.name] if begun else beginning)
    if moments is not None:
        if moments.random() < 0.75:  # else it is likely to die before its first epoch
            _wait_for_epoch(folder, process, size)
            time.sleep(moments.uniform(0, 0.5 * whole.training))
        else:
            time.sleep(moments.uniform(0, whole.seconds))
        process.kill()
    told = _check_end(process)
    outcome.kills += process.returncode < 0
    after = re.search(r"goes on after epoch (\d+)", told)
    outcome.went_on += after is not None
    if after or "starts from the beginning" in told:
        outcome.repeated += done - int(after[1] if after else 0)


def _check_end(process: subprocess.Popen[str]) -> str:
    """What a process said; it has ended well, or was killed."""
    told = process.communicate()[1]
    if process.returncode > 0:
        raise RuntimeError(f"a training ended with code {process.returncode}: {told}")
    return told


def _wait_for_epoch(folder: Path, process: subprocess.Popen[str], size: int | None) -> None:
    """Wait until history.jsonl has another size than that one, or the process has ended."""
    while process.poll() is None and _size(folder) in (None, size):
        time.sleep(0.002)


def _size(folder: Path) -> int | None:
    path = folder / "history.jsonl"
    return path.stat().st_size if path.exists() else None


def _epochs(folder: Path) -> int:
    path = folder / "history.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def rows_of(outcome: Outcome) -> list[Row]:
    """What was measured; unequal files are the point."""
    return [
        Row("resume/kills", outcome.kills, "processes"),
        Row("resume/went_on", outcome.went_on, "processes"),
        Row("resume/finished", outcome.finished, "runs"),
        Row("resume/unequal_files", len(outcome.unequal), "files", reference=0),
        Row("resume/epochs", outcome.epochs, "epochs"),
        Row("resume/epochs_repeated", outcome.repeated, "epochs"),
    ]


@click.command(help=__doc__)
@click.option("--kills", default=20, show_default=True, help="How many.")
@click.option("--seed", default=0, show_default=True, help="Of the moments.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Where to write the table.")
def main(kills: int, seed: int, file: Path | None) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        write_shop(Path(folder))
        outcome = killed_runs(Path(folder), kills, seed)
    rows = rows_of(outcome)
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print_rows(f"Trainings killed at random moments and resumed, {threads} threads", rows)
    if file:
        write_rows(file, rows)
    if outcome.unequal:
        sys.exit(1)


if __name__ == "__main__":
    main()
