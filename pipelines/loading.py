"""From a workspace's files to the recommender's inputs."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from extract.errors import UserError, unknown_name
from extract.files import digest
from extract.manifest import Manifest, items_digest
from extract.shards import MODALITIES
from pipelines.workspace import RANDOM, SHUFFLED, Dataset, catalogue_digest, read_table
from recommend.features import FeatureStore, load_features, random_features
from recommend.interactions import InteractionLog

# What models use where nobody says otherwise: the encoder's own vectors before a mix of them.
DEFAULT_MODALITIES = ("image", "text")


def load_log(dataset: Dataset, splits: Sequence[str] | None = None) -> InteractionLog:
    """The split log of a data set over its whole catalogue.

    Args:
        dataset: Whose log.
        splits: Only these parts, such as ``("train", "validation")``: rows of others are dropped
            unseen, so that the others' parts are empty, and users that only they have are
            unknown. None for all.

    Raises:
        UserError: Preparing did not finish, a file is missing or torn, or the data contract is
            broken.
    """
    dataset.require_prepared()
    items = _columns(dataset.items, ["item_id"])["item_id"]
    log = _columns(dataset.interactions, ["user_id", "item_id", "split"], splits)
    repeated = len(items) - len(set(items))
    if repeated:
        raise UserError(
            f"{dataset.items} has {repeated} item ids more than once; mmrec-check names them"
        )
    return InteractionLog.from_columns(log["user_id"], log["item_id"], log["split"], items)


def _columns(
    path: Path, names: list[str], splits: Sequence[str] | None = None
) -> dict[str, list[str]]:
    table = read_table(path, names)
    if splits is not None:
        table = table.filter(pc.is_in(table["split"], pa.array(splits, table["split"].type)))
    for name in names:
        nulls = table[name].null_count
        if nulls:
            raise UserError(f"{nulls} rows of {path} have no {name}; mmrec-check tells more")
    return {name: table[name].to_pylist() for name in names}


def log_digests(log: InteractionLog) -> dict[str, str]:
    """Digests of a log's ``users``, ``items`` and ``split``, by which a run knows them again."""
    split = digest([digest(map(str, part.keys.tolist())) for part in log.split])
    return {"users": log.users.digest, "items": log.items.digest, "split": split}


def load_store(
    dataset: Dataset,
    name: str,
    log: InteractionLog,
    *,
    seed: int,
    modalities: Sequence[str] | None = None,
) -> FeatureStore:
    """A feature set, or one of the controls ``random`` and ``shuffled:NAME``.

    Args:
        dataset: Whose features.
        name: Which.
        log: Whose items they are joined to.
        seed: Seed of the controls.
        modalities: Which to use; None takes image and text where there are such, else all.

    Raises:
        UserError: There is no such feature set, it is unfinished, or lacks a modality.
    """
    unknown = [modality for modality in modalities or () if modality not in MODALITIES]
    if unknown:
        raise unknown_name("modality", unknown[0], MODALITIES)
    if name == RANDOM:
        return random_features(len(log.items), seed, modalities or DEFAULT_MODALITIES)
    if name.startswith(SHUFFLED):
        own = name.removeprefix(SHUFFLED)
        store = load_store(dataset, own, log, seed=seed, modalities=modalities)
        return store.shuffled(seed)
    controls = [RANDOM, *(SHUFFLED + own for own in dataset.feature_names())]
    folder = dataset.require_features(name, also=controls)
    store = load_features(folder, log.items, name)
    if not is_made_from(dataset, name):
        raise UserError(
            f"the features {name!r} were made from other texts or pictures than data set "
            f"{dataset.name!r} has now; run their mmrec-extract command again"
        )
    if modalities is None:
        modalities = [m for m in DEFAULT_MODALITIES if m in store.tables] or list(store.tables)
    return store.only(modalities)


def is_made_from(dataset: Dataset, name: str) -> bool:
    """Whether features are of the items as they are now; given matrices know the ids only."""
    items = read_table(dataset.items, ["item_id"])
    made_from = Manifest.read(dataset.features(name)).items_digest
    return made_from in (catalogue_digest(items), items_digest(items["item_id"].to_pylist()))


def only_features(dataset: Dataset) -> str:
    """The name of the only feature set there is, for commands that were given none.

    Raises:
        UserError: There is none, or more than one.
    """
    known = dataset.feature_names()
    if len(known) != 1:
        found = f"found {', '.join(known)}" if known else "found none; make one with mmrec-extract"
        raise UserError(
            f"--features can be left out where data set {dataset.name!r} has just one; {found}"
        )
    return known[0]
