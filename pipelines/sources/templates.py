"""An item's text from its columns: ``"{title}. {overview}"``, without holes where one is null."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from extract.errors import UserError

FIELD = re.compile(r"\{([^{}]*)\}")
PRESENT, ABSENT = "\0", "\1"
EMPTY_BRACKETS = re.compile(rf"\s*[(\[]\s*{ABSENT}\s*[)\]]")
# An absent field takes the words before it along, but not a bracket that closes an earlier one.
ABSENT_WITH_ITS_WORDS = re.compile(rf"[^{PRESENT}{ABSENT})\]]*{ABSENT}")
LEADING_PUNCTUATION = re.compile(r"^[\s.,;:|/\-–—]+")


class TextTemplate:
    """Columns in curly brackets with words between them.

    A field that is empty for an item is left out together with the words that lead to it, or with
    the brackets around it; with no field left there is no text.

    Args:
        template: Such as ``"{title} ({year}). {overview}"``.
        column: From a field to the name of its column; raises a UserError for an unknown one.
    """

    def __init__(self, template: str, column: Callable[[str], str]) -> None:
        pieces = FIELD.split(template)
        self.columns: Sequence[str] = [column(field) for field in pieces[1::2]]
        if not self.columns:
            raise UserError(
                f"a text template names columns in curly brackets, such as '{{title}}'; found "
                f"{template!r}"
            )
        self._words = pieces[0::2]
        self._by_presence: dict[tuple[bool, ...], str] = {}

    def fill(self, row: Mapping[str, Any]) -> str | None:
        """The text of one item, or None.

        Args:
            row: Column name to value.
        """
        values = [plain_text(row[name]) for name in self.columns]
        presence = tuple(value is not None for value in values)
        if not any(presence):
            return None
        if presence not in self._by_presence:
            self._by_presence[presence] = self._without_holes(presence)
        parts = self._by_presence[presence].split(PRESENT)
        filled = [value for value in values if value is not None]
        return "".join(a + b for a, b in zip(parts, [*filled, ""], strict=True)).strip() or None

    def _without_holes(self, presence: Sequence[bool]) -> str:
        text = self._words[0]
        for present, words in zip(presence, self._words[1:], strict=True):
            text += (PRESENT if present else ABSENT) + words
        if all(presence):
            return text
        text = ABSENT_WITH_ITS_WORDS.sub("", EMPTY_BRACKETS.sub("", text))
        return LEADING_PUNCTUATION.sub("", text)


def plain_text(value: Any) -> str | None:
    """A value as text; None where there is nothing: null, blank, NaN, an empty list."""
    if value is None or value != value:
        return None
    if isinstance(value, list):
        value = " ".join(filter(None, map(plain_text, value)))
    return str(value).strip() or None
