"""The page “Why does nothing arrive?” shows each cause and what to do about it."""

import re
import shutil
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from config.common import clock, redis
from datasets import services
from datasets.models import ApiKey, Dataset, Project
from ingest.monitoring.diagnosis import ADVICE
from ingest.monitoring.refusals import REJECTED_RECORDS
from ingest.queue import redis_keys
from ingest.storing.drain import drain
from quotas import services as quotas
from tests.conftest import FIELDS, Api, record
from tests.support.documents import errors, table
from tests.support.entries import enqueue, send, table_of
from tests.support.processes.signs import all_is_well
from tests.support.servers.outages import redis_stuck

Look = Callable[[], str]


@pytest.fixture
def look(owner: User, project: Project) -> Look:
    """Return a function that returns the page as the project's owner sees it."""
    User.objects.filter(pk=owner.pk).update(is_staff=True)
    client = Client()
    client.force_login(User.objects.get(pk=owner.pk))

    def why() -> str:
        page = reverse("admin:ingest_diagnosis", args=(project.pk,))
        assert page in client.get(reverse("admin:index")).content.decode()
        return client.get(page).content.decode()

    return why


def test_there_is_advice_for_every_refusal() -> None:
    assert set(ADVICE) - {REJECTED_RECORDS} == {code.strip("`") for _, _, code, _ in table("errors")}
    of_ingest = (error for error in errors() if not error.__module__.startswith("datasets.api."))
    assert {error.code for error in of_ingest} <= set(ADVICE)


def test_no_problem_is_found_if_records_arrive(look: Look, api: Api, dataset: Dataset) -> None:
    all_is_well()
    send(api, "a")
    drain(dataset.pk)
    assert "no problem found" in look()


def test_an_archived_dataset_is_no_problem(look: Look, api: Api, project: Project, dataset: Dataset) -> None:
    all_is_well()
    send(api, "a")
    drain(dataset.pk)
    old = services.create_dataset(project=project, name="Old", fields=FIELDS)
    old.is_archived = True
    services.save_dataset(old, changed=["is_archived"])
    said = look()
    assert "no problem found" in said
    assert f"“Old” (ID {old.pk}) is archived" in said
    services.create_dataset(project=project, name="Unfinished")
    said = look()
    assert "no problem found" not in said
    assert said.index("“Unfinished”") < said.index("“Old”")


def test_empty_project_is_advised_what_it_lacks(look: Look) -> None:
    said = look()
    for cause in (
        "no heartbeat",
        "No dataset accepts records",
        "The project has no active API key",
        "No request with a key",
    ):
        assert cause in said


def test_each_cause_is_reported(look: Look, api: Api, project: Project, dataset: Dataset, key: ApiKey) -> None:
    all_is_well()
    api.one(record(amount="12"))
    assert (
        "1 request refused in the last 24 hours (invalid_field). A field&#x27;s value does not match its declared type."
        in look()
    )
    assert "“42.5”" in look()
    Api(None, dataset).one(record())
    assert "since Redis was set up: missing_api_key 1." in look()
    quotas.set_limit(project.owner, 0)
    assert "is used up: 0 of 0 records" in look()
    services.create_dataset(project=project, name="Bare")
    assert "“Bare”" in look()
    services.revoke_key(key)
    assert "The project has no active API key" in look()
    api.one(record())
    assert re.search(r"Create an API key, and use it\. <a href=\"/admin/datasets/apikey/add/", look())
    project.is_active = False
    services.save_project(project, changed=["is_active"])
    assert "The project is inactive" in look()


def test_expired_key_is_not_active(look: Look, key: ApiKey) -> None:
    ApiKey.objects.filter(pk=key.pk).update(expires_at=clock.now() - timedelta(seconds=1))
    assert "The project has no active API key" in look()


def test_missing_table_is_reported_while_records_wait(look: Look, api: Api, dataset: Dataset) -> None:
    """`/readyz` stays ok, because another table exists."""
    other = services.create_dataset(project=dataset.project, name="Other", fields=FIELDS)
    for each in (dataset, other):
        send(Api(api.token, each), "a")
        drain(each.pk)
    shutil.rmtree(table_of(dataset).table_uri.removeprefix("file://"))
    all_is_well()
    assert "no problem found" in look()
    send(Api(api.token, other), "b")
    assert "no problem found" in look()
    send(api, "b")
    said = look()
    assert f"The table of “{dataset}” (ID {dataset.pk}) is missing. 1 record waits for it." in said
    assert f"manage.py new_table {dataset.pk}" in said
    assert "Other" not in said.split('id="findings"')[1].split("</ol>")[0]
    assert Api(None).request("GET", "/readyz").status_code == 200


def test_unreachable_storage_is_reported(
    look: Look, api: Api, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(api, "a")
    drain(dataset.pk)
    send(api, "b")
    for name, value in (("ENDPOINT_URL", "http://127.0.0.1:1"), ("ALLOW_HTTP", "true"), ("REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setattr(settings, "STORAGE_URL", "s3://nowhere/tables")
    assert f"The table of “{dataset}” (ID {dataset.pk}) cannot be reached: OSError." in look()


def test_late_and_quarantined_records_are_reported(look: Look, dataset: Dataset) -> None:
    long_ago = f"{int((clock.now() - timedelta(minutes=5)).timestamp() * 1000)}-0"
    redis.client().xadd(redis_keys.stream(dataset.pk), {"b": b"{}"}, id=long_ago)
    redis.client().set(redis_keys.queued(dataset.pk), 1)
    assert "1 record accepted but not yet stored. The oldest has waited 30" in look()
    redis.client().delete(redis_keys.stream(dataset.pk), redis_keys.queued(dataset.pk))
    enqueue(dataset, b"no json")
    drain(dataset.pk)
    assert "In quarantine: 1 record accepted but not stored." in look()


def test_a_dataset_whose_worker_dies_repeatedly_is_named(look: Look, dataset: Dataset) -> None:
    died = "The worker process died repeatedly while it stored records of “Signups”"
    redis.client().hset(redis_keys.deaths(dataset.pk), "deaths", 2)
    assert died not in look()
    redis.client().hset(redis_keys.deaths(dataset.pk), "deaths", 3)
    assert died in look()


def test_page_ends_its_wait_after_one_timeout_if_redis_does_not_answer(look: Look, project: Project) -> None:
    look()
    with redis_stuck():
        began = time.monotonic()
        page = Client()
        page.force_login(project.owner)
        said = page.get(reverse("admin:ingest_diagnosis", args=(project.pk,))).content.decode()
        seconds = time.monotonic() - began
    assert "Redis: no answer." in said
    assert "Worker:" not in said
    assert "No dataset accepts records" in said
    assert seconds < 1.5 * settings.REDIS_TIMEOUT_SECONDS * 5
