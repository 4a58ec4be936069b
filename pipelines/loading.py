"""From a workspace's files to the recommender's inputs."""

from collections.abc import Sequence

from extract.errors import UserError, unknown_name
from pipelines.workspace import RANDOM, SHUFFLED, Dataset, read_table
from recommend.features import FeatureStore, load_features, random_features
from recommend.interactions import InteractionLog

# What models use where nobody says otherwise: the encoder's own vectors before a mix of them.
DEFAULT_MODALITIES = ("image", "text")


def load_log(dataset: Dataset) -> InteractionLog:
    """The split log of a data set over its whole catalogue.

    Raises:
        UserError: A file is missing or torn, or breaks the data contract.
    """
    items = read_table(dataset.items, ["item_id"])["item_id"].to_pylist()
    if len(set(items)) < len(items):
        raise UserError(
            f"{dataset.items} has {len(items) - len(set(items))} item ids more than once; "
            "mmrec-check names them"
        )
    log = read_table(dataset.interactions, ["user_id", "item_id", "split"])
    users, taken, splits = (log[name].to_pylist() for name in ("user_id", "item_id", "split"))
    return InteractionLog.from_columns(users, taken, splits, catalogue=items)


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
    if name == RANDOM:
        return random_features(len(log.items), seed, modalities or DEFAULT_MODALITIES)
    if name.startswith(SHUFFLED):
        own = name.removeprefix(SHUFFLED)
        store = load_store(dataset, own, log, seed=seed, modalities=modalities)
        return store.shuffled(seed)
    if not dataset.features(name).is_dir():
        known = dataset.feature_names()
        raise unknown_name(
            f"feature set of data set {dataset.name!r}",
            name,
            [*known, RANDOM, *(SHUFFLED + own for own in known)],
            "Make one with mmrec-extract",
        )
    store = load_features(dataset.features(name), log.items, name)
    if modalities is None:
        modalities = [m for m in DEFAULT_MODALITIES if m in store.tables] or list(store.tables)
    return store.only(modalities)


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
