"""Schemas and bodies for the oracle: valid, nearly valid and hostile ones."""

import json
import math
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hypothesis import strategies as st

from tests.support.contract.values import new_values

OLD_TYPES = ("string", "number", "boolean", "timestamp")
_REQUIRED = ("integer", "decimal(7,2)", "decimal(38,10)", "date", "uuid", "json", "enum")
_REQUIRED_ARRAYS = ("string[]", "number[]", "integer[]", "timestamp[]")
NEW_TYPES = (
    *(*_REQUIRED, *_REQUIRED_ARRAYS),
    *(f"{name}?" for name in (*OLD_TYPES, *_REQUIRED, *_REQUIRED_ARRAYS)),
)
TYPES = OLD_TYPES + NEW_TYPES
RESERVED = {"timestamp", "context", "id", "project_id", "dataset_id", "ingested_at", "__traceid"}
FORMS = ("object", "array", "lines")
# The limit of a batch in these tests. It is small, so that batches reach it.
MAX_RECORDS = 6

_NAMES = [
    "a",
    "A1",
    "_",
    "def",
    "f0",
    "__init__",
    "Context_",
    "timestamps",
    "None",
    "x" * 63,
    "country",
    "n2",
    "Zz",
    "p",
]


def _pool() -> list[dict[str, str]]:
    """Return schemas of many sizes, most of them small. They are made only once, because compiling them is slow."""
    chance = random.Random(1)
    small = [
        {name: chance.choice(types) for name in chance.sample(_NAMES, chance.randint(0, 6))}
        for types in (OLD_TYPES, TYPES)
        for _ in range(300)
    ]
    return small + [
        {f"f{n}": chance.choice(types) for n in range(size)}
        for types in (OLD_TYPES, TYPES)
        for size in (15, 21, 40, 200)
    ]


POOL = _pool()
schemas = st.sampled_from(POOL)


class Question(NamedTuple):
    """A body, its format, and the fields of its schema."""

    fields: dict[str, str]
    form: str
    body: bytes


# -- values as JSON text ------------------------------------------------------------------------------

_EXTREME_NUMBERS = [
    "0", "-0", "-0.0", "0e0", "1e308", "1.7976931348623157e308", "1.7976931348623158e308", "1.7976931348623159e308",
    "1e309", "-1e309", "1e999999999", "1e-999999999", "5e-324", "2e-324", "1E+2", "1e-0", "0.1", "9007199254740993",
    "18446744073709551615", "18446744073709551616", "-9223372036854775809",
    "100000000000000000000000000000000000000", "0.30000000000000000000000000000000000000000001",
    "9" * 308, "9" * 309, "1" + "0" * 400, "0." + "0" * 400 + "1", "1" * 5000, "0." + "3" * 5000, "1e" + "9" * 40,
]  # fmt: skip
_NOT_NUMBERS = [
    "01", "-01", "+1", "1.", ".5", "-.5", "1e", "1e+", "0x10", "NaN", "Infinity", "-Infinity", "-NaN", "1_000", "-",
    "--", "1,5", "٣", "１", "1e1.5", "0b1", "1f", "1L",
]  # fmt: skip
_EDGE_TEXTS = [
    '""', '"\\u0000"', '"\\uD83D\\uDE00"', '"\\ud83d\\ude00"', '"😀\\u2028\\/"', '"\ufeff"', '"\uffff\U0010ffff"',
    '"\x7f\x80\x85\xa0"', '"true"', '"' + "é" * 3000 + '"', '"2-12 10:30"', '":00+0000"', '"\\u002d\\u003A"',
]  # fmt: skip
_NOT_TEXTS = [
    '"\\ud800"', '"\\udc00"', '"\\ud800\\ud800"', '"\\udc00\\ud800"', '"\\ud800x"', '"\\uD800\\n"', '"\\u12"',
    '"\\u12G4"', '"\\u 123"', '"\\u+123"', '"\\x41"', '"\\', '"\\"', '"', "'a'", '"\x00"', '"\x1f"', '"\t"', '"\n"',
    '"\r"', "“a”", '"\\U0001F600"', '"\\\n"',
]  # fmt: skip
_WORDS = ["true", "false", "null"]
_NOT_WORDS = ["True", "tru", "truee", "nul", "nil", "undefined", "FALSE", "", "-", "\x00", "[", "{", "}", "]", ","]


def _spelled(text: str, style: int) -> str:
    """Return a JSON string: raw, escaped as Python's json does it, or with every character escaped."""
    if style == 0:
        return json.dumps(text, ensure_ascii=False)
    if style == 1:
        return json.dumps(text)
    units = text.encode("utf-16-be")
    escaped = "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
    return '"' + (escaped if style == 2 else "\\u".join(part.upper() for part in escaped.split("\\u"))) + '"'


def _chosen(lists: Sequence[Sequence[Any]], make: Callable[..., str]) -> st.SearchStrategy[str]:
    """Choose one item of each list with a single draw, because draws are the slow part of Hypothesis."""
    total = math.prod(len(each) for each in lists)

    def choose(number: int) -> str:
        parts = []
        for each in lists:
            number, place = divmod(number, len(each))
            parts.append(each[place])
        return make(*parts)

    return st.integers(0, total - 1).map(choose)


def _seeded(make: Callable[[random.Random], str]) -> st.SearchStrategy[str]:
    """Return the value that `make` makes from a random seed. This needs a single draw."""
    return st.integers(0, 2**64).map(lambda number: make(random.Random(number)))


def _plain_text(chance: random.Random) -> str:
    planes = ((0x20, 0x7E), (0, 0xFF), (0x100, 0xD7FF), (0xE000, 0xFFFF), (0x10000, 0x10FFFF))
    return "".join(chr(chance.randint(*planes[chance.randrange(5)])) for _ in range(chance.randrange(7)))


def _some_text(chance: random.Random) -> str:
    if chance.random() < 0.5:
        return chance.choice(_EDGE_TEXTS)
    return _spelled(_plain_text(chance), chance.randrange(4))


texts = _seeded(_some_text)
_EXPONENTS = ["", "", "e0", "E1", "e-1", "e+22", "E-30", "e300", "e308", "e-320", "e-400", "e309"]
numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(2**70), 2**70).map(str),
    st.sampled_from(_EXTREME_NUMBERS),
    _chosen(
        (
            ["", "-"],
            [0, *range(1, 10**9, 12_345_678)],
            ["", ".0", ".5", ".000000000000000000001", f".{'7' * 40}"],
            _EXPONENTS,
        ),
        lambda sign, whole, fraction, exponent: f"{sign}{whole}{fraction}{exponent}",
    ),
)
booleans = st.sampled_from(["true", "false"])


def _time(
    year: int, month: int, day: int, hour: int, minute: int, second: int, fraction: str, zone: str, letter: str
) -> str:
    return f"{year:04}-{month:02}-{day:02}{letter}{hour:02}:{minute:02}:{second:02}{fraction}{zone}"


_FRACTIONS = [
    "", "", ".5", ".0", ".123456", ".1234565", ".1234564999", ".1234575", ".9999999", ".9999995", ".0000005",
    ".00000049", "." + "9" * 40,
]  # fmt: skip
_ZONES = ["Z", "z", "+00:00", "-00:00", "+23:59", "-23:59", "+05:30", "-12:00", "+14:00", "-00:01"]
_good_times = _chosen(
    (range(1, 10_000), range(1, 13), range(1, 29), range(24), range(60), range(60), _FRACTIONS, _ZONES, "TTTt"), _time
)
_NEAR_ZONES = [
    "Z", "", "z", "+00", "+0000", "+00:0", "+24:00", "-24:00", "+00:60", "+23:60", "UTC", " Z", "Z ", "+-1:00",
    "−00:00",
]  # fmt: skip
_near_times = _chosen(
    (
        [0, 1, 4, 100, 1900, 2000, 2023, 2024, 9999, 10000],
        range(14),
        range(33),
        range(26),
        [0, 30, 59, 60, 99],
        [0, 30, 59, 60, 61],
        ["", ".", ".1", ",5", ".1 ", "." + "1" * 100, ".١", ".-1", ".1e3"],
        _NEAR_ZONES,
        ["T", "t", " ", "_", "", "  ", "\\u0054", "\\t", "Т"],
    ),
    _time,
)
# A near miss is a value in which one or two parts are wrong, and all others are right.
_one_off_times = _chosen(
    (
        [2024, 2024, 0, 9999],
        [2, 2, 0, 13],
        [29, 29, 30, 0],
        [10, 10, 24],
        [58, 58, 60],
        [0, 0, 60],
        ["", "", ".", ".1"],
        ["Z", "+01:00", *_NEAR_ZONES],
        "TTTt ",
    ),
    _time,
)
_ODD_TIMES = [
    "", "now", "2026-06-10", "10:58:00Z", "1781089080", "2026-W24-3T10:58:00Z", "2026-161T10:58:00Z",
    "20260610T105800Z", "+002026-06-10T10:58:00Z", "-0001-01-01T00:00:00Z", "２０２６-06-10T10:58:00Z",
    "2026-06-10T10:58Z", "2026-6-1T1:1:1Z", "2026-06-10T10:58:00+02:00[Europe/Paris]",
    "2026-06-10T10:58:00Z\\u0000", "\\u00002026-06-10T10:58:00Z", "2026-06-10T24:00:00Z",
    "9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59",
    "2016-12-31T23:59:60Z", "2026-06-10T10:58:00\\u002B02:00", "2026-06-10T10:58:00\\u002b0200",
    "2026\\u002d06-10T10:58:00Z", "2026-06-10\\u002010:58:00Z", "2026-02-29T00:00:00Z", "2000-02-29T00:00:00Z",
    "1900-02-29T00:00:00Z",
]  # fmt: skip
good_times = _good_times.map(lambda text: f'"{text}"')
times = st.one_of(_good_times, _near_times, _one_off_times, st.sampled_from(_ODD_TIMES)).map(lambda text: f'"{text}"')


def _some_tree(chance: random.Random, levels: int = 3) -> str:
    kind = chance.randrange(6 if levels else 4)
    space = chance.choice(("", "", " ", "\n"))
    if kind == 4:
        return "[" + f"{space},".join(_some_tree(chance, levels - 1) for _ in range(chance.randrange(4))) + space + "]"
    if kind == 5:
        return _some_object(chance, levels)
    if kind == 3:
        return chance.choice(["true", "false", "null"])
    return chance.choice(_EXTREME_NUMBERS) if kind == 2 else _some_text(chance)


def _some_object(chance: random.Random, levels: int = 3) -> str:
    members = [f"{_some_text(chance)} :{_some_tree(chance, levels - 1)}" for _ in range(chance.randrange(4))]
    return "{" + ", ".join(members) + "}"


_trees = _seeded(_some_tree)
_CONTEXTS = [
    "{}", "{}", ' { "a" : [ ] } ', '{"a":1,"a":2}', '{"":{"":[[],{}]}}', '{"n":1e999,"t":"2026-01-01 10:58:00+0000"}',
]  # fmt: skip
_contexts = st.one_of(
    st.sampled_from(_CONTEXTS),
    _seeded(_some_object),
)
_depths = st.sampled_from([1, 50, 150, 300, 600, 950, 999, 1001, 1500, 20_000])
_deep = st.builds(
    lambda depth, shape: {
        "[": "[" * depth + "]" * depth,
        "{": '{"a":' * depth + "1" + "}" * depth,
        "cut": "[" * depth,
    }[shape],
    _depths,
    st.sampled_from(["[", "{", "cut"]),
)
_not_json = st.sampled_from(_NOT_NUMBERS + _NOT_TEXTS + _NOT_WORDS)
GOOD = {"string": texts, "number": numbers, "boolean": booleans, "timestamp": good_times}
GOOD |= new_values(GOOD, _trees)
_any_value = st.one_of(texts, numbers, st.sampled_from(_WORDS), times, _trees)

# -- records ------------------------------------------------------------------------------------------

# This is longer than the blocks in which a search may read a body.
PADDING = " " * 40_000

_Members = list[tuple[str, str]]
_SPACES = ["", "", "", " ", "\n", "\r\n\t ", PADDING, "\x0c", "\x0b", "\xa0", "\u2028", "\ufeff", "\x00", "/**/"]
_JSON_SPACES = [space for space in _SPACES if not space.strip(" \t\r\n")]
_CHANGES = {
    1: st.tuples(st.integers(0, 1), st.sampled_from(_JSON_SPACES)),
    3: st.tuples(st.integers(0, 3), st.sampled_from(_SPACES)),
}
_UNKNOWN_NAMES = [
    '""', '"extra"', '"Timestamp"', '"CONTEXT"', '"id"', '"__traceId"', '"\\u0000"', '"\\ud83d\\ude00"', '"f0"',
    '"ingested-on"', '"é\\n"', '"' + "n" * 5000 + '"', '"2-12 1:"',
]  # fmt: skip


def _record(draw: st.DrawFn, fields: dict[str, str], worst: int) -> str:
    """Return the text of a record with at most `worst` changes."""
    members: _Members = [('"timestamp"', draw(good_times)), ('"context"', draw(_contexts))]
    if len(fields) <= 6:
        members += [(json.dumps(name), draw(GOOD[kind])) for name, kind in fields.items()]
    else:  # large records vary in a few values only, for speed
        some = {kind: (draw(GOOD[kind]), draw(GOOD[kind])) for kind in dict.fromkeys(fields.values())}
        members += [(json.dumps(name), some[kind][n % 2]) for n, (name, kind) in enumerate(fields.items())]
    space = ""
    if worst:
        changes, space = draw(_CHANGES[worst])
        for _ in range(changes):
            _change(draw, members)
    return "{" + space + ",".join(f"{name}{space[:2]}:{value}{space[:2]}" for name, value in members) + "}"


_places = st.tuples(st.integers(0, 39), st.integers(0, 11))
_any_value_or_deep = st.one_of(_any_value, _deep)
_broken = st.one_of(_deep, _not_json)
_unknown_names = st.sampled_from(_UNKNOWN_NAMES)


def _change(draw: st.DrawFn, members: _Members) -> None:
    place, kind = draw(_places)
    place %= max(1, len(members))
    name, value = members[place] if members else ('"x"', "1")
    if kind <= 1:
        members[place : place + 1] = [(name, draw(_any_value))]
    elif kind == 2:
        members[place : place + 1] = [(name, draw(times))]
    elif kind == 3:
        del members[place : place + 1]
    elif kind == 4:
        members.insert(place, (draw(_unknown_names), draw(_any_value)))
    elif kind == 5:
        members.insert(place, (draw(texts), value))
    elif kind == 6:  # the same name a second time, before the original, with any value
        members.insert(place, (name, draw(_any_value_or_deep)))
    elif kind == 7:  # the same name a second time, at the end
        members.append((name, draw(_any_value)))
    elif kind == 8:  # the same name, spelled with escapes
        said = json.loads(name) if name.isascii() and "\\u" not in name else "x"
        members[place : place + 1] = [(_spelled(said, 2), value)]
    elif kind == 9:
        members.reverse()
    elif kind == 10:
        members[place : place + 1] = [(name, draw(_broken))]
    else:
        members[place : place + 1] = [(name.swapcase() if name.isascii() and "\\" not in name else name, value)]


# -- bodies -------------------------------------------------------------------------------------------

_BREAKS = ["\n", "\r\n", "\n\n", "\n \t\r\n", "\r", "\n\x0c\n", "\n\u2028\n", "\n\n,", "\x1e"]
_BYTES = [
    b"", b",", b"}", b"{", b"]", b"[", b'"', b":", b"\\", b"\x00", b"\xff", b"\xc0\x80", b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80", b"\xe2\x82", b"\xef\xbb\xbf", b"\n", b"\r", b"\x0c", b" ", b"1", b"null", b"\\ud800",
    b"\x80", b'+0000"', b"-12 10:",
]  # fmt: skip
_elements = st.one_of(_trees, _deep, _not_json, st.just("{}"))
_heads = st.tuples(st.sampled_from(FORMS), st.sampled_from([0, 1, 3]))
_counts = {
    worst: st.sampled_from(counts) for worst, counts in ((0, [1, 1, 2]), (1, [0, 1, 1, 2, 7]), (3, [0, 1, 1, 2, 3, 7]))
}
_odd_elements = st.integers(0, 4)
_array_spaces = st.sampled_from(_SPACES)
_breaks = st.sampled_from(_BREAKS)
_ends = st.integers(0, 3)
_damages = st.tuples(st.integers(0, 6), st.integers(0, 2**16), st.sampled_from(_BYTES))
_damage_counts = st.integers(0, 2)


@st.composite
def questions(draw: st.DrawFn, fields: dict[str, str] | None = None) -> Question:
    """Draw a schema (or use the given one) and a body: a third are valid, a third nearly valid, a third hostile."""
    given_fields: dict[str, str] = draw(schemas) if fields is None else fields
    form, worst = draw(_heads)
    body = _text(draw, given_fields, form, worst).encode("utf-8", "surrogatepass")
    for _ in range(draw(_damage_counts) if worst == 3 else 0):
        body = _damaged(body, *draw(_damages))
    return Question(given_fields, form, body)


def _text(draw: st.DrawFn, fields: dict[str, str], form: str, worst: int) -> str:
    count = 1 if form == "object" else draw(_counts[worst]) if len(fields) <= 6 else 1
    parts: list[str] = []
    for number in range(count):
        if worst == 3 and draw(_odd_elements) == 0:
            parts.append(draw(_elements))
        elif number < 3:
            parts.append(_record(draw, fields, worst))
        else:  # further records repeat the first three
            parts.append(parts[number % 3])
    if form == "object":
        return parts[0]
    if form == "array":
        space = draw(_array_spaces) if worst == 3 else ""
        return "[" + f"{space},{space}".join(parts) + "]"
    if worst < 3:
        return "\n".join(part.replace("\n", " ").replace("\r", " ") for part in parts)
    between, ends = draw(_breaks), draw(_ends)
    return (between if ends & 1 else "") + between.join(parts) + (between if ends & 2 else "")


def _damaged(body: bytes, kind: int, place: int, piece: bytes) -> bytes:
    place %= len(body) + 1
    if kind == 0:
        return body[:place]
    if kind == 1:
        return body[:place] + piece + body[place:]
    if kind == 2:
        return body[:place] + piece + body[place + 1 :]
    if kind == 3:
        return piece + body
    if kind == 4:
        return body + piece
    if kind == 5:
        return body[place:] + body[:place]
    return body[:place] + PADDING.encode() + body[place:]
