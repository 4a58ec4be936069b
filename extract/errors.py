"""The one family of errors that a user can cause and mend."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """A known error, told in one line: what was expected, what was found, what to do.

    The commands print it as ``error: ...`` and exit with 1; anything else is a defect and keeps
    its traceback.
    """


def unknown_name(kind: str, name: str, known: Iterable[str], remedy: str = "") -> UserError:
    """An error for a name that is in no table, with the nearest known name and the whole list.

    Args:
        kind: What the name should have named, such as ``"model"``.
        name: What was found.
        known: All names that would have been right.
        remedy: What else may be done about it, a sentence.
    """
    names = sorted(known)
    # Case never tells two of our names apart, so it must not hide the nearest one.
    by_lower_case = {known_name.lower(): known_name for known_name in names}
    nearest = get_close_matches(name.lower(), by_lower_case, n=1, cutoff=0.5)
    guess = f"did you mean {by_lower_case[nearest[0]]!r}? " if nearest else ""
    listing = f"known: {', '.join(names)}" if names else f"there is no {kind} yet"
    return UserError(f"unknown {kind} {name!r}; {guess}{listing}{'. ' + remedy if remedy else ''}")
