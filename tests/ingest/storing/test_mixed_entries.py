"""Entries whose records are of two schema versions: stored once, from quarantine and under new IDs, too."""

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from hypothesis import given, settings
from hypothesis import strategies as st

from config.common import redis
from config.common.errors import ApiError
from datasets.models import Dataset
from datasets.schemas.fields import Field
from datasets.schemas.schema import CompiledSchema
from ingest.models import QuarantinedEntry
from ingest.queue import redis_keys, stream
from ingest.queue.formats import Earlier
from ingest.queue.stream import Entry
from ingest.storing import drain as drains
from ingest.storing import editing, ledger, quarantine
from ingest.storing.conversion import Version, convert
from ingest.storing.drain import drain
from ingest.validation.payloads import validate_array, validate_lines, validate_one
from tests.conftest import FIELDS, Api, record, stored
from tests.ingest.api.test_grace import NEW, OLD, latest, publish
from tests.support.entries import generation, let_the_lock_expire

MIXED = [NEW, OLD, NEW]
VERSIONS = [2, 1, 2]


def versions(dataset: Dataset) -> list[object]:
    return [row["__schemaVersion"] for row in stored(dataset)]


def damage(dataset: Dataset, **fields: Any) -> None:
    """Replace fields of the stream's only entry."""
    key = redis_keys.stream(dataset.pk)
    ((stream_id, before),) = redis.client().xrange(key)
    redis.client().delete(key)
    redis.client().xadd(key, {**before, **{name.encode(): value for name, value in fields.items()}}, id=stream_id)


def held(dataset: Dataset) -> QuarantinedEntry:
    drain(dataset.pk)
    return QuarantinedEntry.objects.get(state=QuarantinedEntry.State.HELD)


def test_repeated_drain_writes_the_same_rows_once(api: Api, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(dataset)
    api.batch(MIXED)

    def die(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(drains, "_trim", die)
        with pytest.raises(ZeroDivisionError):
            drain(dataset.pk)
    let_the_lock_expire(dataset)
    assert versions(dataset) == VERSIONS
    assert ledger.balance(dataset).adds_up


def test_entry_is_stored_after_later_changes_of_the_schema(api: Api, dataset: Dataset) -> None:
    publish(dataset)
    api.batch(MIXED)
    api.batch([OLD] * 2)
    publish(dataset, [Field("other", "string")])
    assert versions(dataset) == [*VERSIONS, 1, 1]


@pytest.mark.parametrize("marks", ["010", "1", "0101", "x", ""])
def test_quarantined_entry_keeps_its_versions_for_the_replay(api: Api, dataset: Dataset, marks: str) -> None:
    publish(dataset)
    api.batch(MIXED)
    earlier = latest(dataset).previous()
    assert earlier is not None
    body = json.dumps(MIXED) if marks != "010" else json.dumps([NEW, {**OLD, "amount": "x"}, NEW])
    damage(dataset, b=body, e=f"{earlier.pk} {marks}")
    entry = held(dataset)
    if marks != "010":
        QuarantinedEntry.objects.filter(pk=entry.pk).update(earlier=f"{earlier.pk} 010")
        entry.refresh_from_db()
    assert entry.earlier == f"{earlier.pk} 010"
    QuarantinedEntry.objects.filter(pk=entry.pk).update(body=json.dumps(MIXED).encode())
    assert quarantine.replay(QuarantinedEntry.objects.get(pk=entry.pk))
    assert versions(dataset) == VERSIONS
    assert ledger.balance(dataset).adds_up


def test_edited_body_is_checked_against_both_versions(api: Api, dataset: Dataset, owner: User) -> None:
    publish(dataset)
    api.batch(MIXED)
    damage(dataset, b=json.dumps([NEW, {**OLD, "amount": "x"}, NEW]))
    entry = held(dataset)
    assert [reason.partition(":")[0] for reason in editing.explain(entry)] == ["Record 2"] * 2
    ((version, label),) = editing.versions(entry)
    assert label == "version 2 or version 1 (this entry's versions)"
    editing.edit(entry, json.dumps([OLD, NEW, OLD]), version, owner, seen=0)
    assert editing.explain(entry) == ["The body matches the schema, so the cause may be gone. Replay the entry."]
    assert quarantine.replay(entry)
    assert versions(dataset) == [1, 2, 1]


@pytest.mark.parametrize("record_of", [OLD, NEW])
def test_edit_may_leave_records_of_one_version(
    api: Api, dataset: Dataset, owner: User, record_of: dict[str, Any]
) -> None:
    publish(dataset)
    api.batch(MIXED)
    damage(dataset, b=json.dumps([{}] * 3))
    entry = held(dataset)
    editing.edit(entry, json.dumps([record_of] * 3), editing.versions(entry)[0][0], owner, seen=0)
    assert entry.earlier == ""
    assert quarantine.replay(entry)
    assert versions(dataset) == [1 if record_of is OLD else 2] * 3


def test_renumbered_entry_keeps_its_versions(api: Api, dataset: Dataset) -> None:
    publish(dataset)
    api.batch(MIXED)
    ((stream_id, _),) = redis.client().xrange(redis_keys.stream(dataset.pk))
    (entry,) = stream.read(dataset.pk, generation())
    stream.renumber(dataset.pk, generation(), entry)
    (moved,) = stream.read(dataset.pk, generation())
    assert (moved.stream_id != stream_id.decode(), moved.earlier) == (True, entry.earlier)
    assert versions(dataset) == VERSIONS


def test_bad_entries_among_mixed_ones_are_found(api: Api, dataset: Dataset) -> None:
    publish(dataset)
    for at in range(5):
        if at == 2:
            api.batch([NEW, OLD, OLD])
            ids = redis.client().xrevrange(redis_keys.stream(dataset.pk), count=1)
            fields = {**ids[0][1], b"b": b"[{},{},{}]"}
            redis.client().xdel(redis_keys.stream(dataset.pk), ids[0][0])
            redis.client().xadd(redis_keys.stream(dataset.pk), fields)
        else:
            api.batch(MIXED)
    assert versions(dataset) == VERSIONS * 4
    assert QuarantinedEntry.objects.get().count == 3


# -- validation and drain agree -----------------------------------------------------------------------

NAMES = ("a", "b", "c")
KINDS = {"a": "string", "b": "number", "c": "timestamp"}
VALUES: dict[str, list[str]] = {
    "a": ['"x"', "1", "null", '"2026-06-10T10:58:00Z"'],
    "b": ["1", "1.5e3", '"1"', "1e999", "true"],
    "c": ['"2026-06-10T10:58:00Z"', '"2026-06-10 10:58:00Z"', '"2026-06-10T10:58:00+0000"', '"x"'],
}
schemas = st.sets(st.sampled_from(NAMES)).map(sorted)


@st.composite
def records(draw: st.DrawFn) -> str:
    """Return a record with some of the fields, some of them wrong, some twice."""
    members = ['"timestamp": "2026-06-10T10:58:00Z"', '"context": {}']
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=4)):
        values = VALUES[name] if draw(st.booleans()) else VALUES[name][:1]
        members.append(f'"{name}": {draw(st.sampled_from(values))}')
    return "{" + ", ".join(members) + "}"


def accepts(schema: CompiledSchema, text: str) -> bool:
    """Return whether a request with only this record is accepted, without a grace period."""
    try:
        validate_one(schema, text.encode())
    except ApiError:
        return False
    return True


@settings(max_examples=150, deadline=None)
@given(schemas, schemas, st.lists(records(), min_size=1, max_size=6), st.booleans())
def test_rows_are_of_the_latest_version_that_the_record_matches(
    new: list[str], old: list[str], texts: list[str], as_lines: bool
) -> None:
    later, earlier = (CompiledSchema(pk, [Field(n, KINDS[n]) for n in names]) for pk, names in ((7, new), (5, old)))
    expected = [2 if accepts(later, text) else 1 if accepts(earlier, text) else None for text in texts]
    body = "\n".join(texts) if as_lines else f"[{', '.join(texts)}]"
    validate = validate_lines if as_lines else validate_array
    try:
        payload = validate(later, body.encode(), earlier=earlier)
    except ApiError:
        assert None in expected
        return
    taken = payload.earlier
    entry = Entry(
        "1-0",
        payload.body,
        payload.format,
        payload.count,
        5 if taken and taken.has_all else 7,
        "t",
        "1-0",
        len(payload.body),
        earlier=Earlier.read(taken.text) if taken and not taken.has_all else None,
    )
    found = convert(Dataset(pk=1, project_id=1), {7: Version(2, later), 5: Version(1, earlier)}, {}, [entry])
    assert found.failures == []
    assert found.rows is not None
    rows = sorted(found.rows.to_pylist(), key=lambda row: row["id"])
    assert [row["__schemaVersion"] for row in rows] == expected
    assert [row["id"][-5:] for row in rows] == [f"{n:05}" for n in range(len(texts))]
    for row, text in zip(rows, texts, strict=True):
        names = set(new if row["__schemaVersion"] == 2 else old)
        sent = json.loads(text)
        assert {name for name in NAMES if row.get(name) is not None} == names
        assert all(row[name] == sent[name] for name in names & {"a", "b"})


def test_marks_are_read_as_they_were_written() -> None:
    marked = Earlier.of(12, [True, False, True])
    assert marked is not None
    assert (marked.count, marked.has_all, Earlier.read(marked.text)) == (2, False, marked)
    assert Earlier.of(12, [False]) is None
    assert [Earlier.read(text) for text in ("", "12", "12 ", "x 1", "12 2", "0 1")] == [None] * 6


def test_fields_of_both_versions_are_columns(api: Api, dataset: Dataset) -> None:
    publish(dataset, [*FIELDS[:2], Field("other", "string")])
    other = {
        name: value for name, value in record(other="x").items() if name in ("timestamp", "context", "country", "plan")
    }
    api.batch([{**other, "other": "x"}, OLD])
    found = [(row["other"], row["amount"], row["__schemaVersion"]) for row in stored(dataset)]
    assert found == [("x", None, 2), (None, 42.5, 1)]
