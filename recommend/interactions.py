"""Ids, interactions, splits: the only place where external ids exist.

Inside, users and items are rows 0..n-1. Ids are sorted before they are numbered, so that nothing
downstream depends on the order of the rows in a file.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

from extract.errors import UserError
from extract.files import digest

SPLITS = ("train", "validation", "test")


class IdMap:
    """External ids, sorted and numbered 0..n-1.

    Args:
        ids: External ids; repeated ones count once.
    """

    def __init__(self, ids: Iterable[str]) -> None:
        self.ids: np.ndarray = np.unique(np.asarray(list(ids), dtype=np.str_))

    def __len__(self) -> int:
        return len(self.ids)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IdMap) and np.array_equal(self.ids, other.ids)

    def __hash__(self) -> int:
        return hash(self.digest)

    @cached_property
    def digest(self) -> str:
        """A digest of the ids in order."""
        return digest(self.ids.tolist())

    def find(self, ids: Sequence[str] | np.ndarray) -> np.ndarray:
        """The row of each id, (n,) int64; -1 for an unknown one."""
        wanted = np.asarray(ids, dtype=np.str_)
        if not len(self):
            return np.full(wanted.shape, -1, np.int64)
        rows = np.searchsorted(self.ids, wanted)
        rows[rows == len(self)] = 0
        return np.where(self.ids[rows] == wanted, rows, -1)

    def rows(
        self,
        ids: Sequence[str] | np.ndarray,
        kind: str = "id",
        remedy: str = "mmrec-check tells more",
    ) -> np.ndarray:
        """The row of each id, (n,) int64.

        Args:
            ids: External ids, (n,).
            kind: What they name, for the error.
            remedy: What to do about unknown ones, for the error.

        Raises:
            UserError: An id is unknown; says how many and names one.
        """
        rows = self.find(ids)
        unknown = np.flatnonzero(rows < 0)
        if unknown.size:
            raise UserError(
                f"{unknown.size} of {rows.size} {kind}s are not among the {len(self)} known ones, "
                f"such as {str(ids[unknown[0]])!r}; {remedy}"
            )
        return rows


@dataclass(frozen=True)
class Interactions:
    """Distinct (user, item) pairs.

    Attributes:
        users: (n,) int64 rows of users.
        items: (n,) int64 rows of items.
        n_users: Number of user rows, U.
        n_items: Number of item rows, I.
    """

    users: np.ndarray
    items: np.ndarray
    n_users: int
    n_items: int

    def __post_init__(self) -> None:
        """Check lengths, ranges, and that no pair stands twice."""
        if self.users.shape != self.items.shape or self.users.ndim != 1:
            raise ValueError(
                f"expected two (n,) arrays, found {self.users.shape} and {self.items.shape}"
            )
        for name, rows, n in (
            ("user", self.users, self.n_users),
            ("item", self.items, self.n_items),
        ):
            if rows.size and not (rows.min() >= 0 and rows.max() < n):
                raise ValueError(
                    f"{name} rows must lie in 0..{n - 1}, found {rows.min()}..{rows.max()}"
                )
        ordered = np.sort(self.keys)
        twice = int((ordered[1:] == ordered[:-1]).sum())
        if twice:
            raise UserError(
                f"{twice} (user, item) pairs stand more than once in one split; mmrec-check names "
                "them, mmrec-prepare removes them"
            )

    def __len__(self) -> int:
        return len(self.users)

    @cached_property
    def keys(self) -> np.ndarray:
        """One int64 per pair: user · I + item."""
        return self.users.astype(np.int64) * self.n_items + self.items

    @cached_property
    def matrix(self) -> csr_array:
        """The (U, I) matrix with a 1 for each pair, float32, column indices sorted."""
        ones = np.ones(len(self), np.float32)
        matrix = csr_array((ones, (self.users, self.items)), shape=(self.n_users, self.n_items))
        matrix.sort_indices()
        return matrix

    @cached_property
    def user_degrees(self) -> np.ndarray:
        """Number of pairs of each user, (U,) int64."""
        return np.bincount(self.users, minlength=self.n_users)

    @cached_property
    def item_degrees(self) -> np.ndarray:
        """Number of pairs of each item, (I,) int64."""
        return np.bincount(self.items, minlength=self.n_items)


class Split(NamedTuple):
    """Training, validation and test interactions over the same users and items."""

    train: Interactions
    validation: Interactions
    test: Interactions


@dataclass(frozen=True)
class InteractionLog:
    """A split log together with the meaning of its rows.

    Attributes:
        users: Ids of the users.
        items: Ids of the whole catalogue, also of items that nobody took.
        split: The interactions.
    """

    users: IdMap
    items: IdMap
    split: Split

    @classmethod
    def from_columns(
        cls,
        user_ids: Sequence[str] | np.ndarray,
        item_ids: Sequence[str] | np.ndarray,
        splits: Sequence[str] | np.ndarray,
        catalogue: Sequence[str] | np.ndarray,
    ) -> "InteractionLog":
        """From columns of external ids.

        Args:
            user_ids: User of each interaction, (n,).
            item_ids: Item of each interaction, (n,).
            splits: ``train``, ``validation`` or ``test`` of each interaction, (n,).
            catalogue: Ids of all items that may be recommended.

        Raises:
            UserError: Unknown items, unknown split names, pairs that stand twice or in two splits,
                or nothing to train on.
        """
        users, items = IdMap(user_ids), IdMap(catalogue)
        user_rows, item_rows = users.rows(user_ids, "user"), items.rows(item_ids, "item")
        split_names = np.asarray(splits, dtype=np.str_)
        _check_split_names(split_names)
        parts = []
        for name in SPLITS:
            of_split = split_names == name
            order = np.lexsort((item_rows[of_split], user_rows[of_split]))
            parts.append(
                Interactions(
                    user_rows[of_split][order], item_rows[of_split][order], len(users), len(items)
                )
            )
        split = Split(*parts)
        _check_split(split)
        return cls(users, items, split)


def _check_split_names(names: np.ndarray) -> None:
    unknown = sorted(set(np.unique(names).tolist()) - set(SPLITS))
    if unknown:
        raise UserError(
            f"an interaction is of split {', '.join(SPLITS)}; found {', '.join(map(repr, unknown))}"
        )


def _check_split(split: Split) -> None:
    if not len(split.train):
        raise UserError("there is no training interaction; prepare the data set again")
    total = sum(len(part) for part in split)
    ordered = np.sort(np.concatenate([part.keys for part in split]))
    distinct = total - int((ordered[1:] == ordered[:-1]).sum())
    if distinct < total:
        raise UserError(
            f"{total - distinct} (user, item) pairs stand in two splits, so that the answer is "
            "known before the question; mmrec-check names them"
        )
