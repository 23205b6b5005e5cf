"""Texts that are JSON and texts that are not, in objects, arrays and lines."""

import json

import pytest

from config.common import redis
from datasets.models import Dataset
from ingest.api.views import _LARGE_BYTES
from tests.conftest import Api, record, stored
from tests.ingest.api.bodies.sending import INVALID, JSON, LINES, NDJSON, TEXT, sent, told
from tests.support.entries import in_stream

# -- what is not JSON ---------------------------------------------------------------------------------


def with_context(text: bytes) -> bytes:
    return TEXT.replace(json.dumps(record()["context"]).encode(), text)


def with_country(text: bytes) -> bytes:
    return TEXT.replace(b'"country": "RO"', b'"country": ' + text)


NOT_JSON = {
    "empty": b"",
    "blank": b" \r\n\t ",
    "a word": b"hello",
    "cut short": TEXT[:-1],
    "one brace too many": TEXT + b"}",
    "two records": TEXT + TEXT,
    "a comma at the end": TEXT[:-1] + b",}",
    "no quotes": b"{timestamp: 1}",
    "single quotes": TEXT.replace(b'"', b"'"),
    "a comment": b"/* */" + TEXT,
    "a byte order mark": b"\xef\xbb\xbf" + TEXT,
    "UTF-16": TEXT.decode().encode("utf-16"),
    "UTF-32": TEXT.decode().encode("utf-32"),
    "a form feed": b"\x0c" + TEXT,
    "a NUL at the end": TEXT + b"\0",
    "NaN": with_country(b"NaN"),
    "NaN in context": with_context(b'{"a":NaN}'),
    "Infinity": with_country(b"Infinity"),
    "-Infinity in context": with_context(b'{"a":[-Infinity]}'),
    "True": with_country(b"True"),
    "a leading zero": with_country(b"01"),
    "a leading zero in context": with_context(b'{"a":-01}'),
    "a leading plus": with_country(b"+1"),
    "a point at the end": with_context(b'{"a":1.}'),
    "a hexadecimal number": with_country(b"0x10"),
    "invalid UTF-8": with_country(b'"\xff"'),
    "invalid UTF-8 in context": with_context(b'{"a":"\xff"}'),
    "invalid UTF-8 in a key of context": with_context(b'{"\xff":1}'),
    "invalid UTF-8 in a name": TEXT.replace(b'"country"', b'"c\xff"'),
    "overlong UTF-8": with_country(b'"\xc0\x80"'),
    "a surrogate in UTF-8": with_context(b'{"a":"\xed\xa0\x80"}'),
    "Latin-10": with_country('"Iași"'.encode("iso8859-16")),
    "a lone surrogate": with_country(rb'"\ud800"'),
    "a lone surrogate in context": with_context(rb'{"a":"\ud800"}'),
    "a lone surrogate in a key of context": with_context(rb'{"\udc00":1}'),
    "a lone surrogate in a name": TEXT.replace(b'"country"', rb'"\ud800"'),
    "surrogates the wrong way round": with_country(rb'"\udc00\ud800"'),
    "an unknown escape": with_context(rb'{"a":"\q"}'),
    "an escape cut short": with_context(rb'{"a":"\u12"}'),
    "a control character": with_country(b'"\x01"'),
    "a tab in context": with_context(b'{"a":"\t"}'),
    "a line break in context": with_context(b'{"a":"\n"}'),
}


@pytest.mark.parametrize("path", ["", "/batch", "/validate"])
def test_body_that_is_not_json_is_refused(api: Api, dataset: Dataset, path: str) -> None:
    """Test a small body, and a body that is so large that a thread validates it."""
    before, after = (b"[", b"]") if path == "/batch" else (b"", b"")
    for name, body in NOT_JSON.items():
        for padding in (b"", b" " * _LARGE_BYTES):
            text = body if name in ("empty", "blank") else before + body + after
            answer = sent(api, text[:1] + padding + text[1:], path)
            if name == "two records" and path == "/batch":
                text = b"[%b %b]" % (TEXT, TEXT)
            assert (answer.status, told(answer)) == (400, INVALID), (name, len(padding))
    assert in_stream(dataset) == 0


def test_unusual_json_is_accepted_unchanged(api: Api, dataset: Dataset) -> None:
    contexts = [
        rb'{"a":"\ud83d\ude00"}',
        '{"a":"😀 Brașov \u2028"}'.encode(),
        rb'{"a":"\u0000\/\b\f"}',
        b'{"a":1e999,"b":-0,"c":123456789012345678901234567890}',
        b'{"a":1,"a":2}',
        b'{"":{"":[[],{}]}}',
        b" { } ",
    ]
    for context in contexts:
        assert sent(api, b" \r\n\t" + with_context(context) + b"\n\n").status == 202, context
    assert [row["context"].strip() for row in stored(dataset)] == [context.decode().strip() for context in contexts]


def nested(depth: int, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    return opening * depth + closing * depth


@pytest.mark.parametrize("depth", [1000, 100_000])
def test_nesting_too_deep_to_parse_is_not_json(api: Api, dataset: Dataset, depth: int) -> None:
    for deep in (
        nested(depth),
        nested(depth, b'{"a":', b"}").replace(b":}", b":1}", 1),
        with_context(b'{"a":%b}' % nested(depth)),
        with_country(nested(depth)),
        b'{"extra":%b}' % nested(depth),
        b"[" * depth,
    ):
        for path in ("", "/validate"):
            answer = sent(api, deep, path)
            assert (answer.status, told(answer)) == (400, INVALID), (path, deep[:30])
        answer = sent(api, b"[%b]" % deep, "/batch")
        assert (answer.status, told(answer)) == (400, INVALID), deep[:30]
        answer = sent(api, LINES[0] + deep, "/batch", NDJSON)
        assert (answer.status, told(answer, "index")) == (400, {**INVALID, "index": 1}), deep[:30]
    assert in_stream(dataset) == 0


def test_every_depth_gets_a_202_or_a_400(api: Api) -> None:
    """Near the depth limit, every way through the validation must give the same answer."""
    last = 0
    for depth in [*range(1, 100, 33), *range(800, 1010)]:
        good = with_context(b'{"a":%b}' % nested(depth))
        baited = good.replace(b'"RO"', b'"2-12 10:30"')  # the validator reads this a second time
        bad = good.replace(b'"plan"', b'"plane"')
        for body, path, content_type in (
            (good, "", JSON),
            (baited, "", JSON),
            (b"[%b]" % baited, "/batch", JSON),
            (baited, "/batch", NDJSON),
        ):
            answer = sent(api, body, path, content_type)
            assert answer.status in (202, 400), (depth, path, answer.body)
            last = depth if answer.status == 202 else last
            assert answer.status == 202 or answer.json()["error"] == "Invalid JSON body"
        answer = sent(api, bad)
        assert answer.json()["error"] in ("Extra field: plane", "Invalid JSON body"), (depth, answer.body)
    assert 500 < last < 1000, "the range above has missed the depth at which parsing fails"
    redis.client().flushall()


# -- NDJSON -------------------------------------------------------------------------------------------


def test_lines_are_records_and_blank_lines_are_ignored(api: Api, dataset: Dataset) -> None:
    lines = [line.strip() for line in LINES]
    for separator in (b"\n", b"\r\n", b"\n\n\n", b"\n \t\r\n"):
        for body in (separator.join(lines), separator.join([b"", *lines, b""])):
            answer = sent(api, body, "/batch", NDJSON)
            assert (answer.status, answer.json()["count"]) == (202, 3)
    assert [row["country"] for row in stored(dataset)] == ["RO", "US", "DE"] * 8


def test_body_with_blank_lines_only_is_not_json(api: Api) -> None:
    for body in (b"", b"\n", b" \r\n\t\n"):
        answer = sent(api, body, "/batch", NDJSON)
        assert (answer.status, told(answer)) == (400, INVALID)


def test_a_line_that_is_not_json_is_named_by_its_index(api: Api, dataset: Dataset) -> None:
    for line in (
        TEXT + TEXT,
        TEXT + b"," + TEXT,
        TEXT + b",",
        TEXT[:-1],
        b"nonsense",
        with_context(b'{"a":"\xff"}'),
        b"\xef\xbb\xbf" + TEXT,
        with_country(b'"\r"'),
    ):
        for padding in (b"", b" " * 10_000):
            answer = sent(api, LINES[0] + b"\n" + padding + LINES[1] + line + b"\n" + LINES[2], "/batch", NDJSON)
            assert (answer.status, told(answer, "index")) == (400, {**INVALID, "index": 2}), line
    assert in_stream(dataset) == 0


def test_a_record_over_two_lines_is_two_lines(api: Api) -> None:
    answer = sent(api, json.dumps(record(), indent=1).encode(), "/batch", NDJSON)
    assert (answer.status, told(answer, "index")) == (400, {**INVALID, "index": 0})


def test_a_line_may_break_where_json_allows_a_carriage_return(api: Api, dataset: Dataset) -> None:
    assert sent(api, TEXT.replace(b", ", b",\r"), "/batch", NDJSON).status == 202
    assert len(stored(dataset)) == 1
