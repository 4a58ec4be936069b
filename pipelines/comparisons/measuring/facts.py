"""What ran on what: versions, machine, data, encoders; label to value, for people."""

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.comparisons.measuring.feature_sets import FeatureSet
from pipelines.comparisons.measuring.systems import SAME, Group
from pipelines.comparisons.planning.grid import UNTRAINED
from pipelines.comparisons.words import counted
from pipelines.runs import FinishedRun
from pipelines.workspace import Dataset, read_json
from recommend.interactions import InteractionLog

CPUINFO = Path("/proc/cpuinfo")
# Settings of a data set that say how its log was filtered and split.
SPLIT_SETTINGS = ("split", "ratios", "seed", "min_rating", "k_core")
GIVEN_SPLIT = "given"


def describe(dataset: Dataset) -> dict[str, Any]:
    """The content of dataset.json."""
    return dict(read_json(dataset.description))


def split_name(description: Mapping[str, Any]) -> str:
    """How the log was split; ``given`` where it came so."""
    return str(description.get("settings", {}).get("split", GIVEN_SPLIT))


def facts(
    groups: Sequence[Group],
    sets: Mapping[str, FeatureSet],
    log: InteractionLog,
    description: Mapping[str, Any],
) -> dict[str, str]:
    """The facts of a comparison.

    Args:
        groups: The systems.
        sets: Their feature sets, by name.
        log: The data set's log.
        description: The content of dataset.json.
    """
    runs = [run for group in groups for run in group.runs]
    versions = sorted({str(run.metrics["digests"].get("code", "unknown")) for run in runs})
    digests = {what: runs[0].metrics["digests"][key] for key, what in SAME.items()}
    told = {
        "versions": "; ".join(versions),
        "machine that compared": machine(),
        "trained on": ", ".join(sorted({_device(run) for run in runs} - {"auto"})),
        "runs": _runs(groups),
        "best in the first epoch": ", ".join(_unlearned(groups)),
        "data": _data(log),
        "split": _split(description),
        "digests": ", ".join(f"{what} {value}" for what, value in digests.items()),
    }
    for name, own in sets.items():
        told[f"features {name}"] = _features(own)
    return {label: value for label, value in told.items() if value}


def _device(run: FinishedRun) -> str:
    """What a run was trained on; of older runs what was asked for, which may be ``auto``."""
    return str(run.metrics.get("device", run.config.device))


def machine() -> str:
    """This machine: its processor, cores, memory and accelerator."""
    import torch

    parts = [processor(), f"{os.cpu_count()} cores", f"{_memory_gib():.0f} GiB of memory"]
    parts += [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    return ", ".join(parts)


def processor() -> str:
    """The processor's name; that of its architecture where the system tells no more."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next((name for name in names if name), platform.machine())


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _runs(groups: Sequence[Group]) -> str:
    counts = sorted({len(group.runs) for group in groups})
    each = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    seeds = sorted({seed for group in groups for seed in group.seeds})
    total = sum(len(group.runs) for group in groups)
    told = f"{counted(total, 'run')} of {counted(len(groups), 'system')}, {each} of each"
    return f"{told}; seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def _unlearned(groups: Sequence[Group]) -> Iterator[str]:
    """Systems that training only made worse, in all their runs: their settings do not fit."""
    for group in groups:
        selections = [run.metrics["selection"] for run in group.runs]
        trained = group.model not in UNTRAINED
        if trained and all(selection["epoch"] <= 1 for selection in selections):
            yield group.name


def _data(log: InteractionLog) -> str:
    split = log.split
    cold = int((split.train.item_degrees == 0).sum())
    parts = ", ".join(
        f"{len(part):,} {name}" for name, part in zip(split._fields, split, strict=True)
    )
    told = f"{len(log.users):,} users, {len(log.items):,} items, interactions: {parts}"
    return f"{told}; {cold:,} items are in no training interaction" if cold else told


def _split(description: Mapping[str, Any]) -> str:
    settings = {"split": split_name(description), **description.get("settings", {})}
    return ", ".join(
        f"{name} {_plain(settings[name])}" for name in SPLIT_SETTINGS if name in settings
    ).removeprefix("split ")


def _plain(value: Any) -> str:
    return "/".join(map(str, value)) if isinstance(value, list) else str(value)


def _features(own: FeatureSet) -> str:
    kind = "of an unknown encoder" if own.kind == "unknown" else own.kind
    family, _, folder = own.spec.partition(":")
    spec = f"{family}:{Path(folder).name}" if own.tuned else own.spec
    told = f"{spec} ({kind}{', tuned' if own.tuned else ''}), fingerprint {own.fingerprint}"
    return f"{told}, {own.precision}" if own.precision else told
