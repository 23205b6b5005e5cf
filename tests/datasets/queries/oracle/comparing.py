"""Compare the service's answer to a query with the expected one."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import Any

from tests.datasets.queries.oracle.engine import ABOUT, About, Expected, Row
from tests.datasets.queries.oracle.kinds import value_of

Answer = Mapping[str, Any]  # the body of an answer
_MAX_SHOWN = 3
LIMITS = {"integer": 2**63, "decimal(10,2)": Decimal(10) ** 36, "decimal(38,10)": Decimal(10) ** 28}


def differences(got: Answer, expected: Expected) -> list[str]:
    """Return what is wrong with an answer, or an empty list."""
    if "failure" in got:
        return [] if _is_out_of_range(got, expected) else [json.dumps(got)]
    names = [each["name"] for each in got["columns"]]
    if names != expected.names:
        return [f"columns {names} instead of {expected.names}"]
    rows = rows_of(got, expected)
    count = min(len(expected.rows), expected.limit)
    wrong = []
    if not len(rows) == got["row_count"] == count:
        wrong.append(f"{len(rows)} rows and row_count {got['row_count']} instead of {count}")
    if got["truncated"] != (len(expected.rows) > expected.limit):
        wrong.append(f"truncated is {got['truncated']}, and the query finds {len(expected.rows)} rows")
    return wrong + wrong_rows(rows, expected)


def _is_out_of_range(got: Answer, expected: Expected) -> bool:
    """Return whether a refusal is right, because a sum does not fit into its column."""
    sums = [number for number, name in enumerate(expected.types) if name.startswith(("integer", "decimal"))]
    too_large = (abs(row[number] or 0) >= LIMITS[expected.types[number]] for row in expected.rows for number in sums)
    return got["failure"] == "invalid" and any(too_large)


def rows_of(got: Answer, expected: Expected) -> list[Row]:
    """Return the rows of an answer as Python values."""
    outputs = list(zip(expected.names, expected.types, strict=True))
    return [tuple(value_of(declared, row[name]) for name, declared in outputs) for row in got["rows"]]


def wrong_rows(rows: Sequence[Row], expected: Expected) -> list[str]:
    """Return a line for each row that is not expected at its place. Rows that `_may_swap` may have any order."""
    wrong, start = [], 0
    for equals in _in_order(expected):
        wrong += _unexpected(rows[start : start + len(equals)], equals, expected)
        start += len(equals)
        if start >= len(rows):
            break
    return wrong[:_MAX_SHOWN]


def _in_order(expected: Expected) -> Iterator[list[Row]]:
    """Yield lists of the expected rows in their order. Rows that may have any order are in the same list."""
    found = list(zip(expected.keys, expected.rows, strict=True))
    for position, descends in reversed(list(enumerate(expected.descending))):
        found.sort(key=partial(_rank, position, descends), reverse=descends)
    equals: list[Row] = []
    last: Row = ()
    for key, row in found:
        if equals and not _may_swap(last, key):
            yield equals
            equals = []
        equals.append(row)
        last = key
    yield equals


def _may_swap(one: Row, other: Row) -> bool:
    """Return whether two neighbors may have either order, because their sort keys are equal.

    If two numbers that are About differ a little in the answer, this decides the order, and the keys after them do not.
    """
    for value, wanted in zip(one, other, strict=True):
        if not is_same(_number(value), wanted):
            return False
        if isinstance(wanted, About):
            return True
    return True


def _rank(position: int, descends: bool, found: tuple[Row, Row]) -> tuple[bool, Any]:
    """Return the value by which a key and its row are sorted. Nulls are last in both directions."""
    value = _number(found[0][position])
    return (not descends, 0) if value is None else (descends, value)


def _unexpected(rows: Sequence[Row], allowed: Sequence[Row], expected: Expected) -> list[str]:
    """Return a line for each row that is not allowed, or that occurs too often."""
    is_exact = [each != ABOUT for each in expected.types]

    def key(row: Row) -> Row:
        return tuple(_hashable(value) for value, exact in zip(row, is_exact, strict=True) if exact)

    left: dict[Row, list[Row]] = defaultdict(list)
    for row in allowed:
        left[key(row)].append(row)
    wrong = []
    for row in rows:
        like = left[key(row)]
        match = next((number for number, each in enumerate(like) if all(map(is_same, row, each))), None)
        if match is None:
            wrong.append(f"not expected: {row}\n  but, for example, {like[:_MAX_SHOWN] or allowed[:_MAX_SHOWN]}")
        else:
            del like[match]
    return wrong


def is_same(value: Any, wanted: Any) -> bool:
    """Return whether a value of an answer is the expected one."""
    if isinstance(wanted, About):
        return value is not None and abs(float(value) - wanted.value) <= wanted.within
    return value is wanted if wanted is None or value is None else bool(value == wanted)


def _number(value: Any) -> Any:
    return value.value if isinstance(value, About) else value


def _hashable(value: Any) -> Any:
    return repr(value) if isinstance(value, list | dict) else value
