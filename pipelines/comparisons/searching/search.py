"""Search for a model's settings, judged on validation; what is held out for the test is not there.

The log is loaded without its test rows, so that neither the sampler nor a trial could look at them,
nor at users that only they have. The first trial is the settings themselves: what is chosen is
never worse on validation than they are.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from extract.errors import UserError
from extract.files import digest
from pipelines.assembling import Parts, assemble, rebuilt, with_names
from pipelines.comparisons.searching.studies import (
    ERROR,
    finished,
    load_optuna,
    opened,
    seed_sampler,
    told_to,
)
from pipelines.comparisons.searching.trial_settings import (
    Settings,
    as_they_are,
    by_table,
    overridden,
    space_of,
    suggest,
)
from pipelines.loading import load_log
from pipelines.progress import Reporter
from pipelines.run_config import RunConfig
from pipelines.training_job import fit_parts
from pipelines.workspace import Workspace
from recommend.search_space import SearchSpace
from recommend.sources import LIVE
from recommend.state import Record

if TYPE_CHECKING:
    from optuna import Study, Trial

# The parts of the log that a search is handed.
SEEN = ("train", "validation")
# What marks the trial of the settings as they are.
BASE = "base"


@dataclass(frozen=True)
class SearchOptions:
    """How a search goes.

    Args:
        trials: How many settings are tried, those as they are among them.
        seed: Of what is tried.
        startup: Trials before the others are learned from, and before any is pruned.
        warmup: Epochs of a trial before it may be pruned.

    Raises:
        UserError: A number is too small.
    """

    trials: int = 20
    seed: int = 0
    startup: int = 5
    warmup: int = 10

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name, least in (("trials", 1), ("seed", 0), ("startup", 1), ("warmup", 0)):
            if getattr(self, name) < least:
                raise UserError(
                    f"a search needs {name} of {least} or more, found {getattr(self, name)}"
                )


@dataclass(frozen=True)
class Chosen:
    """What a search ended with.

    Attributes:
        settings: The best settings, of those that are searched: ``{"model": {...}, "train":
            {...}}``; `trial_settings.overridden` puts them in their place.
        value: Their value of the selection metric on validation.
        trials: How many settings were tried.
        pruned: How many of them were given up early.
        failed: How many ended with an error, such as a loss that is not finite.
    """

    settings: Settings
    value: float
    trials: int
    pruned: int = 0
    failed: int = 0


def search(
    config: RunConfig,
    workspace: Workspace,
    options: SearchOptions,
    storage: Path,
    name: str,
    reporter: Reporter,
) -> Chosen:
    """Try settings of a model and of its training, and give the best by validation.

    The same call goes on with a search that was killed, and a call with more trials with one that
    has ended.

    Args:
        config: The settings to start from; their epochs and patience hold for every trial.
        workspace: Where the data lie.
        options: How to search.
        storage: The SQLite file of trials, which searches of other processes may share.
        name: What the search is called; with a digest of all that decides it, the study's name.
        reporter: Where progress goes.

    Raises:
        UserError: The regime has an encoder, the data cannot be used, every trial failed, or
            another process does the same search.
    """
    load_optuna()
    if config.feature_source in LIVE:
        raise UserError(
            f"settings are searched on cached features, as an encoder in every step costs too much;"
            f" found the regime {config.feature_source}; search with --feature-source frozen"
        )
    config = with_names(config, workspace)
    log = load_log(workspace.dataset(config.dataset), SEEN)
    parts = assemble(config, workspace, reporter, log)
    space = space_of(parts)
    study_name = f"{name}-{_made_from(parts, space, options)}"
    with opened(storage, study_name, options.startup, options.warmup) as study:
        # Where nothing can be tried, the settings as they are are all there is.
        wanted = options.trials if space else 1
        while len(finished(study)) < wanted:
            seed_sampler(study, options.seed, options.startup)
            told = _try_one(study, parts, space)
            reporter.say(f"{name}: trial {len(finished(study))} of {wanted}: {told}")
        return _chosen(study, config, space, wanted)


def _made_from(parts: Parts, space: SearchSpace, options: SearchOptions) -> str:
    """A digest of all that decides which trials there are, and their values."""
    settings = parts.config.results()
    del settings["run"]
    told = {
        "data": parts.digests,
        "settings": settings,
        "space": {name: repr(values) for name, values in space.items()},
        "options": [options.seed, options.startup, options.warmup],
    }
    return digest([json.dumps(told, sort_keys=True)])


def _try_one(study: "Study", parts: Parts, space: SearchSpace) -> str:
    """One trial, from its settings to its end; what to tell of it."""
    optuna = load_optuna()
    states = optuna.trial.TrialState
    trial = _next(study, parts.config, space)
    settings = by_table(trial.params, parts.config, space)
    try:
        value = _value(parts, settings, told_to(study, trial))
    except optuna.TrialPruned:
        study.tell(trial, state=states.PRUNED)
        return "given up early"
    except Exception as error:  # a defect of one setting, or too little memory for it
        told = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        trial.set_user_attr(ERROR, told)
        study.tell(trial, state=states.FAIL)
        return f"failed: {told}"
    study.tell(trial, value)
    return f"{parts.config.train.selection} {value:.4f}, the best is {study.best_value:.4f}"


def _value(parts: Parts, settings: Settings, tell: Callable[[int, float], None]) -> float:
    """The selection metric on validation, of a model that is trained with some settings."""
    config = overridden(parts.config, settings)
    metric = config.train.selection

    def on_epoch(record: Record) -> None:
        if "validation" in record:
            tell(record["epoch"], record["validation"][metric])

    return fit_parts(rebuilt(parts, config), None, on_epoch).validation.means()[metric]


def _next(study: "Study", config: RunConfig, space: SearchSpace) -> "Trial":
    """The next trial with its settings: at first those as they are, then what is suggested."""
    base = as_they_are(config, space)
    # A setting may start outside of its space, and has then no value there in the first trial.
    inside = {name: value for name, value in base.items() if space[name].holds(value)}
    waiting = any(trial.state.name == "WAITING" for trial in study.get_trials(deepcopy=False))
    if not finished(study) and not waiting:
        study.enqueue_trial(inside, {BASE: True})
    trial = study.ask()
    for name in inside if BASE in trial.user_attrs else space:
        suggest(trial, name, space[name])
    return trial


def _chosen(study: "Study", config: RunConfig, space: SearchSpace, wanted: int) -> Chosen:
    """The best complete trial, of equal ones the first; of more than were wanted the first ones."""
    trials = finished(study)[:wanted]
    failed = [trial for trial in trials if ERROR in trial.user_attrs]
    complete = [trial for trial in trials if trial.state.name == "COMPLETE"]
    if not complete:
        raise UserError(
            f"none of {len(trials)} trials of {config.model['name']} came to an end; the first "
            f"one: {failed[0].user_attrs[ERROR]}"
        )
    best = max(complete, key=lambda trial: (trial.values[0], -trial.number))
    return Chosen(
        settings=by_table(best.params, config, space),
        value=best.values[0],
        trials=len(trials),
        pruned=len(trials) - len(complete) - len(failed),
        failed=len(failed),
    )
