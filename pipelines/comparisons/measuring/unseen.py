"""Items that nobody took in training: whether a run tells them apart, and how well it ranks them.

In lists of the whole catalogue they compete with items whose vectors were trained, which usually
win. So they are also ranked among themselves.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.sparse import csr_array

from pipelines.comparisons.measuring.outcomes import Judges, Outcome
from pipelines.runs import FinishedRun
from recommend.evaluate import Protocol, seen_items
from recommend.models import Embeddings
from recommend.ranking import rank

# Of the test pairs; with fewer unseen items the test is of other items.
LEAST_SHARE = 0.5
# Scores looked at until two differ.
USERS_AT_ONCE = 256


@dataclass(frozen=True)
class Unseen:
    """The unseen items of a data set, and who holds out which.

    Attributes:
        rows: Their rows in the catalogue, (C,).
        masked: (U, C), nonzero where a test user's lists leave one out.
        users: The test pairs with them: places of users, (n,).
        items: And places among `rows`, (n,).
        n_judges: U.
        share: Of all test pairs, those with unseen items.
    """

    rows: np.ndarray
    masked: csr_array
    users: np.ndarray
    items: np.ndarray
    n_judges: int
    share: float

    def by_item(self, of_pairs: np.ndarray) -> np.ndarray:
        """Means over the test pairs of each item that is in one, (T,).

        Args:
            of_pairs: A number of each test pair, (n,).
        """
        _, item, pairs = np.unique(self.items, return_inverse=True, return_counts=True)
        return np.asarray(np.bincount(item, of_pairs) / pairs)

    def chance(self, k: int) -> float:
        """What `with_unseen` finds on average where they are ranked at random."""
        candidates = len(self.rows) - self.masked.astype(bool).sum(axis=1)
        found = np.minimum(k / np.maximum(candidates, 1), 1.0)
        return float(self.by_item(found[self.users]).mean())


def unseen_items(judges: Judges, protocol: Protocol) -> Unseen | None:
    """The unseen items; None where all were seen."""
    split = judges.log.split
    rows = np.flatnonzero(split.train.item_degrees == 0)
    if not rows.size:
        return None
    masked = seen_items(split, "test", protocol)[judges.rows][:, rows]
    place_of = np.full(len(judges.log.items), -1)
    place_of[rows] = np.arange(len(rows))
    users, items = judges.held_out
    cold = place_of[items] >= 0
    share = float(cold.mean()) if cold.size else 0.0
    masked = csr_array(masked)
    return Unseen(rows, masked, users[cold], place_of[items[cold]], len(judges.rows), share)


@dataclass(frozen=True)
class Chances:
    """Recall of lists that are drawn by chance.

    Attributes:
        whole: Mean over test users, from the whole catalogue without what is masked.
        unseen: Mean over unseen items, among themselves; None where no test pair has one.
        share: Of the test pairs that are with unseen items.
    """

    whole: float
    unseen: float | None
    share: float


def chances(judges: Judges, protocol: Protocol, unseen: Unseen | None, k: int) -> Chances:
    """What chance finds in the first k of a list.

    Args:
        judges: The test users.
        protocol: What is masked.
        unseen: The unseen items, if there are any.
        k: The cutoff.
    """
    split = judges.log.split
    masked = seen_items(split, "test", protocol)[judges.rows].astype(bool).sum(axis=1)
    candidates = np.maximum(len(judges.log.items) - masked, 1)
    whole = float(np.minimum(k / candidates, 1.0).mean())
    if unseen is None or not unseen.users.size:
        return Chances(whole, None, 0.0)
    return Chances(whole, unseen.chance(k), unseen.share)


def tells_apart(run: FinishedRun, judges: Judges, unseen: Unseen) -> bool:
    """Whether the scores of unseen items differ for some test user."""
    embeddings = _of_unseen(run, judges, unseen)
    return any(bool((scores != scores[:, :1]).any()) for scores in _blocks(embeddings))


def cold_recall(k: int) -> str:
    """The name of the metric of `with_unseen`."""
    return f"cold-item recall@{k}"


def is_of_cold_items(metric: str) -> bool:
    """Whether a metric is that of `with_unseen`, whose unit is the item."""
    return metric.startswith(cold_recall(0).removesuffix("0"))


def with_unseen(outcome: Outcome, judges: Judges, unseen: Unseen | None, k: int) -> Outcome:
    """An outcome that knows of unseen items ranked among themselves, too.

    Of each item that is in a test pair: the share of those who hold it out in whose first k of the
    unseen items it is. Items, not users, are the unit: all users are shown nearly the same order
    of few items, so that an order drawn by chance is good or bad for all of them at once. Tests by
    item err on the side of no difference: of k places what one item gains another one loses.

    Args:
        outcome: Of a system.
        judges: The test users.
        unseen: The unseen items, if there are any.
        k: The cutoff.
    """
    if unseen is None or not unseen.users.size:
        return outcome
    found = np.stack([_found_among(run, judges, unseen, k) for run in outcome.group.runs])
    return replace(outcome, by_item={cold_recall(k): found})


def _found_among(run: FinishedRun, judges: Judges, unseen: Unseen, k: int) -> np.ndarray:
    """The share of its users that find each tested item in their first k of the unseen, (T,)."""
    embeddings = _of_unseen(run, judges, unseen)
    asked = np.unique(unseen.users)
    lists = rank(embeddings, asked, unseen.masked, min(k, len(unseen.rows))).items
    by_user = np.full((unseen.n_judges, lists.shape[1]), -1)
    by_user[asked] = lists
    hits = (by_user[unseen.users] == unseen.items[:, None]).any(axis=1)
    return unseen.by_item(hits)


def _of_unseen(run: FinishedRun, judges: Judges, unseen: Unseen) -> Embeddings:
    """Vectors of the test users and the unseen items."""
    own = run.embeddings()
    users, items = own.users, own.items
    if isinstance(users, torch.Tensor) and isinstance(items, torch.Tensor):
        rows = torch.from_numpy(judges.rows), torch.from_numpy(unseen.rows)
        return Embeddings(users[rows[0]], items[rows[1]])
    return Embeddings(csr_array(users[judges.rows]), csr_array(items[unseen.rows]))


def _blocks(embeddings: Embeddings) -> Iterator[torch.Tensor]:
    n_users = embeddings.users.shape[0]
    for first in range(0, n_users, USERS_AT_ONCE):
        yield embeddings.scores(np.arange(first, min(first + USERS_AT_ONCE, n_users)))
