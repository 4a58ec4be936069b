"""The four regimes on MovieLens-100K, each run in a process of its own.

python -m benchmarks.end_to_end_films WORKSPACE MODEL REGIME SEED [DEVICE]

All start from the features of the encoder `benchmarks.films.PAIR` and train for as many epochs. The
regimes with an encoder use the features as they are for most of them; end to end the last blocks of
both towers and the projections are trained in those that are left.
"""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from scipy import stats

from benchmarks.films import DATASET, PAIR, tuned_pair
from benchmarks.finetune import LAST_BLOCKS
from benchmarks.output import Row
from extract.files import write_json
from pipelines import extraction, training
from pipelines.cli import keep_freed_memory
from pipelines.devices import resolve_device
from pipelines.extraction import ExtractionConfig
from pipelines.memory import peak_bytes
from pipelines.progress import Reporter
from pipelines.run_config import RunConfig, resolve_run
from pipelines.runs import METRICS
from pipelines.workspace import Workspace, read_json

MODELS, SEEDS = ("vbpr", "freedom"), (0, 1, 2)
REGIMES = ("frozen", "tuned", "refresh", "end-to-end")
WARM_EPOCHS, LIVE_EPOCHS = 150, 4
TRAIN: dict[str, Any] = {"batch_size": 8192, "learning_rate": 2e-3}
ENCODER: dict[str, Any] = {"chunk_size": 128, "precision": "bf16"}
# The rates rise within the few steps that there are: six an epoch.
TRAINED: dict[str, Any] = {
    "train": (*LAST_BLOCKS, r"heads\.=1e-3"),
    "encoder_rate": 1e-4,
    "warmup_steps": 5,
}
PEAK = "peak.json"  # in a run's folder: what its process held


def films(
    workspace: Workspace,
    device: str,
    reporter: Reporter,
    models: Sequence[str] = MODELS,
    seeds: Sequence[int] = SEEDS,
) -> Iterator[Row]:
    """The test figures of every regime, and what it took; finished runs are not made again."""
    tuned_pair(workspace, device, reporter)
    made = ExtractionConfig(encoder=PAIR, dataset=DATASET, device=device)
    extraction.run(made, workspace, reporter)
    found: dict[tuple[str, str], list[Path]] = {}
    for seed in seeds:
        for model in models:
            for regime in REGIMES:
                folder = workspace.new_run(DATASET, run_name(model, regime, seed))
                if not (folder / METRICS).is_file():
                    apart(workspace, model, regime, seed, device)
                found.setdefault((model, regime), []).append(folder)
    for model in models:
        frozen = found[model, "frozen"]
        for regime in REGIMES:
            yield from regime_rows(f"films/{model}/{regime}", found[model, regime], frozen)


def regime_rows(name: str, runs: Sequence[Path], frozen: Sequence[Path]) -> Iterator[Row]:
    """Means over seeds, of the figures with half their 95 % interval.

    Args:
        name: Of model and regime.
        runs: Folders, one a seed.
        frozen: Those of the same seeds with frozen features.
    """
    told, reference = ([read_json(run / METRICS) for run in folders] for folders in (runs, frozen))
    unit = f"mean of {len(runs)}"
    for metric in ("recall@20", "ndcg@20"):
        values, usual = ([each["test"][metric] for each in of] for of in (told, reference))
        yield Row(f"{name}/{metric}", float(np.mean(values)), unit, float(np.mean(usual)))
        if len(values) > 1:
            yield Row(f"{name}/{metric}/interval", half_interval(values), "half of 95 %")
            gains = np.subtract(values, usual)
            yield Row(f"{name}/{metric}/gain", float(gains.mean()), "over frozen, by seed")
            yield Row(f"{name}/{metric}/gain/interval", half_interval(gains), "half of 95 %")
    seconds, usual = ([each["seconds"] for each in of] for of in (told, reference))
    yield Row(f"{name}/seconds", float(np.mean(seconds)), f"s, {unit}", float(np.mean(usual)))
    epochs = [each["selection"]["epoch"] for each in told]
    yield Row(f"{name}/epoch", float(np.mean(epochs)), f"{unit}, the best one")
    peaks = [read_json(run / PEAK)["bytes"] for run in runs if (run / PEAK).is_file()]
    if peaks:
        yield Row(f"{name}/peak", max(peaks) / 2**20, "MB, the most of a process")


def half_interval(values: Sequence[float] | np.ndarray) -> float:
    """Half of the 95 % interval of a mean, by Student's t."""
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    return float(stats.t.ppf(0.975, len(values) - 1) * error)


def run_name(model: str, regime: str, seed: int) -> str:
    """The same whatever the settings, so that the run is found again."""
    return f"{model}-{regime}-s{seed}"


def settings(model: str, regime: str, seed: int, device: str) -> RunConfig:
    """Equal epochs in all regimes, of which none ends early."""
    epochs = WARM_EPOCHS + LIVE_EPOCHS
    given: dict[str, Any] = {
        "dataset": DATASET,
        "features": PAIR,
        "model": {"name": model},
        "feature_source": regime,
        "run": run_name(model, regime, seed),
        "seed": seed,
        "device": device,
        "train": {"max_epochs": epochs, "patience": epochs + 1, **TRAIN},
    }
    if regime in ("refresh", "end-to-end"):
        own = TRAINED if regime == "end-to-end" else {}
        live = {"warm_epochs": WARM_EPOCHS, **ENCODER, **own}
        given |= {"encoder": PAIR, "end_to_end": live}
    return resolve_run(given)


def apart(workspace: Workspace, model: str, regime: str, seed: int, device: str) -> None:
    """One run in a new process, so that its memory is its own."""
    words = [str(workspace.root), model, regime, str(seed), device]
    subprocess.run([sys.executable, "-m", "benchmarks.end_to_end_films", *words], check=True)


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("model", type=click.Choice(MODELS))
@click.argument("regime", type=click.Choice(REGIMES))
@click.argument("seed", type=int)
@click.argument("device", default="auto")
def main(folder: Path, model: str, regime: str, seed: int, device: str) -> None:
    """Train, and note the memory."""
    keep_freed_memory()
    config = settings(model, regime, seed, device)
    run = training.run(config, Workspace(folder), Reporter())
    write_json(run.folder / PEAK, {"bytes": peak_bytes(resolve_device(device))})


if __name__ == "__main__":
    main()
