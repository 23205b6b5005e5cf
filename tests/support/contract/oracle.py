"""The oracle: what the contract says about a body. It is written from the contract alone, slow and obvious.

It shares no line with the product: it has its own reader of JSON (RFC 8259, to the letter) and of RFC 3339.

    python -m tests.support.contract.oracle --examples 200000 --seed 1

compares product and oracle for this many bodies; see `test_oracle`.
"""

import argparse
import calendar
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from math import isinf
from typing import Any

MAX_PROBLEMS = 20
# "Nesting too deep to parse": bodies up to the first depth are read, bodies beyond the second are not.
# How deep that is depends on the stack, and Hypothesis gives tests a deeper one than a web process has.
SURELY_READ, SURELY_TOO_DEEP = 400, 10_000

EXPECTED = {
    "string": "string",
    "number": "number",
    "boolean": "boolean",
    "timestamp": "RFC 3339 date-time with an offset",
}

# -- JSON, RFC 8259 -----------------------------------------------------------------------------------

_SPACE = " \t\n\r"
_SPACES = re.compile(f"[{_SPACE}]*")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_HEX = re.compile(r"[0-9a-fA-F]{4}")
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_WORDS = {"true": ("boolean", True), "false": ("boolean", False), "null": ("null", None)}


class NotJson(Exception):
    """The text is not JSON."""


@dataclass
class Value:
    """A JSON value: its type, its content (members of an object, elements of an array) and its text."""

    type: str
    says: Any
    start: int
    end: int = 0
    depth: int = 0
    name: str = ""  # the name of the member whose value is being read

    def add(self, value: "Value") -> None:
        if self.type == "object":
            self.says[self.name] = value  # if a name occurs twice, the last value counts
        else:
            self.says.append(value)


def read_json(body: bytes) -> Value:
    """Read a whole JSON text. Raises NotJson. There is no recursion, so any depth can be read."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise NotJson from None
    return _Reader(text).read()


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.deepest = 0

    def read(self) -> Value:
        open_values: list[Value] = []
        while True:
            value = self.begin_value()
            if value.type in ("object", "array") and not value.end:
                open_values.append(value)
                self.deepest = max(self.deepest, len(open_values))
                if value.type == "object":
                    value.name = self.member_name()
                continue
            if value.type in ("object", "array"):
                self.deepest = max(self.deepest, len(open_values) + 1)
            while True:  # the value is complete: add it to the open container, which may now be complete, too
                if not open_values:
                    self.skip_space()
                    if self.at != len(self.text):
                        raise NotJson
                    value.depth = self.deepest
                    return value
                parent = open_values[-1]
                parent.add(value)
                self.skip_space()
                sign = self.take()
                if sign == ",":
                    if parent.type == "object":
                        parent.name = self.member_name()
                    break
                if sign != ("}" if parent.type == "object" else "]"):
                    raise NotJson
                parent.end = self.at
                value = open_values.pop()

    def skip_space(self) -> None:
        spaces = _SPACES.match(self.text, self.at)
        assert spaces is not None
        self.at = spaces.end()

    def take(self) -> str:
        if self.at >= len(self.text):
            raise NotJson
        self.at += 1
        return self.text[self.at - 1]

    def begin_value(self) -> Value:
        """Read a scalar or an empty container, or the beginning of a container. The `end` of a beginning is 0."""
        self.skip_space()
        start = self.at
        sign = self.take()
        if sign in "{[":
            value = Value("object", {}, start) if sign == "{" else Value("array", [], start)
            self.skip_space()
            if self.text[self.at : self.at + 1] == ("}" if sign == "{" else "]"):
                self.at += 1
                value.end = self.at
            return value
        if sign == '"':
            return Value("string", self.rest_of_string(), start, self.at)
        for word, (type_name, says) in _WORDS.items():
            if self.text.startswith(word, start):
                self.at = start + len(word)
                return Value(type_name, says, start, self.at)
        number = _NUMBER.match(self.text, start)
        if number is None:
            raise NotJson
        self.at = number.end()
        return Value("number", number.group(), start, self.at)

    def member_name(self) -> str:
        self.skip_space()
        if self.take() != '"':
            raise NotJson
        name = self.rest_of_string()
        self.skip_space()
        if self.take() != ":":
            raise NotJson
        return name

    def rest_of_string(self) -> str:
        said = []
        while True:
            plain = _PLAIN.match(self.text, self.at)
            assert plain is not None
            self.at = plain.end()
            said.append(plain.group())
            sign = self.take()
            if sign == '"':
                return "".join(said)
            if sign != "\\":
                raise NotJson  # a control character
            said.append(self.escaped())

    def escaped(self) -> str:
        sign = self.take()
        if sign != "u":
            if sign not in _ESCAPES:
                raise NotJson
            return _ESCAPES[sign]
        unit = self.hex_unit()
        if 0xDC00 <= unit <= 0xDFFF:
            raise NotJson  # a lone surrogate is not text
        if 0xD800 <= unit <= 0xDBFF:
            if self.take() + self.take() != "\\u":
                raise NotJson
            low = self.hex_unit()
            if not 0xDC00 <= low <= 0xDFFF:
                raise NotJson
            return chr(0x10000 + (unit - 0xD800) * 0x400 + (low - 0xDC00))
        return chr(unit)

    def hex_unit(self) -> int:
        digits = _HEX.match(self.text, self.at)
        if digits is None:
            raise NotJson
        self.at += 4
        return int(digits.group(), 16)


# -- RFC 3339 -----------------------------------------------------------------------------------------

_DATE_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]+)?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)
_DAYS_BEFORE_1970 = 719_162  # from 0001-01-01
_FIRST = -62_135_596_800_000_000  # 0001-01-01T00:00:00
_LAST = 253_402_300_799_999_999  # 9999-12-31T23:59:59.999999


def microseconds(text: str) -> int | None:
    """Return a date-time as microseconds since 1970 in UTC, rounded. Return None if the text is not a date-time.

    Its year must be within 0001 to 9999 as written, after rounding, and in UTC. A leap second is not a date-time.
    """
    found = _DATE_TIME.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    if year < 1 or not 1 <= month <= 12 or not 1 <= day <= calendar.monthrange(year, month)[1]:
        return None
    if hour > 23 or minute > 59 or second > 59:
        return None
    offset = 0
    if found[8]:
        offset_hour, offset_minute = int(found[9]), int(found[10])
        if offset_hour > 23 or offset_minute > 59:
            return None
        offset = (offset_hour * 60 + offset_minute) * (1 if found[8] == "+" else -1)
    years = year - 1
    days = years * 365 + years // 4 - years // 100 + years // 400 - _DAYS_BEFORE_1970
    days += sum(calendar.monthrange(year, earlier)[1] for earlier in range(1, month)) + day - 1
    seconds = ((days * 24 + hour) * 60 + minute) * 60 + second
    fraction = Decimal("0" + (found[7] or "")) * 1_000_000
    local = seconds * 1_000_000 + int(fraction.quantize(Decimal(1), ROUND_HALF_UP))
    instant = local - offset * 60_000_000
    return instant if local <= _LAST and _FIRST <= instant <= _LAST else None


# -- records ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """The answer to a client: the status and the body. If the request is accepted, also what will be stored."""

    status: int
    body: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)


def answers(fields: dict[str, str], body: bytes, form: str, most_records: int) -> list[Answer]:
    """Return the allowed answers to a body of the form `object`, `array` or `lines`. Depth alone allows several."""
    deepest = 0
    if form == "lines":
        lines = [line for line in body.split(b"\n") if line.strip(_SPACE.encode())]
        if len(lines) > most_records:  # the service counts lines before it reads any
            return [_too_many(most_records)]
        records, texts = [], []
        for index, line in enumerate(lines):
            try:
                records.append(read_json(line))
            except NotJson:
                return [_not_json(index)]
            texts.append(line.decode())
            if records[-1].depth > SURELY_TOO_DEEP:
                return [_not_json(index)]
            deepest = max(deepest, records[-1].depth)
        if not records:
            return [_not_json()]
    else:
        try:
            whole = read_json(body)
        except NotJson:
            return [_not_json()]
        deepest = whole.depth
        if deepest > SURELY_TOO_DEEP:
            return [_not_json()]
        records = [whole] if form == "object" else whole.says
        texts = [body.decode()]
    answer = _answer(fields, records, texts, form, most_records, is_batch=form == "lines" or _is_array(form, body))
    if deepest <= SURELY_READ:
        return [answer]
    return [answer, _not_json(), *(_not_json(index) for index in range(len(records)) if form == "lines")]


def _is_array(form: str, body: bytes) -> bool:
    return form == "array" and read_json(body).type == "array"


def _answer(
    fields: dict[str, str], records: Sequence[Value], texts: list[str], form: str, most: int, *, is_batch: bool
) -> Answer:
    if form != "object":
        if not is_batch or not records:
            return _refusal(400, "Batch body must be a non-empty array", "invalid_batch")
        if len(records) > most:
            return _too_many(most)
    found: list[dict[str, Any]] = []
    for index, record in enumerate(records):
        place = {} if form == "object" else {"index": index}
        for error, code, named, expected, received in problems(fields, record):
            where = {**place, **({} if named is None else {"field": named})}
            found.append({"error": error, "code": code, **where, "expected": expected, "received": received})
    if found:
        told: dict[str, Any] = {"errors": found[:MAX_PROBLEMS]}
        if len(found) > MAX_PROBLEMS:
            told["truncated"] = True
        return Answer(400, {**found[0], **told})
    sources = texts if form == "lines" else texts * len(records)
    rows = [_row(fields, record, source) for record, source in zip(records, sources, strict=True)]
    return Answer(202, {"count": len(records)}, rows)


def problems(fields: dict[str, str], record: Value) -> Iterator[tuple[str, str, str | None, str, str]]:
    """Return the problems of a record in the contract's order: (error, code, field, expected, received)."""
    if record.type != "object":
        yield "Payload must be an object", "not_an_object", None, "object", record.type
        return
    members: dict[str, Value] = record.says
    came = {name: value.type for name, value in members.items()}
    if "timestamp" not in members or not is_of("timestamp", members["timestamp"]):
        received = came.get("timestamp", "nothing")
        yield "Invalid or missing timestamp", "invalid_timestamp", "timestamp", EXPECTED["timestamp"], received
    if came.get("context") != "object":
        yield "context must be an object", "invalid_context", "context", "object", came.get("context", "nothing")
    for name in members:
        if name not in fields and name not in ("timestamp", "context"):
            shown = name[:100]
            yield f"Extra field: {shown}", "extra_field", shown, "nothing", came[name]
    for name, type_name in fields.items():
        if name not in members:
            yield f"Missing field: {name}", "missing_field", name, EXPECTED[type_name], "nothing"
    for name, type_name in fields.items():
        if name in members and not is_of(type_name, members[name]):
            yield f"Invalid {type_name} field: {name}", "invalid_field", name, EXPECTED[type_name], came[name]


def is_of(type_name: str, value: Value) -> bool:
    """Return whether a value has a field's type. Nothing is converted."""
    if type_name == "timestamp":
        return value.type == "string" and microseconds(value.says) is not None
    if type_name == "number":
        return value.type == "number" and not isinf(float(value.says))
    return value.type == type_name


def _row(fields: dict[str, str], record: Value, source: str) -> dict[str, Any]:
    members: dict[str, Value] = record.says
    row: dict[str, Any] = {
        "timestamp": microseconds(members["timestamp"].says),
        "context": source[members["context"].start : members["context"].end],
    }
    for name, type_name in fields.items():
        says = members[name].says
        row[name] = microseconds(says) if type_name == "timestamp" else float(says) if type_name == "number" else says
    return row


def _not_json(index: int | None = None) -> Answer:
    return _refusal(400, "Invalid JSON body", "invalid_json", **({} if index is None else {"index": index}))


def _too_many(most: int) -> Answer:
    return _refusal(413, "Batch has too many records", "too_many_records", limit=most)


def _refusal(status: int, error: str, code: str, **details: Any) -> Answer:
    return Answer(status, {"error": error, "code": code, **details})


def main() -> int:
    """Run the long test by pytest, which starts the servers and the database."""
    import pytest  # noqa: PLC0415

    parser = argparse.ArgumentParser(prog="python -m tests.support.contract.oracle", description=main.__doc__)
    parser.add_argument("--examples", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    os.environ["ORACLE_EXAMPLES"], os.environ["ORACLE_SEED"] = str(options.examples), str(options.seed)
    return int(pytest.main(["-s", "-k", "agree", "tests/ingest/validation/test_oracle.py"]))


if __name__ == "__main__":
    sys.exit(main())
