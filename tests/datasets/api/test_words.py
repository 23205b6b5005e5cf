"""Errors about a body have our own texts: no answer has a text of Python or of its packages."""

import json
import re

import pytest

from datasets.models import Project
from datasets.strict_json import NotJson, read_json
from tests.datasets.api.conftest import Management

FOREIGN = re.compile(
    r"codec|can't decode|decode using|set_int_max|int_max_str|sys\.|char \d|Expecting|delimiter|Traceback|Errno"
    r"|\bNone\b|\bTrue\b|\bFalse\b|\bdict\b|\bNoneType\b|'name'|\{'|recursion|literal|strptime|msgspec|duckdb"
    r"|wrong format|<class|Error:|object has no|codepoint|surrogates not allowed"
).search
TEXTS = (
    *(b"\xef\xbb\xbf{}", b"\xff\xfe{\x00", b"\x1f\x8b\x08\x00", b"\x80", b'{"name": "\xed\xa0\x80"}', b"\x00", b" "),
    *(b"{", b"[", b'"', b"{'a': 1}", b'{"a"}', b'{"a" 1}', b'{"a": 1 "b": 2}', b'{"a": 1,}', b"[1,]", b"{} {}", b"{,}"),
    *(b'{"a": "\x01"}', rb'{"a": "\x"}', rb'{"a": "\u12"}', b'{"a": NaN}', b'{"a": -Infinity}', b"None", b"True"),
    *(b'{"a": 1, "a": 2}', b"[" * 100_000, b'{"a":' * 100_000, b"-", b"01", b"1.", b"1e", b"+1", b".5", b"0x1"),
    *(each % (b"9" * 5000) for each in (b"%s", b'{"name": %s}', b'{"limit": %s}', b'{"fields": {"a": %s}}')),
)  # fmt: skip
VALUES: tuple[object, ...] = (None, True, 5, "", "\ud800", "\x00", [], {"a": None}, "2027-01-01")
MEMBERS = {
    "/datasets/shop": ("name", "slug", "description"),
    "/keys/shop": ("name", "expires_at", "origins", "records_per_minute"),
    "schema": ("fields", "previous_valid_until"),
    "query": ("range", "select", "where", "groupBy", "orderBy", "limit", "cursor"),
}


@pytest.fixture
def one(client: Management, shop: Project) -> str:
    """Return the path of a dataset."""
    dataset = client.ok("POST", "/datasets/shop", {"name": "Orders"})["id"]
    client.ok("POST", f"/datasets/shop/{dataset}/schema", {"a": "string", "at": "timestamp?", "n": "integer?"})
    return f"/datasets/shop/{dataset}"


def check(client: Management, path: str, body: bytes) -> None:
    answer = client.post(f"/api{path}", body)
    assert answer.status_code < 500, (path, body[:100], answer.text)
    if answer.status_code >= 400:
        said = json.dumps(answer.json(), ensure_ascii=False)
        assert not FOREIGN(said), (path, body[:100], said)


def test_a_text_that_is_not_json_is_refused_in_our_words(client: Management, one: str) -> None:
    for path in ("/datasets/shop", f"{one}/query"):  # all other paths read a body like the first of these
        for text in TEXTS:
            check(client, path, text)


def test_a_wrong_value_is_refused_in_our_words(client: Management, one: str) -> None:
    for path, members in MEMBERS.items():
        whole = path if path.startswith("/") else f"{one}/{path}"
        for member in members:
            for value in VALUES:
                check(client, whole, json.dumps({"name": "a", member: value}).encode())
    for value in VALUES:
        for body in ({"fields": [value]}, {"fields": {"a": value}}, {"fields": [{"name": "a", "type": value}]}):
            check(client, f"{one}/schema", json.dumps(body).encode())
        for part in ("select", "where", "orderBy", "groupBy"):
            check(client, f"{one}/query", json.dumps({part: [value]}).encode())


@pytest.mark.parametrize("text", TEXTS)
def test_the_reason_is_one_sentence(text: bytes) -> None:
    with pytest.raises(NotJson) as refused:
        read_json(text)
    assert re.fullmatch(r"[A-Z-].*\.", str(refused.value))
    assert not FOREIGN(str(refused.value))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b'{"a": 1,\n "b" 2}', "Line 2, column 6: a colon is expected."),
        (b"\xef\xbb\xbf{}", "Line 1, column 1: a byte order mark (BOM): save the text as UTF-8 without one."),
        (b"ab\xff", "The byte 0xff (byte 2) is not UTF-8."),
        (b"9" * 4301, "An integer has more than 4,300 digits."),
        (b"[" * 100_000, "The values are nested too deep."),
        (b"[NaN]", "NaN is not a JSON number."),
    ],
)
def test_the_reason_names_the_place(text: bytes, why: str) -> None:
    with pytest.raises(NotJson) as refused:
        read_json(text)
    assert str(refused.value) == why
