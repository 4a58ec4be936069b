"""Which users a page shows: what they took, what was held out, and what each system lists."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.pages.contents import User
from pipelines.pages.material import Material
from pipelines.progress import Reporter
from pipelines.runs import RECOMMENDATIONS
from pipelines.workspace import read_table
from recommend.evaluate import Protocol
from recommend.interactions import InteractionLog

LISTED = 10
STRATA = 4


@dataclass(frozen=True)
class Chosen:
    """One user, with rows of the whole catalogue's items."""

    id: str
    history: tuple[int, ...]
    held_out: tuple[int, ...]
    lists: Mapping[str, tuple[int, ...]]

    @property
    def items(self) -> set[int]:
        """All that is to be shown of them."""
        return {*self.history, *self.held_out}.union(*self.lists.values())


def choose_users(log: InteractionLog, count: int, seed: int) -> np.ndarray:
    """Rows of users with test items, drawn in turns from quarters of the users by activity.

    Args:
        log: The log.
        count: How many at most.
        seed: Of the draw.
    """
    rows = np.flatnonzero(log.split.test.user_degrees)
    by_activity = rows[np.argsort(log.split.train.user_degrees[rows], kind="stable")]
    generator = np.random.default_rng(seed)
    strata = [generator.permutation(part) for part in np.array_split(by_activity, STRATA)]
    turns = [(place, k) for k, part in enumerate(strata) for place in range(len(part))]
    drawn = [strata[k][place] for place, k in sorted(turns)[:count]]
    return np.array(drawn, np.int64)


def describe_users(
    material: Material, rows: np.ndarray, protocol: Protocol, reporter: Reporter
) -> list[Chosen]:
    """What is shown of some users, in the order of `rows`.

    Args:
        material: What the page is made from.
        rows: Rows of the users, (n,).
        protocol: Under ``strict`` what was taken in validation is history, too.
        reporter: Where to tell progress.
    """
    ids = [str(user) for user in material.log.users.ids[rows]]
    known = ("train", "validation") if protocol == "strict" else ("train",)
    taken = _taken(material, ids)
    lists: dict[str, dict[str, tuple[int, ...]]] = {}
    with reporter.bar("lists", len(material.runs), unit="systems") as advance:
        for system, runs in material.runs.items():
            lists[system] = _lists(runs[0].folder / RECOMMENDATIONS, material, ids)
            advance()
    return [
        Chosen(
            user,
            tuple(row for row, split in taken[user] if split in known),
            tuple(row for row, split in taken[user] if split == "test"),
            {system: of_users.get(user, ()) for system, of_users in lists.items()},
        )
        for user in ids
    ]


def that_fit(users: Sequence[Chosen], limit: int) -> tuple[list[Chosen], set[int]]:
    """The users, the first ones first, whose items are at most `limit`, and those items."""
    kept: list[Chosen] = []
    needed: set[int] = set()
    for user in users:
        if len(needed | user.items) <= limit:
            kept.append(user)
            needed |= user.items
    return kept, needed


def page_users(users: Sequence[Chosen], place: np.ndarray, anonymous: bool) -> tuple[User, ...]:
    """The users as the page holds them: by id, or numbered in the order in which they were drawn.

    Args:
        users: In the order in which they were drawn.
        place: The row on the page of each row of the catalogue, (I,).
        anonymous: Whether numbers stand for the ids.
    """
    named = [(str(k + 1) if anonymous else user.id, user) for k, user in enumerate(users)]
    if not anonymous:
        named.sort(key=lambda each: each[0])
    return tuple(
        User(
            id=name,
            history=_placed(user.history, place),
            held_out=_placed(user.held_out, place),
            lists={system: _placed(rows, place) for system, rows in user.lists.items()},
        )
        for name, user in named
    )


def _placed(rows: Sequence[int], place: np.ndarray) -> tuple[int, ...]:
    return tuple(place[list(rows)].tolist())


def _taken(material: Material, ids: Sequence[str]) -> dict[str, list[tuple[int, str]]]:
    """Item and split of all that users took, the latest first where times are known."""
    table = read_table(material.dataset.interactions, ["user_id", "item_id", "split"])
    table = _of_users(table, ids)
    items = material.log.items.rows(table["item_id"].to_pylist(), "item").tolist()
    times = [None] * len(items)
    if "timestamp" in table.column_names:
        times = table["timestamp"].to_pylist()
    rows = zip(times, items, table["user_id"].to_pylist(), table["split"].to_pylist(), strict=True)
    taken: dict[str, list[tuple[int, str]]] = {user: [] for user in ids}
    for _, item, user, split in sorted(rows, key=_latest_first):
        taken[user].append((item, split))
    return taken


def _latest_first(row: tuple[float | None, int, str, str]) -> tuple[bool, float, int]:
    time, item, *_ = row
    return time is None, -(time or 0), item


def _lists(path: Path, material: Material, ids: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The first `LISTED` items of some users' lists."""
    table = read_table(path, ["user_id", "rank", "item_id"])
    table = _of_users(table.filter(pc.less_equal(table["rank"], LISTED)), ids).sort_by("rank")
    items = material.log.items.rows(table["item_id"].to_pylist(), "item").tolist()
    lists: dict[str, list[int]] = {}
    for user, item in zip(table["user_id"].to_pylist(), items, strict=True):
        lists.setdefault(user, []).append(item)
    return {user: tuple(rows) for user, rows in lists.items()}


def _of_users(table: pa.Table, ids: Sequence[str]) -> pa.Table:
    users = table["user_id"].cast(pa.string())
    return table.filter(pc.is_in(users, pa.array(ids, pa.string())))
