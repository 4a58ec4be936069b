"""The checks of a data set: each takes its two tables as evidence, and names those that offend."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from extract.catalog import is_blank
from extract.ledger import LEDGER
from pipelines.workspace import SPLITS, read_table

Offenders = Sequence[str]

# Items of a group of near-duplicates that are named.
NAMED = 5


@dataclass(frozen=True)
class DataEvidence:
    """The two tables of a data set, as columns.

    Attributes:
        item_ids: Ids of the items, as they stand; one that is absent is empty.
        texts: One text per item, or None.
        users: User of each interaction.
        items: Item of each interaction.
        splits: Split of each interaction.
        pictures: From row to what is wrong with the picture: a kind and a detail.
        alike_pictures: Groups of rows whose pictures are nearly the same.
        alike_texts: Groups of rows whose texts are nearly the same.
        changed: Which tables differ from the description that preparing wrote.
        unfinished: What preparing did not write.
    """

    item_ids: Sequence[str]
    texts: Sequence[str | None]
    users: Sequence[str]
    items: Sequence[str]
    splits: Sequence[str]
    pictures: Mapping[int, tuple[str, str]]
    alike_pictures: Sequence[Sequence[int]] = ()
    alike_texts: Sequence[Sequence[int]] = ()
    changed: Sequence[str] = ()
    unfinished: Sequence[str] = ()

    def users_of(self, split: str) -> set[str]:
        """The users with an interaction of that split."""
        return {user for user, of in zip(self.users, self.splits, strict=True) if of == split}


def with_reasons(
    pictures: Mapping[int, tuple[str, str]], item_ids: Sequence[str], folder: Path
) -> dict[int, tuple[str, str]]:
    """What is wrong with pictures, and why those that were to be fetched are not there.

    Args:
        pictures: From row to a kind and a detail.
        item_ids: Ids of the items.
        folder: The data set's, where preparing wrote down what it could not have.

    Raises:
        UserError: What it wrote is torn.
    """
    ledger = folder / LEDGER
    lost = read_table(ledger).to_pylist() if ledger.is_file() else []
    why = {problem["item_id"]: f"{problem['problem']}: {problem['detail']}" for problem in lost}
    return {
        row: (kind, why.get(item_ids[row], detail) if kind == "missing" else detail)
        for row, (kind, detail) in pictures.items()
    }


def duplicate_items(data: DataEvidence) -> Offenders:
    """Item ids with more than one row."""
    return [item for item, count in Counter(data.item_ids).items() if count > 1]


def unnamed(data: DataEvidence) -> Offenders:
    """Rows without an id, of either table."""
    columns = {"item_id": data.item_ids, "user_id": data.users, "item_id of the log": data.items}
    return [
        f"row {row}, {name}"
        for name, column in columns.items()
        for row, value in enumerate(column)
        if not value
    ]


def unknown_splits(data: DataEvidence) -> Offenders:
    """Names of splits that are none."""
    return sorted(map(repr, set(data.splits) - set(SPLITS)))


def duplicate_pairs(data: DataEvidence) -> Offenders:
    """Pairs that stand more than once in one split."""
    counts = Counter(zip(data.users, data.items, data.splits, strict=True))
    return [f"{user} with {item}" for (user, item, _), count in counts.items() if count > 1]


def pairs_in_two_splits(data: DataEvidence) -> Offenders:
    """Pairs whose answer is known before the question."""
    distinct = set(zip(data.users, data.items, data.splits, strict=True))
    counts = Counter((user, item) for user, item, _ in distinct)
    return sorted(f"{user} with {item}" for (user, item), count in counts.items() if count > 1)


def unknown_items(data: DataEvidence) -> Offenders:
    """Interactions with an item that the catalogue lacks."""
    known = set(data.item_ids)
    return [
        f"{user} with {item}"
        for user, item in zip(data.users, data.items, strict=True)
        if item not in known
    ]


def users_without_training(data: DataEvidence) -> Offenders:
    """Users of whom nothing can be learned."""
    return sorted(set(data.users) - data.users_of("train"))


def users_without_test(data: DataEvidence) -> Offenders:
    """Users whom the test leaves out."""
    return sorted(set(data.users) - data.users_of("test"))


def cold_items(data: DataEvidence) -> Offenders:
    """Items that nobody took in training."""
    pairs = zip(data.items, data.splits, strict=True)
    trained = {item for item, split in pairs if split == "train"}
    return [item for item in data.item_ids if item not in trained]


def no_training(data: DataEvidence) -> Offenders:
    """Whether there is nothing to train on."""
    return [] if "train" in data.splits else ["no interaction has the split train"]


def missing_pictures(data: DataEvidence) -> Offenders:
    """Items without a picture file."""
    return _pictures(data, lambda kind: kind == "missing")


def broken_pictures(data: DataEvidence) -> Offenders:
    """Items whose picture cannot be used."""
    return _pictures(data, lambda kind: kind != "missing")


def empty_texts(data: DataEvidence) -> Offenders:
    """Items without a text."""
    return [item for item, text in zip(data.item_ids, data.texts, strict=True) if is_blank(text)]


def neither(data: DataEvidence) -> Offenders:
    """Items with neither a text nor a picture: content says nothing of them."""
    pictureless = {data.item_ids[row] for row in data.pictures}
    return [item for item in empty_texts(data) if item in pictureless]


def alike_pictures(data: DataEvidence) -> Offenders:
    """Groups of items with nearly the same picture."""
    return [_equation(data, rows) for rows in data.alike_pictures]


def alike_texts(data: DataEvidence) -> Offenders:
    """Groups of items with nearly the same text."""
    return [_equation(data, rows) for rows in data.alike_texts]


def unfinished(data: DataEvidence) -> Offenders:
    """What preparing writes last, where it is missing."""
    return data.unfinished


def changed_tables(data: DataEvidence) -> Offenders:
    """What is no longer as it was prepared."""
    return data.changed


def _pictures(data: DataEvidence, wanted: Callable[[str], bool]) -> Offenders:
    return [
        f"{data.item_ids[row]} ({detail})"
        for row, (kind, detail) in data.pictures.items()
        if wanted(kind)
    ]


def _equation(data: DataEvidence, rows: Sequence[int]) -> str:
    named = " = ".join(data.item_ids[row] for row in rows[:NAMED])
    return f"{named} = {len(rows) - NAMED:,} more" if len(rows) > NAMED else named
