"""What a run tells of itself: its first line, and metrics.json."""

import platform
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch

from pipelines.assembling import Parts
from recommend.features import FeatureStore
from recommend.metrics import Metrics
from recommend.train import Fitted

if TYPE_CHECKING:
    from pipelines.live_encoder import LiveEncoder


def opening(parts: Parts) -> str:
    """What is trained, on what and where, in one line."""
    config, train = parts.config, parts.log.split.train
    line = (
        f"{config.model['name']} on {config.dataset}: {train.n_users:,} users, {train.n_items:,} "
        f"items, {len(train):,} training interactions; device {parts.device}, protocol "
        f"{config.protocol}"
    )
    if not parts.model.uses_features:
        return f"{line}; uses no features"
    present = ", ".join(_present(parts.store, modality) for modality in parts.store.tables)
    line += f"; {config.feature_source} features {parts.store.name}: {present}"
    return f"{line}; {_encoder(parts.live)}" if parts.live else line


def _encoder(live: "LiveEncoder") -> str:
    encoder = live.encoder
    trained = sum(weight.numel() for weight in encoder.parameters() if weight.requires_grad)
    total = sum(weight.numel() for weight in encoder.parameters())
    kept = live.passes.inputs.nbytes / 2**20
    return (
        f"{trained:,} of {total:,} weights of {encoder.spec} are trained, {kept:,.0f} MB of what "
        "goes into its layers are kept"
    )


def _present(store: FeatureStore, modality: str) -> str:
    count = int(store.present[modality].sum())
    told = f"{modality} {store.dims[modality]}-d for {count:,} items"
    unusable = store.unusable[modality]
    return f"{told} ({unusable:,} more are zero or not finite)" if unusable else told


def run_metrics(parts: Parts, fitted: Fitted, test: Metrics, seconds: float) -> dict[str, Any]:
    """The content of metrics.json.

    Args:
        parts: What the run was trained with.
        fitted: What training left.
        test: Metrics on the test interactions.
        seconds: How long the run took.
    """
    config, log, store = parts.config, parts.log, parts.store
    validation = fitted.validation.means()
    selection = config.train.selection
    cold = log.split.train.item_degrees == 0
    return {
        "dataset": config.dataset,
        "features": config.features or store.name,
        "model": config.model["name"],
        "seed": config.seed,
        "protocol": config.protocol,
        "selection": {"metric": selection, "epoch": fitted.epoch, "value": validation[selection]},
        "validation": validation,
        "test": test.means(),
        "users": len(test.users),
        "counts": {
            "users_without_test_items": len(log.users) - len(test.users),
            "users_without_training_items": int((log.split.train.user_degrees == 0).sum()),
            "cold_items": int(cold.sum()),
            "test_interactions_with_cold_items": int(cold[log.split.test.items].sum()),
        },
        "feature_source": config.feature_source,
        "modalities": {modality: int(mask.sum()) for modality, mask in store.present.items()},
        "neighbours": parts.search.reports,
        **({"encoder": parts.live.told()} if parts.live else {}),
        "device": str(parts.device),
        "seconds": round(seconds, 3),
        "digests": {
            **parts.digests,
            "code": f"mmrec {version('mmrec')}, torch {torch.__version__}, {platform.machine()}",
        },
    }
