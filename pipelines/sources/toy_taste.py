"""What the users of the generated shop like, and what they took.

A user likes a few cells (a category in a style), a few colours and a pattern, and what is popular
besides. So two users rarely share a taste, the log alone is thin, and an item's content tells who
may like it, even if nobody has taken it yet.
"""

from dataclasses import dataclass

import numpy as np

CELLS_LIKED = 3
COLOURS_LIKED = 2
FEWEST_TAKEN = 5
SECONDS_BETWEEN = 86_400
START = 1_700_000_000


@dataclass(frozen=True)
class Weights:
    """How much each part of a taste counts, in units of the noise (a standard Gumbel)."""

    cell: float = 3.5
    colour: float = 2.0
    pattern: float = 1.5
    popularity: float = 0.4


@dataclass(frozen=True)
class Attributes:
    """What each item is, as (I,) int64 numbers of categories, styles, colours and patterns."""

    category: np.ndarray
    style: np.ndarray
    colour: np.ndarray
    pattern: np.ndarray


@dataclass(frozen=True)
class Taken:
    """Who took what, when: (n,) int64 rows of users and items, and seconds since 1970."""

    users: np.ndarray
    items: np.ndarray
    timestamps: np.ndarray


def take(
    attributes: Attributes,
    n_users: int,
    per_user: float,
    generator: np.random.Generator,
    weights: Weights | None = None,
) -> Taken:
    """Let every user take the items that appeal most, chance included.

    Args:
        attributes: What the items are.
        n_users: Number of users.
        per_user: Mean number of items a user takes, at least `FEWEST_TAKEN`.
        generator: Source of chance.
        weights: How much each part of a taste counts.
    """
    weights = weights or Weights()
    n_items = len(attributes.category)
    popularity = -np.log(1 + generator.permutation(n_items))
    users, items, timestamps = [], [], []
    for user in range(n_users):
        appeal = _liking(attributes, weights, generator)
        appeal += weights.popularity * popularity + generator.gumbel(size=n_items)
        count = min(FEWEST_TAKEN + generator.poisson(max(per_user - FEWEST_TAKEN, 0)), n_items)
        chosen = generator.permutation(np.argsort(-appeal, kind="stable")[:count])
        gaps = generator.exponential(3 * SECONDS_BETWEEN, count)
        first = START + generator.integers(365 * SECONDS_BETWEEN)
        users.append(np.full(count, user))
        items.append(chosen)
        timestamps.append(first + np.cumsum(gaps).astype(np.int64))
    return Taken(np.concatenate(users), np.concatenate(items), np.concatenate(timestamps))


def _liking(attributes: Attributes, weights: Weights, generator: np.random.Generator) -> np.ndarray:
    """How much one user with a taste of their own likes each item, (I,)."""
    n_categories, n_styles = attributes.category.max() + 1, attributes.style.max() + 1
    cells = generator.choice(n_categories * n_styles, CELLS_LIKED, replace=False)
    colours = generator.choice(attributes.colour.max() + 1, COLOURS_LIKED, replace=False)
    pattern = generator.integers(attributes.pattern.max() + 1)
    in_cell = np.isin(attributes.category * n_styles + attributes.style, cells)
    return (
        weights.cell * in_cell
        + weights.colour * np.isin(attributes.colour, colours)
        + weights.pattern * (attributes.pattern == pattern)
    )
