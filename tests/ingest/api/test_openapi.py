"""Compare the OpenAPI description with the code, and with real answers by schemathesis."""

import itertools
import json
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from hypothesis import HealthCheck, settings
from pytest_django import Settings
from schemathesis import checks as schemathesis_checks
from schemathesis.specs.openapi import checks as openapi_checks

from config.common.errors import ApiError
from datasets import personal_tokens, services
from datasets.models import Dataset, Project
from ingest.api import management
from ingest.api.openapi import description
from ingest.api.urls import urlpatterns
from ingest.errors import InvalidRecords
from ingest.validation.body import ENCODINGS
from ingest.validation.record_errors import MAX_PROBLEMS
from quotas.services import set_limit
from tests.conftest import Api, record
from tests.support.documents import errors, table
from tests.support.processes.signs import all_is_well
from tests.support.sending.asgi import as_wsgi

CHECKS = [
    schemathesis_checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.unsupported_method,
]
described = schemathesis.openapi.from_dict(json.loads(json.dumps(description())))
described.app = as_wsgi


@schemathesis.serializer("application/x-ndjson")
def lines(context: schemathesis.SerializationContext, value: Any) -> bytes:
    """Convert a text that was generated as an NDJSON body to bytes."""
    return str(value).encode("utf-8", "surrogatepass")


_QUERIES = itertools.count()


@pytest.fixture
def ready(transactional_db: None) -> None:
    """Let every process write a heartbeat, so that /readyz answers 200. A 503 would count as a failure."""
    all_is_well()


@pytest.fixture
def personal_token(owner: User) -> str:
    """Make the project's owner a superuser. Return a personal access token of this user."""
    User.objects.filter(pk=owner.pk).update(is_staff=True, is_superuser=True)
    return personal_tokens.create(user=User.objects.get(pk=owner.pk), name="tests")[1]


def responses(operation: dict[str, Any]) -> dict[str, Any]:
    """Return the answers that an operation may give, by status."""
    known = description()["components"]["responses"]
    return {
        status: known[named["$ref"].rpartition("/")[2]] if "$ref" in named else named
        for status, named in operation["responses"].items()
    }


def test_it_is_served_without_a_key(transactional_db: None) -> None:
    response = Api(None).request("GET", "/openapi.json")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    assert response.json() == json.loads(json.dumps(description()))


def test_the_docs_page_is_html_and_only_read() -> None:
    api = Api(None)
    for accept in ("application/json", "image/png", "", "*/*"):
        for query in ("", "?format=json", "?lang=%00&version=%FF"):
            page = api.request("GET", f"/docs{query}", headers={"Accept": accept})
            assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
        refused = api.request(method, "/docs")
        assert (refused.status_code, refused.json()["code"]) == (405, "method_not_allowed")
        assert refused.headers["Allow"] == "GET, HEAD"


def test_it_describes_every_documented_address() -> None:
    both = table("endpoints") + table("management")
    documented = {tuple(row[0].strip("`").split(" ")) for row in both}
    spelled = {(method, path.replace("<", "{").replace(">", "}")) for method, path in documented}
    paths = description()["paths"]
    assert spelled == {(method.upper(), path) for path, operations in paths.items() for method in operations}
    assert len(urlpatterns) + len(management.urlpatterns) == len(paths)


def test_it_describes_every_error_with_its_status_and_text() -> None:
    schemas = description()["components"]["schemas"]
    every_error: list[type[ApiError]] = [ApiError, *(error for error in errors() if error is not InvalidRecords)]
    for error in every_error:
        if error.__module__.startswith("tests.") or error.code == "method_not_allowed":
            continue  # only methods that are not described get a 405
        if error.code == getattr(error.__base__, "code", None):
            continue  # clients see the parent class's error
        said = schemas[error.__name__]["properties"]
        assert (said["error"]["const"], said["code"]["const"]) == (error.error, error.code)
        used = [
            status
            for operations in description()["paths"].values()
            for operation in operations.values()
            for status, response in responses(operation).items()
            if f"/{error.__name__}'" in str(response.get("content"))
        ]
        assert used, f"no operation answers {error.__name__}"
        assert set(used) == {str(error.status)}
    documented = {code.strip("`") for _, _, code, _ in table("errors")}
    record_codes = schemas["InvalidRecords"]["properties"]["code"]["enum"]
    assert set(record_codes) == documented - {error.code for error in every_error}


def test_it_names_the_limits_and_encodings_of_the_code() -> None:
    components = description()["components"]
    assert components["schemas"]["InvalidRecords"]["properties"]["errors"]["maxItems"] == MAX_PROBLEMS
    assert components["schemas"]["BatchQueued"]["properties"]["errors"]["maxItems"] == MAX_PROBLEMS
    assert components["schemas"]["Batch"]["maxItems"] == django_settings.MAX_BATCH_RECORDS
    assert str(django_settings.MAX_BODY_BYTES) in description()["info"]["description"]
    assert components["parameters"]["ContentEncoding"]["schema"]["enum"] == list(ENCODINGS)


@pytest.mark.parametrize("path", ["", "/batch", "/validate"])
def test_rare_answers_match_the_description(
    api: Api, dataset: Dataset, project: Project, path: str, settings: Settings
) -> None:
    """Generated requests rarely get these answers."""
    settings.MAX_BATCH_RECORDS = 30
    bad = record(amount="42.5", plan=..., more=1)
    bodies = [record(), bad, [record()], [record(), bad], [bad] * 20, [1], 1, [], [record()] * 31, [record()] * 2]
    asked = [api.post(f"/datasets/{dataset.pk}{path}", body, Idempotency_Key="a") for body in bodies]
    asked += [api.post(f"/datasets/{dataset.pk}{path}", body, Prefer="handling=lenient") for body in bodies]
    set_limit(user=project.owner, limit=1)
    asked += [api.post(f"/datasets/{dataset.pk}{path}", body) for body in bodies]
    operation = description()["paths"]["/datasets/{dataset_id}" + path]["post"]
    for response in asked:
        content = responses(operation)[str(response.status_code)]["content"]["application/json"]
        schema = {**content["schema"], "components": description()["components"]}
        jsonschema_rs.Draft202012Validator(schema).validate(response.json())
    expected = {"": {202, 400, 429}, "/batch": {202, 400, 413, 422, 429}, "/validate": {200, 400, 413}}
    assert {response.status_code for response in asked} == expected[path]


@described.parametrize()
@settings(max_examples=15, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_generated_requests_get_documented_answers(
    case: schemathesis.Case[Any], api: Api, personal_token: str, project: Project, ready: None
) -> None:
    """Send each request with a valid key or token. If its path has IDs, send it again with IDs that exist."""
    if case.path.endswith("/query") and next(_QUERIES) % 4:
        return  # schemathesis makes 500 queries, and a query takes long, because it runs in another process
    bare = project.datasets.filter(name="Bare").first() or services.create_dataset(
        project=project, name="Bare", fields=[]
    )
    dataset = api.dataset if case.path.endswith("/query") and api.dataset else bare
    token = personal_token if case.path.startswith("/api/") else api.token
    case.call_and_validate(headers={"Authorization": f"Bearer {token}"}, checks=CHECKS)
    there = {"dataset_id": dataset.pk, "project_slug": project.slug, "key_id": project.keys.latest("pk").pk}
    there = {name: value for name, value in there.items() if name in case.path_parameters}
    if there:
        case.path_parameters.update(there)
        case.call_and_validate(headers={"Authorization": f"Bearer {token}"}, checks=CHECKS)


@described.parametrize()
@settings(max_examples=5, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_generated_requests_without_a_key_get_documented_answers(case: schemathesis.Case[Any], ready: None) -> None:
    response = case.call_and_validate(checks=CHECKS)
    open_to_all = case.path in ("/", "/healthz", "/readyz", "/metrics", "/openapi.json")
    assert response.status_code not in (200, 202) or open_to_all
