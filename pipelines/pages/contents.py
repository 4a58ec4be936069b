"""What a page shows beside the comparison itself: items, neighbours, maps, users, curves.

Items are told by their row in `Page.items`; a page of a large catalogue shows a part of it.
"""

from pipelines.comparisons.contents import Comparison, Part


class Curve(Part):
    """How one run learned: the sum of its loss terms, and the selection metric where validated."""

    system: str
    seed: int
    metric: str
    epochs: tuple[int, ...]
    loss: tuple[float, ...]
    validation: tuple[float | None, ...]
    best_epoch: int


class Item(Part):
    """One item: its text, how many took it in training, its category, and a small picture.

    `thumbnail` is base64 of a WebP picture, at most 96 pixels wide and high, or None where the item
    has no usable picture; `why` then says why.
    """

    id: str
    text: str | None
    taken: int
    category: str | None
    thumbnail: str | None
    why: str | None = None


class Space(Part):
    """Where items are near each other: a modality of a feature set, or a model's item graph.

    Attributes:
        name: Such as ``offline · image`` or ``item graph · lightgcn``.
        features: Feature set, or the system whose item vectors these are.
        modality: ``image``, ``text``, ``fused`` or ``graph``.
        neighbours: For each item the rows of its nearest, nearest first; empty where it has no
            vector here.
        similarities: Cosines of the same, in hundredths.
        xy: Position of each item on the space's map, 0..1000; empty where no map was made, None
            where the item has no vector.
    """

    name: str
    features: str
    modality: str
    neighbours: tuple[tuple[int, ...], ...]
    similarities: tuple[tuple[int, ...], ...]
    xy: tuple[tuple[int, int] | None, ...] = ()


class Disagreement(Part):
    """Where two spaces differ: share of common neighbours of each item (None: in one only)."""

    one: str
    other: str
    overlap: tuple[float | None, ...]


class User(Part):
    """One test user: what they took, what was held out, and what each system lists.

    Attributes:
        id: Of the user.
        history: Items taken in training and validation, the latest first where times are known.
        held_out: Items of the test interactions.
        lists: System to its first ten items; of the first seed.
    """

    id: str
    history: tuple[int, ...]
    held_out: tuple[int, ...]
    lists: dict[str, tuple[int, ...]]


class Page(Part):
    """All that one page shows.

    Attributes:
        comparison: The numbers.
        curves: Of all runs.
        items: The catalogue, or a part of it; `catalogue` is the size of the whole.
        catalogue: Number of items in the data set.
        spaces: Neighbours and maps.
        made_again: Feature sets of these that were made again after runs had read them.
        disagreements: Between pairs of spaces.
        users: Some of the test users.
        licence: What the data set says of its licence.
    """

    comparison: Comparison
    curves: tuple[Curve, ...] = ()
    items: tuple[Item, ...] = ()
    catalogue: int = 0
    spaces: tuple[Space, ...] = ()
    made_again: tuple[str, ...] = ()
    disagreements: tuple[Disagreement, ...] = ()
    users: tuple[User, ...] = ()
    licence: str = ""
