"""The one family of errors that a user can cause and mend."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

# How many names fit into one line: of all that are known, and of those that may have been meant.
LISTED = 12
GUESSES = 3


class UserError(Exception):
    """A known error, told in one line: what was expected, what was found, what to do.

    The commands print it as ``error: ...`` and exit with 1; anything else is a defect and keeps
    its traceback.
    """


class BusyError(UserError):
    """Another process has what is needed; later it may be free."""


def unknown_name(kind: str, name: str, known: Iterable[str], remedy: str = "") -> UserError:
    """An error for a name that is in no table, with the nearest known name and the whole list.

    Of a list that is too long for a line only the beginning is told, and more of the nearest names.

    Args:
        kind: What the name should have named, such as ``"model"``.
        name: What was found.
        known: All names that would have been right.
        remedy: What else may be done about it, a sentence.
    """
    names = sorted(known)
    guesses = _nearest(name, names, 1 if len(names) <= LISTED else GUESSES)
    guess = f"did you mean {' or '.join(map(repr, guesses))}? " if guesses else ""
    return UserError(
        f"unknown {kind} {name!r}; {guess}{_listing(kind, names)}{'. ' + remedy if remedy else ''}"
    )


def _nearest(name: str, names: Sequence[str], count: int) -> list[str]:
    # Case never tells two of our names apart, so it must not hide the nearest one.
    by_lower_case = {known_name.lower(): known_name for known_name in names}
    nearest = get_close_matches(name.lower(), by_lower_case, n=count, cutoff=0.5)
    return [by_lower_case[near] for near in nearest]


def _listing(kind: str, names: Sequence[str]) -> str:
    if not names:
        return f"there is no {kind} yet"
    left_out = len(names) - LISTED
    more = f", ... and {left_out:,} more" if left_out > 0 else ""
    return f"known: {', '.join(names[:LISTED])}{more}"
