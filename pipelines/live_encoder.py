"""From the settings of a run to an encoder that takes part in its training."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from extract.catalog import Catalog
from extract.encoders import create_encoder
from extract.encoders.adaptation import Adaptation, adapt, with_defaults
from extract.encoders.base import Encoder
from extract.encoders.tuned import Recipe, save_tuned
from extract.encoders.weights import trained_weights
from extract.files import digest
from extract.finetune.inputs import Inputs, Keep, read_inputs
from extract.finetune.optimizer import choose_trained
from extract.finetune.pairs import duplicate_groups
from extract.finetune.two_pass import JOINT, TwoPass
from extract.precision import DTYPES
from pipelines.bars import modality_bars
from pipelines.catalogue import read_catalogue
from pipelines.encoder_specs import default_features, encoder_spec, lasting_spec
from pipelines.end_to_end import EncodedFeatures
from pipelines.end_to_end_config import EndToEndOptions
from pipelines.live_checks import (
    check_same_encoder,
    check_same_items,
    freeze_unused,
    live_modalities,
)
from pipelines.live_features import CHUNK, LiveFeatures, RefreshedFeatures
from pipelines.loading import DEFAULT_MODALITIES, load_store
from pipelines.progress import Reporter
from pipelines.run_config import RunConfig
from pipelines.workspace import Dataset, encoder_of
from recommend.features import FeatureStore
from recommend.interactions import InteractionLog


@dataclass(frozen=True)
class LiveEncoder:
    """An encoder that takes part in a run.

    Attributes:
        options: How.
        recipe: How its form is made.
        added: Names of the weights that were added for this training.
        fingerprint: Its own at the start.
        passes: What encodes rows of the catalogue.
        rows: The catalogue's row of each item, (I,).
        store: The features at the start.
        is_fresh: Whether the encoder has just made them.
    """

    options: EndToEndOptions
    recipe: Recipe
    added: tuple[str, ...]
    fingerprint: str
    passes: TwoPass
    rows: np.ndarray
    store: FeatureStore
    is_fresh: bool

    @property
    def encoder(self) -> Encoder:
        """The encoder itself."""
        return self.passes.inputs.encoder

    def features(self, regime: str, steps_per_epoch: int) -> LiveFeatures:
        """The feature source of a regime, ``refresh`` or ``end-to-end``."""
        common = (self.passes, self.store, self.rows, self.options, steps_per_epoch)
        if regime == "refresh":
            return RefreshedFeatures(*common)
        return EncodedFeatures(*common, self.added, self._duplicates(), self.is_fresh)

    def told(self) -> dict[str, Any]:
        """What a run tells of it."""
        sizes = [weight.numel() for weight in self.encoder.parameters() if weight.requires_grad]
        return {
            "base": self.recipe.base,
            "base_model": self.recipe.base_model,
            "fingerprint": self.encoder.fingerprint(),
            "trained_weights": sum(sizes),
        }

    def save(self, run: Path, told: Mapping[str, Any]) -> None:
        """Write what was trained into a run's folder, as an encoder like any other."""
        weights = trained_weights(self.encoder)
        if not weights:  # what is added has chance in it, also where it is not trained
            weights = {n: w for n, w in self.encoder.named_parameters() if n in self.added}
        if weights:
            created = datetime.now(UTC).isoformat(timespec="seconds")
            save_tuned(encoder_of(run), self.recipe, weights, {"created": created, **told})

    def _duplicates(self) -> np.ndarray | None:
        """Of each item the group of those whose picture or text it shares."""
        inputs = self.passes.inputs
        if len(inputs.rows) < 2:
            return None
        # What an item lacks it shares with no other.
        pictures = [inputs.pictures[row] or f"none {row}".encode() for row in self.rows]
        texts = [tuple(inputs.tokens[row] or (-1, row)) for row in self.rows]
        return duplicate_groups(pictures, texts)


def open_live(
    config: RunConfig,
    dataset: Dataset,
    log: InteractionLog,
    device: torch.device,
    reporter: Reporter,
) -> LiveEncoder:
    """Load an encoder, read the catalogue once, and encode it.

    Args:
        config: The settings, with all names; of a regime with an encoder.
        dataset: Whose catalogue.
        log: Whose items.
        device: Where to compute.
        reporter: Where to tell progress.

    Raises:
        UserError: The encoder cannot be had, or does not go with the settings or the features.
    """
    options = config.end_to_end or EndToEndOptions()
    catalog, items_digest = read_catalogue(dataset)
    base = create_encoder(encoder_spec(config.encoder or "", dataset))
    fingerprint = base.fingerprint()
    adaptation = _adaptation(options, base)
    if config.features is not None:
        check_same_encoder(config.features, dataset, base, fingerprint, adaptation)
    torch.manual_seed(config.seed)
    encoder, added = adapt(base, adaptation)
    modalities = live_modalities(config, catalog, encoder)
    if config.feature_source == "end-to-end":
        choose_trained(encoder, added, options)
        freeze_unused(encoder, modalities, options)
    else:
        encoder.requires_grad_(False)
    encoder.to(device)
    inputs = _read(config, options, encoder, catalog, modalities, reporter)
    kind = DTYPES[options.precision]
    autocast = partial(torch.autocast, device.type, kind, enabled=options.precision != "fp32")
    passes = TwoPass(inputs, modalities, options.chunk_size or None, autocast)
    rows = np.argsort(log.items.rows(catalog.ids(range(len(catalog))), "item"))
    if config.features is not None:
        store = load_store(dataset, config.features, log, seed=0, modalities=modalities)
        check_same_items(store, passes, rows)
    else:
        name = default_features(config.encoder or "")
        source = digest([encoder.fingerprint(), items_digest])
        store = _encoded(passes, rows, name, source, reporter)
    recipe = Recipe(lasting_spec(config.encoder or "", base.spec), fingerprint, adaptation)
    own = encoder.fingerprint()
    is_fresh = config.features is None
    return LiveEncoder(options, recipe, added, own, passes, rows, store, is_fresh)


def _adaptation(options: EndToEndOptions, base: Encoder) -> Adaptation:
    """What is added; for the ITC term pictures and texts must lie in one space."""
    return with_defaults(options.adaptation, base) if options.itc_weight else options.adaptation


def _read(
    config: RunConfig,
    options: EndToEndOptions,
    encoder: Encoder,
    catalog: Catalog,
    modalities: tuple[str, ...],
    reporter: Reporter,
) -> Inputs:
    """The catalogue, made ready; with what its frozen layers give, where that is kept."""
    # With refresh frozen layers drop out, too, and the joint tower takes whole inputs.
    whole = config.feature_source == "refresh" or JOINT in modalities
    keep: Keep = "states" if options.keep_frozen else "nothing"
    towers = DEFAULT_MODALITIES if JOINT in modalities else modalities
    device = next(encoder.parameters()).device
    with modality_bars(reporter, towers, len(catalog), True) as progress:
        return read_inputs(encoder, catalog, device, options.workers, keep, progress, towers, whole)


def _encoded(
    passes: TwoPass, rows: np.ndarray, name: str, source: str, reporter: Reporter
) -> FeatureStore:
    """The vectors of all items as the encoder gives them now."""
    passes.inputs.encoder.eval()
    tables = {}
    for modality, having in passes.rows.items():
        with reporter.bar(f"encode {modality}", len(having)) as advance:
            vectors = passes.vectors(modality, having, CHUNK, advance).cpu().numpy()
        table = np.zeros((len(rows), vectors.shape[1]), vectors.dtype)
        table[having] = vectors
        tables[modality] = table[rows]
    store = FeatureStore.from_arrays(tables, name, source)
    unusable = {m: len(having) - int(store.present[m].sum()) for m, having in passes.rows.items()}
    return replace(store, unusable=unusable)
