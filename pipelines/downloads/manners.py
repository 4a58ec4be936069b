"""How to behave towards a server: how many requests at once, how long to wait, when to give up."""

import os
import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from pydantic import Field

from pipelines.config import Config

DOWNLOADS = "MMREC_DOWNLOADS"
# Seconds; a server that asks for more is left alone for today.
LONGEST_WAIT = 300.0
LONGEST_BACK_OFF = 60.0
FOR_EVER = 1e12


class FetchConfig(Config):
    """Settings of whatever fetches: circumstances, which a result does not depend on."""

    downloads: Path = Field(
        default_factory=lambda: Path(os.environ.get(DOWNLOADS, "downloads")),
        exclude=True,
        description=f"Folder that keeps what was fetched, for all workspaces; or {DOWNLOADS}.",
    )
    connections: int = Field(
        8, ge=1, le=64, exclude=True, description="Requests at once to one host, at most."
    )
    attempts: int = Field(
        4, ge=1, exclude=True, description="How often to ask for a file that fails for the moment."
    )
    timeout: float = Field(
        30.0, gt=0, exclude=True, description="Seconds that a picture or a silence may last."
    )
    wait: float = Field(
        1.0, ge=0, exclude=True, description="Seconds before the second attempt; then doubled."
    )
    again: bool = Field(
        False, exclude=True, description="Ask again for pictures that were refused earlier."
    )


def back_off(attempt: int, first: float, chance: random.Random) -> float:
    """Seconds to wait after a failed attempt: doubled each time, less up to a half by chance.

    Args:
        attempt: How many attempts have failed, from 1.
        first: Seconds after the first one.
        chance: Spreads those who failed together, so that they do not come back together.
    """
    longest = min(first * 2.0 ** min(attempt - 1, 30), LONGEST_BACK_OFF)
    return longest * (0.5 + 0.5 * chance.random())


def asked_to_wait(retry_after: str | None, now: datetime | None = None) -> float | None:
    """The seconds of a header ``Retry-After``, which holds seconds or a date; None for neither.

    Args:
        retry_after: The header's value.
        now: The present, with a time zone.
    """
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), FOR_EVER)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())
