"""One verdict on a body, whichever way it is read: fast, twice, large, in a batch, in lines; by a reader of our own.

The validator takes short cuts where a body is plain. Here the same body is made to take each way, and what is accepted
is read as a worker reads it.
"""

import json
import os
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.common.errors import ApiError
from datasets.schemas.field_types import FIELD_TYPES, arrow_timestamp
from datasets.schemas.schema import CompiledSchema, Field
from ingest.errors import InvalidRecords
from ingest.queue.formats import Payload
from ingest.queue.stream import Entry
from ingest.storing.conversion import to_table
from ingest.validation.msgspec_gaps import may_be_misread
from ingest.validation.payloads import validate_array, validate_lines, validate_one
from tests.ingest.validation.reader import Number, Pairs, Refused, expected, microseconds

# More by hand: EXAMPLES=200000 python -m pytest tests/ingest/validation/test_validation_agrees.py
EXAMPLES = int(os.environ.get("EXAMPLES", "500"))
SCHEMA = CompiledSchema(1, [Field("t", "timestamp"), Field("s", "string")])

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
# Text that looks like a time stamp that is read too leniently, and is just text.
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


# -- each way to read a body --------------------------------------------------------------------------

VALID = {"string": '"x"', "number": "1", "boolean": "true", "timestamp": '"2026-06-10T10:58:00Z"'}
NOT_JSON = ("refused", "Invalid JSON body")


def verdict(schema: CompiledSchema, record: bytes) -> tuple[str, Any]:
    """`("accepted", row)` or `("refused", problems)`: the same, whichever way the record is read."""
    first = _outcome(schema, validate_one, record)
    others = {"large": _outcome(schema, validate_one, b" " * 10_000 + record)}
    if b"\n" not in record:
        others["lines"] = _outcome(schema, validate_lines, b"\n" + record + b"\n\r\n")
    if first != NOT_JSON:  # what is no JSON text alone may be two in an array
        others["array"] = _outcome(schema, validate_array, b" [" + record + b"\n]")
        others["many"] = _outcome(schema, validate_array, b"[" + b",".join([record] * 40) + b"]")
        others["read twice"] = _outcome(schema, validate_array, b"[" + record + b"," + _baited(schema) + b"]")
    assert all(other == first for other in others.values()), {"plain": first, **others}
    return first


def _baited(schema: CompiledSchema) -> bytes:
    """A valid record that makes the validator read its body a second time."""
    values = {"timestamp": VALID["timestamp"], "context": '{"":"9-12 10:30"}'}
    values |= {field.name: VALID[field.type] for field in schema.fields}
    return ("{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in values.items()) + "}").encode()


def _outcome(schema: CompiledSchema, validate: Any, body: bytes) -> tuple[str, Any]:
    try:
        payload = validate(schema, body)
    except InvalidRecords as refusal:
        first = [problem for problem in refusal.details["errors"] if problem.pop("index", 0) == 0]
        return "refused", first
    except ApiError as refusal:
        return "refused", refusal.error
    return "accepted", _first_row(schema, payload)


def _first_row(schema: CompiledSchema, payload: Payload) -> dict[str, Any]:
    """The first row that a worker would write of an accepted body; time stamps in microseconds since 1970."""
    entry = Entry("1-0", payload.body, payload.format, payload.count, 1, "t", "1-0", len(payload.body))
    table = to_table(schema, [entry], project_id=1, dataset_id=1, number=1)
    assert len(table) == payload.count
    names = ["timestamp", "context", *(field.name for field in schema.fields)]
    columns = {name: table[name].slice(0, 1) for name in names}
    instants = {
        name: column.cast("int64") if column.type == arrow_timestamp() else column for name, column in columns.items()
    }
    return {name: column.to_pylist()[0] for name, column in instants.items()}


# -- tables -------------------------------------------------------------------------------------------


def example(timestamp: str, text: str = '"x"', context: str = "{}") -> bytes:
    return f'{{"timestamp":"2026-06-10T10:58:00Z","context":{context},"t":{timestamp},"s":{text}}}'.encode()


def test_date_time_is_accepted_and_keeps_microseconds() -> None:
    for text in TAKEN:
        for written in (json.dumps(text), _escaped(text)):
            outcome, row = verdict(SCHEMA, example(written))
            assert outcome == "accepted", text
            assert row["t"] == microseconds(text), text
            at_the_top = example('"2026-06-10T10:58:00Z"').replace(b'"2026-06-10T10:58:00Z"', written.encode(), 1)
            assert verdict(SCHEMA, at_the_top)[1]["timestamp"] == microseconds(text), text


def test_text_that_is_not_a_date_time_is_refused() -> None:
    for text in REFUSED:
        for written in (json.dumps(text), json.dumps(text, ensure_ascii=False), _escaped(text)):
            if written.isascii() or text.isprintable():
                outcome, problems = verdict(SCHEMA, example(written))
                assert outcome == "refused", text
                assert [problem["error"] for problem in problems] == ["Invalid timestamp field: t"], text
                at_the_top = example('"2026-06-10T10:58:00Z"').replace(b'"2026-06-10T10:58:00Z"', written.encode(), 1)
                outcome, problems = verdict(SCHEMA, at_the_top)
                assert [problem["error"] for problem in problems] == ["Invalid or missing timestamp"], text


def _escaped(text: str) -> str:
    """As JSON, with every character written as an escape."""
    return '"' + "".join(f"\\u{ord(character):04x}" for character in text) + '"'


@pytest.mark.parametrize(
    ("text", "is_lax"),
    [(b'10:58:00-0530"', True), (b'10:58:00.25+0000"', True), (b"06-10 10:", True), (b'555-1234"', False)],
)
def test_an_invalid_timestamp_is_found_at_any_place(text: bytes, is_lax: bool) -> None:
    """At the beginning, at the end, and across whatever widths the search takes a body by."""
    for before in range(200):
        for after in (0, 1, 31, 64, 129):
            body = b"x" * before + text + b"x" * after
            assert may_be_misread(body) is is_lax, (before, after)


def test_text_that_looks_like_a_lax_time_stamp_is_text() -> None:
    for text in BAIT:
        context = json.dumps({text: [text]})
        outcome, row = verdict(SCHEMA, example('"2026-06-10T10:58:00Z"', json.dumps(text), context))
        assert outcome == "accepted", text
        assert (row["s"], row["context"]) == (text, context)
        assert verdict(SCHEMA, example(json.dumps(text)))[0] == "refused"


# -- property -----------------------------------------------------------------------------------------

NAMES = ["a", "B", "_", "amount", "Timestamp2", "contexts", "f0", "f1", "def", "__init__", "x" * 63]


def now_and_then(usual: st.SearchStrategy[str], *others: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.integers(0, 9).flatmap(lambda chance: st.one_of(*others) if chance == 0 else usual)


def json_text(text: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """A string as JSON: plain, in ASCII, or all in escapes."""
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
USUAL = {
    "timestamp": json_text(now_and_then(st.sampled_from(TAKEN), date_times)),
    "string": json_text(texts),
    "number": numbers,
    "boolean": st.sampled_from(["true", "false"]),
    "context": contexts,
}
space = st.text(" \t\r\n", max_size=2)
schemas = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(list(FIELD_TYPES)), max_size=5)


@st.composite
def near_valid_records(draw: st.DrawFn, types: dict[str, str]) -> bytes:
    """A record of the schema, with little wrong: a value, a name, a name twice, a byte."""
    wanted = {"timestamp": "timestamp", "context": "context", **types}
    pairs = [
        (name, draw(now_and_then(USUAL[kind], anything, date_times.map(json.dumps)))) for name, kind in wanted.items()
    ]
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):  # another time, with whatever value
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


@given(st.data())
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="EXAMPLES" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_every_way_of_reading_comes_to_the_contracts_verdict(data: st.DataObject) -> None:
    types = data.draw(schemas.filter(lambda types: len({name.lower() for name in types}) == len(types)))
    schema = CompiledSchema(1, [Field(name, kind) for name, kind in types.items()])
    record = data.draw(near_valid_records(types))
    outcome, found = verdict(schema, record)
    try:
        row = expected(schema, record)
    except Refused:
        assert outcome == "refused"
        return
    assert outcome == "accepted", found
    context = found.pop("context")
    assert json.loads(context, object_pairs_hook=Pairs, parse_int=Number, parse_float=Number) == row.pop("context")
    assert context.strip() == context or context.encode() in record
    assert found == row
