"""The settings that a search varies: by flat names to a sampler, by tables to a run."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipelines.assembling import Parts
from pipelines.run_config import RunConfig, resolve_run
from recommend.models import model_class
from recommend.search_space import Choice, Range, SearchSpace
from recommend.train import TrainOptions

if TYPE_CHECKING:
    from optuna import Trial

# Values of settings by table: ``{"model": {...}, "train": {...}}``.
Settings = dict[str, dict[str, Any]]


def overridden(config: RunConfig, settings: Mapping[str, Mapping[str, Any]]) -> RunConfig:
    """The same run with some settings of its model and of its training in place of its own.

    Args:
        config: The run.
        settings: By table.

    Raises:
        UserError: They are none of the model's, or of no use together.
    """
    own = config.model_dump(exclude_none=True)
    tables = {table: {**own[table], **values} for table, values in settings.items()}
    return resolve_run({**own, **tables})


def space_of(parts: Parts) -> SearchSpace:
    """What is searched, by ``model.<setting>`` and ``train.<setting>``."""
    own = model_class(parts.config.model["name"]).config_class.search_space
    space = {f"model.{name}": values for name, values in own.items()}
    if parts.sampler is not None:  # of a model that is trained
        space |= {f"train.{name}": values for name, values in TrainOptions.search_space.items()}
    return space


def suggest(trial: "Trial", name: str, values: Choice | Range) -> None:
    """Have a trial take a value of the space."""
    if isinstance(values, Choice):
        trial.suggest_categorical(name, values.values)
    elif values.integer:
        trial.suggest_int(name, int(values.low), int(values.high), log=values.log)
    else:
        trial.suggest_float(name, values.low, values.high, log=values.log)


def as_they_are(config: RunConfig, space: SearchSpace) -> dict[str, Any]:
    """The settings as they are, by the names of the space."""
    own = {"model": config.model, "train": config.train.model_dump()}
    return {f"{table}.{name}": own[table][name] for table, name in map(_parted, space)}


def by_table(tried: Mapping[str, Any], config: RunConfig, space: SearchSpace) -> Settings:
    """A trial's settings by table; those that it says nothing of are as they are."""
    settings: Settings = {"model": {}, "train": {}}
    for key, value in {**as_they_are(config, space), **tried}.items():
        table, name = _parted(key)
        settings[table][name] = value
    return settings


def _parted(key: str) -> tuple[str, str]:
    table, _, name = key.partition(".")
    return table, name
