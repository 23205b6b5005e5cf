"""A grace period: records of the previous version are accepted until its end, and each row names its version."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from pytest_django import Settings

from config.common import clock
from config.common.cluster.key_tags import NO_TAG
from datasets import services
from datasets.contracts import old_form, revisions
from datasets.contracts.keys import issue_token
from datasets.models import ApiKey, Dataset, Project, SchemaVersion
from datasets.schemas.fields import Field
from ingest.queue.redis_clock import RedisClock
from quotas.services import current as usage
from tests.conftest import FIELDS, Api, record, stored
from tests.support.entries import in_stream
from tests.support.servers.outages import commands_sent

WIDER = [*FIELDS, Field("source", "string")]
NDJSON = "application/x-ndjson"
OLD, NEW, BAD = record(country="old"), record(country="new", source="web"), record(country="bad", amount="x")


def publish(dataset: Dataset, fields: list[Field] = WIDER, **grace: float) -> datetime:
    """Publish a version with a grace period of this length, by default an hour. Return the end of the grace period."""
    until = clock.now() + timedelta(**grace or {"hours": 1})
    services.save_dataset(dataset, fields=fields, previous_valid_until=until)
    return until


def latest(dataset: Dataset) -> SchemaVersion:
    return dataset.versions.order_by("-number")[0]


def rows(dataset: Dataset) -> list[tuple[Any, ...]]:
    """Return the name, the value of the new field and the version of each row."""
    return [(row["country"], row["source"], row["__schemaVersion"]) for row in stored(dataset)]


def senders(dataset: Dataset) -> list[tuple[str, int]]:
    return [(str(each.key), each.records) for each in old_form.senders(latest(dataset))]


def lines(*records: dict[str, Any]) -> str:
    return "\n".join(map(json.dumps, records))


# -- which version accepts a record -------------------------------------------------------------------


def test_both_forms_are_accepted_and_rows_name_their_version(api: Api, dataset: Dataset) -> None:
    publish(dataset)
    assert [api.one(each).status_code for each in (OLD, NEW)] == [202, 202]
    assert api.batch([OLD] * 2).json()["count"] == 2
    assert api.batch([NEW] * 2).json()["count"] == 2
    old, new = ("old", None, 1), ("new", "web", 2)
    assert rows(dataset) == [old, new, old, old, new, new]
    assert in_stream(dataset) == 0


def test_without_a_grace_period_the_old_form_is_refused(api: Api, dataset: Dataset) -> None:
    services.save_dataset(dataset, fields=WIDER)
    assert api.one(OLD).json()["error"] == "Missing field: source"
    assert latest(dataset).previous_valid_until is None


@pytest.mark.parametrize("form", ["array", "lines"])
@pytest.mark.parametrize("large", [False, True])
def test_batch_may_mix_both_forms(api: Api, dataset: Dataset, form: str, large: bool) -> None:
    publish(dataset)
    mixed = [NEW, OLD, OLD, NEW, OLD] * (600 if large else 1)
    sent = api.batch(lines(*mixed), content_type=NDJSON) if form == "lines" else api.batch(mixed)
    assert (sent.status_code, sent.json()["count"]) == (202, len(mixed))
    found = rows(dataset)
    assert found == [("new", "web", 2) if each is NEW else ("old", None, 1) for each in mixed]


def test_a_record_that_matches_both_versions_is_of_the_latest(api: Api, dataset: Dataset) -> None:
    described = [Field(field.name, field.type, "described") for field in FIELDS]
    publish(dataset, described)
    api.batch([OLD] * 2)
    assert [row["__schemaVersion"] for row in stored(dataset)] == [2, 2]
    assert senders(dataset) == []


def test_removed_field_is_accepted_and_stored_in_the_grace_period(api: Api, dataset: Dataset) -> None:
    publish(dataset, FIELDS[:1])
    without = {name: OLD[name] for name in ("timestamp", "context", "country")}
    assert api.batch([OLD, without]).status_code == 202
    assert [(row["plan"], row["__schemaVersion"]) for row in stored(dataset)] == [("pro", 1), (None, 2)]


@pytest.mark.parametrize(
    ("before", "after", "old", "new"),
    [
        (Field("x", "string", optional=True), Field("x", "string"), None, "a"),
        (Field("x", "number"), Field("x", "number", maximum=10.0), 11, 9),
        (Field("x", "string"), Field("x", "string", pattern="a+"), "b", "aa"),
        (Field("x", "enum", values=("a", "b")), Field("x", "enum", values=("a",)), "b", "a"),
    ],
    ids=["required", "maximum", "pattern", "enum"],
)
def test_value_that_only_the_version_before_allows(
    api: Api, dataset: Dataset, before: Field, after: Field, old: object, new: object
) -> None:
    services.save_dataset(dataset, fields=[*FIELDS, before])
    publish(dataset, [*FIELDS, after])
    mixed = [record(x=old), record(x=new), record(x=old)]
    assert [api.one(mixed[0]).status_code, api.batch(mixed).status_code] == [202, 202]
    assert [(row["x"], row["__schemaVersion"]) for row in stored(dataset)] == [(old, 2), (old, 2), (new, 3), (old, 2)]
    assert senders(dataset) == [("tests", 3)]
    services.end_grace(latest(dataset))
    assert [api.one(each).status_code for each in mixed] == [400, 202, 400]


def test_only_the_version_directly_before_stays_valid(api: Api, dataset: Dataset) -> None:
    publish(dataset)
    widest = [*WIDER, Field("target", "string")]
    publish(dataset, widest)
    assert api.one(OLD).json()["error"] == "Missing field: source"
    assert api.one(NEW).status_code == 202
    assert api.one({**NEW, "target": "x"}).status_code == 202
    assert [version for _, _, version in rows(dataset)] == [2, 3]
    services.save_dataset(dataset, fields=WIDER)
    assert api.one({**NEW, "target": "x"}).json()["error"] == "Extra field: target"


def test_name_that_occurs_twice_counts_with_its_last_value(api: Api, dataset: Dataset) -> None:
    publish(dataset)
    twice = json.dumps(OLD).replace('"amount":', '"amount": "x", "amount":')
    assert api.batch(f"[{twice}, {json.dumps(NEW)}]").status_code == 202
    assert [(row["amount"], row["__schemaVersion"]) for row in stored(dataset)] == [(42.5, 1), (42.5, 2)]


# -- refusals -----------------------------------------------------------------------------------------


def test_errors_are_those_of_the_latest_version(api: Api, dataset: Dataset) -> None:
    publish(dataset)
    for answer in (api.one(BAD), api.post(f"/datasets/{dataset.pk}/validate", BAD)):
        assert answer.status_code == 400
        problems = [each["error"] for each in answer.json()["errors"]]
        assert problems == ["Missing field: source", "Invalid number field: amount"]


def test_a_refused_batch_names_records_that_match_neither_version(api: Api, dataset: Dataset) -> None:
    publish(dataset)
    for answer in (api.batch([OLD, NEW, BAD]), api.batch(lines(OLD, NEW, BAD), content_type=NDJSON)):
        assert answer.status_code == 400
        assert {each["index"] for each in answer.json()["errors"]} == {2}
    assert in_stream(dataset) == 0
    assert senders(dataset) == []


def test_an_array_is_still_not_a_single_record(api: Api, dataset: Dataset) -> None:
    publish(dataset)
    assert api.one([OLD]).json()["error"] == "Payload must be an object"
    assert api.batch("[]").json()["error"] == "Batch body must be a non-empty array"
    assert api.batch("[{]").json()["error"] == "Invalid JSON body"


@pytest.mark.parametrize("form", ["array", "lines"])
def test_lenient_batch_accepts_both_forms(api: Api, dataset: Dataset, form: str) -> None:
    publish(dataset)
    mixed = [BAD, OLD, NEW, BAD, OLD]
    body, kind = (lines(*mixed), NDJSON) if form == "lines" else (json.dumps(mixed), "application/json")
    answer = api.batch(body, content_type=kind, Prefer="handling=lenient")
    assert (answer.json()["count"], answer.json()["rejected"]) == (3, 2)
    assert {each["index"] for each in answer.json()["errors"]} == {0, 3}
    assert rows(dataset) == [("old", None, 1), ("new", "web", 2), ("old", None, 1)]


def test_validate_follows_the_same_rule(api: Api, dataset: Dataset) -> None:
    publish(dataset)
    path = f"/datasets/{dataset.pk}/validate"
    assert [api.post(path, each).status_code for each in (OLD, NEW, [OLD, NEW], [OLD, BAD])] == [200, 200, 200, 400]
    assert api.post(path, lines(OLD, NEW), content_type=NDJSON).json() == {"valid": True, "count": 2}
    assert senders(dataset) == []


# -- the end ------------------------------------------------------------------------------------------


def test_clock_ends_a_grace_period(api: Api, dataset: Dataset) -> None:
    until = publish(dataset, seconds=0.8)
    answers = [api.one(OLD)]
    while answers[-1].status_code == 202:
        answers.append(api.one(OLD))
    assert len(answers) > 1
    assert answers[-1].json()["error"] == "Missing field: source"
    assert api.one(NEW).status_code == 202
    found = stored(dataset)
    assert [row["__schemaVersion"] for row in found] == [1] * (len(answers) - 1) + [2]
    assert all(row["ingested_at"] < until for row in found[:-1])


def test_admin_ends_a_grace_period(api: Api, dataset: Dataset) -> None:
    publish(dataset)
    assert api.one(OLD).status_code == 202
    services.end_grace(latest(dataset))
    for answer in (api.one(OLD), api.batch([NEW, OLD]), api.post(f"/datasets/{dataset.pk}/validate", OLD)):
        assert answer.json()["error"] == "Missing field: source"
    assert api.one(NEW).status_code == 202
    assert rows(dataset) == [("old", None, 1), ("new", "web", 2)]


@pytest.mark.parametrize("ahead", [-7200, 7200])
def test_redis_clock_decides_and_not_the_web_process(
    api: Api, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    publish(dataset)
    there = clock.seconds
    monkeypatch.setattr(clock, "seconds", lambda: there() + ahead)
    monkeypatch.setattr(RedisClock, "ahead_ms", {})
    assert api.one(OLD).status_code == 202
    end_at(dataset, datetime.fromtimestamp(there() - 1, UTC))
    assert api.one(OLD).status_code == 400


def test_a_process_with_a_wrong_time_accepts_nothing(
    api: Api, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process believes that the grace period has not ended. `admit.lua` uses the right time."""
    publish(dataset)
    end_at(dataset, clock.now() - timedelta(milliseconds=1))
    monkeypatch.setattr(RedisClock, "ahead_ms", {NO_TAG: -800.0})
    assert api.batch([NEW, OLD]).json()["error"] == "Missing field: source"
    assert in_stream(dataset) == 0


def end_at(dataset: Dataset, moment: datetime) -> None:
    """Set the end of the grace period, even to a time in the past."""
    version = latest(dataset)
    with revisions.changing(dataset.project_id):
        SchemaVersion.objects.filter(pk=version.pk).update(previous_valid_until=moment)


def test_revoked_key_is_refused_in_a_grace_period(api: Api, key: ApiKey, dataset: Dataset) -> None:
    publish(dataset)
    assert api.one(OLD).status_code == 202
    services.revoke_key(key)
    assert (api.one(OLD).status_code, api.one(NEW).status_code) == (401, 401)


def test_a_retry_gets_its_first_answer_after_the_end(api: Api, dataset: Dataset, project: Project) -> None:
    publish(dataset)
    first = api.batch([NEW, OLD], Idempotency_Key="once")
    assert first.status_code == 202
    for _ in range(2):
        again = api.batch([NEW, OLD], Idempotency_Key="once")
        assert (again.status_code, again.headers["Idempotent-Replayed"]) == (202, "true")
        assert again.headers["Location"] == first.headers["Location"]
        services.end_grace(latest(dataset))
    assert api.batch([NEW, OLD], Idempotency_Key="another").status_code == 400
    assert rows(dataset) == [("new", "web", 2), ("old", None, 1)]
    assert usage(project.owner_id).used == 2
    assert senders(dataset) == [("tests", 1)]


# -- publishing ---------------------------------------------------------------------------------------


def test_first_version_and_past_times_are_refused(dataset: Dataset, project: Project) -> None:
    with pytest.raises(ValidationError, match="in the past"):
        publish(dataset, hours=-1)
    assert dataset.versions.count() == 1
    empty = services.create_dataset(project=project, name="Empty")
    with pytest.raises(ValidationError, match="first version cannot have a grace period"):
        publish(empty, FIELDS)


# -- who still sends the old form ---------------------------------------------------------------------


def test_records_of_the_old_form_are_counted_by_key(api: Api, dataset: Dataset, project: Project) -> None:
    other = Api(issue_token(services.create_key(project=project, name="other")), dataset)
    publish(dataset)
    before = clock.now() - timedelta(seconds=1)
    api.one(NEW)
    other.one(OLD)
    api.batch([OLD, NEW, OLD])
    api.batch([OLD] * 3)
    assert senders(dataset) == [("tests", 5), ("other", 1)]
    assert all(before < each.last <= clock.now() + timedelta(seconds=1) for each in old_form.senders(latest(dataset)))
    services.end_grace(latest(dataset))
    assert senders(dataset) == [("tests", 5), ("other", 1)]
    publish(dataset, FIELDS)
    assert senders(dataset) == []


def test_counts_of_a_deleted_key_are_kept(api: Api, key: ApiKey, dataset: Dataset) -> None:
    publish(dataset)
    api.one(OLD)
    key_id = key.pk
    key.delete()
    assert [(each.key, each.key_id, each.records) for each in old_form.senders(latest(dataset))] == [(None, key_id, 1)]


def test_old_form_takes_one_round_trip_and_no_query(api: Api, dataset: Dataset, settings: Settings) -> None:
    publish(dataset)
    for body in (OLD, [OLD, NEW]):
        send = api.batch if isinstance(body, list) else api.one
        assert send(body).status_code == 202
        with commands_sent() as commands:
            assert send(body, Idempotency_Key=f"key-{len(body)}").status_code == 202
        assert commands == ["EVALSHA"]
