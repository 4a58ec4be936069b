"""What the runs of a system found: metrics and lists of each test user, joined by id."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from extract.errors import UserError, unknown_name
from pipelines.comparisons.measuring.systems import Group
from pipelines.runs import PER_USER, RECOMMENDATIONS, FinishedRun
from pipelines.workspace import read_table
from recommend.beyond import NONE
from recommend.interactions import InteractionLog
from recommend.significance import mean_over_seeds

METRICS_SHOWN = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")


@dataclass(frozen=True)
class Outcome:
    """A system, and what its runs found for the same U users.

    Attributes:
        group: The system.
        metrics: Metric of users to (S, U), S seeds.
        lists: (S, U, k) rows of items, best first; -1 where a list is shorter.
        by_item: Metric of items to (S, I) for some I items, the same ones in all outcomes.
    """

    group: Group
    metrics: Mapping[str, np.ndarray]
    lists: np.ndarray
    by_item: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The system's."""
        return self.group.name

    def of_units(self, metric: str, seeds: Sequence[int] | None = None) -> np.ndarray:
        """A metric of each user, (U,), or of each of some items, (I,), averaged over seeds.

        Args:
            metric: Which.
            seeds: Which; None for all.
        """
        chosen = [s in (self.group.seeds if seeds is None else seeds) for s in self.group.seeds]
        values = self.metrics[metric] if metric in self.metrics else self.by_item[metric]
        return mean_over_seeds(list(values[chosen]))


@dataclass(frozen=True)
class Judges:
    """The test users, by whom all runs are judged.

    Attributes:
        log: The data set's log.
    """

    log: InteractionLog

    @cached_property
    def rows(self) -> np.ndarray:
        """Their rows in the log, (U,)."""
        return np.flatnonzero(self.log.split.test.user_degrees)

    @cached_property
    def place_of(self) -> np.ndarray:
        """Each user row's place among them, or -1, (n_users,)."""
        places = np.full(len(self.log.users), -1)
        places[self.rows] = np.arange(len(self.rows))
        return places

    @cached_property
    def held_out(self) -> tuple[np.ndarray, np.ndarray]:
        """The test pairs: (n,) places of users and (n,) rows of items."""
        test = self.log.split.test
        return self.place_of[test.users], test.items


def outcome_of(group: Group, judges: Judges, primary: str, depth: int) -> Outcome:
    """Read what a system's runs found.

    Args:
        group: The system.
        judges: The test users.
        primary: A metric that is read beside the usual ones.
        depth: How much of each list, k.

    Raises:
        UserError: A file is missing or torn, a metric is not in it, or its users are others.
    """
    wanted = tuple(dict.fromkeys((*METRICS_SHOWN, primary)))
    per_seed = [_metrics(run, judges, wanted) for run in group.runs]
    metrics = {name: np.stack([own[name] for own in per_seed]) for name in wanted}
    lists = np.stack([_lists(run, judges, depth) for run in group.runs])
    return Outcome(group, metrics, lists)


def _metrics(run: FinishedRun, judges: Judges, wanted: Sequence[str]) -> dict[str, np.ndarray]:
    path = run.folder / PER_USER
    table = read_table(path, ["user_id", "split"])
    for name in wanted:
        if name not in table.column_names:
            known = [own for own in table.column_names if "@" in own]
            raise unknown_name("metric", name, known, f"It is not in {path}")
    table = table.filter(pc.equal(table["split"], "test"))
    places = _places(judges, table["user_id"])
    n = len(judges.rows)
    if len(places) != n or not np.array_equal(np.sort(places), np.arange(n)):
        raise UserError(
            f"{path} judges {len(places):,} users, and the data set has {n:,} with test "
            "interactions, or others; train the run again on the data set as it is now"
        )
    metrics = {}
    for name in wanted:
        values = np.empty(n, np.float64)
        values[places] = table[name].to_numpy()
        if not np.isfinite(values).all():
            raise UserError(f"{path} has a {name} that is no number; train the run again")
        metrics[name] = values
    return metrics


def _lists(run: FinishedRun, judges: Judges, depth: int) -> np.ndarray:
    table = read_table(run.folder / RECOMMENDATIONS, ["user_id", "rank", "item_id"])
    table = table.filter(pc.less_equal(table["rank"], depth))
    users = _places(judges, table["user_id"])
    items = _rows(table["item_id"], judges.log.items.ids)
    if (users < 0).any() or (items < 0).any():
        raise UserError(
            f"{run.folder / RECOMMENDATIONS} has users or items that the data set has not; train "
            "the run again"
        )
    lists = np.full((len(judges.rows), depth), NONE, np.int64)
    lists[users, table["rank"].to_numpy() - 1] = items
    return lists


def _places(judges: Judges, ids: pa.ChunkedArray) -> np.ndarray:
    rows = _rows(ids, judges.log.users.ids)
    return np.where(rows < 0, -1, judges.place_of[rows])


def _rows(ids: pa.ChunkedArray, known: np.ndarray) -> np.ndarray:
    """The row of each id, (n,); -1 for an unknown one."""
    found = pc.index_in(ids.cast(pa.string()), value_set=pa.array(known, pa.string()))
    return np.asarray(pc.fill_null(found, -1).to_numpy(), np.int64)
