"""Constraints: which values meet them, which do not, and what the answer says."""

import json
import random
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema_rs
import pytest

from datasets import services
from datasets.models import Dataset, Project
from datasets.schemas.derived_types import type_of
from datasets.schemas.fields import Field
from tests.conftest import Api, stored
from tests.support.patterns import patterns
from tests.support.tools import executable

STAMP = "2026-01-01T00:00:00Z"
WHEN = "RFC 3339 date-time with an offset"
# A field -> what the answer expects -> values that meet the constraints -> values that do not, with the detail.
CASES: list[tuple[Field, str, list[Any], dict[str, str]]] = [
    (Field("n", "number", minimum=0), "number, at least 0", [0, -0.0, 1e300], {"-0.1": "It is less than 0."}),
    (
        Field("n", "number", minimum=-1.5, maximum=2),
        "number, at least -1.5, at most 2",
        [-1.5, 2, 2.0],
        {"-1.6": "It is less than -1.5.", "2.001": "It is more than 2.",
         "1e309": "It is beyond the range of a double."},
    ),
    (
        Field("n", "integer", minimum=0, maximum=2**63 - 1),
        "integer, at least 0, at most 9223372036854775807",
        [0, 2**63 - 1],
        {"-1": "It is less than 0.",
         str(2**63): f"It is beyond 64 bits: an integer is {-(2**63)} to {2**63 - 1}."},
    ),
    (Field("n", "integer", maximum=5), "integer, at most 5", [5, -(2**63)], {"6": "It is more than 5."}),
    (
        Field("n", "decimal(5,2)", minimum="0.01", maximum=99.5),
        "decimal(5,2), as a number or a string, at least 0.01, at most 99.5",
        ["0.01", 0.01, "99.50", 99],
        {"0": "It is less than 0.01.", '"99.51"': "It is more than 99.5.",
         "0.001": "It has more than 2 digits after the point, and nothing is rounded."},
    ),
    (
        Field("n", "date", minimum="2026-01-01", maximum="2026-12-31"),
        "RFC 3339 full-date, at least 2026-01-01, at most 2026-12-31",
        ["2026-01-01", "2026-12-31"],
        {'"2025-12-31"': "It is less than 2026-01-01.", '"2027-01-01"': "It is more than 2026-12-31.",
         '"20260101"': "It is not like 2026-06-10: a date has no time of day and no offset."},
    ),
    (
        Field("n", "timestamp", minimum=STAMP),
        f"{WHEN}, at least {STAMP}",
        [STAMP, "2026-01-01T01:00:00+01:00", "9999-12-31T23:59:59.999999Z", "2025-12-31T23:59:59.9999999Z"],
        {'"2025-12-31T23:59:59.999999Z"': f"It is less than {STAMP}.",
         '"2026-06-10 00:00:00Z"': "A T must stand between date and time, not a space.",
         '"2026-06-10T00:00:00+0000"': "The offset needs a colon, like +02:00."},
    ),
    (
        Field("n", "string", min_length=1, max_length=3),
        "string, at least 1 character, at most 3 characters",
        ["a", "äöü", "😀😀😀"],
        {'""': "It has fewer than 1 character.", '"abcd"': "It has more than 3 characters."},
    ),
    (
        Field("n", "string", max_length=1000, pattern="^[A-Z]{2}[0-9]+$"),
        "string, at most 1000 characters, matching ^[A-Z]{2}[0-9]+$",
        ["RO1", "RO" + "1" * 998],
        {'"ro1"': "It does not match the pattern.", '"RO1\\n"': "It does not match the pattern.",
         json.dumps("RO" + "1" * 999): "It has more than 1000 characters."},
    ),
    (
        Field("n", "string", max_length=9, pattern="ä|😀"),  # may match any part of the text
        "string, at most 9 characters, matching ä|😀",
        ["xäx", "😀"],
        {'"a"': "It does not match the pattern."},
    ),
    (
        Field("n", "string[]", min_length=1, max_length=2),
        "array, each element: string, at least 1 element, at most 2 elements",
        [["a"], ["a", "b"]],
        {"[]": "It has fewer than 1 element.", '["a","b","c"]': "It has more than 2 elements.",
         "[1]": "Element 0, counted from 0: expected string, received number."},
    ),
    (Field("n", "timestamp[]", max_length=1), f"array, each element: {WHEN}, at most 1 element", [[], [STAMP]], {
        f'["{STAMP}","{STAMP}"]': "It has more than 1 element.",
        '["2026-06-10 00:00:00Z"]': "Element 0, counted from 0: A T must stand between date and time, not a space.",
    }),
]  # fmt: skip
BASE: dict[str, Any] = {"timestamp": "2026-06-10T10:58:00Z", "context": {}}


@pytest.mark.parametrize("optional", [False, True], ids=["required", "optional"])
@pytest.mark.parametrize(("field", "expected", "kept", "broken"), CASES, ids=[case[1][:40] for case in CASES])
def test_a_value_must_keep_the_constraints(
    api: Api, project: Project, field: Field, expected: str, kept: list[Any], broken: dict[str, str], optional: bool
) -> None:
    said = Field.from_json(field.as_json() | {"optional": optional})
    dataset = services.create_dataset(project=project, name="Constrained", fields=[said])
    api.dataset = dataset
    assert api.batch([BASE | {"n": value} for value in kept]).status_code == 202
    if optional:
        assert api.batch([BASE, BASE | {"n": None}]).status_code == 202
    assert len(stored(dataset)) == len(kept) + (2 if optional else 0)
    for text, detail in broken.items():
        record = json.dumps(BASE)[:-1] + f', "n": {text}}}'
        told = [api.one(record).json(), api.batch(f"[{record}]").json()]
        for each in told:
            assert each["error"] == f"Invalid {field.type} field: n", text
            assert each["expected"] == expected + (", or null" if optional else "")
            assert each["detail"] == detail, text


def test_examples_keep_the_constraints() -> None:
    for field, *_ in CASES:
        kind = type_of(field)
        if field.pattern is None:
            assert kind.accepts(json.dumps(kind.example).encode()), field
    for field in (
        Field("n", "string", min_length=50),
        Field("n", "integer[]", min_length=3),
        Field("n", "number", minimum=100),
    ):
        kind = type_of(field)
        assert kind.accepts(json.dumps(kind.example).encode()), field


def test_json_schema_has_the_constraints() -> None:
    for field, _, kept, broken in CASES:
        validator = jsonschema_rs.validator_for(dict(type_of(field).json_schema), validate_formats=True)
        assert all(map(validator.is_valid, kept)), field
        if field.type not in ("date", "timestamp", "decimal(5,2)"):  # JSON Schema has no limits of strings
            found = {text: validator.is_valid(json.loads(text)) for text in broken}
            assert not any(found.values()), (field, found)
    assert type_of(Field("n", "decimal(5,2)", minimum=0)).json_schema["minimum"] == 0
    for pattern in ("(?i)x", r"\Ax\z", r"\pL", "[[:alpha:]]", r"\Q.\E"):
        assert "pattern" not in type_of(Field("n", "string", max_length=9, pattern=pattern)).json_schema


def test_patterns_of_the_json_schema_match_the_same_texts() -> None:
    script = """
        const asked = JSON.parse(require("node:fs").readFileSync(0));
        const matched = asked.map(([pattern, texts]) => texts.map((text) => RegExp(pattern, "u").test(text)));
        console.log(JSON.stringify(matched));
    """
    exported = [
        (field, found, texts)
        for field, texts in patterns(seed=1, count=3000)
        if (found := type_of(field).json_schema.get("pattern")) is not None
    ]
    asked = json.dumps([each[1:] for each in exported])
    done = subprocess.run([executable("node"), "-e", script], input=asked, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for (field, found, texts), matched in zip(exported, json.loads(done.stdout), strict=True):
        accepted = [type_of(field).accepts(json.dumps(text).encode()) for text in texts]
        assert dict(zip(texts, accepted, strict=True)) == dict(zip(texts, matched, strict=True)), (field.pattern, found)
    assert len(exported) > 500


@pytest.mark.parametrize(
    ("pattern", "exported"),
    [
        (r"^.\S.$", r"^[^\n][^\t\n\f\r ][^\n]$"),
        (r"^[A-Z]{2}-\d+(?:\.[\w.+-]+)?\b", r"^[A-Z]{2}-\d+(?:\.[\w.+-]+)?\b"),
        (r"[^\s_\_]\-\_", r"[^\t\n\f\r __]-_"),
        *((pattern, None) for pattern in (r"\B", "[][a]", "^*a", "a{02}", r"[^\S]", "[a[:alpha:]]", r"(?s)a", r"a\0")),
    ],
)
def test_the_json_schema_has_a_pattern_if_it_can(pattern: str, exported: str | None) -> None:
    found = type_of(Field("n", "string", max_length=9, pattern=pattern)).json_schema
    assert found.get("pattern") == exported


def test_no_pattern_can_hang_a_worker(api: Api, dataset: Dataset, project: Project) -> None:
    """Python's re would need longer than the age of the universe for the first pattern."""
    patterns = ["^(a+)+$", "^(a|aa)*$", "^(.*a){20}$", "1[01]{0,200}0[01]{0,200}z"]
    fields = [Field(f"p{n}", "string", max_length=1000, pattern=pattern) for n, pattern in enumerate(patterns)]
    dataset = services.create_dataset(project=project, name="Patterns", fields=fields)
    api.dataset = dataset
    texts = ["a" * 999 + "!", "a" * 999 + "!", "b" * 1000, "10" * 500]
    record = BASE | {f"p{n}": text for n, text in enumerate(texts)}
    began = time.process_time()
    answer = api.one(record)
    assert time.process_time() - began < 1
    assert [each["field"] for each in answer.json()["errors"]] == ["p0", "p1", "p2", "p3"]


def test_other_requests_are_answered_while_slow_patterns_are_checked(
    api: Api, dataset: Dataset, project: Project
) -> None:
    field = Field("p", "string", max_length=1000, pattern="1[01]{0,200}0[01]{0,200}z")
    api.dataset = services.create_dataset(project=project, name="Slow", fields=[field])
    texts = random.Random(1)  # random texts, because RE2 is faster with repetitive ones
    batch = json.dumps([BASE | {"p": "".join(texts.choices("01", k=999)) + "z"} for _ in range(200)])
    assert len(batch) < 256 * 1024, "a large body is checked in a thread with every schema"
    other, waits = Api(None), [0.0]
    assert other.request("GET", "/healthz").status_code == 200
    with ThreadPoolExecutor(1) as pool:
        began = time.monotonic()
        slow = pool.submit(api.batch, batch)
        while not slow.done():
            asked = time.monotonic()
            assert other.request("GET", "/healthz").status_code == 200
            waits.append(time.monotonic() - asked)
        took = time.monotonic() - began
    assert slow.result().status_code == 202
    assert max(waits) < 0.75 * took, (max(waits), took)  # 0.9 if the event loop is blocked


def test_a_body_whose_patterns_need_seconds_is_refused(api: Api, project: Project) -> None:
    """Each record of a lenient batch is checked. Other batches are only checked until the answer is full."""
    field = Field("p", "string", max_length=1000, pattern="[a😀][ab😀😁]{120}c")
    api.dataset = services.create_dataset(project=project, name="Slow", fields=[field])
    texts = random.Random(1)
    records = [BASE | {"p": "".join(texts.choices("a😀😁b", k=1000))} for _ in range(3000)]
    began = time.process_time()
    answer = api.batch(json.dumps(records, ensure_ascii=False), Prefer="handling=lenient")
    assert time.process_time() - began < 4
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert "The schema's patterns need more than 2 seconds for this body." in answer.json()["detail"]
    few = api.batch(json.dumps(records[:10], ensure_ascii=False))
    assert few.json()["detail"] == "It does not match the pattern."


def test_constraints_change_freely_and_old_records_stay(api: Api, project: Project) -> None:
    """Records that were queued under the old constraints are stored."""
    dataset = services.create_dataset(project=project, name="Changes", fields=[Field("n", "number")])
    api.dataset = dataset
    assert api.one(BASE | {"n": -1}).status_code == 202
    services.save_dataset(dataset, fields=[Field("n", "number", minimum=0)])
    assert api.one(BASE | {"n": -1}).status_code == 400
    assert api.one(BASE | {"n": 1}).status_code == 202
    services.save_dataset(dataset, fields=[Field("n", "number", maximum=0)])
    assert api.one(BASE | {"n": -2}).status_code == 202
    assert [row["n"] for row in stored(dataset)] == [-1, 1, -2]
