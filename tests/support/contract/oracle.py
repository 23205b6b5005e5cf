"""The oracle: what the contract says about a body. Its code was written only from the contract. It is slow and simple.

It shares no code with the product: it has its own reader of JSON (exactly RFC 8259) and of RFC 3339.

    python -m tests.support.contract.oracle --examples 200000 --seed 1

compares product and oracle for 200,000 bodies (see `test_oracle`).
"""

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.contract import field_types

MAX_PROBLEMS = 20
# The contract refuses bodies that are "nested too deep to parse". Bodies up to the first depth are always read, and
# bodies beyond the second are always refused. Between the two depths, the answer depends on the size of the stack,
# which is larger in these tests.
SURELY_READ, SURELY_TOO_DEEP = 400, 10_000

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
        """Read a scalar, an empty container or the beginning of a container. For a beginning, `end` is 0."""
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


# -- records ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """The answer to a client: the status and the body. If the request is accepted, also what will be stored."""

    status: int
    body: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)


def answers(fields: dict[str, str], body: bytes, form: str, most_records: int) -> list[Answer]:
    """Return the allowed answers to a body of the form `object`, `array` or `lines`. Only deep bodies have several."""
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
    if "timestamp" not in members or not field_types.accepts("timestamp", members["timestamp"]):
        received = came.get("timestamp", "nothing")
        yield (
            "Invalid or missing timestamp",
            "invalid_timestamp",
            "timestamp",
            field_types.expected("timestamp"),
            received,
        )
    if came.get("context") != "object":
        yield "context must be an object", "invalid_context", "context", "object", came.get("context", "nothing")
    for name in members:
        if name not in fields and name not in ("timestamp", "context"):
            shown = name[:100]
            yield f"Extra field: {shown}", "extra_field", shown, "nothing", came[name]
    for name, type_name in fields.items():
        if name not in members and not type_name.endswith("?"):
            yield f"Missing field: {name}", "missing_field", name, field_types.expected(type_name), "nothing"
    for name, type_name in fields.items():
        if name in members and not field_types.accepts(type_name, members[name]):
            yield (
                f"Invalid {type_name.removesuffix('?')} field: {name}",
                "invalid_field",
                name,
                field_types.expected(type_name),
                came[name],
            )


def _row(fields: dict[str, str], record: Value, source: str) -> dict[str, Any]:
    members: dict[str, Value] = record.says
    row: dict[str, Any] = {
        "timestamp": field_types.stored("timestamp", members["timestamp"], source),
        "context": source[members["context"].start : members["context"].end],
    }
    for name, type_name in fields.items():
        row[name] = field_types.stored(type_name, members.get(name), source)
    return row


def _not_json(index: int | None = None) -> Answer:
    return _refusal(400, "Invalid JSON body", "invalid_json", **({} if index is None else {"index": index}))


def _too_many(most: int) -> Answer:
    return _refusal(413, "Batch has too many records", "too_many_records", limit=most)


def _refusal(status: int, error: str, code: str, **details: Any) -> Answer:
    return Answer(status, {"error": error, "code": code, **details})


def main() -> int:
    """Run the long test with pytest, which starts the servers and the database."""
    import pytest  # noqa: PLC0415

    parser = argparse.ArgumentParser(prog="python -m tests.support.contract.oracle", description=main.__doc__)
    parser.add_argument("--examples", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    os.environ["ORACLE_EXAMPLES"], os.environ["ORACLE_SEED"] = str(options.examples), str(options.seed)
    return int(pytest.main(["-s", "-k", "agree", "tests/ingest/validation/test_oracle.py"]))


if __name__ == "__main__":
    sys.exit(main())
