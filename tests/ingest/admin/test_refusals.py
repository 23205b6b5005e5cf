"""The page of refused requests in the admin, and Try it filled from one of them."""

import json
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from datasets import services
from datasets.contracts.keys import issue_token
from datasets.models import ApiKey, Dataset, Project
from ingest.monitoring import refusals
from tests.conftest import Api, record
from tests.support.servers.outages import redis_away

PAGE = "/admin/refusals/"


@pytest.fixture(autouse=True)
def full_allowance() -> None:
    refusals.forget_allowances()


@pytest.fixture
def client(owner: User) -> Client:
    User.objects.filter(pk=owner.pk).update(is_staff=True)
    client = Client()
    client.force_login(owner)
    return client


def shown(client: Client, **query: Any) -> str:
    response = client.get(PAGE, query)
    assert response.status_code == 200
    return unescape(response.content.decode())


@pytest.fixture
def refused(api: Api, project: Project) -> dict[str, str]:
    """Make three refusals: a field, a missing dataset, and another key. Return their trace IDs by kind."""
    other = services.create_key(project=project, name="second key")
    api.one(record(amount="12.5"), X_Request_Id="by-field")
    api.post("/datasets/4242", record(), X_Request_Id="by-dataset")
    Api(issue_token(other), api.dataset).one("{", X_Request_Id="by-key")
    return {"field": "by-field", "dataset": "by-dataset", "key": "by-key"}


def found(client: Client, **query: Any) -> set[str]:
    text = shown(client, **query)
    return {trace_id for trace_id in ("by-field", "by-dataset", "by-key") if trace_id in text}


def test_text_of_a_client_cannot_change_the_direction_of_the_page(client: Client, api: Api, dataset: Dataset) -> None:
    api.one({**record(), "a\u202e": 1})
    text = shown(client)
    assert "\u202e" not in text
    assert r"Extra field: a\u202e" in text
    path = reverse("admin:ingest_datasetrecords_answer", args=(dataset.pk,))
    text = client.post(
        path, {"form": "single", "body": json.dumps({**record(), "a\u202e": 1}, ensure_ascii=False)}
    ).content.decode()
    assert "\u202e" not in text
    assert r"Extra field: a\u202e" in text


def test_page_shows_who_sent_what_and_why(client: Client, refused: dict[str, str], dataset: Dataset) -> None:
    text = shown(client)
    for expected in ("Invalid number field: amount", "invalid_field", "by-field", "key tests", "key second key"):
        assert expected in text
    assert '"amount":"12.5"' in text.replace('": "', '":"')
    assert f"{dataset} (ID {dataset.pk})" in text
    assert "4242 (not in this project)" in text


def test_page_is_filtered(client: Client, refused: dict[str, str], project: Project, dataset: Dataset) -> None:
    key = ApiKey.objects.get(name="second key")
    assert found(client) == set(refused.values())
    assert found(client, dataset="4242") == {"by-dataset"}
    assert found(client, dataset=str(dataset.pk), project=str(project.pk)) == {"by-field", "by-key"}
    assert found(client, code="invalid_field") == {"by-field"}
    assert found(client, key=key.token_id.hex) == {"by-key"}
    assert found(client, code="invalid_field", key=key.token_id.hex) == set()
    assert found(client, since="2026-01-01T00:00", until="2999-01-01T00:00") == set(refused.values())
    assert found(client, since="2999-01-01T00:00") == set()
    assert found(client, until="2026-01-01T00:00") == set()


@pytest.mark.parametrize("query", [{"since": "99999-01-01"}, {"code": "no such"}, {"until": "\0"}, {"dataset": "x"}])
def test_invalid_filter_is_reported(client: Client, refused: dict[str, str], query: dict[str, str]) -> None:
    assert 'role="alert"' in shown(client, **query)
    assert found(client, **query) == set()


@pytest.mark.parametrize("project_id", ["abc", "9" * 23, "-1", "\0", "٣"])
def test_invalid_project_id_is_a_400(client: Client, refused: dict[str, str], project_id: str) -> None:
    assert client.get(PAGE, {"project": project_id}).status_code == 400
    assert client.get(PAGE, {"page": project_id}).status_code == 200
    assert client.get(PAGE, {"project": "9" * 18}).status_code == 404


def test_page_works_without_refusals_and_without_redis(client: Client, project: Project) -> None:
    assert "No refused requests" in shown(client)
    assert "No request was refused in the last week." in shown(client, project=str(project.pk))
    with redis_away():
        assert "Redis does not answer" in shown(client)


def test_try_it_is_filled_with_the_refused_body(client: Client, refused: dict[str, str], dataset: Dataset) -> None:
    refusal = next(each for each in refusals.latest(dataset.project_id) if each.trace_id == "by-field")
    link = reverse("admin:ingest_datasetrecords_try", args=(dataset.pk,)) + f"?refusal={refusal.id}"
    assert link in shown(client)
    text = unescape(client.get(link).content.decode())
    body = text.partition("<textarea")[2].partition(">")[2].partition("</textarea>")[0]
    assert json.loads(body)["amount"] == "12.5"
    assert "Invalid number field: amount" in text
    answer = client.post(reverse("admin:ingest_datasetrecords_answer", args=(dataset.pk,)), {"body": body})
    assert "Invalid number field: amount" in answer.content.decode()


def test_try_it_ignores_a_refusal_of_another_dataset(client: Client, refused: dict[str, str]) -> None:
    stranger = services.create_project(slug="stranger", owner=User.objects.create_user("stranger"))
    strange = services.create_dataset(project=stranger, name="Strange", fields=[])
    Api(issue_token(services.create_key(project=stranger, name="k")), strange).one(record(zebra=1))
    (refusal,) = refusals.latest(stranger.pk)
    for dataset in Dataset.objects.filter(project__slug="billing"):
        response = client.get(reverse("admin:ingest_datasetrecords_try", args=(dataset.pk,)), {"refusal": refusal.id})
        assert "no longer kept" in response.content.decode()
        assert "zebra" not in response.content.decode()
    assert client.get(PAGE, {"project": stranger.pk}).status_code == 404
    assert "zebra" not in shown(client)


def test_try_it_works_without_redis(client: Client, refused: dict[str, str], dataset: Dataset) -> None:
    page = reverse("admin:ingest_datasetrecords_try", args=(dataset.pk,))
    with redis_away():
        assert "no longer kept" in client.get(page, {"refusal": "x"}).content.decode()
