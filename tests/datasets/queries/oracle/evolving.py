"""Random records of a schema that changes, with values that are hard to query."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pandas as pd

from tests.datasets.queries.oracle.table import Fields, Record, Table

_FIRST: Fields = {"country": "string", "amount": "number", "active": "boolean", "signup_at": "timestamp"}
_STATE = {"type": "enum", "values": ["open", "paid", 'it\'s "%"']}
_LATER_STATE = {"type": "enum", "values": ["paid", 'it\'s "%"', "späť"], "optional": True}
_MAYBE_AMOUNT: Fields = {**_FIRST, "amount": "number?"}
_WITH_VISITS: Fields = {**_MAYBE_AMOUNT, "visits": "integer?", "price": "decimal(10,2)?", "tags": "string[]?"}
VERSIONS: Sequence[Fields] = (
    _FIRST,
    {**_FIRST, "plan": "string?", "visits": "integer"},
    {**_MAYBE_AMOUNT, "visits": "integer", "price": "decimal(10,2)", "day": "date?"},
    {**_WITH_VISITS, "select": "string?"},
    {**_MAYBE_AMOUNT, "plan": "string?", "state": _STATE, "ref": "uuid?", "Order": "boolean?"},
    {
        **_WITH_VISITS,
        "signup_at": "timestamp?",
        "plan": "string?",
        "day": "date?",
        "select": "string?",
        "state": _LATER_STATE,
        "ref": "uuid?",
        "Order": "boolean?",
        "exact": "decimal(38,10)?",
        "scores": "number[]?",
        "seen": "timestamp[]?",
        "more": "json?",
        "x" * 63: "integer?",
    },
)
_TEXTS = (
    "RO",
    "US",
    "ro",
    "",
    "%",
    "_",
    "a%b",
    "50% off_",
    "it's",
    '"',
    "\\",
    "é",
    "é",
    "😀",
    "Ω\0",
    "null",
    "1",
    "--",
    "<b>",
)
_NUMBERS = (0.0, -0.0, 1.0, 42.5, -3.25, 0.1, 0.2, 1e15, -1e-9, 123456.789, 5e-324)
_INTEGERS = (0, 1, -1, 7, 7, 100, 2**53 + 1, -(2**53) - 1, 2**60)
_ZONE_CHANGES = (  # times at which clocks change in Bucharest, New York and São Paulo, and other special times
    *("2026-03-29T00:59:59Z", "2026-03-29T01:00:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"),
    *("2025-11-02T05:30:00Z", "2025-11-02T06:30:00Z", "2026-03-08T06:59:59.999999Z", "2026-03-08T07:00:00Z"),
    *("2018-11-04T02:59:59Z", "2018-11-04T03:00:00Z", "2019-02-17T01:30:00Z", "2019-02-17T02:30:00Z"),
    *("2024-02-29T23:59:59Z", "1999-12-31T22:00:00Z", "1970-01-01T00:00:00Z", "1969-12-31T23:59:59.999999Z"),
    *("2040-07-01T12:00:00Z", "1955-06-15T04:00:00Z", "2026-01-01T00:00:00+02:00"),
)


def _values(chance: random.Random) -> dict[str, Callable[[], Any]]:
    """Return a function for each kind. It makes a value in the form in which a client sends it."""

    def day() -> str:
        return str(pd.Timestamp("2026-01-01") + pd.Timedelta(days=chance.randint(-400, 400)))[:10]

    def time() -> str:
        return (
            chance.choice(_ZONE_CHANGES) if chance.random() < 0.7 else f"{day()}T{chance.randint(0, 23):02}:30:00.25Z"
        )

    def many(one: Callable[[], Any]) -> Callable[[], list[Any]]:
        return lambda: [one() for _ in range(chance.randint(0, 3))]

    def number() -> float:
        return chance.choice(_NUMBERS) if chance.random() < 0.5 else round(chance.uniform(-1000, 1000), 3)

    return {
        "string": lambda: chance.choice(_TEXTS),
        "number": number,
        "integer": lambda: chance.choice(_INTEGERS),
        "boolean": lambda: chance.random() < 0.5,
        "timestamp": time,
        "date": day,
        "uuid": lambda: chance.choice((str.lower, str.upper))(str(UUID(int=0xABCDEF + chance.randint(0, 5)))),
        "json": lambda: chance.choice([{"a": [1, "'"]}, [], "text", 5, {"__proto__": None}]),
        "decimal(10,2)": lambda: f"{chance.randint(-(10**5), 10**5) / 100:.2f}",
        "decimal(38,10)": lambda: f"{chance.randint(-(10**26), 10**26)}.{chance.randint(0, 10**10 - 1):010}",
        "string[]": many(lambda: chance.choice(_TEXTS)),
        "number[]": many(number),
        "timestamp[]": many(time),
    }


def evolving(fields: Fields, count: int, chance: random.Random, now: datetime) -> list[Record]:
    """Return records of one schema version, from the last 20 days or long ago, but never from about 7 days ago."""
    values = _values(chance)
    types = {name: (said if isinstance(said, str) else said["type"]) for name, said in fields.items()}
    optional = {name for name, said in fields.items() if str(said).endswith("?") or "optional" in said}

    def value(name: str) -> Any:
        if name in optional and chance.random() < 0.3:
            return None
        return chance.choice(fields[name]["values"]) if types[name] == "enum" else values[types[name].rstrip("?")]()

    def record() -> Record:
        made = {name: value(name) for name in fields}
        left = {name: each for name, each in made.items() if each is not None or chance.random() < 0.5}
        age = timedelta(hours=chance.choice((*range(1, 160), *range(180, 480), 24 * 4000)), seconds=chance.random())
        return {**left, "timestamp": (now - age).isoformat()}

    return [record() for _ in range(count)]


def store(table: Table, chance: random.Random, now: datetime) -> None:
    """Write a new table under several schema versions, in several commits. Merge some of its files."""
    for number, fields in enumerate(VERSIONS):
        table.publish(fields)
        for part in range(3):
            table.store(evolving(fields, 150, chance, now), tidy=number % 2 == 1 and part == 1)
