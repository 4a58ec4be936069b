"""Training batches: every training pair once an epoch, each with one negative item."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from extract.errors import UserError
from recommend.interactions import Interactions


@dataclass(frozen=True)
class Batch:
    """Triples (user, positive item, negative item).

    Attributes:
        users: (B,) int64.
        positives: (B,) int64, an item that the user took.
        negatives: (B,) int64, an item that the user did not take in training.
    """

    users: Tensor
    positives: Tensor
    negatives: Tensor

    @property
    def items(self) -> Tensor:
        """The distinct items of the batch, ascending, (n,) with n ≤ 2B."""
        return self._distinct[0]

    @property
    def places(self) -> tuple[Tensor, Tensor]:
        """Where in `items` the positives and the negatives stand, (B,) each."""
        positives, negatives = self._distinct[1].split(len(self.positives))
        return positives, negatives

    @cached_property
    def _distinct(self) -> tuple[Tensor, Tensor]:
        both = torch.cat([self.positives, self.negatives])
        items, places = torch.unique(both, return_inverse=True)
        return items, places


class Sampler:
    """Draws batches; a function of the training pairs and the generator's state.

    Negatives are uniform over the items that somebody took in training, and drawn again while they
    are among the user's own training items. All of it is done on whole arrays.

    Args:
        train: The training pairs.
        batch_size: B; the last batch of an epoch may be smaller.
        generator: Source of all randomness.

    Raises:
        UserError: A user took every item, so that no negative exists.
    """

    def __init__(
        self, train: Interactions, batch_size: int, generator: np.random.Generator
    ) -> None:
        self.train = train
        self.batch_size = batch_size
        self.generator = generator
        self._keys = np.sort(train.keys)
        self._candidates = np.flatnonzero(train.item_degrees)
        if train.user_degrees.max() >= self._candidates.size:
            raise UserError(
                f"a user took all {self._candidates.size} training items, so there is no negative "
                "item to compare with; remove such users or add items"
            )

    def __len__(self) -> int:
        """Number of batches of an epoch."""
        return -(-len(self.train) // self.batch_size)

    def epoch(self, device: torch.device | str = "cpu") -> Iterator[Batch]:
        """All training pairs in a new order, with new negatives."""
        order = self.generator.permutation(len(self.train))
        users, positives = self.train.users[order], self.train.items[order]
        columns = [
            torch.from_numpy(column).to(device)
            for column in (users, positives, self.negatives(users))
        ]
        for parts in zip(*(column.split(self.batch_size) for column in columns), strict=True):
            yield Batch(*parts)

    def negatives(self, users: np.ndarray) -> np.ndarray:
        """One item for each user that the user did not take in training, (n,) int64."""
        negatives = self._draw(users.size)
        open_rows = np.flatnonzero(self._taken(users, negatives))
        while open_rows.size:
            negatives[open_rows] = self._draw(open_rows.size)
            taken = self._taken(users[open_rows], negatives[open_rows])
            open_rows = open_rows[taken]
        return negatives

    def _draw(self, n: int) -> np.ndarray:
        return self._candidates[self.generator.integers(self._candidates.size, size=n)]

    def _taken(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        keys = users * self.train.n_items + items
        # In order, as the search then walks through memory instead of jumping.
        order = np.argsort(keys)
        keys = keys[order]
        places = np.searchsorted(self._keys, keys)
        places[places == self._keys.size] = 0
        taken = np.empty(keys.size, bool)
        taken[order] = self._keys[places] == keys
        return taken
