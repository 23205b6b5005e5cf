"""Grace periods in the admin: they begin with a new version, show which keys still send the old form, and end."""

import json
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from config.common import clock
from datasets import services
from datasets.models import Dataset, Project
from datasets.schemas.fields import Field
from tests.conftest import FIELDS, Api, stored
from tests.ingest.api.test_grace import NEW, OLD, WIDER, latest, publish
from tests.support.admin.forms import Form, form_of, forms_of
from tests.support.servers.outages import redis_away

WIDER_TEXT = json.dumps({"fields": [field.as_json() for field in WIDER]})


@pytest.fixture
def stranger(transactional_db: None) -> Project:
    return services.create_project(slug="theirs", owner=User.objects.create_user("stranger"))


@pytest.fixture
def client(owner: User) -> Client:
    User.objects.filter(pk=owner.pk).update(is_staff=True)
    client = Client()
    client.force_login(owner)
    return client


def path(dataset: Dataset, name: str = "change") -> str:
    return reverse(f"admin:datasets_dataset_{name}", args=(dataset.pk,))


def shown(client: Client, dataset: Dataset) -> str:
    return client.get(path(dataset)).content.decode()


def save(client: Client, dataset: Dataset, **changes: str) -> str:
    """Send the dataset's form with changes. Return the page that is shown then."""
    form = form_of(shown(client, dataset), "dataset_form")
    return client.post(path(dataset), form.filled(**changes), follow=True).content.decode()


def asked(client: Client, dataset: Dataset) -> Form:
    """Return the form that asks whether to end the grace period."""
    forms = forms_of(client.get(path(dataset, "end_grace")).content.decode())
    (form,) = [form for form in forms if "version" in form.values]
    return form


def test_new_version_is_published_with_a_grace_period(api: Api, client: Client, dataset: Dataset) -> None:
    save(client, dataset, schema=WIDER_TEXT, grace="24")
    page = shown(client, dataset)
    ends = latest(dataset).previous_valid_until
    assert ends is not None
    assert timedelta(hours=23) < ends - clock.now() <= timedelta(hours=24)
    assert f"Until {ends:%Y-%m-%d %H:%M:%S} UTC, a record may match version 1" in page
    assert "No key has sent a record in the form of version 1" in page
    entry = LogEntry.objects.latest("pk")
    assert f"Grace period of the previous version: until {ends:%Y-%m-%d %H:%M} UTC." in entry.get_change_message()
    assert [api.one(each).status_code for each in (OLD, NEW)] == [202, 202]


def test_by_default_the_version_before_ends_at_once(api: Api, client: Client, dataset: Dataset) -> None:
    save(client, dataset, schema=WIDER_TEXT)
    assert latest(dataset).number == 2
    assert latest(dataset).previous_valid_until is None
    assert "Grace period of version" not in shown(client, dataset)
    assert api.one(OLD).status_code == 400


def test_grace_period_may_end_at_a_chosen_time(client: Client, dataset: Dataset) -> None:
    until = (clock.now() + timedelta(days=3)).replace(second=0, microsecond=0)
    save(client, dataset, schema=WIDER_TEXT, grace="time", grace_until=f"{until:%Y-%m-%dT%H:%M}")
    assert latest(dataset).previous_valid_until == until


def test_optional_field_becomes_required_with_a_grace_period(api: Api, client: Client, dataset: Dataset) -> None:
    optional = [*FIELDS, Field("source", "string", optional=True)]
    services.save_dataset(dataset, fields=optional)
    assert "It can become required only with a grace" in save(client, dataset, schema=WIDER_TEXT)
    check = {"schema": WIDER_TEXT, "sample": ""}
    assert client.post(path(dataset, "check"), check).json()["problems"] != []
    checked = client.post(path(dataset, "check"), {**check, "grace": "1"}).json()
    assert checked["problems"] == []
    assert "Required after the grace period:" in checked["preview"]
    assert "Until the grace period ends, records may match the current version instead." in checked["preview"]
    save(client, dataset, schema=WIDER_TEXT, grace="1")
    assert "Required after the grace period:" in shown(client, dataset)
    assert [api.one(each).status_code for each in (OLD, NEW, {**OLD, "source": None})] == [202] * 3
    assert [row["__schemaVersion"] for row in stored(dataset)] == [2, 3, 2]


@pytest.mark.parametrize("until", ["", "2020-01-01T00:00", "soon"])
def test_time_that_is_not_in_the_future_is_refused(client: Client, dataset: Dataset, until: str) -> None:
    page = save(client, dataset, schema=WIDER_TEXT, grace="time", grace_until=until)
    assert "Choose a time in the future." in page
    assert '"source"' in form_of(page, "dataset_form").values["schema"][0].replace("&quot;", '"')
    assert latest(dataset).number == 1


def test_history_shows_when_a_grace_period_really_ended(client: Client, dataset: Dataset) -> None:
    until = publish(dataset, hours=48)
    assert f"previous version valid until {until:%Y-%m-%d %H:%M} UTC" in shown(client, dataset)
    assert "required after the grace period" in shown(client, dataset)
    services.save_dataset(dataset, fields=FIELDS)
    assert "required from now on" in shown(client, dataset)
    at = latest(dataset).created_at
    assert f"previous version valid until {at:%Y-%m-%d %H:%M} UTC" in shown(client, dataset)


def test_grace_period_without_a_change_is_refused(client: Client, dataset: Dataset) -> None:
    assert "no version is published and no grace period begins" in save(client, dataset, grace="1")
    assert latest(dataset).previous_valid_until is None


def test_first_version_offers_no_grace_period(client: Client, project: Project) -> None:
    empty = services.create_dataset(project=project, name="Empty")
    assert "schema-grace" not in shown(client, empty)


def test_keys_that_send_the_old_form_are_shown_until_and_after_the_end(
    api: Api, client: Client, dataset: Dataset
) -> None:
    publish(dataset)
    api.batch([OLD] * 1234)
    page = shown(client, dataset)
    assert "1,234" in page
    assert ">tests</a>" in page
    assert "the grace period of version 1 ends" in page, "if another version is published"
    form = asked(client, dataset)
    ended = client.post(path(dataset, "end_grace"), form.filled(), follow=True).content.decode()
    assert "The grace period of version 1 has ended." in ended
    assert "Records that match only version 1 are refused" in ended
    assert "1,234" in ended
    assert api.one(OLD).status_code == 400
    assert LogEntry.objects.latest("pk").get_change_message() == "The grace period of version 1 has ended."
    assert "No grace period is running." in client.get(path(dataset, "end_grace"), follow=True).content.decode()


def test_end_is_refused_after_another_version_was_published(api: Api, client: Client, dataset: Dataset) -> None:
    publish(dataset)
    form = asked(client, dataset)
    publish(dataset, FIELDS)
    answer = client.post(path(dataset, "end_grace"), form.filled(), follow=True)
    assert "another version was published" in answer.content.decode()
    assert api.one(NEW).status_code == 202


def test_without_redis_nothing_is_ended_and_the_page_says_so(client: Client, dataset: Dataset) -> None:
    publish(dataset)
    form = asked(client, dataset)
    with redis_away():
        assert "it is unknown which keys send records in the form of version 1" in shown(client, dataset)
        answer = client.post(path(dataset, "end_grace"), form.filled(), follow=True).content.decode()
    assert "Redis does not answer" in answer
    assert latest(dataset).previous_valid_until is not None


def test_grace_period_of_another_tenant_cannot_be_ended(client: Client, stranger: Project) -> None:
    theirs = services.create_dataset(project=stranger, name="Theirs", fields=FIELDS)
    publish(theirs)
    assert client.post(path(theirs, "end_grace"), {"version": str(latest(theirs).pk)}).status_code == 404
    assert latest(theirs).previous_valid_until is not None


def test_try_it_follows_the_grace_period(client: Client, dataset: Dataset) -> None:
    publish(dataset)
    answer = reverse("admin:ingest_datasetrecords_answer", args=(dataset.pk,))
    posted = {"form": "batch", "body": json.dumps([OLD, NEW])}
    assert "202" in client.post(answer, posted).content.decode()
    services.end_grace(latest(dataset))
    assert "Missing field: source" in client.post(answer, posted).content.decode()
