"""Read JSON as RFC 8259 defines it, and say in our own words why a text is not JSON."""

import json
import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

# The beginning of a message of Python's parser -> the cause in our words.
_CAUSES = {
    "Expecting value": "a value is expected",
    "Expecting property name": 'a name in double quotes (") is expected',
    "Expecting ':'": "a colon is expected",
    "Expecting ','": "a comma or the end is expected",
    "Illegal trailing comma": "a comma stands before the end",
    "Extra data": "other characters stand after the value",
    "Unterminated string": 'the text that begins here has no closing quote (")',
    "Invalid control character": r"a control character inside a text: JSON writes \n, \t or \u001b",
    "Invalid \\": "the escape is not one of JSON",
    "Unexpected UTF-8 BOM": "a byte order mark (BOM): save the text as UTF-8 without one",
}

_MAX_SHOWN = 40  # characters of a number in an error


class NotJson(ValueError):
    """The text is not JSON. The message says why, as a sentence."""


def read_json(text: bytes, *, parse_float: Callable[[str], Any] | None = None) -> Any:
    """Return a JSON text in UTF-8 as Python values. `parse_float` reads numbers with a fraction or an exponent.

    Raises:
        NotJson: The text is not JSON, an object has a name twice, an integer has too many digits, or the values are
            nested too deeply.
    """
    try:
        return json.loads(
            text.decode(), parse_float=parse_float, parse_constant=_no_number, object_pairs_hook=_each_name_once
        )
    except (ValueError, RecursionError) as error:
        raise NotJson(why_not_json(error)) from error


def exact_float(text: str) -> float:
    """Return a JSON number as a float. Raise NotJson if a float would be another number."""
    value = float(text)
    if not math.isfinite(value) or Decimal(repr(value)) != Decimal(text):
        shown = text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"
        raise NotJson(f"The number {shown} has more digits than are kept. Write it as a text, in quotes.")
    return value


def why_not_json(error: ValueError | RecursionError) -> str:
    """Return a sentence for an exception of `json.loads`."""
    match error:
        case NotJson():
            return str(error)
        case RecursionError():
            return "The values are nested too deep."
        case UnicodeDecodeError():
            return f"The byte 0x{error.object[error.start]:02x} (byte {error.start}) is not UTF-8."
        case json.JSONDecodeError():
            found = (cause for beginning, cause in _CAUSES.items() if error.msg.startswith(beginning))
            return f"Line {error.lineno}, column {error.colno}: {next(found, 'this is not JSON')}."
    return "An integer has more than 4,300 digits."  # Python's parser has no other error


def _no_number(text: str) -> None:
    raise NotJson(f"{text} is not a JSON number.")


def _each_name_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) < len(pairs):
        raise NotJson("An object has a name twice.")
    return read
