"""One record of a file that was written as JSON, or as Python wrote its dictionaries instead.

Both are data from the wire: nothing is ever evaluated, and whatever a line holds, it ends as a
record or as None.
"""

import ast
import json
import math
import re
import warnings
from contextlib import suppress
from functools import cache
from typing import Any

# In bytes; a syntax tree takes up to six hundred times as much memory.
LONGEST_LITERAL = 1 << 18
# Bare words that other programs write where Python or JSON have another one, or none.
WORDS = {"true": True, "false": False, "null": None}
WORDS |= dict.fromkeys(("nan", "NaN", "inf", "Inf", "Infinity"))
# Values that are no JSON, but that Arrow and others take; strings are matched to be passed over.
ENDLESS = re.compile(r"""("(?:[^"\\]|\\.)*"?)|-NaN|-?Inf(?=\s*[,\]}])""", re.DOTALL)
# How one half of a character outside the basic plane is written.
HALF = re.compile(rb"\\(?:u|U0000)[dD][89a-fA-F]")
# A backslash in what is followed by a colon, as a key is.
ESCAPED_KEY = re.compile(rb"\\[^'\"\\]*['\"]\s*:")


def parse_record(line: bytes) -> dict[str, Any] | None:
    """The record in a line: strict JSON, else a literal of Python.

    What no table could hold is mended alike in both: a number that is not finite becomes None, a
    whole number beyond 64 bits a float, a tuple a list; and a lone half of a character, which is
    no text, becomes U+FFFD. Of keys that stand twice the last one counts.

    Args:
        line: UTF-8.

    Returns:
        The record; None where the line is no such thing.
    """
    try:
        record = _parse(line.decode())
        if not isinstance(record, dict):
            return None
        return _mended(record) if HALF.search(line) else record
    except (ValueError, SyntaxError, RecursionError, MemoryError):  # the last for nesting, too
        return None


def leading_id(line: bytes, field: str) -> str | None:
    """The text of a field, if it is plain to see that the line begins with it.

    So the lines of unwanted items are passed over without being parsed.

    Args:
        line: A line as for `parse_record`.
        field: Name of the field, of letters and digits.

    Returns:
        What `parse_record` finds in the field, if it finds a record at all; None where only
        parsing can tell.
    """
    pattern, single, double = _beginning(field)
    begins = pattern.match(line)
    if begins is None or line.count(single) + line.count(double) > 1:
        return None
    # The field could come again, and win, with letters of its name written as escapes.
    if b"\\" in line and ESCAPED_KEY.search(line):
        return None
    try:
        return begins["id"].decode()
    except UnicodeDecodeError:
        return None


def _parse(text: str) -> Any:
    try:
        return STRICT.decode(text)
    except (ValueError, RecursionError):
        return _parse_other(text)


def _parse_other(text: str) -> Any:
    if "Inf" in text or "-NaN" in text:
        with suppress(ValueError, RecursionError):
            return STRICT.decode(ENDLESS.sub(lambda found: found[1] or "NaN", text))
    return _literal(text.strip())


def _literal(text: str) -> Any:
    if len(text) > LONGEST_LITERAL:
        raise ValueError("longer than any product needs")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes that Python does not know, and leaves alone
        record = ast.parse(text, mode="eval").body
    if not isinstance(record, ast.Dict) or record.end_lineno != 1:
        raise ValueError("no dictionary in one line")
    # `leading_id` relies on it that nothing else writes a name: no escape, prefix or joined parts.
    source = text.encode()
    for key in filter(None, record.keys):
        name = source[key.col_offset + 1 : (key.end_col_offset or 0) - 1]
        if not (isinstance(key, ast.Constant) and key.value == name.decode()):
            raise ValueError("a name of a field is not plain")
    return _value(record)


def _value(node: ast.AST | None) -> Any:
    match node:
        case ast.Constant(value=str() | bool() | None as value):
            return value
        case ast.Constant(value=int() as value):
            return _whole(str(value))
        case ast.Constant(value=float() as value):
            return _finite(value)
        case ast.List(elts=values) | ast.Tuple(elts=values):
            return [_value(value) for value in values]
        case ast.Dict(keys=keys, values=values):
            return {_name(key): _value(value) for key, value in zip(keys, values, strict=True)}
        case ast.Name(id=word) if word in WORDS:
            return WORDS[word]
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant() | ast.Name() as operand):
            return _negative(_value(operand))
    raise ValueError("no literal")


def _name(node: ast.expr | None) -> str:
    if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
        raise ValueError("no name of a field")
    return node.value


def _negative(value: Any) -> Any:
    if value is None:  # which a number that is not finite has become
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return -value
    raise ValueError("no number")


def _whole(digits: str) -> int | float | None:
    # By length first: Python takes time for long ones, and refuses the longest.
    number = int(digits) if len(digits) <= 20 else math.inf
    return int(number) if -(2**63) <= number < 2**63 else _finite(digits)


def _finite(number: str | float) -> float | None:
    number = float(number)
    return number if math.isfinite(number) else None


def _mended(value: Any) -> Any:
    """A value whose texts are texts: halves that belong together joined, lone ones replaced."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_mended(part) for part in value]
    if isinstance(value, dict):
        return {_mended(name): _mended(part) for name, part in value.items()}
    return value


@cache
def _beginning(field: str) -> tuple[re.Pattern[bytes], bytes, bytes]:
    """What a line begins with whose first field is that one, and both ways to quote its name."""
    name = field.encode()
    pattern = rb"""\s*\{\s*(['"])%b\1\s*:\s*(['"])(?P<id>[^'"\\\x00-\x1f]*)\2\s*[,}]"""
    return re.compile(pattern % re.escape(name)), b"'%b'" % name, b'"%b"' % name


# Below the functions that it calls.
STRICT = json.JSONDecoder(parse_float=_finite, parse_int=_whole, parse_constant=lambda word: None)
