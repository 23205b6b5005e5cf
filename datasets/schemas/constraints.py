"""Constraints of a field: the least and the greatest value, the length, and a pattern.

msgspec checks what it can. A function checks the rest (`datasets.schemas.checked`). A field without constraints costs
nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
import re
import threading
import time
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from config.lazy import re2
from datasets.schemas.checked import checked
from datasets.schemas.date_times import Timestamp
from datasets.schemas.explanations import MAX_INTEGER, MIN_INTEGER
from datasets.schemas.field_types import FieldType
from datasets.schemas.fields import Field, Limit, is_storable

LIMITS = ("minimum", "maximum")
LENGTHS = ("min_length", "max_length")
CONSTRAINTS = (*LIMITS, *LENGTHS, "pattern")
MAX_PATTERN_CHARACTERS = 500
# The time for a text grows with its length times the size of RE2's program: at worst about 10 ns per byte and
# instruction. Both are limited, so the slowest pattern takes about 60 ms for the longest text.
_MAX_PROGRAM = 1500
MAX_MATCHED_CHARACTERS = 1000
_SLOW_MATCH_SECONDS = 0.001

# A pattern in pieces: escapes, classes, repetitions, beginnings of groups and single characters.
_PIECES = re.compile(
    r"\\x[0-9A-Fa-f]{2}|\\.|\[(?!\^?\])\^?(?:\\.|[^\]\\])+\]"
    r"|\{(?:0|[1-9][0-9]*)(?:,(?:0|[1-9][0-9]*)?)?\}|\(\?:?|.",
    re.DOTALL,
)
_PIECES_OF_CLASS = re.compile(r"\\x[0-9A-Fa-f]{2}|\\.|.", re.DOTALL)
_CLASSES = (r"\d", r"\D", r"\w", r"\W", r"\s", r"\S")
_REPEATS = ("*", "+", "?", "{")
_SPACES = r"\t\n\f\r "  # in RE2, \s has only these. In ECMA-262, it has all spaces of Unicode
_IN_ECMASCRIPT = {".": r"[^\n]", r"\s": f"[{_SPACES}]", r"\S": f"[^{_SPACES}]", "]": r"\]", "}": r"\}"}

# The Python types in which values are compared with limits. Decimals are missing, because their names have digits.
_COMPARED: dict[str, Any] = {"number": float, "integer": int, "date": date, "timestamp": Timestamp}


class _Constraint(NamedTuple):
    """One constraint: a test for decoded values, the words in `expected`, and the detail for a value that fails."""

    is_kept: Callable[[Any], bool]
    expected: str
    why_not: str


def constrained(kind: FieldType, field: Field) -> FieldType:
    """Return a type that accepts only the values that meet the constraints of a field."""
    constraints = list(_constraints(kind, field))
    if not constraints:
        return kind

    def why_not(value: bytes) -> str | None:
        if not kind.accepts(value):
            return kind.why_not(value)
        decoded = msgspec.json.decode(value, type=_compared(kind))
        return next((each.why_not for each in constraints if not each.is_kept(decoded)), None)

    return dataclasses.replace(
        kind,
        decodes_to=_decodes_to(kind, field, constraints),
        read_as=kind.read,
        expected=", ".join((kind.expected, *(each.expected for each in constraints))),
        example=_example(kind, field),
        json_schema={**kind.json_schema, **_keywords(kind, field)},
        why_not=why_not,
    )


def _compared(kind: FieldType) -> Any:
    if kind.is_array:
        return list[Any]
    return Decimal if kind.name.startswith("decimal") else _COMPARED.get(kind.name, str)


def _limit(kind: FieldType, limit: Limit) -> Any:
    """Return a limit in the Python type in which values are compared."""
    return msgspec.json.decode(json.dumps(limit), type=_compared(kind))


def _counted(kind: FieldType, count: int) -> str:
    return f"{count} {'element' if kind.is_array else 'character'}{'' if count == 1 else 's'}"


def _or(kind: FieldType, limit: Limit | None, default: Any) -> Any:
    return default if limit is None else _limit(kind, limit)


def _constraints(kind: FieldType, field: Field) -> Iterator[_Constraint]:
    if field.minimum is not None:
        low = _limit(kind, field.minimum)
        yield _Constraint(lambda value: value >= low, f"at least {field.minimum}", f"It is less than {field.minimum}.")
    if field.maximum is not None:
        high = _limit(kind, field.maximum)
        yield _Constraint(lambda value: value <= high, f"at most {field.maximum}", f"It is more than {field.maximum}.")
    if field.min_length is not None:
        shortest = field.min_length
        words = f"at least {_counted(kind, shortest)}"
        yield _Constraint(lambda value: len(value) >= shortest, words, f"It has fewer than {_counted(kind, shortest)}.")
    if field.max_length is not None:
        longest = field.max_length
        words = f"at most {_counted(kind, longest)}"
        yield _Constraint(lambda value: len(value) <= longest, words, f"It has more than {_counted(kind, longest)}.")
    if field.pattern is not None:
        matches = functools.partial(_matches, _program(field.pattern))
        yield _Constraint(matches, f"matching {field.pattern}", "It does not match the pattern.")


def _keywords(kind: FieldType, field: Field) -> dict[str, Any]:
    """Return the constraints in JSON Schema, which cannot limit dates and timestamps."""
    lengths = ("minItems", "maxItems") if kind.is_array else ("minLength", "maxLength")
    said: dict[str, Any] = dict(zip(lengths, (field.min_length, field.max_length), strict=True))
    said |= {name: getattr(field, name) for name in LIMITS if not isinstance(getattr(field, name), str)}
    said["pattern"] = field.pattern and _in_ecmascript(field.pattern)
    return {keyword: value for keyword, value in said.items() if value is not None}


def _in_ecmascript(pattern: str) -> str | None:
    r"""Return a pattern that matches the same texts in JSON Schema (ECMA-262 with the flag u).

    Return None if the pattern has syntax that is not translated, such as flags, or `\B`, which RE2 also finds between
    the bytes of a character.
    """
    found = [""]
    for piece in _PIECES.findall(pattern):
        if piece in ("(?", "[", "{") or (piece[0] in _REPEATS and found[-1] in ("^", "$", r"\b")):
            return None
        if piece in _IN_ECMASCRIPT:
            translated: str | None = _IN_ECMASCRIPT[piece]
        elif piece[0] == "[":
            translated = _class_in_ecmascript(piece)
        else:
            translated = _escape_in_ecmascript(piece)
        if translated is None:
            return None
        found.append(translated)
    return "".join(found)


def _escape_in_ecmascript(piece: str, *, kept: str = "") -> str | None:
    """Return a character or an escape as ECMA-262 writes it. Keep the escapes of `kept`. Return None for other ones."""
    escaped = piece[1:] if piece[0] == "\\" else ""
    if len(escaped) != 1 or escaped in "bdDwWtnfrv^$\\.*+?()[]{}|/" + kept:
        return piece
    return None if escaped.isalnum() else escaped  # RE2 may escape any punctuation mark, ECMA-262 only some


def _class_in_ecmascript(piece: str) -> str | None:
    """Return a class like `[^a-z]` as ECMA-262 writes it, or None if it has syntax that is not translated."""
    begin = "[^" if piece[1] == "^" else "["
    items = _PIECES_OF_CLASS.findall(piece, len(begin), len(piece) - 1)
    if "[:" in piece or r"\S" in items:
        return None
    found = [_SPACES if item == r"\s" else _escape_in_ecmascript(item, kept="-") for item in items]
    at = 0
    while at < len(items):
        if items[at + 1 : at + 2] == ["-"] and at + 2 < len(items) and items[at] not in _CLASSES:
            at += 2  # a range
        elif items[at] == "-" and 0 < at < len(items) - 1:
            found[at] = r"\-"
        at += 1
    return None if None in found else begin + "".join(map(str, found)) + "]"


def _decodes_to(kind: FieldType, field: Field, constraints: list[_Constraint]) -> Any:
    """Return the type for msgspec. Either msgspec itself checks the constraints, or a function does."""
    if kind.name == "number":
        return Annotated[float, Meta(ge=_or(kind, field.minimum, None), le=_or(kind, field.maximum, None))]
    if kind.name == "integer":
        low, high = _or(kind, field.minimum, MIN_INTEGER), _or(kind, field.maximum, MAX_INTEGER)
        return Annotated[int, Meta(ge=low, le=high)]
    if kind.is_array or (kind.name == "string" and field.pattern is None):
        return Annotated[kind.decodes_to, Meta(min_length=field.min_length, max_length=field.max_length)]
    decode = _decode_decimal if kind.name.startswith("decimal") else _decode_text
    tests = [each.is_kept for each in constraints]

    def check(value: Any) -> bool:
        decoded = decode(kind, value)
        return decoded is not None and all(is_kept(decoded) for is_kept in tests)

    return checked(check)


def _decode_decimal(kind: FieldType, value: Any) -> Decimal | None:
    return Decimal(value) if kind.decodes_to.check(value) else None


def _decode_text(kind: FieldType, value: Any) -> Any:
    """Return a string, date or timestamp in the Python type for comparison, or None for any other value."""
    if kind.name == "string":
        return value if type(value) is str else None
    try:
        if type(value) is str and (kind.spelled is None or kind.spelled(value)):
            return msgspec.convert(value, _COMPARED[kind.name])
    except msgspec.ValidationError:
        pass
    return None


@functools.lru_cache(maxsize=1024)
def _program(pattern: str) -> Any:
    """Return a compiled pattern. Raise ValueError with RE2's message if it is not valid or too large."""
    options = re2.Options()
    options.never_capture, options.log_errors = True, False
    try:
        program = re2.compile(pattern, options)
    except re2.error as error:
        said = error.args[0]
        raise ValueError(said.decode(errors="replace") if isinstance(said, bytes) else str(said)) from None
    if program.programsize > _MAX_PROGRAM:
        raise ValueError("it repeats too much: use max_length instead of large counts, and fewer classes of Unicode")
    return program


class PatternsTooSlow(Exception):
    """The matches of a body have used more processor time than `limited_matching` allows."""


class _Matching(threading.local):
    """The matches of the body that this thread checks."""

    are_slow = False  # whether one of them took more than 1 ms
    seconds_left = math.inf  # of processor time for those after this slow one


_matching = _Matching()


@contextlib.contextmanager
def limited_matching(seconds: float) -> Iterator[None]:
    """Raise PatternsTooSlow if the matches inside this block use more than about `seconds` of processor time together.

    Matches are only measured after the first one that has taken more than 1 ms: an ordinary match takes a microsecond.
    """
    _matching.are_slow, _matching.seconds_left = False, seconds
    try:
        yield
    finally:
        _matching.are_slow, _matching.seconds_left = False, math.inf


def _matches(program: Any, text: str) -> bool:
    # The thread's own clock counts only processor time, but to read it takes as long as an ordinary match.
    measure = _matching.are_slow
    clock = time.thread_time if measure else time.monotonic
    began = clock()
    is_match = program.search(text.encode()) is not None
    seconds = clock() - began
    if measure:
        _matching.seconds_left -= seconds
        if _matching.seconds_left < 0:
            raise PatternsTooSlow
    elif seconds > _SLOW_MATCH_SECONDS:
        _matching.are_slow = _matching.seconds_left < math.inf
    return is_match


def _example(kind: FieldType, field: Field) -> Any:
    """Return a value that meets all constraints, except perhaps the pattern."""
    example = kind.example
    if kind.is_array or kind.name == "string":
        shortest, longest = field.min_length or 0, field.max_length
        return (example * max(1, shortest))[:longest] if len(example) < shortest else example[:longest]
    limits = (limit for limit in (field.minimum, field.maximum) if limit is not None)
    decoded = _limit(kind, example)
    return example if all(each.is_kept(decoded) for each in _constraints(kind, field)) else next(limits)


def constraint_problem(kind: FieldType, field: Field) -> str | None:
    """Return why a type cannot have the constraints of a field, or None.

    Args:
        kind: The type that the field would have if it were required and had no constraints.
        field: The field.
    """
    given = [name for name in CONSTRAINTS if getattr(field, name) is not None]
    for name in given:
        if name not in allowed(kind):
            return f"{kind.name} has no {name}. It is for {_FOR[name]}."
    for name in set(given) & set(LIMITS):
        if not kind.accepts(json.dumps(getattr(field, name)).encode()):
            return f"{name} is not a value of the field: {kind.expected}."
    low, high = field.minimum, field.maximum
    if low is not None and high is not None and _limit(kind, low) > _limit(kind, high):
        return f"no value is at least {low} and at most {high}."
    shortest, longest = field.min_length or 0, field.max_length
    if longest is not None and longest < shortest:
        return f"nothing has at least {shortest} and at most {_counted(kind, longest)}."
    return None if field.pattern is None else _pattern_problem(field.pattern, longest)


def _pattern_problem(pattern: str, longest: int | None) -> str | None:
    if longest is None or longest > MAX_MATCHED_CHARACTERS:
        return f"a field with a pattern needs a max_length of at most {MAX_MATCHED_CHARACTERS}."
    if len(pattern) > MAX_PATTERN_CHARACTERS or not is_storable(pattern):
        return f"a pattern has at most {MAX_PATTERN_CHARACTERS} characters, and no NUL."
    try:
        _program(pattern)
    except ValueError as error:
        return f"the pattern is not valid in RE2: {error}."
    return None


_FOR = {
    **dict.fromkeys(LIMITS, "numbers, integers, decimals, dates and timestamps"),
    **dict.fromkeys(LENGTHS, "strings and arrays"),
    "pattern": "strings",
}


def allowed(kind: FieldType) -> tuple[str, ...]:
    """Return the constraints that fields of a type may have."""
    if kind.is_array:
        return LENGTHS
    if kind.name == "string":
        return (*LENGTHS, "pattern")
    return LIMITS if kind.name in _COMPARED or kind.name.startswith("decimal") else ()
