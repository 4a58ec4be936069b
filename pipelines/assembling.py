"""From the settings of a run to everything that it is trained with."""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from extract.errors import UserError
from extract.files import digest
from extract.finetune.processes import local_device
from pipelines.devices import resolve_device
from pipelines.loading import load_log, load_store, log_digests, only_features
from pipelines.progress import Reporter
from pipelines.run_config import RunConfig
from pipelines.workspace import Dataset, Workspace
from recommend.features import FeatureStore
from recommend.interactions import InteractionLog
from recommend.models import Recommender, TrainingData, model_class
from recommend.neighbours import StoredNeighbours
from recommend.sampling import Sampler
from recommend.sources import SOURCES, FeatureSource
from recommend.train import trainable

if TYPE_CHECKING:
    from pipelines.live_encoder import LiveEncoder


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
        live: The encoder that takes part; None for cached features.
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
    live: "LiveEncoder | None" = None

    @cached_property
    def digests(self) -> dict[str, str]:
        """Digests of the data, by name; of a long log they take seconds."""
        encoder = {"encoder": self.live.fingerprint} if self.live else {}
        return {**log_digests(self.log), "features": self.store.digest, **encoder}

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
    features = config.features
    if config.encoder is not None:
        name = features or _encoder_features(config.encoder)
    else:
        features = features or (only_features(dataset) if kind.uses_features else "none")
        name = features
    run = config.run or config.default_run_name(name)
    return config.model_copy(update={"dataset": dataset.name, "features": features, "run": run})


def assemble(
    config: RunConfig,
    workspace: Workspace,
    reporter: Reporter | None = None,
    log: InteractionLog | None = None,
) -> Parts:
    """Load the data and build the model.

    Args:
        config: The settings, with all names.
        workspace: Where the data set lies.
        reporter: Where to tell the progress of reading a catalogue; None for nowhere.
        log: What of the data set's log there is, if not all of it; it may be without a test part.

    Raises:
        UserError: Data or features are missing, torn or not of each other, or the settings do not
            go together.
    """
    device = local_device(resolve_device(config.device))
    dataset = workspace.dataset(config.dataset)
    kind = model_class(config.model["name"])
    if config.feature_source != "frozen" and not kind.uses_features:
        raise _nothing_to_learn(config, "uses no features")
    if log is None:
        log = load_log(dataset)
        _check_part(log, "test", dataset.name)
    _check_part(log, "validation", dataset.name)
    live = None
    if config.encoder is not None:
        live = _open(config, dataset, log, device, reporter or Reporter(quiet=True))
    store = live.store if live else _cached(config, dataset, log)
    return _built(config, device, log, store, StoredNeighbours(dataset.neighbours), live)


def rebuilt(parts: Parts, config: RunConfig) -> Parts:
    """The same data with other settings of the model and of training, built anew.

    Args:
        parts: What was assembled with cached features.
        config: The other settings; data set, features and seed are those of before.

    Raises:
        UserError: The settings do not go together.
    """
    return _built(config, parts.device, parts.log, parts.store, parts.search, None)


def _built(
    config: RunConfig,
    device: torch.device,
    log: InteractionLog,
    store: FeatureStore,
    search: StoredNeighbours,
    live: "LiveEncoder | None",
) -> Parts:
    """The model and what it is trained with, over data that are loaded."""
    model = _build(config, TrainingData(log.split.train, store, search)).to(device)
    if config.feature_source != "frozen" and not trainable(model):
        raise _nothing_to_learn(config, "is not trained")
    sampler = _sampler(config, model, log)
    if live:
        source: FeatureSource = live.features(config.feature_source, len(sampler or ()))
    else:
        source = SOURCES[config.feature_source](store, device)
    return Parts(config, device, log, store, search, model, source, sampler, live)


def _open(
    config: RunConfig,
    dataset: Dataset,
    log: InteractionLog,
    device: torch.device,
    reporter: Reporter,
) -> "LiveEncoder":
    # Encoders' libraries take seconds to import, and cached features need none of them.
    from pipelines.live_encoder import open_live

    return open_live(config, dataset, log, device, reporter)


def _cached(config: RunConfig, dataset: Dataset, log: InteractionLog) -> FeatureStore:
    """The features that the settings name; none for a model that uses none."""
    store, features = FeatureStore.none(), config.features or "none"
    if features != "none":  # a wrong name is an error for a model that uses no features, too
        store = load_store(dataset, features, log, seed=config.seed, modalities=config.modalities)
    return store if model_class(config.model["name"]).uses_features else FeatureStore.none()


def _encoder_features(encoder: str) -> str:
    """How the features of an encoder are called."""
    from pipelines.encoder_specs import default_features

    return default_features(encoder)


def _check_part(log: InteractionLog, part: str, name: str) -> None:
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


def _nothing_to_learn(config: RunConfig, why: str) -> UserError:
    return UserError(
        f"{config.model['name']} {why}, so no features can be learned with it; leave out "
        f"--feature-source {config.feature_source}"
    )


def _sampler(config: RunConfig, model: Recommender, log: InteractionLog) -> Sampler | None:
    if not trainable(model):
        return None
    generator = np.random.default_rng(config.seed)
    return Sampler(log.split.train, config.train.batch_size, generator)
