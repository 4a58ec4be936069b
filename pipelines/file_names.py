"""What the picture of an item is called, in a data set and among what was fetched."""

import os

from extract.files import digest

LONGEST_NAME = 200


def file_name(item_id: str, suffix: str) -> str:
    """What an item's picture is called in a data set: after the id where that can name a file."""
    usable = item_id.isprintable() and not item_id.startswith(".") and os.sep not in item_id
    if not usable or "/" in item_id or len(os.fsencode(item_id)) > LONGEST_NAME:
        return digest([item_id]) + suffix.lower()
    return item_id + suffix.lower()
