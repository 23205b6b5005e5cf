"""Timestamps and other values, as tables and Hypothesis strategies: valid, invalid and nearly valid values."""

import dataclasses
import json
from functools import partial
from typing import Any

from hypothesis import strategies as st

from datasets.schemas.fields import Field

TAKEN = [
    "2026-06-10T10:58:00Z",
    "2026-06-10t10:58:00z",
    "2026-06-10T10:58:00+00:00",
    "2026-06-10T10:58:00-00:00",
    "2026-06-10T10:58:00+23:59",
    "2026-06-10T10:58:00-23:59",
    "2026-06-10T10:58:00+05:30",
    "2026-06-10T00:00:00Z",
    "2026-06-10T23:59:59Z",
    "2024-02-29T00:00:00Z",
    "2000-02-29T00:00:00Z",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z",
    "9999-12-31T23:59:59.999999Z",
    "0001-01-01T01:00:00+01:00",
    "0001-01-01T00:00:00-23:59",
    "9999-12-31T15:59:59.9999994-08:00",
    "9999-12-31T23:59:59.999999+23:59",
    *(f"2026-06-10T10:58:00.{'1234567890' * 3}"[: 20 + digits] + "Z" for digits in range(1, 31)),
    "2026-06-10T10:58:00.000000-03:00",
    f"2026-06-10T10:58:00.{'0' * 500}1Z",
]
REFUSED = [
    "",
    "now",
    "2026-06-10",
    "10:58:00Z",
    "1781000000",
    "2026-06-10T10:58:00",
    "2026-06-10T10:58Z",
    "2026-06-10T10Z",
    "2026-06-10 10:58:00Z",
    "2026-06-10 10:58:00+00:00",
    "2026-06-10_10:58:00Z",
    "2026-06-10\t10:58:00Z",
    "2026-06-10  10:58:00Z",
    "2026-06-10T10:58:00+0000",
    "2026-06-10T10:58:00-0530",
    "2026-06-10T10:58:00.5+0000",
    "2026-06-10T10:58:00.123456789-0000",
    "2026-06-10T10:58:00+00",
    "2026-06-10T10:58:00+0:00",
    "2026-06-10T10:58:00+24:00",
    "2026-06-10T10:58:00+00:60",
    "2026-06-10T10:58:00+00:00:00",
    "2026-06-10T10:58:00\u221200:00",
    "2026-06-10T10:58:00 Z",
    "2026-06-10T10:58:00 +00:00",
    "2026-06-10T10:58:00UTC",
    "2026-06-10T10:58:00ZZ",
    "2026-06-10T10:58:00Z+00:00",
    "2026-06-10T10:58:00[Europe/Bucharest]",
    "2026-06-10T10:58:60Z",
    "2016-12-31T23:59:60Z",
    "2026-06-10T24:00:00Z",
    "2026-06-10T10:60:00Z",
    "2026-02-29T00:00:00Z",
    "1900-02-29T00:00:00Z",
    "2026-06-31T00:00:00Z",
    "2026-13-01T00:00:00Z",
    "2026-00-10T00:00:00Z",
    "2026-06-00T00:00:00Z",
    "0000-01-01T00:00:00Z",
    "9999-12-31T23:59:59.9999999Z",
    "0001-01-01T00:00:00+01:00",
    "0001-01-01T00:59:59.9999994+01:00",
    "9999-12-31T23:59:59-08:00",
    "9999-12-31T15:59:59.9999995-08:00",
    "2026-06-10T10:58:00.Z",
    "2026-06-10T10:58:00,5Z",
    "2026-06-10T10:58:.5Z",
    "2026-6-10T10:58:00Z",
    "2026-06-10T1:58:00Z",
    "26-06-10T10:58:00Z",
    "02026-06-10T10:58:00Z",
    "+2026-06-10T10:58:00Z",
    "-2026-06-10T10:58:00Z",
    "20260610T105800Z",
    "2026-W24-3T10:58:00Z",
    "2026-161T10:58:00Z",
    " 2026-06-10T10:58:00Z",
    "2026-06-10T10:58:00Z ",
    "2026-06-10T10:58:00Z\n",
    "2026-06-10T10:58:00Z\0",
    "２026-06-10T10:58:00Z",
    "2026-06-10T10:58:0٠Z",
    "2026-06-10T10:58:00.٥Z",
]
# Texts that look like the wrong timestamps that msgspec accepts. As values of string fields, they are valid.
BAIT = [
    "555-1234",
    "+40 555-1234",
    "1-800-5551234",
    "a-b 12:30",
    "9-12 10:30",
    "2026-06-10 10:58:00",
    "2026-06-10T10:58:00+0000",
    ":00+1234",
    "12:30:00-0500",
    "+0000",
    "-0000",
    r"\u002b0000",
    "a\\u0020b",
]


VALUES = ["a", "b", "\u00e4 \U0001f600", "2026-06-10 10:58:00"]
NO_DATES = ["2026-02-29", "0000-01-01", "2026-6-1", "20260610", "2026-06-10T00:00:00Z", " 2026-06-10", "2026-06-10\n"]
NO_UUIDS = [
    "f81d4fae7dec11d0a76500a0c91e6bf6",
    "{f81d4fae-7dec-11d0-a765-00a0c91e6bf6}",
    "f81d4fae-7dec-11d0-a765-00a0c91e6bf6\n",
    "f81d4fae-7dec-11d0-a765-00a0c91e6bfg",
    "f81d4fae7-dec-11d0-a765-00a0c91e6bf6",
]
NAMES = ["a", "B", "_", "amount", "Timestamp2", "contexts", "f0", "f1", "def", "__init__", "x" * 63]


def now_and_then(usual: st.SearchStrategy[str], *others: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.integers(0, 9).flatmap(lambda chance: st.one_of(*others) if chance == 0 else usual)


def json_text(text: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Return a string as JSON: plain, in ASCII, or with every character escaped."""
    return st.one_of(text.map(json.dumps), text.map(partial(json.dumps, ensure_ascii=False)), text.map(_escaped_utf_16))


def _escaped_utf_16(text: str) -> str:
    units = text.encode("utf-16-be").hex()
    return '"' + "".join("\\u" + units[at : at + 4] for at in range(0, len(units), 4)) + '"'


digits = st.text("0123456789", min_size=1, max_size=12)
date_times = st.one_of(
    st.sampled_from([*TAKEN, *REFUSED, *BAIT]),
    st.builds(
        "{:04}-{:02}-{:02}{}{:02}:{:02}:{:02}{}{}".format,
        st.one_of(st.integers(0, 9999), st.sampled_from([1, 9999])),
        st.one_of(st.integers(0, 13), st.sampled_from([1, 12])),
        st.one_of(st.integers(0, 32), st.sampled_from([1, 31])),
        st.sampled_from("TTTTTTt _"),
        st.integers(0, 24),
        st.integers(0, 60),
        st.integers(0, 60),
        st.one_of(st.just(""), digits.map(".{}".format)),
        st.one_of(
            st.sampled_from(["Z", "z", "", "+0000", "-0530", "+00"]),
            st.builds("{}{:02}:{:02}".format, st.sampled_from("+-"), st.integers(0, 25), st.integers(0, 61)),
        ),
    ),
)
texts = st.one_of(st.text(max_size=12), st.sampled_from(BAIT))
numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers().map(str),
    st.builds("{}{}.{}e{}".format, st.sampled_from(["", "-"]), st.integers(0), digits, st.integers(-400, 400)),
    st.sampled_from(["0", "-0", "-0.0", "1e308", "1.7976931348623159e308", "1e309", "9" * 309, "5e-325", "1E+5"]),
)
broken = st.sampled_from(
    ["01", "1.", ".5", "+1", "NaN", "-Infinity", "1e", "True", '"\\ud800"', '"\\q"', '"\t"', "", "x"]
)
anything = st.recursive(
    st.one_of(json_text(texts), numbers, st.sampled_from(["null", "true", "false"]), broken),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda values: "[" + ",".join(values) + "]"),
        st.lists(st.tuples(json_text(texts), inner), max_size=3).map(
            lambda pairs: "{" + ", ".join(f"{name}: {value}" for name, value in pairs) + "}"
        ),
    ),
    max_leaves=6,
)
contexts = st.lists(st.tuples(json_text(texts), anything), max_size=3).map(
    lambda pairs: "{" + ",".join(f"{name}:{value}" for name, value in pairs) + "}"
)
dates = st.one_of(
    st.dates().map(str),
    st.sampled_from(["2024-02-29", "0001-01-01", "9999-12-31", *NO_DATES]),
    st.builds("{:04}-{:02}-{:02}".format, st.integers(0, 10000), st.integers(0, 13), st.integers(0, 32)),
)
uuids = st.one_of(
    st.uuids().map(str), st.uuids().map(lambda each: str(each).upper()), st.sampled_from(NO_UUIDS), st.uuids().map(repr)
)
plain = st.builds(
    "{}{}{}".format, st.sampled_from(["", "-"]), st.integers(0, 99999), st.sampled_from(["", ".5", ".05", ".500"])
)
integers = st.one_of(
    st.integers(-(2**64), 2**64).map(str),
    st.integers(-9, 9).map(str),
    st.sampled_from([str(2**63 - 1), str(-(2**63)), str(2**63), "-0"]),
)
odd_decimals = st.sampled_from([" 1", "1_0", "+1", "NaN", "Infinity", "1.", ".5", "\u0661", "", "0x1", "1,5", "1e"])


def array_of(element: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(element, max_size=3).map(lambda values: "[" + ", ".join(values) + "]")


USUAL = {
    "timestamp": json_text(now_and_then(st.sampled_from(TAKEN), date_times)),
    "string": json_text(texts),
    "number": numbers,
    "boolean": st.sampled_from(["true", "false"]),
    "context": contexts,
    "integer": now_and_then(integers, numbers),
    "date": json_text(now_and_then(st.dates().map(str), dates)),
    "uuid": json_text(uuids),
    "json": anything,
    "enum": json_text(now_and_then(st.sampled_from(VALUES), st.sampled_from(["A", " a", ""]))),
}
for kind in ("decimal(5,2)", "decimal(38,10)", "decimal(3,3)", "decimal(7,0)"):
    written = st.one_of(plain, now_and_then(plain, numbers, odd_decimals, integers))
    USUAL[kind] = st.one_of(now_and_then(plain, numbers), json_text(written))
for kind in ("string", "number", "integer", "timestamp"):
    USUAL[f"{kind}[]"] = array_of(now_and_then(USUAL[kind], anything))
space = st.text(" \t\r\n", max_size=2)
KINDS = [kind for kind in USUAL if kind != "context"]
OLD = ["string", "number", "boolean", "timestamp"]
# The constraints that a field of each type may have.
CONSTRAINTS: dict[str, list[dict[str, Any]]] = {
    "number": [{"minimum": -5}, {"maximum": 1e6}, {"minimum": 0, "maximum": 2.5}],
    "integer": [{"minimum": -5}, {"maximum": 2**62}],
    "decimal(5,2)": [{"minimum": 0.5}, {"maximum": "99.05"}],
    "date": [{"minimum": "2000-01-01"}, {"maximum": "2026-06-10"}],
    "timestamp": [{"minimum": "2026-06-10T10:58:00Z"}, {"maximum": "2026-06-10T10:58:00+05:30"}],
    "string": [{"min_length": 1, "max_length": 3}, {"max_length": 99, "pattern": "^[^a]*$"}],
    "string[]": [{"min_length": 1}],
    "timestamp[]": [{"max_length": 1}],
}


def _declared(kind: str, optional: bool, chosen: int) -> Field:
    values = tuple(VALUES) if kind == "enum" else ()
    choices = [{}, *CONSTRAINTS.get(kind, [])]
    return Field("", kind, optional=optional, values=values, **choices[chosen % len(choices)])


declared = st.builds(
    _declared, st.one_of(st.sampled_from(OLD), st.sampled_from(KINDS)), st.booleans(), st.sampled_from([0, 0, 1, 2, 3])
)
schemas = st.dictionaries(st.sampled_from(NAMES), declared, max_size=5).map(
    lambda found: [dataclasses.replace(field, name=name) for name, field in found.items()]
)


@st.composite
def near_valid_records(draw: st.DrawFn, fields: list[Field]) -> bytes:
    """Return a record of the schema, perhaps with small errors: a value, a missing, unknown or double name, a byte."""
    wanted = {"timestamp": "timestamp", "context": "context", **{field.name: field.type for field in fields}}
    pairs = [
        (name, draw(now_and_then(USUAL[kind], anything, date_times.map(json.dumps), st.just("null"))))
        for name, kind in wanted.items()
    ]
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):  # a name occurs a second time, with any value
        name = draw(st.sampled_from([*wanted, *wanted, "extra", "A", "😀"]))
        pairs.append((name, draw(st.one_of(USUAL.get(wanted.get(name, ""), anything), anything))))
    if draw(st.integers(0, 9)) == 0:
        pairs.pop(draw(st.integers(0, len(pairs) - 1)))
    pairs = draw(st.permutations(pairs))
    written = [
        draw(space) + draw(json_text(st.just(name))) + draw(space) + ":" + draw(space) + value for name, value in pairs
    ]
    record = (draw(space) + "{" + ",".join(written) + draw(space) + "}" + draw(space)).encode()
    if draw(st.integers(0, 6)) == 0:
        at = draw(st.integers(0, len(record)))
        byte = draw(st.one_of(st.sampled_from(b'"{}[],:\\ 0-+TZ\x00\xff\xc3'), st.integers(0, 255)))
        record = record[:at] + bytes([byte]) + record[at + draw(st.integers(0, 1)) :]
    return record
