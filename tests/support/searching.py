"""Searches on the shop of `support.shop`, small enough for a second each."""

from pathlib import Path

import optuna

from pipelines.comparisons.searching.search import SearchOptions, search
from pipelines.progress import Reporter
from pipelines.run_config import resolve_run
from pipelines.workspace import Workspace

QUICK = {"max_epochs": 5, "batch_size": 64, "learning_rate": 0.02}


class Told(Reporter):
    """Keeps what it is told."""

    def __init__(self):
        super().__init__(quiet=True)
        self.lines = []

    def say(self, text):
        self.lines.append(text)


def settings(model="bpr", features="good", train=None, **others):
    """A run of the shop, short of everything."""
    model = {"name": model} if isinstance(model, str) else model
    table = {"dataset": "shop", "features": features, "model": model, **others}
    return resolve_run({**table, "train": {**QUICK, **(train or {})}})


def run_search(root, config=None, trials=6, storage=None, name="s", reporter=None, **options):
    """Search in a workspace; few trials come before the first that may be pruned."""
    options = SearchOptions(trials, **{"startup": 3, "warmup": 2, **options})
    storage = storage or Path(root) / "search.db"
    config = config or settings()
    return search(config, Workspace(Path(root)), options, storage, name, reporter or Told())


def studies(storage):
    """All trials in a file, by study, in the order in which they were begun."""
    url = f"sqlite:///{storage}"
    names = optuna.get_all_study_names(url)
    return {name: optuna.load_study(study_name=name, storage=url).trials for name in names}


def trials_of(storage):
    """What was tried in the only study of a file, but for trials that were killed."""
    (trials,) = studies(storage).values()
    return told(
        [trial for trial in trials if trial.state.name != "FAIL" or "error" in trial.user_attrs]
    )


def told(trials):
    """All of some trials but times and numbers: state, settings, value, values by epoch."""
    return [
        (trial.state.name, trial.params, trial.values, trial.intermediate_values)
        for trial in trials
    ]
