"""The data of a page as blocks of JSON inside HTML, each read by the page when it is needed."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from pipelines.comparisons.contents import Part
from pipelines.pages.contents import Page

ITEMS_A_BLOCK = 200
USERS_A_BLOCK = 50
# Letters that could end or open an element or a comment, as JSON may write any letter.
UNSAFE = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&"}


def blocks(page: Page) -> Iterator[tuple[str, str]]:
    """Name and JSON of each block, in order; together they hold all of the page.

    ``page`` has the comparison and what there is of the rest; ``curves``, ``items``, ``texts`` and
    ``users`` are whole; ``map-S`` and ``disagreement-D`` are of one space and one pair;
    ``pictures-K``, ``neighbours-S-K`` and ``users-K`` hold the K-th part.
    """
    yield "page", _text(_overview(page))
    yield "curves", _text([_plain(curve) for curve in page.curves])
    names = ("id", "taken", "category")
    yield "items", _text({name: [getattr(item, name) for item in page.items] for name in names})
    yield "texts", _text([item.text for item in page.items])
    for k, part in enumerate(_parts(page.items, ITEMS_A_BLOCK)):
        yield f"pictures-{k}", _text([[item.thumbnail, item.why] for item in part])
    for s, space in enumerate(page.spaces):
        yield f"map-{s}", _text(space.xy)
        rows = list(zip(space.neighbours, space.similarities, strict=True))
        for k, part in enumerate(_parts(rows, ITEMS_A_BLOCK)):
            yield f"neighbours-{s}-{k}", _text(part)
    for d, pair in enumerate(page.disagreements):
        yield f"disagreement-{d}", _text(pair.overlap)
    yield "users", _text([user.id for user in page.users])
    for k, part in enumerate(_parts(page.users, USERS_A_BLOCK)):
        yield f"users-{k}", _text([_plain(user) for user in part])


def _overview(page: Page) -> dict[str, Any]:
    return {
        "comparison": _plain(page.comparison),
        "catalogue": page.catalogue,
        "licence": page.licence,
        "made_again": page.made_again,
        "items_a_block": ITEMS_A_BLOCK,
        "users_a_block": USERS_A_BLOCK,
        "spaces": [
            {"name": space.name, "features": space.features, "modality": space.modality}
            for space in page.spaces
        ],
        "disagreements": [{"one": pair.one, "other": pair.other} for pair in page.disagreements],
    }


def _plain(part: Part) -> Any:
    # By way of JSON, where a number that is none (NaN) becomes null, as browsers want it.
    return json.loads(part.model_dump_json())


def _parts(rows: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _text(value: Any) -> str:
    # ASCII only, so that no letter depends on the encoding or ends a line (U+2028).
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.translate(UNSAFE)
