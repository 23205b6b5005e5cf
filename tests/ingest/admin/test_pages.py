"""Statistics, quarantine, key rotation, Try it and the log in the admin."""

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse

from config.common import clock, redis
from datasets import services
from datasets.contracts.keys import issue_token
from datasets.models import ApiKey, Dataset, Project
from ingest.admin import tryout
from ingest.models import QuarantinedEntry
from ingest.monitoring import statistics
from ingest.queue import redis_keys
from ingest.storing import ledger, quarantine
from ingest.storing.drain import drain
from tests.conftest import Api, record, stored
from tests.support.entries import enqueue, send


@pytest.fixture
def client(owner: User) -> Client:
    User.objects.filter(pk=owner.pk).update(is_staff=True)
    client = Client()
    client.force_login(User.objects.get(pk=owner.pk))
    return client


def test_statistics_count_queued_and_stored_records(api: Api, dataset: Dataset) -> None:
    send(api, "a", "b")
    waiting = statistics.traffic([dataset.pk])[dataset.pk]
    assert waiting.since(statistics.this_hour() - 1) == 2
    assert waiting.backlog.records == 2
    drain(dataset.pk)
    done = statistics.traffic([dataset.pk])[dataset.pk]
    assert done.since(statistics.this_hour() - 1) == 2
    assert (done.backlog.records, done.backlog.age) == (0, 0.0)


def test_refusals_count_for_the_project_of_the_key(api: Api, project: Project, key: ApiKey) -> None:
    api.one(record(amount="12"))
    services.revoke_key(key)
    assert api.one(record()).status_code == 401
    api.token = "forged"
    api.one(record())
    codes = {code: count for (_, code), count in statistics.refused([project.pk]).items()}
    assert codes == {"invalid_field": 1, "invalid_api_key": 1}
    assert int(redis.client().hget(redis_keys.REFUSED, "invalid_api_key")) == 2


def test_old_hours_are_forgotten(dataset: Dataset) -> None:
    now, name = statistics.this_hour(), redis_keys.stored_by_hour(dataset.pk)
    redis.client().hset(name, mapping={now: 1, now - statistics.KEPT_HOURS - 1: 1})
    statistics.forget_old()
    assert redis.client().hkeys(name) == [str(now).encode()]


def test_discarded_records_stay_quarantined_in_the_ledger(api: Api, dataset: Dataset) -> None:
    send(api, "kept")
    enqueue(dataset, b"no json")
    drain(dataset.pk)
    entry = QuarantinedEntry.objects.get()
    assert quarantine.discard(entry)
    assert not quarantine.discard(entry)
    assert not quarantine.replay(entry)
    assert bytes(entry.body) == b""
    balance = ledger.balance(dataset)
    assert (balance.stored, balance.quarantined, balance.adds_up) == (1, 1, True)


def test_selection_is_replayed_and_the_outcome_shown(client: Client, dataset: Dataset) -> None:
    for _ in range(2):
        enqueue(dataset, json.dumps(record()).encode().replace(b"42.5", b'"42.5"'))
    drain(dataset.pk)
    ids = [entry.pk for entry in QuarantinedEntry.objects.all()]
    page = reverse("admin:ingest_quarantinedentry_changelist")
    response = client.post(page, {"action": "replay", "_selected_action": ids}, follow=True)
    newest, oldest = ids
    assert f"2 records are back in the queue: entries {newest}, {oldest}." in response.content.decode()
    response = client.post(page, {"action": "replay", "_selected_action": ids}, follow=True)
    assert f"Not changed: entries {newest} (replayed), {oldest} (replayed)." in response.content.decode()
    for pk in ids:
        assert LogEntry.objects.filter(change_message=f"Replayed entry {pk}: 1 record.").count() == 1


def test_lists_without_a_match_and_after_the_last_page_say_so(client: Client, dataset: Dataset) -> None:
    page = reverse("admin:ingest_quarantinedentry_changelist")
    assert "The quarantine is empty." in client.get(page).content.decode()
    assert "Nothing matches" in client.get(f"{page}?dataset__id__exact={dataset.pk}").content.decode()
    shown = client.get(reverse("admin:datasets_dataset_changelist") + "?p=999")
    assert shown.status_code == 200
    assert dataset.name in shown.content.decode()


@pytest.mark.parametrize("hours", [0, 1, 24, 168])
def test_old_key_works_until_the_grace_period_ends(api: Api, key: ApiKey, hours: int) -> None:
    successor = services.rotate_key(key, grace=timedelta(hours=hours))
    assert Api(issue_token(successor), api.dataset).one(record()).status_code == 202
    assert api.one(record()).status_code == (202 if hours else 401)
    ends = (key.expires_at or clock.now()) - clock.now()
    assert abs(ends - timedelta(hours=hours)) < timedelta(minutes=1)


def test_rotation_does_not_extend_the_old_key(key: ApiKey) -> None:
    soon = clock.now() + timedelta(minutes=5)
    ApiKey.objects.filter(pk=key.pk).update(expires_at=soon)
    services.rotate_key(key, grace=timedelta(hours=24))
    assert key.expires_at == soon


FORMS = list(tryout.FORMS.items())


@pytest.mark.parametrize(("name", "form"), FORMS, ids=[name for name, _ in FORMS])
@pytest.mark.parametrize(
    "body",
    [
        json.dumps(record()),
        json.dumps([record(), record()]),
        json.dumps([record(), record(amount="1", country=...)]),
        json.dumps(record()) + "\n" + json.dumps(record(more=1)),
        "[]",
        "{",
        "",
    ],
)
def test_try_it_says_what_the_api_says(api: Api, dataset: Dataset, name: str, form: tryout.Form, body: str) -> None:
    said = tryout.preview(dataset, body.encode(), form)
    answered = api.post(f"/datasets/{dataset.pk}{form.path}", body, form.content_type)
    assert (said.status, said.body) == (answered.status_code, answered.text)
    list(tryout.marked(body.encode(), form, said.problems))


def test_record_sent_from_try_it_is_stored(dataset: Dataset, key: ApiKey) -> None:
    answer = tryout.send(dataset, json.dumps(record()).encode(), tryout.FORMS["single"], key)
    assert answer.status == 202
    (row,) = stored(dataset)
    assert row["__traceId"] == dict(answer.headers)["X-Request-Id"]


def test_the_log_says_what_was_changed_to_what(client: Client, project: Project) -> None:
    other = User.objects.create_user("bob")
    page = reverse("admin:datasets_project_change", args=(project.pk,))
    posted = {"name": "Renamed", "slug": project.slug, "member_names": other.username, "is_active": "on"}
    assert client.post(page, posted).status_code == 302
    entry = LogEntry.objects.latest("pk")
    assert entry.change_message == "Name: “billing” → “Renamed”. Members: “” → “bob”."
    assert client.post(page, {**posted, "member_names": "nobody"}).status_code == 200  # an error at the field
    assert list(project.members.all()) == [other]


def test_resending_a_rotation_issues_no_second_key(client: Client, owner: User, project: Project, key: ApiKey) -> None:
    """A browser resends the form when the user reloads the page with the token."""
    User.objects.filter(pk=owner.pk).update(is_superuser=True)
    path = reverse("admin:datasets_apikey_rotate", args=(key.pk,))
    page = client.get(path).content.decode()
    assert f'name="newest" value="{key.pk}"' in page
    posted = {"grace": "1", "newest": str(key.pk)}
    assert client.post(path, posted).status_code == 200
    assert project.keys.count() == 2
    again = client.post(path, posted, follow=True)
    assert "has been rotated since this page was loaded" in again.content.decode()
    assert project.keys.count() == 2


def test_resending_a_new_key_issues_no_second_key(client: Client, owner: User, project: Project) -> None:
    User.objects.filter(pk=owner.pk).update(is_superuser=True)
    posted = {"project": project.pk, "name": "checkout", "ends": ""}
    issued = client.post(reverse("admin:datasets_apikey_add"), posted)
    assert (issued.status_code, project.keys.count()) == (200, 1)
    again = client.post(reverse("admin:datasets_apikey_add"), posted)
    assert "The project has an active key with this name." in again.content.decode()
    assert project.keys.count() == 1


def test_every_act_is_in_the_log(client: Client, owner: User, project: Project, dataset: Dataset, key: ApiKey) -> None:
    """The log has the right message for each act."""
    User.objects.filter(pk=owner.pk).update(is_superuser=True)
    for _ in range(2):
        enqueue(dataset, b"no json")
    drain(dataset.pk)
    replayed, discarded = QuarantinedEntry.objects.order_by("pk")
    other = services.create_key(project=project, name="other")
    group = Group.objects.create(name="adders")
    fields = {"name": "Signups", "slug": "signups", "description": "", "schema": '{"fields": {"country": "string"}}'}
    sent = {"form": "single", "body": '{"timestamp": "2026-06-10T10:58:00Z", "context": {}, "country": "A"}'}
    user = {"username": "owner", "email": "o@example.com", "is_active": "on", "is_staff": "on", "is_superuser": "on"}
    joined = {"groups": group.pk}
    acts: list[tuple[str, tuple[int, ...], dict[str, Any], str]] = [
        ("datasets_project_add", (), {"name": "P", "slug": "p", "owner": owner.pk, "is_active": "on"}, "Added."),
        ("datasets_dataset_change", (dataset.pk,), fields, "Schema: removed plan; removed amount; removed active"),
        ("ingest_datasetrecords_answer", (dataset.pk,), {**sent, "send": "yes", "key": key.pk}, "answered 202"),
        ("datasets_apikey_add", (), {"project": project.pk, "name": "new", "ends": ""}, "Added."),
        ("datasets_apikey_change", (key.pk,), {"name": "renamed"}, "Name: “tests” → “renamed”."),
        ("datasets_apikey_rotate", (key.pk,), {"grace": "1"}, f"Issued to replace key {key.pk}."),
        ("datasets_apikey_revoke", (other.pk,), {}, "Revoked."),
        ("ingest_quarantinedentry_replay", (replayed.pk,), {}, f"Replayed entry {replayed.pk}: 1 record."),
        ("ingest_quarantinedentry_discard", (discarded.pk,), {}, f"Discarded entry {discarded.pk}: 1 record."),
        ("auth_group_change", (group.pk,), {"name": "makers"}, "Name: “adders” → “makers”."),
        ("auth_user_change", (owner.pk,), {**user, **joined}, "Email: “” → “o@example.com”."),
    ]
    for name, about, posted, told in acts:
        before = LogEntry.objects.count()
        response = client.post(reverse(f"admin:{name}", args=about), posted)
        assert response.status_code in (200, 302), name
        assert LogEntry.objects.count() > before, name
        assert told in LogEntry.objects.latest("pk").get_change_message(), name
    assert "Groups: “” → “makers”." in LogEntry.objects.latest("pk").change_message


def test_new_project_offers_its_creator_as_owner(client: Client, owner: User) -> None:
    User.objects.filter(pk=owner.pk).update(is_superuser=True)
    assert f'<option value="{owner.pk}" selected>' in client.get(reverse("admin:datasets_project_add")).content.decode()


def test_try_it_shows_at_most_a_few_hundred_fields() -> None:
    """Without a limit, a record of 2 MB would make a page of 30 MB."""
    body = json.dumps({f"f{n}": 1 for n in range(10_000)} | {"last" * 100: 1}).encode()
    problems = [
        {"error": "Extra field: f0", "field": "f0", "expected": "nothing", "received": "number"},
        {"error": "Extra field: last", "field": ("last" * 100)[:100], "expected": "nothing", "received": "number"},
    ]
    (shown,) = tryout.marked(body, tryout.FORMS["single"], problems)
    assert [line.text for line in shown.lines[:3]] == ["{", '  "f0": 1,', '  "f1": 1,']
    assert [line.problem.partition(":")[0] for line in shown.lines if line.problem] == ["Extra field"] * 2
    assert [line.text for line in shown.lines[-2:]] == ["  … and 9700 more fields,", "}"]
    assert len(shown.lines) < 310


def test_every_page_shows_the_same_number_in_quarantine(client: Client, project: Project, dataset: Dataset) -> None:
    """One request with three records is one entry."""
    body = b"\n".join([json.dumps(record()).encode().replace(b"42.5", b'"42.5"')] * 3)
    enqueue(dataset, body, count=3)
    drain(dataset.pk)
    assert QuarantinedEntry.objects.get().count == 3
    start = client.get(reverse("admin:index")).content.decode()
    assert re.search(r'data-figure="quarantined"[^>]*><a [^>]*>3</a>', start)
    listed = client.get(reverse("admin:ingest_datasetrecords_changelist")).content.decode()
    assert re.search(r'class="field-held[^>]*>\s*3\s*<', listed)
    why = client.get(reverse("admin:ingest_diagnosis", args=(project.pk,))).content.decode()
    assert "In quarantine: 3 records accepted but not stored." in why
    entries = client.get(reverse("admin:ingest_quarantinedentry_changelist")).content.decode()
    assert "1 request" in " ".join(entries.split())


def test_keys_with_the_same_name_can_be_distinguished(client: Client, dataset: Dataset, key: ApiKey) -> None:
    successor = services.rotate_key(key, grace=timedelta(hours=1))
    offered = client.get(reverse("admin:ingest_datasetrecords_try", args=(dataset.pk,))).content.decode()
    listed = client.get(reverse("admin:datasets_apikey_changelist")).content.decode()
    for each in (key, successor):
        assert f"tests (ID {each.pk}" in offered
        assert re.search(rf'class="field-id[^>]*>\s*{each.pk}\s*<', listed)
