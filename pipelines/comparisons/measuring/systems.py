"""From finished runs to systems: runs that differ in nothing but their seed."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from extract.errors import UserError
from pipelines.comparisons.measuring.feature_sets import FeatureSet
from pipelines.run_config import RunConfig, resolve_run
from pipelines.runs import METRICS, FinishedRun
from pipelines.workspace import RANDOM, SHUFFLED
from recommend.models import model_class

Control = Literal["random", "shuffled"]
NO_FEATURES = "none"
# Digests that all runs must share, and what to do where they do not.
SAME = {"users": "users", "items": "catalogue", "split": "split"}
# Of these a system's name tells, or they are of no matter to what a run finds.
NAMED = ("dataset", "features", "feature_source", "protocol", "run", "seed")
AS_FEATURES = ("features", "modalities")
SEPARATOR = " · "


@dataclass(frozen=True)
class Group:
    """The runs of one system, by rising seed.

    Attributes:
        name: Unique within the comparison.
        model: Its name.
        features: Name of the features; ``none`` of a model that uses none.
        regime: ``frozen``, ``tuned``, ``refresh`` or ``end-to-end``.
        control: Whether, and how, the features are no content.
        settings: Those that are not the model's defaults, dotted name to value.
        runs: One for each seed.
    """

    name: str
    model: str
    features: str
    regime: str
    control: Control | None
    settings: Mapping[str, str]
    runs: tuple[FinishedRun, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, rising."""
        return tuple(run.config.seed for run in self.runs)

    @property
    def uses_features(self) -> bool:
        """Whether the model sees more than interactions."""
        return model_class(self.model).uses_features

    @property
    def is_real(self) -> bool:
        """Whether it is given features that are no control."""
        return self.uses_features and self.control is None


def open_runs(folders: Sequence[Path]) -> list[FinishedRun]:
    """Finished runs that may be compared: of the same users, items, split and protocol.

    Raises:
        UserError: There is none, one is unfinished, or two differ in what they were measured on.
    """
    if not folders:
        raise UserError("there is no finished run to compare; make some with mmrec-compare")
    for folder in folders:
        if not (folder / METRICS).is_file():
            raise UserError(
                f"the run {folder} has no {METRICS}, so it did not finish; go on with it: "
                f"mmrec-train --resume {folder}"
            )
    runs = [FinishedRun.open(folder) for folder in sorted(set(folders))]
    for run in runs[1:]:
        _check_same(runs[0], run)
    return runs


def group_runs(runs: Iterable[FinishedRun], sets: Mapping[str, FeatureSet]) -> list[Group]:
    """Systems, by name.

    Args:
        runs: What `open_runs` gave.
        sets: What is known of the feature sets, by name.

    Raises:
        UserError: Two runs of one system have the same seed, or features of other content.
    """
    by_settings: dict[str, list[FinishedRun]] = defaultdict(list)
    for run in runs:
        by_settings[json.dumps(_identity(run), sort_keys=True)].append(run)
    groups = [_group(own, sets) for own in by_settings.values()]
    return sorted(_with_unique_names(groups), key=lambda group: group.name)


def feature_names(runs: Iterable[FinishedRun]) -> set[str]:
    """The feature sets that runs go back to; of ``shuffled:NAME`` that of NAME."""
    names = {features_of(run).removeprefix(SHUFFLED) for run in runs}
    return names - {RANDOM, NO_FEATURES}


def features_of(run: FinishedRun) -> str:
    """The name of a run's features; ``none`` of a model that uses none."""
    if not model_class(run.config.model["name"]).uses_features:
        return NO_FEATURES
    return str(run.metrics["features"])


def _check_same(one: FinishedRun, other: FinishedRun) -> None:
    ours, theirs = one.metrics["digests"], other.metrics["digests"]
    differing = [what for key, what in SAME.items() if ours[key] != theirs[key]]
    if one.config.protocol != other.config.protocol:
        differing.append(f"protocol ({one.config.protocol} and {other.config.protocol})")
    if differing:
        raise UserError(
            f"the runs {one.folder.name} and {other.folder.name} cannot be compared: another "
            f"{' and '.join(differing)}; compare runs of one state of the data set and one protocol"
        )


def _identity(run: FinishedRun) -> dict[str, Any]:
    """All settings that make a system; the seed makes a run of it."""
    own = {key: value for key, value in run.config.results().items() if key not in ("run", "seed")}
    if not model_class(run.config.model["name"]).uses_features:
        return {key: value for key, value in own.items() if key not in AS_FEATURES}
    return own | {"features": features_of(run)}


def _group(runs: Sequence[FinishedRun], sets: Mapping[str, FeatureSet]) -> Group:
    runs = sorted(runs, key=lambda run: run.config.seed)
    config, features = runs[0].config, features_of(runs[0])
    control = _control(features, sets)
    _check_seeds(runs)
    if control is None and config.encoder is None:
        _check_features(runs)
    regime = "" if config.feature_source == "frozen" else config.feature_source
    name = SEPARATOR.join(filter(None, (config.model["name"], features, regime)))
    settings = _own_settings(config)
    return Group(
        name, config.model["name"], features, config.feature_source, control, settings, tuple(runs)
    )


def _control(features: str, sets: Mapping[str, FeatureSet]) -> Control | None:
    if features.startswith(SHUFFLED):
        return "shuffled"
    made_at_random = features in sets and sets[features].kind == "random"
    return "random" if features == RANDOM or made_at_random else None


def _check_seeds(runs: Sequence[FinishedRun]) -> None:
    for one, other in pairwise(runs):
        if one.config.seed == other.config.seed:
            raise UserError(
                f"the runs {one.folder.name} and {other.folder.name} have the same settings and "
                f"the same seed, {one.config.seed}; compare one of the two"
            )


def _check_features(runs: Sequence[FinishedRun]) -> None:
    for run in runs[1:]:
        if run.metrics["digests"]["features"] != runs[0].metrics["digests"]["features"]:
            raise UserError(
                f"the runs {runs[0].folder.name} and {run.folder.name} differ in the content of "
                f"their features {features_of(run)}, which were made anew in between; train the "
                "older of the two again"
            )


def _own_settings(config: RunConfig) -> dict[str, str]:
    """Settings that are not the defaults of the model, dotted name to value."""
    usual: dict[str, Any] = {"model": {"name": config.model["name"]}}
    if config.encoder is not None:
        usual |= {"encoder": config.encoder, "feature_source": config.feature_source}
    own, default = (_flat(one.results()) for one in (config, resolve_run(usual)))
    left_out = (*NAMED, "encoder")
    return {
        key: _shown(value)
        for key, value in own.items()
        if key not in left_out and value != default.get(key)
    }


def _flat(settings: Mapping[str, Any], table: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{table}{key}.") if isinstance(value, dict) else {table + key: value}
    return flat


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _with_unique_names(groups: Sequence[Group]) -> list[Group]:
    """The groups, those of one name with the settings that tell them apart in theirs."""
    by_name: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        by_name[group.name].append(group)
    return [named for alike in by_name.values() for named in _told_apart(alike)]


def _told_apart(alike: Sequence[Group]) -> list[Group]:
    if len(alike) == 1:
        return list(alike)
    flat = [_flat(_identity(group.runs[0])) for group in alike]
    keys = _telling(flat)
    return [
        replace(group, name=SEPARATOR.join([group.name, *(_setting(own, key) for key in keys)]))
        for group, own in zip(alike, flat, strict=True)
    ]


def _telling(flat: Sequence[Mapping[str, Any]]) -> list[str]:
    """Keys of settings by which all differ: no more than it takes, the model's own first."""
    keys = sorted(set().union(*flat), key=lambda key: (not key.startswith("model."), key))
    chosen: list[str] = []
    for key in keys:
        if _kinds(flat, [*chosen, key]) > _kinds(flat, chosen):
            chosen.append(key)
    return chosen


def _kinds(flat: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> int:
    return len({json.dumps([own.get(key) for key in keys]) for own in flat})


def _setting(own: Mapping[str, Any], key: str) -> str:
    return f"{key.rpartition('.')[2]}={_shown(own.get(key))}"
