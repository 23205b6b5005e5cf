"""The objects of some bodies would take many times their size. But validation needs only the memory of a few bodies."""

import gc
import json
import os
import string
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from config.common.errors import ApiError
from datasets import services
from datasets.models import Project
from datasets.schemas.fields import Field
from datasets.schemas.schema import CompiledSchema
from ingest.queue.formats import Payload
from ingest.validation.body import JSON, NDJSON
from ingest.validation.lenient import validate_leniently
from ingest.validation.payloads import validate_array, validate_lines, validate_one
from tests.conftest import Api

LIMIT = 10 * 1024 * 1024
# The memory in addition to the body itself. Valid bodies need the most: a text of two letters takes 60 bytes, and one
# wide character makes a text take four bytes per character.
MAX_PEAK = 7 * LIMIT
# Elements that are not records are counted, but no objects are made for them.
MAX_PEAK_OF_COUNTED = LIMIT // 2
MAX_ANSWER = 50_000

SCHEMA = CompiledSchema(1, [Field("t", "timestamp"), Field("s", "string"), Field("n", "number")])
LETTERS = CompiledSchema(1, [Field(letter, "string") for letter in string.ascii_lowercase])
LISTS = CompiledSchema(1, [Field(f"{name}s", f"{name}[]") for name in ("string", "number", "integer", "timestamp")])
RECORD = b'{"timestamp":"2026-06-10T10:58:00Z","context":{},"t":"2026-06-10T10:58:00Z","s":"x","n":1}'


def filled(element: bytes, separator: bytes = b",", size: int = LIMIT - 1000) -> bytes:
    """Return as many elements as fit into a body."""
    return ((element + separator) * (size // len(element + separator)))[: -len(separator)]


def array(element: bytes) -> bytes:
    return b"[" + filled(element) + b"]"


def record(old: bytes, new: bytes) -> bytes:
    return RECORD.replace(old, new, 1)


def names(member: Callable[[int], bytes], count: int = 600_000) -> bytes:
    return b"{" + b",".join(map(member, range(count))) + b"}"


def short_texts() -> bytes:
    """A valid record of 26 texts of two letters."""
    texts = b",".join(b'"%c":"xy"' % letter for letter in string.ascii_lowercase.encode())
    return b'{"timestamp":"2026-06-10T10:58:00Z","context":{},%b}' % texts


def lists(**given: bytes) -> bytes:
    """Return a record of arrays, with the most elements that a body may have."""
    members = {"timestamp": b'"2026-06-10T10:58:00Z"', "context": b"{}"}
    members |= dict.fromkeys(("strings", "numbers", "integers", "timestamps"), b"[]") | given
    return b"{" + b",".join(b'"%b":%b' % (name.encode(), value) for name, value in members.items()) + b"}"


def most(element: bytes, last: bytes) -> bytes:
    return b"[" + (element + b",") * 999_990 + last + b"]"


def too_many(body: Callable[[], bytes]) -> tuple[Callable[[], bytes], str]:
    return body, "Batch has too many records"


INVALID, TIMESTAMP, VALID = "Invalid JSON body", "Invalid or missing timestamp", "valid"
NUMBER, WIDE = "Invalid number field: n", b'"' + b"x" * 9_000_000 + "😀".encode() + b'"'
ONE: dict[str, tuple[Callable[[], bytes], str]] = {
    "many names": (lambda: names(b'"%d":1'.__mod__), TIMESTAMP),
    "many names that are objects": (lambda: names(b'"%d":{}'.__mod__), TIMESTAMP),
    "many names in a valid context": (lambda: record(b"{}", names(b'"%d":1'.__mod__)), VALID),
    "many names after the schema's": (lambda: RECORD[:-1] + b"," + names(b'"%d":1'.__mod__)[1:], "Extra field: 0"),
    "the same name": (lambda: b"{" + filled(b'"a":1') + b"}", TIMESTAMP),
    "the same declared name": (lambda: RECORD[:-1] + b"," + filled(b'"n":1') + b"}", VALID),
    "the same name, last wrong": (lambda: RECORD[:-1] + b"," + filled(b'"n":1') + b',"n":""}', NUMBER),
    "the same name, first wrong": (lambda: RECORD[:-1] + b',"n":"",' + filled(b'"n":1') + b"}", VALID),
    "a long name": (lambda: b'{"' + "é".encode() * 5_000_000 + b'":1}', TIMESTAMP),
    "a long name of escapes": (lambda: b'{"' + filled(rb"\u0001", b"") + b'":1}', TIMESTAMP),
    "long names": (lambda: b"{" + b",".join(b'"%d%b":1' % (n, b"x" * 400_000) for n in range(25)) + b"}", TIMESTAMP),
    "a long text": (lambda: record(b'"x"', b'"' + b"x" * (LIMIT - 1000) + b'"'), VALID),
    "a long text with one wide character": (lambda: record(b'"x"', WIDE), VALID),
    "a long text that is not UTF-8": (lambda: record(b'"x"', b'"' + b"x" * 9_000_000 + b'\xff"'), INVALID),
    "a long text of escapes": (lambda: record(b'"x"', b'"' + filled(rb"\u002b", b"") + b'"'), VALID),
    "a long timestamp": (lambda: record(b"00Z", b"00." + b"1" * 9_000_000 + b"Z"), VALID),
    "a long wrong timestamp": (lambda: record(b"00Z", b"00." + b"1" * 9_000_000), TIMESTAMP),
    "a long integer": (lambda: record(b":1}", b":" + b"1" * 9_000_000 + b"}"), NUMBER),
    "a long integer in the context": (lambda: record(b"{}", b'{"a":' + b"1" * 9_000_000 + b"}"), VALID),
    "a long fraction": (lambda: record(b":1}", b":0." + b"1" * 9_000_000 + b"}"), VALID),
    "a long exponent": (lambda: record(b":1}", b":1e" + b"1" * 9_000_000 + b"}"), NUMBER),
    "a value of many values": (lambda: record(b'"x"', array(b"1")), "Invalid string field: s"),
    "deep arrays": (lambda: b"[" * LIMIT, INVALID),
    "deep objects": (lambda: filled(b'{"a":', b" "), INVALID),
    "white space": (lambda: b" " * LIMIT, INVALID),
}  # fmt: skip
ARRAYS: dict[str, tuple[Callable[[], bytes], str]] = {
    "numbers": too_many(lambda: array(b"1")),
    "empty objects": too_many(lambda: array(b"{}")),
    "empty arrays": too_many(lambda: array(b"[]")),
    "empty texts": too_many(lambda: array(b'""')),
    "valid records": too_many(lambda: array(RECORD)),
    "records with an extra field": too_many(lambda: array(RECORD[:-1] + b',"x":1}')),
    "one array of numbers": (lambda: b"[" + array(b"1") + b"]", "Payload must be an object"),
    "one object of many names": (lambda: b"[" + names(b'"%d":1'.__mod__) + b"]", TIMESTAMP),
    "many names twenty times": (lambda: array(names(b'"%d":1'.__mod__, 40_000)), TIMESTAMP),
    "the last of the most records": (lambda: b"[" + b",".join([RECORD] * 9_999) + b",1]", "Payload must be an object"),
    "escapes in the most records": (lambda: b"[" + b",".join([record(b'"x"', rb'"\u002b"')] * 10_000) + b"]", VALID),
    "no end": (lambda: array(b"{}")[:-1], INVALID),
    "an object": (lambda: names(b'"%d":1'.__mod__), "Batch body must be a non-empty array"),
}  # fmt: skip
LINES: dict[str, tuple[Callable[[], bytes], str]] = {
    "numbers": too_many(lambda: filled(b"1", b"\n")),
    "empty objects": too_many(lambda: filled(b"{}", b"\n")),
    "no JSON": too_many(lambda: filled(b"x", b"\n")),
    "valid records": too_many(lambda: filled(RECORD, b"\n")),
    "blank lines": (lambda: b"\n" * LIMIT, INVALID),
    "lines of spaces": (lambda: b"  \r\n" * (LIMIT // 4), INVALID),
    "a record among blank lines": (lambda: b"\n" * 5_000_000 + RECORD + b"\n" * 5_000_000, VALID),
    "one object of many names": (lambda: names(b'"%d":1'.__mod__), TIMESTAMP),
    "the last of the most lines": (lambda: b"\n".join([RECORD] * 9_999 + [b"1"]), "Payload must be an object"),
}
ELEMENTS: dict[str, tuple[Callable[[], bytes], str]] = {
    "texts": (lambda: lists(strings=most(b'"xyz"', b'""')), VALID),
    "numbers": (lambda: lists(numbers=most(b"1.25", b"2")), VALID),
    "integers": (lambda: lists(integers=most(b"1234567", b"2")), VALID),
    "timestamps": (lambda: lists(timestamps=b"[" + filled(b'"2026-06-10T10:58:00Z"') + b"]"), VALID),
    "texts, the last one wrong": (lambda: lists(strings=most(b'"x"', b"null")), "Invalid string[] field: strings"),
    "numbers, the last one wrong": (lambda: lists(numbers=most(b"1.25", b'""')), "Invalid number[] field: numbers"),
}
TEXTS: dict[str, tuple[Callable[[], bytes], str]] = {
    "short texts": (lambda: b"[" + b",".join([short_texts()] * 10_000) + b"]", VALID),
    "valid short texts": too_many(lambda: array(short_texts())),
}
LENIENT_ARRAYS: dict[str, tuple[Callable[[], bytes], str]] = {
    **ARRAYS,
    "the last of the most records": (ARRAYS["the last of the most records"][0], VALID),
    "one good record": (lambda: b"[" + b"1," * 9_999 + RECORD + b"]", VALID),
    "a bad one among many names": (lambda: b"[" + names(b'"%d":1'.__mod__, 500_000) + b"," + RECORD + b"]", VALID),
}
LENIENT_LINES = {**LINES, "the last of the most lines": (LINES["the last of the most lines"][0], VALID)}
LENIENT_TEXTS = {"a bad one": (lambda: b"[1," + b",".join([short_texts()] * 9_999) + b"]", VALID)}
LENIENTLY = partial(validate_leniently, validate_array, JSON)
CORPUS = [
    *((f"one: {name}", partial(validate_one, SCHEMA), *case) for name, case in ONE.items()),
    *((f"array: {name}", partial(validate_array, SCHEMA), *case) for name, case in ARRAYS.items()),
    *((f"lines: {name}", partial(validate_lines, SCHEMA), *case) for name, case in LINES.items()),
    *((f"array: {name}", partial(validate_array, LETTERS), *case) for name, case in TEXTS.items()),
    *((f"elements: {name}", partial(validate_one, LISTS), *case) for name, case in ELEMENTS.items()),
    *((f"lenient array: {name}", partial(LENIENTLY, SCHEMA), *case) for name, case in LENIENT_ARRAYS.items()),
    *((f"lenient array: {name}", partial(LENIENTLY, LETTERS), *case) for name, case in LENIENT_TEXTS.items()),
    *(
        (f"lenient lines: {name}", partial(validate_leniently, validate_lines, NDJSON, SCHEMA), *case)
        for name, case in LENIENT_LINES.items()
    ),
]


def main() -> None:
    """Validate each body in a process of its own, and print a line of JSON: name, peak above the body, outcome."""
    for name, validate, make_body, _ in CORPUS:
        child = os.fork()
        if child == 0:
            print(json.dumps([name, *measured(validate, make_body())]), flush=True)
            os._exit(0)
        os.waitpid(child, 0)


def measured(validate: Callable[[bytes], Payload], body: bytes) -> tuple[int, int, str]:
    """Return the peak of memory above the memory before, the size of the refusal's details, and its text."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # from here on, VmHWM is the peak
    before = memory("VmRSS")
    size, said = 0, VALID
    try:
        validate(body)
    except ApiError as refusal:
        size, said = len(json.dumps(refusal.details)), refusal.error
    return memory("VmHWM") - before, size, said


def memory(name: str) -> int:
    """Return the size `name` in /proc/self/status, in bytes."""
    return int(Path("/proc/self/status").read_text().split(name + ":")[1].split()[0]) * 1024


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
def test_validation_takes_a_few_bodies_of_memory_at_most() -> None:
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            "import django; django.setup(); from tests.ingest.validation.test_memory import main; main()",
        ],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings"},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    found = {name: rest for name, *rest in map(json.loads, run.stdout.splitlines())}
    assert {name: said for name, (_, _, said) in found.items()} == {name: said for name, _, _, said in CORPUS}
    assert {name: peak for name, (peak, _, _) in found.items() if peak > MAX_PEAK} == {}
    counted = [name for name, _, _, said in CORPUS if said == "Batch has too many records" and "valid" not in name]
    assert {name: found[name][0] for name in counted if found[name][0] > MAX_PEAK_OF_COUNTED} == {}
    assert {name: size for name, (_, size, _) in found.items() if size > MAX_ANSWER} == {}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"x"', rb'"\u002b"'),
        (b'58:00Z"', rb'58:00\u002b00:00"'),
        (b'"x"', b'"2026-06-10 10:58:00"'),
        (b'"x"', b'"12:30:00+0200"'),
        (b'"x"', b'"9999-12-31"'),
    ],
    ids=["an escape", "an escape in a timestamp", "a space", "an offset without a colon", "the last day"],
)
def test_suspicious_timestamps_do_not_make_validation_slow(old: bytes, new: bytes) -> None:
    """Only the timestamps of such records are read again. Reading all fields again would take 22 times as long."""
    plain, suspicious = (b"[" + b",".join([each] * 5000) + b"]" for each in (RECORD, record(old, new)))
    assert seconds(suspicious) < 12 * seconds(plain)


def seconds(body: bytes) -> float:
    """Return the shortest processor time that a valid batch takes."""
    times = []
    for _ in range(7):
        began = time.process_time()
        validate_array(SCHEMA, body)
        times.append(time.process_time() - began)
    return min(times)


def test_names_are_cut_to_100_characters_in_answers(api: Api) -> None:
    for name in ("x" * 101, "é" * 1_500_000, "\n" * 1000, "😀" * 1000):
        answer = api.one(json.dumps({name: 1}))
        assert len(answer.content) < 10_000
        problem = answer.json()["errors"][2]
        assert (problem["error"], problem["field"]) == (f"Extra field: {name[:100]}", name[:100])


def test_the_last_value_of_a_name_is_reported_among_many_names(api: Api) -> None:
    """The second reading keeps the schema's names and the first 21 other names. It ignores the rest."""
    others = ",".join(f'"x{n}":{n},"X{n}":[{n}]' for n in range(2000))
    quoted = r'"\"\u0000\u00e9":'
    body = f'{{"x1":1,{quoted}1,{others},"x0":null,{quoted}"last","timestamp":1,"timestamp":true}}'
    answer = api.one(body).json()
    assert answer["truncated"] is True
    assert [(each["field"], each["received"]) for each in answer["errors"]] == [
        ("timestamp", "boolean"),
        ("context", "nothing"),
        ("x1", "number"),
        ('"\0é', "string"),
        ("x0", "null"),
        ("X0", "array"),
        ("X1", "array"),
        *((f"{x}{n}", received) for n in range(2, 9) for x, received in (("x", "number"), ("X", "array"))),
    ][:20]


def test_names_beyond_those_of_an_answer_cost_no_python_calls() -> None:
    calls = 0

    def note(*_: object) -> None:
        nonlocal calls
        calls += 1

    body = names(lambda n: b'"x%d":%d' % (n, n), 100_000)
    sys.setprofile(note)
    try:
        with pytest.raises(ApiError):
            validate_one(SCHEMA, body)
    finally:
        sys.setprofile(None)
    assert calls < 10_000  # the check of the bytes makes a few calls for each 64 KB


def test_body_with_too_many_elements_is_refused(api: Api, project: Project) -> None:
    api.dataset = services.create_dataset(project=project, name="Lists", fields=list(LISTS.fields))
    assert api.one(lists(numbers=most(b"1", b"2"))).status_code == 202
    answer = api.one(lists(numbers=most(b"1", b"2"), integers=b"[1,2,3,4,5,6,7,8,9,10,11]"))
    assert (answer.status_code, answer.json()["code"], answer.json()["limit"]) == (413, "body_too_large", 1_000_000)
    assert answer.json()["detail"].startswith("The schema has arrays, so a body may have at most 1,000,000 commas.")


def test_batch_with_too_many_records_is_refused(api: Api) -> None:
    for element in (b"1", b"{}", b"[]", b"[1,2]", b'"],["', b"null", RECORD):
        answer = api.batch(b"[" + b" , ".join([element] * 10_001) + b"]")
        assert (answer.status_code, answer.json()["limit"]) == (413, 10_000), element
        answer = api.batch(b"\n".join([element] * 10_001), content_type="application/x-ndjson")
        assert (answer.status_code, answer.json()["limit"]) == (413, 10_000), element
