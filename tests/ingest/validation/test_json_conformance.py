"""RFC 8259 as tables: texts that are valid JSON, texts that are not, and texts that a parser may accept or refuse.

Each text is sent as a whole body, as a value inside `context`, as an element of a batch and as a line of NDJSON.
"""

from typing import Any

import pytest

from datasets import services
from datasets.models import Dataset, Project
from tests.conftest import Api, stored
from tests.support.contract.hostile import PADDING

MUST_ACCEPT: dict[str, bytes] = {
    # structures
    "empty object": b"{}",
    "empty array": b"[]",
    "space in an empty object": b"{ \t\r\n }",
    "space in an empty array": b"[ \t\r\n ]",
    "arrays in arrays": b"[[],[[]],[[],[]]]",
    "objects in objects": b'{"a":{"b":{}}}',
    "an empty name": b'{"":0}',
    "a name twice": b'{"a":1,"a":2}',
    "a name twice with the same value": b'{"a":1,"a":1}',
    "names that differ by case": b'{"a":1,"A":2}',
    "a long name": b'{"' + b"n" * 10_000 + b'":1}',
    "names with escapes": rb'{"\u0061\n\"":1}',
    "the same name, once with escapes": rb'{"a":1,"\u0061":2}',
    "many members": b"{" + b",".join(b'"k%d":%d' % (n, n) for n in range(2000)) + b"}",
    "many elements": b"[" + b",".join([b"0"] * 10_000) + b"]",
    "every type in an array": b'[null,true,false,0,"",[],{}]',
    "space around every token": b' [ 1 , { "a" : null } , true ] ',
    "all four spaces": b"\t\n\r [\t\n\r 1\t\n\r ,\t\n\r 2\t\n\r ]\t\n\r ",
    "a hundred levels of arrays": b"[" * 100 + b"]" * 100,
    "a hundred levels of objects": b'{"a":' * 100 + b"1" + b"}" * 100,
    # scalars
    "true": b"true",
    "false": b"false",
    "null": b"null",
    "a string": b'"text"',
    "an empty string": b'""',
    "a number": b"42",
    # numbers
    "zero": b"0",
    "minus zero": b"-0",
    "minus zero point zero": b"-0.0",
    "negative": b"-123",
    "fraction": b"123.456",
    "fraction of many digits": b"0." + b"1" * 1000,
    "exponent": b"1e5",
    "capital exponent": b"1E5",
    "exponent plus": b"1e+5",
    "exponent minus": b"1e-5",
    "exponent zero": b"1e0",
    "exponent with leading zeros": b"1e0005",
    "zero with an exponent": b"0e1",
    "zero with a negative exponent": b"0e-1",
    "fraction with an exponent": b"1.5e+3",
    "greatest double": b"1.7976931348623157e308",
    "least double": b"5e-324",
    "close to zero": b"-0." + b"0" * 77 + b"1",
    "more than 53 bits": b"9007199254740993",
    "more than 64 bits": b"18446744073709551616",
    "many digits": b"1" * 300,
    # strings
    "escape quote": rb'"\""',
    "escape backslash": rb'"\\"',
    "escape solidus": rb'"\/"',
    "bare solidus": b'"/"',
    "escapes b f n r t": rb'"\b\f\n\r\t"',
    "escaped NUL": rb'"\u0000"',
    "escaped letter": rb'"\u0041"',
    "escape in capitals": rb'"\u00E9"',
    "escape in both cases": rb'"\uAbCd"',
    "escaped controls": rb'"\u0001\u001f\u007f"',
    "escaped noncharacter": rb'"\uffff\ufffe\ufdd0"',
    "escaped pair": rb'"\ud83d\ude00"',
    "escaped pair in capitals": rb'"\uD83D\uDE00"',
    "escaped last code point": rb'"\udbff\udfff"',
    "escaped first of the next plane": rb'"\ud800\udc00"',
    "escaped backslash before u": rb'"\\ud800"',
    "escaped backslash at the end": rb'"a\\"',
    "escaped quote at the end": rb'"a\""',
    "escaped line separators": rb'"\u2028\u2029"',
    "escaped byte order mark": rb'"\ufeff"',
    "two bytes": "é".encode(),
    "three bytes": "€".encode(),
    "four bytes": "😀".encode(),
    "the last code point": "\U0010ffff".encode(),
    "noncharacters": "\uffff\ufdd0\U0001fffe".encode(),
    "line separators": "\u2028\u2029".encode(),
    "delete": b"\x7f",
    "C1 controls": "\x80\x85\x9f".encode(),
    "a byte order mark inside": "\ufeff".encode(),
    "private use": "\ue000\U000f0000".encode(),
    "combining": "e\u0301\u200d\u202e".encode(),
    "words of other languages": b"NaN Infinity undefined",
    "comments": b"/* */ // #",
    "braces": b"{[]}:,",
    "a single quote": b"'",
    "long": b"x" * 100_000,
}
for _name in list(MUST_ACCEPT)[list(MUST_ACCEPT).index("two bytes") :]:
    MUST_ACCEPT[_name] = b'"' + MUST_ACCEPT[_name] + b'"'

MUST_REJECT: dict[str, bytes] = {
    # nothing
    "nothing": b"",
    "space": b" ",
    "a NUL": b"\x00",
    "a byte order mark": b"\xef\xbb\xbf",
    "a byte order mark before": b"\xef\xbb\xbf{}",
    "a byte order mark after": b"{}\xef\xbb\xbf",
    "UTF-16, little": "[1]".encode("utf-16-le"),
    "UTF-16, big": "[1]".encode("utf-16-be"),
    # structures
    "open array": b"[",
    "open object": b"{",
    "closed array": b"]",
    "open array in an array": b"[[]",
    "one bracket too many": b"[]]",
    "mismatched": b"[}",
    "mismatched inside": b'{"a":[}]',
    "comma alone": b",",
    "comma in an empty array": b"[,]",
    "comma first": b"[,1]",
    "comma last": b"[1,]",
    "comma last in an object": b'{"a":1,}',
    "comma twice": b"[1,,2]",
    "comma twice in an object": b'{"a":1,,"b":2}',
    "comma in an empty object": b"{,}",
    "no comma": b"[1 2]",
    "no comma in an object": b'{"a":1 "b":2}',
    "a semicolon": b"[1;2]",
    "colon in an array": b'["a":1]',
    "no colon": b'{"a" 1}',
    "colon twice": b'{"a"::1}',
    "equals": b'{"a"=1}',
    "no value": b'{"a":}',
    "no value before a comma": b'{"a":,"b":1}',
    "name alone": b'{"a"}',
    "value alone": b"{:1}",
    "name without quotes": b"{a:1}",
    "name in single quotes": b"{'a':1}",
    "name is a number": b"{1:1}",
    "name is null": b"{null:1}",
    "name is an array": b"{[]:1}",
    "name is an object": b"{{}:1}",
    "two values": b"{} {}",
    "two scalars": b"1 2",
    "text behind": b"{}x",
    "a bracket behind": b"{}]",
    "a NUL behind": b"{}\x00",
    "a comment": b"/**/{}",
    "a comment behind": b"{}//",
    "a comment inside": b"[1/**/,2]",
    "a comment with a hash": b"{} # end",
    "a form feed": b"[\x0c]",
    "a vertical tab": b"[\x0b]",
    "a no-break space": b"[\xc2\xa0]",
    "a line separator": b"[\xe2\x80\xa8]",
    "a zero-width space": b"[\xe2\x80\x8b]",
    "an ideographic space": b"[\xe3\x80\x80]",
    "a record separator": b"\x1e[]",
    "a NUL between": b"[\x00]",
    "an escape between": rb"[\u0020]",
    "angle brackets": b"<a/>",
    "a function": b"f({})",
    "parentheses": b"(1)",
    "an ellipsis": b"[...]",
    "a prefix against hijacking": b")]}'\n{}",
    "cut short in a name": b'{"a',
    "cut short after a name": b'{"a"',
    "cut short after a colon": b'{"a":',
    "cut short after a value": b'{"a":1',
    "cut short after a comma": b'{"a":1,',
    "cut short in a string": b'["a',
    "cut short in a word": b"[tru",
    "cut short in a number": b"[1.",
    # words
    "True": b"True",
    "TRUE": b"TRUE",
    "None": b"None",
    "Null": b"Null",
    "nul": b"nul",
    "nulll": b"nulll",
    "truefalse": b"truefalse",
    "undefined": b"undefined",
    "a bare word": b"word",
    "full-width true": "ｔｒｕｅ".encode(),
    # numbers
    "NaN": b"NaN",
    "nan": b"nan",
    "-NaN": b"-NaN",
    "Infinity": b"Infinity",
    "-Infinity": b"-Infinity",
    "Inf": b"Inf",
    "minus": b"-",
    "minus and a space": b"- 1",
    "two minuses": b"--1",
    "plus": b"+1",
    "plus and minus": b"+-1",
    "leading zero": b"01",
    "leading zeros": b"-00",
    "zeros": b"00",
    "leading zero with a fraction": b"012.3",
    "leading point": b".5",
    "minus and a point": b"-.5",
    "point last": b"1.",
    "point before an exponent": b"1.e5",
    "two points": b"1.2.3",
    "exponent without digits": b"1e",
    "exponent with a sign only": b"1e+",
    "exponent with two signs": b"1e+-2",
    "exponent with a fraction": b"1e1.5",
    "two exponents": b"1e2e3",
    "exponent alone": b"e5",
    "hexadecimal": b"0x1F",
    "octal": b"0o17",
    "binary": b"0b1",
    "separators": b"1_000",
    "a comma for a point": b"[1,5,]",
    "a suffix": b"1L",
    "a suffix f": b"1.0f",
    "a letter in a number": b"1a2",
    "spaces in a number": b"1 000",
    "a fraction bar": b"1/2",
    "full-width digit": "１".encode(),
    "Arabic digit": "٣".encode(),
    "infinity sign": "∞".encode(),
    "a minus sign that is none": "−1".encode(),
    # strings
    "single quotes": b"'a'",
    "typographic quotes": "“a”".encode(),
    "backticks": b"`a`",
    "quote alone": b'"',
    "no closing quote": b'"a',
    "no opening quote": b'a"',
    "escaped closing quote": rb'"a\"',
    "backslash last": b'"\\',
    "unknown escape x": rb'"\x41"',
    "unknown escape a": rb'"\a"',
    "unknown escape 0": rb'"\0"',
    "unknown escape quote": rb'''"\'"''',
    "escape of a line break": b'"\\\n"',
    "escape of a character": b'"\\\xc3\xa9"',
    "capital U": rb'"\U00000041"',
    "u in braces": rb'"\u{41}"',
    "u alone": rb'"\u"',
    "u with three digits": rb'"\u004"',
    "u with a letter that is no digit": rb'"\u004g"',
    "u with a sign": rb'"\u+041"',
    "u with a space": rb'"\u 041"',
    "u with full-width digits": '"\\u００４１"'.encode(),
    "high surrogate alone": rb'"\ud800"',
    "high surrogate before text": rb'"\ud800a"',
    "high surrogate before an escape": rb'"\ud800\n"',
    "high surrogate twice": rb'"\ud800\ud800"',
    "high surrogate before half an escape": rb'"\ud800\u00"',
    "high surrogate before a letter's escape": rb'"\ud800\u0041"',
    "low surrogate alone": rb'"\udc00"',
    "low surrogate first": rb'"\udc00\ud800"',
    "surrogate in a name": rb'{"\ud800":1}',
    "a tab": b'"\t"',
    "a line feed": b'"\n"',
    "a carriage return": b'"\r"',
    "a NUL in a string": b'"\x00"',
    "an escape character": b'"\x1b"',
    "the last control": b'"\x1f"',
    "a control in a name": b'{"\x01":1}',
    # UTF-8
    "a byte alone": b"\xff",
    "no UTF-8": b'"\xff"',
    "a continuation alone": b'"\x80"',
    "a sequence cut short by the quote": b'"\xc3"',
    "three bytes cut short": b'"\xe2\x82"',
    "four bytes cut short": b'"\xf0\x9f\x98"',
    "overlong slash, two bytes": b'"\xc0\xaf"',
    "overlong slash, three bytes": b'"\xe0\x80\xaf"',
    "overlong slash, four bytes": b'"\xf0\x80\x80\xaf"',
    "overlong NUL": b'"\xc0\x80"',
    "surrogate": b'"\xed\xa0\x80"',
    "pair of surrogates": b'"\xed\xa0\xbd\xed\xb8\x80"',
    "beyond the last code point": b'"\xf4\x90\x80\x80"',
    "five bytes": b'"\xf8\x88\x80\x80\x80"',
    "six bytes": b'"\xfc\x84\x80\x80\x80\x80"',
    "Latin-1": '"é"'.encode("latin-1"),
    "no UTF-8 in a name": b'{"\xff":1}',
    "no UTF-8 between": b"[1\xff]",
}

# A parser may have limits of its own, but it must not fail with an error.
MAY_BE_EITHER: dict[str, bytes] = {
    "an integer beyond all": b"1" * 10_000,
    "a number beyond all": b"1e999999999",
    "a negative number beyond all": b"-1e309",
    "a number next to nothing": b"1e-999999999",
    "an exponent beyond all": b"1e" + b"9" * 400,
    "a fraction of many digits": b"0." + b"3" * 100_000,
    "700 levels": b"[" * 700 + b"]" * 700,
    "1,000 levels": b'{"a":' * 1000 + b"1" + b"}" * 1000,
    "100,000 levels": b"[" * 100_000 + b"]" * 100_000,
    "100,000 levels that do not end": b"[" * 100_000,
    "100,000 objects that do not end": b'{"a":' * 100_000,
}

INVALID = "Invalid JSON body"


@pytest.fixture
def bare(api: Api, project: Project) -> Api:
    """A dataset without fields, because these tables are only about `context` and about whole bodies."""
    api.dataset = services.create_dataset(project=project, name="Bare", fields=[])
    return api


def in_context(text: bytes) -> bytes:
    return b'{"timestamp":"2026-06-10T10:58:00Z","context":{"a":%b}}' % text


def said(api: Api, body: bytes, path: str = "/validate", media_type: str = "application/json") -> str:
    """Return the error for a body, or `valid`."""
    assert api.dataset is not None
    response = api.post(f"/datasets/{api.dataset.pk}{path}", body, media_type)
    assert response.status_code in (200, 202, 400), (response.status_code, body[:100])
    answer: dict[str, Any] = response.json()
    return str(answer.get("error", "valid"))


@pytest.mark.parametrize("padding", [b"", PADDING.encode()], ids=["small", "large"])
def test_valid_json_is_accepted(bare: Api, padding: bytes) -> None:
    """Large bodies are validated in another way."""
    dataset = bare.dataset
    assert isinstance(dataset, Dataset)
    for name, text in MUST_ACCEPT.items():
        body = in_context(text)
        assert said(bare, padding + body, "") == "valid", name
        assert said(bare, padding + text) != INVALID, name
        assert said(bare, b"[%b,%b]" % (body, padding + text), "/batch") == "Payload must be an object" or (
            text[:1].strip() in (b"{", b"") and said(bare, b"[%b]" % text, "/batch") != INVALID
        ), name
        if b"\n" not in text:
            assert said(bare, b"%b\n%b" % (padding + body, body), "/batch", "application/x-ndjson") == "valid", name
    contexts = {row["context"] for row in stored(dataset)}
    assert contexts == {'{"a":' + text.decode() + "}" for text in MUST_ACCEPT.values()}


@pytest.mark.parametrize("padding", [b"", PADDING.encode()], ids=["small", "large"])
def test_json_that_parsers_must_refuse_is_refused(bare: Api, padding: bytes) -> None:
    for name, text in MUST_REJECT.items():
        body = in_context(text)
        assert said(bare, padding + body) == INVALID, name
        assert said(bare, padding + text) == INVALID, name
        assert said(bare, b"[%b%b]" % (padding, body), "/batch") == INVALID, name
        lines = b"%b\n%b\n" % (padding + in_context(b"1"), body)
        assert said(bare, lines, "/batch", "application/x-ndjson") == INVALID, name


def test_json_that_parsers_may_accept_or_refuse_never_fails(bare: Api) -> None:
    for name, text in MAY_BE_EITHER.items():
        body = in_context(text)
        assert said(bare, body) in ("valid", INVALID), name
        assert said(bare, text) in ("Payload must be an object", INVALID, "Invalid or missing timestamp"), name
        assert said(bare, b"[%b]" % body, "/batch") in ("valid", INVALID), name
        assert said(bare, body + b"\n", "/batch", "application/x-ndjson") in ("valid", INVALID), name


def test_worker_reads_every_depth_that_the_web_process_accepts(bare: Api) -> None:
    """The depth limit depends on the stack, and a worker may have a deeper stack."""
    dataset = bare.dataset
    assert isinstance(dataset, Dataset)
    deepest = next(
        depth for depth in range(1000, 0, -1) if said(bare, in_context(b"[" * depth + b"]" * depth), "") == "valid"
    )
    assert deepest > 500

    def from_below(frames: int) -> None:
        if frames:
            from_below(frames - 1)
        else:
            assert stored(dataset)[-1]["context"] == '{"a":' + "[" * deepest + "]" * deepest + "}"

    from_below(200)
