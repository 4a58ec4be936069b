"""From the settings of a run to everything that it is trained with."""

import json
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from extract.errors import UserError
from extract.files import digest
from pipelines.devices import resolve_device
from pipelines.loading import load_log, load_store, log_digests, only_features
from pipelines.run_config import RunConfig
from pipelines.workspace import Workspace
from recommend.features import FeatureStore
from recommend.interactions import InteractionLog
from recommend.models import Recommender, TrainingData, model_class
from recommend.neighbours import StoredNeighbours
from recommend.sampling import Sampler
from recommend.sources import SOURCES, FeatureSource
from recommend.train import trainable


@dataclass(frozen=True)
class Parts:
    """What a run is trained with.

    Attributes:
        config: The settings, with all names.
        device: Where it is trained.
        log: The data set's log.
        store: The features at the start.
        search: Who finds neighbours.
        model: The model, on the device.
        features: Where its feature tables come from, on the device.
        sampler: Where its batches come from; None for a model without parameters.
    """

    config: RunConfig
    device: torch.device
    log: InteractionLog
    store: FeatureStore
    search: StoredNeighbours
    model: Recommender
    features: FeatureSource
    sampler: Sampler | None

    @cached_property
    def digests(self) -> dict[str, str]:
        """Digests of the data, by name; of a long log they take seconds."""
        return {**log_digests(self.log), "features": self.store.digest}

    @property
    def made_from(self) -> dict[str, str]:
        """Digests of all that decides the run, by name."""
        settings = digest([json.dumps(self.config.results(), sort_keys=True)])
        return {**self.digests, "settings": settings}


def with_names(config: RunConfig, workspace: Workspace) -> RunConfig:
    """The same settings with the names of data set, features and run that were left out.

    Raises:
        UserError: There is not just one data set, or feature set.
    """
    dataset = workspace.dataset(config.dataset)
    kind = model_class(config.model["name"])
    features = config.features or (only_features(dataset) if kind.uses_features else "none")
    config = config.model_copy(update={"dataset": dataset.name, "features": features})
    return config.model_copy(update={"run": config.run or config.default_run_name()})


def assemble(config: RunConfig, workspace: Workspace) -> Parts:
    """Load the data and build the model.

    Args:
        config: The settings, with all names.
        workspace: Where the data set lies.

    Raises:
        UserError: Data or features are missing, torn or not of each other, or the settings do not
            go together.
    """
    device = resolve_device(config.device)
    dataset = workspace.dataset(config.dataset)
    kind = model_class(config.model["name"])
    log = load_log(dataset)
    _check_split(log, dataset.name)
    store, features = FeatureStore.none(), config.features or "none"
    if features != "none":  # a wrong name is an error for a model that uses no features, too
        store = load_store(dataset, features, log, seed=config.seed, modalities=config.modalities)
    if not kind.uses_features:
        store = FeatureStore.none()
    search = StoredNeighbours(dataset.neighbours)
    model = _build(config, TrainingData(log.split.train, store, search)).to(device)
    if config.feature_source == "tuned":
        _check_tunable(config, model)
    source = SOURCES[config.feature_source](store, device)
    return Parts(config, device, log, store, search, model, source, _sampler(config, model, log))


def _check_split(log: InteractionLog, name: str) -> None:
    for part in ("validation", "test"):
        if not len(getattr(log.split, part)):
            raise UserError(
                f"data set {name!r} has no {part} interaction, so nothing can be "
                f"{'selected' if part == 'validation' else 'measured'}; prepare it with larger "
                "--ratios, or with more data"
            )


def _build(config: RunConfig, data: TrainingData) -> Recommender:
    kind = model_class(config.model["name"])
    own = {key: value for key, value in config.model.items() if key != "name"}
    if kind.uses_features and not data.features.tables:
        raise UserError(f"{config.model['name']} needs features; give --features NAME")
    torch.manual_seed(config.seed)
    return kind(kind.config_class(**own), data)


def _check_tunable(config: RunConfig, model: Recommender) -> None:
    if model.uses_features and trainable(model):
        return
    why = "is not trained" if model.uses_features else "uses no features"
    raise UserError(
        f"{config.model['name']} {why}, so there are no features to tune; leave out "
        "--feature-source tuned"
    )


def _sampler(config: RunConfig, model: Recommender, log: InteractionLog) -> Sampler | None:
    if not trainable(model):
        return None
    generator = np.random.default_rng(config.seed)
    return Sampler(log.split.train, config.train.batch_size, generator)
