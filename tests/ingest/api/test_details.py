"""The `detail` of an error: where and why a body is not JSON, and why a timestamp is invalid."""

import gzip
import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from config.common.errors import ApiError, InvalidJson
from datasets.schemas.schema import CompiledSchema
from ingest.validation.body import JSON, NDJSON
from ingest.validation.payloads import validate_array, validate_lines, validate_one
from tests.conftest import FIELDS, Api, record

TEXT = json.dumps(record()).encode()
N = len(TEXT)
BOM = "a byte order mark (BOM): save the text as UTF-8 without one."
CONTROL = r"a control character: JSON has none between values, and in a text writes \t or \u001b."
LONE = "half of a surrogate pair is not a character: write two escapes for a character beyond U+FFFF."
NAN = "NaN and Infinity are not JSON numbers."
WORDS = "JSON writes true, false and null, in lower case."
NUMBER = "a JSON number begins with a digit or a minus, and not with a zero before other digits."
QUOTES = 'JSON writes text in double quotes ("), not in single ones.'
SECOND_LINE = "a second value on a line of its own: send NDJSON to /batch as Content-Type: application/x-ndjson."
NO_BRACKETS = "a comma after the value: a batch is an array, with [ before its records and ] after them."
NO_COMMA = "a comma after the value: NDJSON has none between its lines."
HALF = rb'{"a":"\ud83d"}'
CUT = "the body ends before its value does."
JOINED = "`curl -d` removes line breaks, `curl --data-binary` keeps them."

# A single body -> the place (line, column, byte) and the cause.
SINGLE: list[tuple[bytes | str, tuple[int, int, int] | None, str]] = [
    (b"", None, "The body is empty."),
    (b" \r\n\t", None, "The body is empty."),
    (b"\xef\xbb\xbf" + TEXT, (1, 1, 0), BOM),
    (TEXT.decode().encode("utf-16"), (1, 1, 0), "this is UTF-16: send UTF-8."),
    (TEXT.decode().encode("utf-16-le"), (1, 2, 1), "a NUL byte: if this is UTF-16, send UTF-8."),
    (gzip.compress(TEXT), (1, 1, 0), "this is gzip: send the header Content-Encoding: gzip."),
    (b"\x28\xb5\x2f\xfd\x04", (1, 1, 0), "this is zstd: send the header Content-Encoding: zstd."),
    (b"%7B%22a%22%3A1%7D", (1, 1, 0), "this is URL-encoded: send JSON as it is."),
    (b'{"a":NaN}', (1, 6, 5), NAN),
    (b'{"a":nan}', (1, 6, 5), NAN),
    (b'{"a":-Infinity}', (1, 7, 6), NAN),
    (b'{\n "a": 1,\n "b": Infinity\n}', (3, 7, 17), NAN),
    ('{"é":"é","€😀":NaN}', (1, 15, 21), NAN),
    (b'{"a":True}', (1, 6, 5), WORDS),
    (b'{"a":None}', (1, 6, 5), WORDS),
    (b'{"a":undefined}', (1, 6, 5), WORDS),
    (b"{'a':1}", (1, 2, 1), QUOTES),
    (b"{\"a\":'b'}", (1, 6, 5), QUOTES),
    ("{“a”:1}", (1, 2, 1), 'a typographic quote: JSON writes ".'),
    (b"{a:1}", (1, 2, 1), 'a name in double quotes (") is expected.'),
    (b'{"a":1,}', (1, 8, 7), "trailing comma in object."),
    (b'{"a":[1,]}', (1, 9, 8), "trailing comma in array."),
    (b'{"a":1 "b":2}', (1, 8, 7), "expected ',' or '}'."),
    (b'{"a" 1}', (1, 6, 5), "expected ':'."),
    (b'{"a":01}', (1, 7, 6), NUMBER),
    (b'{"a":+1}', (1, 6, 5), NUMBER),
    (b'{"a":.5}', (1, 6, 5), NUMBER),
    (b'{"a":1.}', (1, 8, 7), "invalid number."),
    (b'{"a":1} // done', (1, 9, 8), "other characters after the value."),
    (b'{"a":1 /* one */}', (1, 8, 7), "JSON has no comments."),
    (b'{"a":"x\ny"}', (1, 8, 7), r"a line break inside a text: JSON writes \n."),
    (b'{"a":"none\n"}', (1, 11, 10), r"a line break inside a text: JSON writes \n."),
    (b'{"a":"\t"}', (1, 7, 6), CONTROL),
    (b'{"a":1\x0c}', (1, 7, 6), CONTROL),
    (b'{"a":"\\q"}', (1, 8, 7), "invalid escaped character."),
    (rb'{"a":"\ud83d"}', (1, 7, 6), LONE),
    (rb'{"a":"caf\u00e9 \ud83d","b":"x"}', (1, 17, 16), LONE),
    (rb'{"a":"\ud83d\ude00\ude00 and more"}', (1, 19, 18), LONE),
    (rb'{"a":"\ud83d\u0041 and more"}', (1, 7, 6), LONE),
    (b'{"a":"\xe9"}', (1, 7, 6), "the byte 0xe9 is not UTF-8."),
    ('{"é":"'.encode() + b'\xff"}', (1, 7, 7), "the byte 0xff is not UTF-8."),
    (b'{"a":"' + b"x" * 100_000 + b'\xff"}', (1, 100_007, 100_006), "the byte 0xff is not UTF-8."),
    (TEXT[:-1], (1, N, N - 1), CUT),
    (rb'{"a":"\ud83d', (1, 13, 12), CUT),
    (b'{"a":' * 2000, None, "The values are nested too deep. At most 900 levels are supported."),
    (TEXT + b"\n" + TEXT, (2, 1, N + 1), SECOND_LINE),
    (TEXT + TEXT, (1, N + 1, N), f"a second value after the first: if this was NDJSON, {JOINED}"),
    (TEXT + b"," + TEXT, (1, N + 1, N), NO_BRACKETS),
    (b"nonsense", (1, 2, 1), "invalid character."),
]  # fmt: skip

# A batch -> the index of the invalid element, the place (line, column, byte) and the cause.
ARRAYS: list[tuple[bytes, int | None, tuple[int, int, int] | None, str]] = [
    (b'[{"a":NaN}]', 0, (1, 7, 6), NAN),
    (b"[%b,\n%b,\n{'a':1}]" % (TEXT, TEXT), 2, (3, 2, 2 * N + 6), QUOTES),
    (b"[%b%b,%b]" % ((TEXT + b",") * 700, HALF, TEXT), 700, (1, 700 * N + 708, 700 * N + 707), LONE),
    (b'["%b", {"a":"\xff"}]' % "é".encode(), 1, (1, 13, 13), "the byte 0xff is not UTF-8."),
    (b"[%b %b]" % (TEXT, TEXT), 0, (1, N + 3, N + 2), "expected ',' or ']'."),
    (b"[1, 2,]", 1, (1, 7, 6), "trailing comma in array."),
    (b"[1., 2]", 0, (1, 4, 3), "invalid number."),
    (b"[1.]", 0, (1, 4, 3), "invalid number."),
    (b"[1, 2, {", 2, (1, 9, 8), CUT),
    (b"[%b,%b" % (TEXT, b"[" * 5000), 1, None, "The values are nested too deep. At most 900 levels are supported."),
    (b"[%b]\n[%b]" % (TEXT, TEXT), None, (2, 1, N + 3), SECOND_LINE),
    (b"[" + b"1," * 20_000 + b"x]", None, (1, 40_002, 40_001), "invalid character."),
    (b"\xef\xbb\xbf[%b]" % TEXT, None, (1, 1, 0), BOM),
]  # fmt: skip

# An NDJSON body -> the index of the invalid line (blank lines do not count), the place in the body, and the cause.
ONE_LINE = "the line ends before its value does: "
LINES: list[tuple[bytes, int | None, tuple[int, int, int] | None, str]] = [
    (b"\n \r\n", None, None, "The body is empty."),
    (TEXT + TEXT, 0, (1, N + 1, N), f"a second value on the line: write each record on its own line; {JOINED}"),
    (TEXT + b"\n\n" + b'  {"a":NaN}', 1, (3, 8, N + 9), NAN),
    (b"  " + TEXT + b"\r\n" + TEXT + b",\n" + TEXT, 1, (2, N + 1, 2 * N + 4), NO_COMMA),
    (TEXT + b"\n\xef\xbb\xbf" + TEXT, 1, (2, 1, N + 1), BOM),
    (TEXT + b'\n{"a":"\xe9"}', 1, (2, 7, N + 7), "the byte 0xe9 is not UTF-8."),
    (b"[\n" + TEXT + b"\n]", 0, (1, 2, 1), ONE_LINE + "send a JSON array as Content-Type: application/json."),
    (json.dumps(record(), indent=1).encode(), 0, (1, 2, 1), ONE_LINE + "write each record on one line."),
    (TEXT + b"\n" + b'{"a":' * 2000, 1, None, "The values are nested too deep. At most 900 levels are supported."),
]  # fmt: skip

# A timestamp, as JSON -> what is wrong with it.
OFFSET = "an offset is missing: Z, or one like +02:00"
NO_SPACE = "A T must stand between date and time, not a space"
NO_NAME = "The offset is Z or one like +02:00, not a name."
NOT_LIKE = "It is not like 2026-06-10T10:58:00Z."
NO_STRING = "A timestamp is a string, like 2026-06-10T10:58:00Z."
RANGE = "Its moment, in whole microseconds, must lie in the years 0001 to 9999, both in the text and in UTC."
TIMESTAMPS: list[tuple[Any, str]] = [
    (1781089080, NO_STRING),
    (None, NO_STRING),
    ({"seconds": 1}, NO_STRING),
    ("", "It is empty."),
    ("1781089080", "A Unix time is not accepted: send a text like 2026-06-10T10:58:00Z."),
    ("2026-06-10T10:58:00", "An" + OFFSET[2:] + "."),
    ("2026-06-10T10:58:00.123456", "An" + OFFSET[2:] + "."),
    ("2026-06-10 10:58:00Z", NO_SPACE + "."),
    ("2026-06-10 10:58:00+00:00", NO_SPACE + "."),
    ("2026-06-10 10:58:00", f"{NO_SPACE}; {OFFSET}."),
    ("2026-06-10T10:58:00+0200", "The offset needs a colon, like +02:00."),
    ("2026-06-10 10:58:00+0200", f"{NO_SPACE}; the offset needs a colon, like +02:00."),
    ("2026-06-10T10:58:00.5-0000", "The offset needs a colon, like +02:00."),
    ("2026-06-10T10:58:00+02", "The offset needs minutes, like +02:00."),
    ("2026-06-10T10:58:00 +02:00", "A space stands before the offset."),
    ("2026-06-10T10:58:00 UTC", NO_NAME),
    ("2026-06-10T10:58:00+02:00[Europe/Bucharest]", NO_NAME),
    ("2026-06-10T10:58:00\N{MINUS SIGN}02:00", "The minus of the offset is not an ASCII hyphen."),
    ("2026-06-10T10:58:00+24:00", "The offset must lie between -23:59 and +23:59, with minutes up to 59."),
    ("2026-06-10T10:58:00.Z", "The fraction of a second has no digits."),
    ("2026-06-10T10:58Z", "The seconds are missing."),
    ("2026-06-10T10:58:00,5Z", "A point must stand before the fraction of a second, not a comma."),
    ("2026-06-10", "The time of day is missing."),
    (" 2026-06-10T10:58:00Z", "White space stands before or after it."),
    ("2026-02-29T10:58:00Z", "There is no date 2026-02-29."),
    ("2026-13-01T10:58:00Z", "There is no date 2026-13-01."),
    ("2026-06-10T24:00:00Z", "There is no time of day 24:00:00."),
    ("2016-12-31T23:59:60Z", "A leap second cannot be stored: send the second 59."),
    ("0000-01-01T00:00:00Z", "The year must be 0001 to 9999."),
    ("0001-01-01T00:00:00+01:00", RANGE),
    ("9999-12-31T23:59:59-08:00", RANGE),
    ("9999-12-31T23:59:59.9999999Z", RANGE),
    ("10.06.2026 10:58", NOT_LIKE),
    ("20260610T105800Z", NOT_LIKE),
    ("Wed, 10 Jun 2026 10:58:00 GMT", NOT_LIKE),
    ("x" * 1_000_000, NOT_LIKE),
]  # fmt: skip


def detail(place: tuple[int, int, int] | None, cause: str) -> str:
    return cause if place is None else "Line {}, column {} (byte {}): {}".format(*place, cause)


def told(api: Api, body: bytes | str, path: str, content_type: str = JSON) -> dict[str, Any]:
    assert api.dataset is not None
    answer = api.post(f"/datasets/{api.dataset.pk}{path}", body, content_type)
    assert answer.status_code == 400
    found: dict[str, Any] = answer.json()
    return found


def invalid(place: tuple[int, int, int] | None, cause: str, index: int | None = None) -> dict[str, Any]:
    of_batch = {} if index is None else {"index": index}
    return {"error": "Invalid JSON body", "code": "invalid_json", **of_batch, "detail": detail(place, cause)}


@pytest.mark.parametrize("path", ["", "/validate"])
def test_invalid_json_tells_the_place_and_the_cause(api: Api, path: str) -> None:
    for body, place, cause in SINGLE:
        assert told(api, body, path) == invalid(place, cause), body[:50]


def test_invalid_json_in_an_array_tells_the_element(api: Api) -> None:
    for body, index, place, cause in ARRAYS:
        assert told(api, body, "/batch") == invalid(place, cause, index), body[:50]


def test_invalid_json_line_tells_its_number_and_place(api: Api) -> None:
    for body, index, place, cause in LINES:
        assert told(api, body, "/batch", NDJSON) == invalid(place, cause, index), body[:50]


def test_a_refused_timestamp_says_what_is_wrong_with_it(api: Api) -> None:
    for value, reason in TIMESTAMPS:
        for name in ("timestamp", "signup_at"):
            answer = told(api, json.dumps([record(), record(**{name: value})]), "/batch")
            assert (answer["index"], answer["field"], answer["detail"]) == (1, name, reason), value
            assert answer["errors"][0]["detail"] == reason, value


def test_a_missing_timestamp_needs_no_detail(api: Api) -> None:
    assert "detail" not in told(api, json.dumps(record(timestamp=...)), "")


def test_a_number_beyond_a_double_gets_another_detail_than_a_text(api: Api) -> None:
    body = TEXT.replace(b'"amount": 42.5', b'"amount": 1e400')
    assert body != TEXT
    assert told(api, body, "")["detail"] == "It is beyond the range of a double."
    assert "detail" not in told(api, json.dumps(record(amount="1e400")), "")


def test_array_instead_of_a_record_gets_advice_to_use_batch(api: Api) -> None:
    words = "A batch is one array of objects. Send it to /batch as application/json."
    assert told(api, b"[%b]" % TEXT, "")["detail"] == words
    assert told(api, b"[%b]\n" % TEXT, "/batch", NDJSON)["detail"] == words


def test_a_lenient_batch_tells_the_place_of_each_broken_line(api: Api) -> None:
    assert api.dataset is not None
    body = TEXT + b'\n{"a":NaN}\n\n\xe9\n' + TEXT + b'\n[{"a":1},x]'
    answer = api.post(f"/datasets/{api.dataset.pk}/batch", body, NDJSON, Prefer="handling=lenient").json()
    assert (answer["count"], answer["rejected"]) == (2, 3)
    assert answer["errors"] == [
        invalid((2, 6, N + 6), NAN, 1),
        invalid((4, 1, N + 12), "the byte 0xe9 is not UTF-8.", 2),
        invalid((6, 10, 2 * N + 24), "invalid character.", 4),
    ]


# Bytes that the test inserts at random places of valid bodies.
PIECES = [
    *(b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\n", b"\r", b" ", b"'", b"\x00", b"\t", b"\xff"),
    *(b"\xef\xbb\xbf", rb"\ud800", rb"\udc00", rb"\u002b", b"NaN", b"-Infinity", b"True", b"null", b"01", b"e"),
    *(b"\xe2\x80\x9c", b"\xc2\xa0", b"x", b".", b"+", b"//", b"\x1f\x8b", b"%7B", b"0001-01-01", b"+0200", b'"zz":1,'),
]  # fmt: skip


def broken(chance: random.Random) -> bytes:
    """Return one to three records with up to three changes."""
    body = bytearray(chance.choice((b",", b"\n", b",\n")).join([TEXT] * chance.randint(1, 3)))
    if chance.random() < 0.5:
        body[:0], body[len(body) :] = b"[", b"]"
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(body))
        body[at : at + chance.randint(0, 2)] = chance.choice(PIECES)
    return bytes(body)


def refusal_of(validate: Callable[[CompiledSchema, bytes], object], schema: CompiledSchema, body: bytes) -> Any:
    try:
        validate(schema, body)
    except ApiError as refusal:
        return refusal
    return None


def test_every_body_that_is_not_json_gets_a_cause() -> None:
    schema, chance = CompiledSchema(1, FIELDS), random.Random(15)
    refused = 0
    for body in (broken(chance) for _ in range(2000)):
        for validate in (validate_one, validate_array, validate_lines):
            refusal = refusal_of(validate, schema, body)
            if isinstance(refusal, InvalidJson):
                refused += 1
                assert 10 < len(refusal.details["detail"]) < 300, body
                assert 0 <= refusal.details.get("index", 0) <= 10, body
    assert refused > 1000
