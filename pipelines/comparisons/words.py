"""Numbers and lists as they stand in sentences and tables."""

from collections.abc import Sequence

NOTHING = "–"


def figure(value: float | None, digits: int = 4, signed: bool = False) -> str:
    """A share without its leading zero: ``.1234``, ``-.0020``, ``+.0041`` if signed."""
    if value is None:
        return NOTHING
    text = f"{value:{'+' if signed else ''}.{digits}f}"
    # What rounds to nothing has no sign.
    text = text.lstrip("+-") if not float(text) else text
    return text.replace("0.", ".", 1) if abs(float(text)) < 1 else text


def p_value(p: float) -> str:
    """A p-value with its sign of relation: ``p .31``, ``p .006``, ``p < .001``."""
    if p < 0.001:
        return "p < .001"
    digits = 2 if p >= 0.1 else 3
    return f"p {figure(p, digits)}"


def percent(share: float) -> str:
    """A share in percent, with as many digits as it needs: ``95 %``."""
    return f"{share * 100:.10g} %"


def interval(low: float | None, high: float | None, digits: int = 4) -> str:
    """Both ends: ``-.0020 to .0102``."""
    if low is None or high is None:
        return NOTHING
    return f"{figure(low, digits)} to {figure(high, digits)}"


def counted(n: int, what: str) -> str:
    """``1 run``, ``1,200 runs``."""
    return f"{n:,} {what}{'s' * (n != 1)}"


def listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
