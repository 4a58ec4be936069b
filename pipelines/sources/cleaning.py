"""What shops write into their catalogues, as plain text, numbers and paths."""

import html
import re
from typing import Any

# Text that was escaped twice occurs; what was escaped more often is left as it is.
MOST_ESCAPED = 3
TAGS = (
    "a abbr b big blockquote body br center cite code col dd del div dl dt em embed font form h1 "
    "h2 h3 h4 h5 h6 head hr html i iframe img input ins label li link meta noscript object ol "
    "option p param pre s script select small span strike strong style sub sup table tbody td "
    "tfoot th thead title tr tt u ul"
)
# Only what is certain to be a tag: "3 < 5 and 6 > 2" and "a <b and c> d" are none.
ATTRIBUTE = r"""\s+[\w:-]+\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'<>]+)"""
TAG = re.compile(rf"</?(?:{'|'.join(TAGS.split())})(?:{ATTRIBUTE})*\s*/?>", re.IGNORECASE)
PRICE = re.compile(r"\$?\s*(\d{1,3}(?:,\d{3})+|\d{1,9})(\.\d{1,9})?")


def clean_text(value: Any) -> str | None:
    """A value as one line of plain text; None where there is nothing.

    Entities become letters, tags become spaces, and so does any white space; a list's parts are
    joined. Blank text and "nan" are nothing.
    """
    if isinstance(value, list):
        value = " ".join(filter(None, map(clean_text, value)))
    if value is None or isinstance(value, dict | bool):
        return None
    text = " ".join(TAG.sub(" ", _unescaped(str(value))).split())
    return None if text.lower() in ("", "nan") else text


def price_of(value: Any) -> float | None:
    """A price in dollars, from a number or from a text such as "$1,299.00"; None from others."""
    found = PRICE.fullmatch(str(value).strip())
    return float(found[0].lstrip("$").replace(",", "")) if found else None


def path_of(value: Any) -> list[str] | None:
    """A category's levels, from a path or from a list of paths, of which the first counts."""
    levels = value if isinstance(value, list) else []
    if levels and isinstance(levels[0], list):
        levels = levels[0]
    return [*filter(None, map(clean_text, levels))] or None


def first_url(*values: Any) -> str | None:
    """The first address among some, each a text, or a list that begins with one."""
    firsts = (value[0] if isinstance(value, list) and value else value for value in values)
    urls = (url.strip() for url in firsts if isinstance(url, str))
    return next((url for url in urls if url and url.lower() != "nan"), None)


def _unescaped(text: str) -> str:
    for _ in range(MOST_ESCAPED):
        plain = html.unescape(text)
        if plain == text:
            break
        text = plain
    return text
