"""Numbers as the page writes them: ``.3721``, ``+.0102``, ``<.001``."""

import math

MINUS = "−"
NONE = "–"
# Beyond-accuracy measures that are no shares, and how many decimals each deserves.
DECIMALS = {"novelty": 2, "popularity": 1}
SMALLEST_P = 0.001


def share(value: float | None, decimals: int = 4) -> str:
    """A number that is mostly below one, without the zero before its point."""
    if value is None or not math.isfinite(value):
        return NONE
    text = f"{abs(value):.{decimals}f}"
    sign = MINUS if value < 0 and float(text) else ""
    return sign + text.removeprefix("0") if decimals else sign + text


def signed(value: float | None, decimals: int = 4) -> str:
    """A difference, with its sign."""
    text = share(value, decimals)
    positive = value is not None and text[0] not in MINUS + NONE and value > 0
    return f"+{text}" if positive else text


def probability(value: float | None) -> str:
    """A p-value with three decimals, or that it is below the smallest of them."""
    if value is not None and value < SMALLEST_P:
        return "<" + share(SMALLEST_P, 3)
    return share(value, 3)


def beyond(name: str, value: float | None) -> str:
    """A beyond-accuracy measure; `name` is such as ``novelty@20``."""
    return share(value, DECIMALS.get(name.partition("@")[0], 4))


def percent(value: float | None) -> str:
    """A share as a whole percentage; `.95` is ``95 %``."""
    return NONE if value is None or not math.isfinite(value) else f"{value * 100:.4g} %"


def duration(seconds: float) -> str:
    """Seconds as ``48 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"


def metric(name: str) -> str:
    """A metric's name as it is printed: ``recall@20``, ``NDCG@20``, ``MAP@20``."""
    kind, at, cutoff = name.partition("@")
    return (kind.upper() if kind in {"ndcg", "map", "mrr"} else kind) + at + cutoff
