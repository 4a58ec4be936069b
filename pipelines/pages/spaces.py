"""Where items are near each other: by features, by a model's vectors, by who took them."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from extract.errors import UserError
from extract.files import digest
from extract.shards import MODALITIES, usable_rows
from pipelines.comparisons.contents import Comparison, System
from pipelines.loading import is_made_from
from pipelines.pages.contents import Space
from pipelines.pages.material import Material
from pipelines.progress import Reporter
from pipelines.runs import HISTORY, FinishedRun
from recommend.features import FeatureStore, load_features
from recommend.index import nearest
from recommend.interactions import Interactions

NEAREST = 12
# Of those that were compared, the ones whose systems did best; each takes about 3 MB of a page of
# 10,000 items.
MOST_SETS = 4
TAKEN_TOGETHER = "taken together"
# Of these no neighbourhood of a graph is part of an item's vector.
NO_GRAPH = ("popularity", "itemknn", "bpr", "vbpr")
# Items whose cosines with all others are held at once.
AT_ONCE = 256


def feature_names(comparison: Comparison) -> list[str]:
    """The feature sets that systems were given as they are, those of the best systems first."""
    real = [s.features for s in comparison.systems if s.control is None and s.features != "none"]
    return list(dict.fromkeys(real))


def feature_stores(
    material: Material, names: Sequence[str], reporter: Reporter
) -> list[FeatureStore]:
    """At most `MOST_SETS` feature sets; what is left out is told."""
    dataset = material.dataset
    stores: list[FeatureStore] = []
    for name in names:
        if len(stores) == MOST_SETS:
            reporter.say(f"the features {name} are left out, only {MOST_SETS} sets are shown")
            continue
        try:
            store = load_features(dataset.require_features(name), material.log.items, name)
            made_from = is_made_from(dataset, name)
        except UserError as error:
            reporter.say(f"warning: the features {name} are left out: {error}")
            continue
        if made_from:
            stores.append(store)
        else:
            reporter.say(
                f"warning: the features {name} are left out, they were made from other texts or "
                "pictures than the data set has now"
            )
    return stores


def made_again(stores: Sequence[FeatureStore], material: Material) -> tuple[str, ...]:
    """Names of the feature sets that are not what runs were trained on, as their digests tell."""
    runs = [run for own in material.runs.values() for run in own]
    return tuple(store.name for store in stores if any(_saw_other(run, store) for run in runs))


def feature_spaces(store: FeatureStore, shown: np.ndarray) -> list[tuple[Space, np.ndarray]]:
    """A space for each modality, and its (n, d) vectors of the items that are shown.

    Neighbours are sought among the items shown; vectors of absent ones are zero.
    """
    spaces = []
    for modality in [name for name in MODALITIES if name in store.tables]:
        vectors = store.tables[modality][shown]
        name = f"{store.name} · {modality}"
        spaces.append((space_of(name, store.name, modality, vectors), vectors))
    return spaces


def space_of(name: str, features: str, modality: str, vectors: np.ndarray) -> Space:
    """The nearest of each row by cosine; a row that is zero or not finite has none."""
    present = np.flatnonzero(usable_rows(vectors))
    neighbours: list[tuple[int, ...]] = [()] * len(vectors)
    similarities: list[tuple[int, ...]] = [()] * len(vectors)
    if present.size:
        rows, cosines = nearest(np.ascontiguousarray(vectors[present], np.float32), NEAREST)
        hundredths = np.rint(100 * cosines).astype(int)
        for row, near, cosine in zip(present, present[rows], hundredths, strict=True):
            neighbours[row], similarities[row] = tuple(near.tolist()), tuple(cosine.tolist())
    return Space(
        name=name,
        features=features,
        modality=modality,
        neighbours=tuple(neighbours),
        similarities=tuple(similarities),
    )


def model_space(comparison: Comparison, material: Material, shown: np.ndarray) -> Space | None:
    """By the item vectors of the best trained system, preferably of one with a graph.

    A control is taken only where nothing else is there.
    """
    for system in sorted(comparison.systems, key=_unfit):
        vectors = _item_vectors(system, material)
        if vectors is not None:
            kind = "item vectors" if system.model in NO_GRAPH else "item graph"
            name = f"{kind} · {system.name}"
            return space_of(name, system.name, "graph", vectors[shown])
    return None


def taken_together(train: Interactions, shown: np.ndarray, reporter: Reporter) -> Space:
    """By who took the items in training: the cosine of the columns of the training matrix.

    Items of equal cosine stand in the order of `shown`; an item without anybody in common is not
    near.
    """
    columns = train.matrix.tocsc()[:, shown].astype(np.float64).tocsr()
    norms = np.sqrt(train.item_degrees[shown])
    of_items = columns.T.tocsr()
    found: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    with reporter.bar(TAKEN_TOGETHER, len(shown)) as advance:
        for first in range(0, len(shown), AT_ONCE):
            common = (of_items[first : first + AT_ONCE] @ columns).tocsr()
            for place in range(common.shape[0]):
                part = slice(common.indptr[place], common.indptr[place + 1])
                row = first + place
                found.append(_nearest_of(row, common.indices[part], common.data[part], norms))
            advance(common.shape[0])
    neighbours, similarities = zip(*found, strict=True) if found else ((), ())
    return Space(
        name=TAKEN_TOGETHER,
        features=TAKEN_TOGETHER,
        modality="graph",
        neighbours=neighbours,
        similarities=similarities,
    )


def _nearest_of(
    row: int, others: np.ndarray, common: np.ndarray, norms: np.ndarray
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    others, common = others[others != row], common[others != row]
    cosines = common / (norms[row] * norms[others])
    order = np.lexsort((others, -cosines))[:NEAREST]
    hundredths = np.rint(100 * cosines[order]).astype(int)
    return tuple(others[order].tolist()), tuple(hundredths.tolist())


def _saw_other(run: FinishedRun, store: FeatureStore) -> bool:
    """Whether a run read this set when it was another; one whose encoder took part read none."""
    modalities = run.metrics["modalities"]
    if run.config.features != store.name or run.config.encoder is not None or not modalities:
        return False
    return run.metrics["digests"].get("features") != digest([store.digest, *modalities])


def _unfit(system: System) -> tuple[bool, bool]:
    return system.control is not None, system.model in NO_GRAPH


def _item_vectors(system: System, material: Material) -> np.ndarray | None:
    """Those of the first seed; None of a system that learned no vectors or is gone."""
    runs = material.runs.get(system.name)
    if not runs or not (runs[0].folder / HISTORY).is_file():
        return None
    items = runs[0].embeddings().items
    return items.float().numpy() if isinstance(items, Tensor) else None
