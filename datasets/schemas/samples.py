"""Infer fields from sample records, and make a sample record and code snippets from fields."""

import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from django.core.exceptions import ValidationError
from msgspec import Raw

from datasets.schemas.declarations import MAX_FIELDS, check_size
from datasets.schemas.derived_types import type_of
from datasets.schemas.explanations import json_type
from datasets.schemas.field_types import FIELD_TYPES
from datasets.schemas.fields import ALWAYS_THERE, Field, shown

MAX_SAMPLE_RECORDS = 1000
PLACEHOLDER = "YOUR_API_KEY"
_MAX_VALUE_BYTES = 500  # longer values of a sample are left out of snippets


@dataclass(slots=True)
class Inferred:
    """Fields inferred from a sample, for an admin to approve, and notes on what the sample leaves open."""

    fields: list[Field] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def infer(text: str) -> Inferred:
    """Return the fields of one record, an array of records, or NDJSON.

    Raises:
        ValidationError: The text is none of these, or it has too many names.
    """
    inferred = Inferred()
    seen: dict[str, dict[str, int]] = {}
    records = _records(text)
    present: Counter[str] = Counter()
    for number, record in enumerate(records, 1):
        present.update(record.keys())
        for name, value in record.items():
            if name not in ALWAYS_THERE:
                seen.setdefault(name, {}).setdefault(_type_of(bytes(value)), number)
    if len(seen) > MAX_FIELDS:
        raise ValidationError(
            f"The sample has {len(seen)} fields besides timestamp and context. The limit is {MAX_FIELDS}. "
            "Move the others into context."
        )
    for name, types in seen.items():
        known = [each for each in types if each in FIELD_TYPES]
        missing = len(records) - present[name]
        if not known:
            inferred.notes.append(_unknown_type(name, types))
            continue
        # A field that looks like a time in only some records is a string.
        chosen = "string" if set(known) == {"string", "timestamp"} else known[0]
        inferred.fields.append(Field(name, chosen))
        is_text = set(types) <= {"string", "timestamp"}
        others = [] if is_text else [f"{each} in record {types[each]}" for each in types if each != chosen]
        if others:
            inferred.notes.append(
                f"“{shown(name)}” is {chosen} in record {types.get(chosen, 1)}, but {_and(others)}: "
                "a field has one type."
            )
        elif missing:
            inferred.notes.append(
                f"“{shown(name)}” is missing in {missing} of {len(records)} records: every field is required."
            )
    return inferred


def _unknown_type(name: str, types: Collection[str]) -> str:
    """Return the note on a field whose values are of no field type."""
    if set(types) == {"null"}:
        return (
            f"“{shown(name)}” is null in every sample, so its type is unknown. "
            "Add the field yourself, or move it into context."
        )
    return f"“{shown(name)}” is {_and(types)}, which no field type holds. Move it into context."


def _records(text: str) -> list[dict[str, Raw]]:
    """Return at most MAX_SAMPLE_RECORDS records of a sample. Raise ValidationError if it has none."""
    check_size(text)
    body = text.strip().encode(errors="replace")
    try:
        if body[:1] == b"[":
            records = msgspec.json.decode(body, type=list[dict[str, Raw]])
        else:
            try:
                records = [msgspec.json.decode(body, type=dict[str, Raw])]
            except msgspec.DecodeError:
                lines = [line for line in body.split(b"\n") if line.strip()]
                if len(lines) < 2:
                    raise
                records = [msgspec.json.decode(line, type=dict[str, Raw]) for line in lines]
    except (msgspec.DecodeError, RecursionError) as failure:
        raise ValidationError(
            f"This is not a record, an array of records, or one record per line: {failure}."
        ) from failure
    if not records:
        raise ValidationError("The sample has no record.")
    return records[:MAX_SAMPLE_RECORDS]


def _type_of(value: bytes) -> str:
    found = json_type(value)
    return "timestamp" if found == "string" and FIELD_TYPES["timestamp"].accepts(value) else found


def _and(words: Any) -> str:
    return " and ".join(words)


def example_record(fields: Sequence[Field], sample: str = "") -> str:
    """Return a valid record for the fields, as JSON on one line. It has the values of a pasted sample if they fit."""
    record = {"timestamp": "2026-06-10T10:58:00Z", "context": {"source": "example"}}
    types = {each.name: type_of(each) for each in fields}
    record |= {name: each.example for name, each in types.items()}
    types["timestamp"] = FIELD_TYPES["timestamp"]
    for name, value in _first(sample).items():
        if name in types and len(value) <= _MAX_VALUE_BYTES and types[name].accepts(value):
            record[name] = json.loads(value)
    return json.dumps(record, ensure_ascii=False)


def _first(sample: str) -> dict[str, bytes]:
    """Return the values of a sample's first record as JSON texts by name, or nothing if it is not a sample."""
    try:
        return {name: bytes(value) for name, value in _records(sample)[0].items()} if sample.strip() else {}
    except ValidationError:
        return {}


@dataclass(frozen=True, slots=True)
class Snippet:
    """Code in one language that sends a record."""

    language: str
    text: str


def snippets(
    base_url: str, dataset_id: int | str, fields: Sequence[Field], token: str = PLACEHOLDER, sample: str = ""
) -> list[Snippet]:
    """Return code that sends an example record, with the values of a sample if there is one."""
    record = example_record(fields, sample)
    url = f"{base_url}/datasets/{dataset_id}"
    shell = record.replace("'", "'\\''")
    return [
        Snippet(
            "curl",
            f"curl -X POST {url} \\\n  -H 'Authorization: Bearer {token}' \\\n"
            f"  -H 'Content-Type: application/json' \\\n  --data '{shell}'",
        ),
        Snippet("Python", _PYTHON.format(url=url, token=token, record=_python(json.loads(record)))),
        Snippet("JavaScript", _JAVASCRIPT.format(url=json.dumps(url), token=token, record=_indented(record))),
    ]


# It needs only the standard library. It prints a refusal like any other answer.
_PYTHON = """import json, urllib.error, urllib.request

request = urllib.request.Request(
    {url!r},
    headers={{'Authorization': 'Bearer {token}', 'Content-Type': 'application/json'}},
    data=json.dumps({record}).encode(),
)
try:
    answer = urllib.request.urlopen(request)
except urllib.error.HTTPError as refusal:
    answer = refusal
print(answer.status, answer.read().decode())"""
# Without a top-level `await`, which works in modules only, not in scripts.
_JAVASCRIPT = """fetch({url}, {{
  method: 'POST',
  headers: {{ Authorization: 'Bearer {token}', 'Content-Type': 'application/json' }},
  body: JSON.stringify({record}),
}}).then(async (answer) => console.log(answer.status, await answer.text()));"""


def _indented(record: str) -> str:
    return json.dumps(json.loads(record), indent=2, ensure_ascii=False).replace("\n", "\n  ")


def _python(record: dict[str, Any]) -> str:
    rows = "".join(f"        {name!r}: {value!r},\n" for name, value in record.items())
    return f"{{\n{rows}    }}"
