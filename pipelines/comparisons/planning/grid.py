"""The grid of a comparison: features x models x regimes x seeds, each cell the settings of a run.

A cell's run has the name that ``mmrec-train`` would give it, so that a run that is there already,
whoever trained it, is the cell's.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from extract.errors import UserError, unknown_name
from extract.manifest import Manifest
from extract.shards import MODALITIES
from pipelines.assembling import with_names
from pipelines.comparisons.planning.compare_config import FROZEN
from pipelines.comparisons.planning.compare_config import CompareConfig as CompareConfig
from pipelines.overwriting import finished_features
from pipelines.run_config import TRAINED_ONLY, RunConfig, resolve_run
from pipelines.workspace import RANDOM, SHUFFLED, Dataset, Workspace
from recommend.models import model_class
from recommend.sources import LIVE

# These have no parameters, so that no regime but frozen has anything to learn.
UNTRAINED = frozenset({"popularity", "itemknn"})


@dataclass(frozen=True)
class Cell:
    """One run of the grid.

    Attributes:
        config: Its settings, with all names.
    """

    config: RunConfig

    @property
    def name(self) -> str:
        """The run's name."""
        return self.config.run or ""

    @property
    def system(self) -> str:
        """What its runs with other seeds have in common, as a name of a file."""
        config = self.config
        parts = (config.model["name"], config.features or config.encoder, config.feature_source)
        return "-".join(str(part) for part in parts).replace(":", "-").replace("/", "-")


def cells(config: CompareConfig, workspace: Workspace) -> list[Cell]:
    """All runs of a grid, seed by seed, so that what is there early is balanced.

    Models without features have one column, and only real features have other regimes than frozen.

    Args:
        config: The grid.
        workspace: Where the data set lies.

    Raises:
        UserError: A name is unknown, settings are wrong, or there is nothing to compare.
    """
    dataset = workspace.dataset(config.dataset)
    _check(config)
    features = _features(config, dataset)
    # Resolved once for all seeds: wrong settings are told before anything runs.
    systems = [
        resolve_run({**_settings(config, model), **column, "dataset": dataset.name})
        for model in dict.fromkeys(config.models)
        for column in _columns(config, model, features)
    ]
    if not systems:
        raise UserError(f"no cell is left of this grid; {'; '.join(left_out(config))}")
    seeds = dict.fromkeys(config.seeds)
    seeded = (each.model_copy(update={"seed": seed}) for seed in seeds for each in systems)
    grid = [Cell(with_names(each, workspace)) for each in seeded]
    _check_names(grid)
    return grid


def real_features(grid: Iterable[Cell]) -> tuple[str, ...]:
    """The names of cached features in a grid that are no controls."""
    names = dict.fromkeys(cell.config.features for cell in grid)
    return tuple(name for name in names if name not in (None, "none") and not is_control(name))


def left_out(config: CompareConfig) -> list[str]:
    """Sentences on models that take no part in some of the regimes that were asked for."""
    others = [regime for regime in config.regimes if regime != FROZEN]
    idle = [
        name
        for name in dict.fromkeys(config.models)
        if name in UNTRAINED and model_class(name).uses_features
    ]
    if not others or not idle:
        return []
    return [f"{' and '.join(idle)} learn nothing, so the grid has no {' or '.join(others)} of them"]


def _check_names(grid: Sequence[Cell]) -> None:
    """Refuse cells of which two would be one run, as those of ``shuffled:x`` and ``shuffled-x``."""
    by_name: dict[str, Cell] = {}
    for cell in grid:
        other = by_name.setdefault(cell.name, cell)
        if other is not cell:
            raise UserError(
                f"the features {other.config.features!r} and {cell.config.features!r} would give "
                f"runs of one name, {cell.name}; extract one of them under another name, or leave "
                "it out"
            )


def _check(config: CompareConfig) -> None:
    for name in config.models:
        model_class(name)
    for name in config.modalities or ():
        if name not in MODALITIES:
            raise unknown_name("modality", name, MODALITIES)
    for what in ("models", "regimes", "seeds"):
        if not getattr(config, what):
            raise UserError(f"--{what} names none; a grid needs one at least")
    if "name" in config.model:
        raise UserError("model.name is for one run; name the models of a grid with --models")
    live = [name for name in config.regimes if name in LIVE]
    if live and config.encoder is None:
        raise UserError(f"the regime {live[0]} needs --encoder SPEC")
    if not live and (config.encoder is not None or config.end_to_end):
        told = "--encoder" if config.encoder is not None else "the settings end_to_end"
        raise UserError(f"only the regimes {' and '.join(sorted(LIVE))} can have {told}")


def _features(config: CompareConfig, dataset: Dataset) -> list[str]:
    """Real feature sets, then controls."""
    if not any(model_class(name).uses_features for name in config.models):
        return []
    known = dataset.feature_names()
    named = list(dict.fromkeys(config.features or ()))
    if config.features is None:
        named = [name for name in known if finished_features(dataset.features(name))]
    if not named and config.encoder is None:
        raise UserError(
            f"data set {dataset.name!r} has no finished feature set; make one with mmrec-extract, "
            "or compare --models that use none"
        )
    controls = (RANDOM, *(SHUFFLED + name for name in known))
    for name in named:
        if name != RANDOM:  # a wrong name, or an unfinished set, is told before anything runs
            Manifest.read(dataset.require_features(name.removeprefix(SHUFFLED), controls))
    return [*named, *(_added_controls(named) if config.controls else ())]


def _added_controls(named: Sequence[str]) -> Iterator[str]:
    """One control of each kind that nobody named."""
    if RANDOM not in named:
        yield RANDOM
    real = [name for name in named if not is_control(name)]
    if real and not any(name.startswith(SHUFFLED) for name in named):
        yield SHUFFLED + real[0]


def is_control(features: str) -> bool:
    """Whether features are no content."""
    return features == RANDOM or features.startswith(SHUFFLED)


def _columns(
    config: CompareConfig, model: str, features: Iterable[str]
) -> Iterator[dict[str, Any]]:
    """Features and regime of each of a model's systems."""
    if not model_class(model).uses_features:
        yield {}
        return
    own = {"modalities": config.modalities}
    regimes = list(dict.fromkeys(config.regimes))
    if model in UNTRAINED:
        regimes = [regime for regime in regimes if regime == FROZEN]
    real = [name for name in features if not is_control(name)]
    for name in features:
        for regime in [FROZEN] if is_control(name) and regimes else regimes:
            if regime not in LIVE:
                yield {**own, "features": name, "feature_source": regime}
    for regime in regimes:
        if regime in LIVE:
            yield {**own, **_live(config, regime, real), "feature_source": regime}


def _live(config: CompareConfig, regime: str, real: Sequence[str]) -> dict[str, Any]:
    """How the encoder takes part; it starts from its own vectors where the grid has them."""
    from pipelines.encoder_specs import default_features  # takes seconds to import

    table = dict(config.end_to_end)
    if regime == "refresh":  # of which the settings of what is trained would be refused
        table = {name: value for name, value in table.items() if name not in TRAINED_ONLY}
    own = default_features(config.encoder or "")
    starts = own in real and not table.get("projection") and not table.get("itc_weight")
    return {
        "encoder": config.encoder,
        "features": own if starts else None,
        "end_to_end": table,
    }


def _settings(config: CompareConfig, model: str) -> dict[str, Any]:
    """What all of a model's cells have in common.

    Raises:
        UserError: The model does not know a setting that was given for all.
    """
    try:
        resolve_run({"model": {"name": model, **config.model}})
    except UserError as error:
        raise UserError(f"{model}: {error}; what a grid sets, all of its models know") from error
    return {
        "model": {"name": model, **config.model},
        "train": config.train,
        "protocol": config.protocol,
        "device": config.device,
        "checkpoint_seconds": config.checkpoint_seconds,
    }
