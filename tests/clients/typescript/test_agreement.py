"""The validation of the client and of the service agree on generated records, except in the place of a JSON error.

AGREEMENT_RECORDS=100000 AGREEMENT_SEED=2 .venv/bin/python -m pytest -s tests/clients/typescript/test_agreement.py

compares 100,000 records. The service gets what the client would send for the values of a generated text.
"""

import json
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate, count
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from config.common.errors import ApiError
from datasets.schemas.declarations import parse_fields
from datasets.schemas.derived_types import type_of
from datasets.schemas.schema import CompiledSchema
from ingest.validation.json_text import elements, is_json
from ingest.validation.payloads import validate_one
from tests.clients.typescript.artifact import program
from tests.support.contract.field_types import VALUES
from tests.support.contract.hostile import Question, questions
from tests.support.patterns import patterns
from tests.support.tools import executable

RECORDS = int(os.environ.get("AGREEMENT_RECORDS", "2000"))
SEED = int(os.environ.get("AGREEMENT_SEED", "1"))
_QUESTIONS_AT_ONCE = 500
# docs/api.md does not say what the service answers if the depth of a text is between these two.
MAX_SURE_DEPTH, MIN_REFUSED_DEPTH = 900, 1000
_MARKS = re.compile(r'"(?:[^"\\]|\\.)*"|([\[{])|([\]}])')


def declared(question: Question) -> dict[str, Any]:
    """Return the fields of a test case in the form of a schema."""
    values = list(VALUES)
    items = question.fields.items()
    return {name: {"type": kind, "values": values} if kind.startswith("enum") else kind for name, kind in items}


def records_in(question: Question) -> Iterator[str]:
    """Yield the texts of a body's records. Leave out records that are not UTF-8."""
    bodies = [question.body]
    if question.form == "array" and is_json(question.body) and question.body.lstrip()[:1] == b"[":
        bodies = [*elements(question.body.strip())]
    elif question.form == "lines":
        bodies = [line for line in question.body.split(b"\n") if line.strip()]
    for body in bodies:
        try:
            yield body.decode()
        except UnicodeDecodeError:
            continue


def depth(text: str) -> int:
    """Return how deep a JSON text is nested, or 0 for a text that is too short to be nested too deep."""
    if len(text) < 2 * MAX_SURE_DEPTH:
        return 0
    levels = accumulate(bool(each[1]) - bool(each[2]) for each in _MARKS.finditer(text))
    return max(levels, default=0)


def problems_of_service(schema: CompiledSchema, text: str) -> list[dict[str, Any]]:
    try:
        validate_one(schema, text.encode())
    except ApiError as refusal:
        said: dict[str, Any] = json.loads(json.dumps(refusal.body()))
        found: list[dict[str, Any]] = said.get("errors", [said])
        return found
    return []


def generated(number: int) -> list[tuple[dict[str, Any], list[str]]]:
    """Return schemas with the texts of records. The same seed gives the same texts."""
    made: list[tuple[dict[str, Any], list[str]]] = []
    asking = settings(
        max_examples=_QUESTIONS_AT_ONCE,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    keep = given(questions())(lambda question: made.append((declared(question), [*records_in(question)])))
    seed(number)(asking(keep))()
    return made


def examined_by_client(asked: list[tuple[dict[str, Any], list[str]]]) -> list[list[dict[str, Any] | None]]:
    """Return, for each record, the text that the client would send, and the problems.

    Return None for a record whose value does not exist in JavaScript.
    """
    script = shutil.copy(Path(__file__).with_name("examine.mjs"), program())
    lines = "".join(json.dumps({"fields": fields, "texts": texts}) + "\n" for fields, texts in asked)
    done = subprocess.run([executable("node"), script], input=lines, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.rstrip("\n").split("\n")]


def test_client_and_service_agree_on_generated_records() -> None:
    tally: Counter[str] = Counter()
    for number in count(SEED * 1_000_000):
        asked = generated(number)
        for (fields, texts), answers in zip(asked, examined_by_client(asked), strict=True):
            schema = CompiledSchema(1, parse_fields({"fields": fields}))
            for text, answer in zip(texts, answers, strict=True):
                if answer is None or MAX_SURE_DEPTH < depth(answer["sent"]) < MIN_REFUSED_DEPTH:
                    continue
                said = problems_of_service(schema, answer["sent"])
                code = said[0]["code"] if said else "accepted"
                if code == "invalid_json":  # the client does not name the line and the column
                    assert [each["code"] for each in answer["problems"]] == [code], text
                else:
                    assert answer["problems"] == said, text
                tally[code] += 1
        if tally.total() >= RECORDS:
            break
    print(f"\nagreement: {dict(tally)}")
    assert {"accepted", "invalid_field", "invalid_timestamp", "extra_field", "missing_field"} <= set(tally)


def test_client_refuses_no_text_that_matches_a_pattern_in_the_service() -> None:
    asked = [*patterns(seed=SEED, count=2000)]
    base = {"timestamp": "2026-01-01T00:00:00Z", "context": {}}
    records = [
        (
            {"value": {"type": "string", "pattern": field.pattern}},
            [json.dumps({**base, "value": each}) for each in texts],
        )
        for field, texts in asked
    ]
    checked = 0
    for (field, texts), answers in zip(asked, examined_by_client(records), strict=True):
        accepted = {text for text in texts if type_of(field).accepts(json.dumps(text).encode())}
        refused = {text for text, answer in zip(texts, answers, strict=True) if answer and answer["problems"]}
        assert not accepted & refused, field.pattern
        assert not refused or accepted | refused == set(texts), field.pattern  # the client checks all texts, or none
        checked += bool(refused)
    assert checked > 100
