"""The API answers every error in one JSON form, with a request ID. The admin answers in HTML."""

import json
import logging

import pytest
from django.http import HttpRequest
from django.test import RequestFactory
from rest_framework import exceptions

from config.common.errors import exception_handler, to_response
from config.common.requests import request_id
from datasets.contracts.keys import InvalidApiKey
from tests.conftest import Api


def handled(raised: Exception) -> tuple[int, dict[str, object], dict[str, str]]:
    response = exception_handler(raised, {"request": RequestFactory().get("/x")})
    return response.status_code, json.loads(response.content), dict(response.items())


def test_a_refusal_has_a_text_a_code_and_details() -> None:
    response = to_response(InvalidApiKey({"limit": 3}, {"X-More": "yes"}))
    assert response.status_code == 401
    assert response.content == b'{"error":"Invalid API key","code":"invalid_api_key","limit":3}'
    shown = (response["Content-Type"], response["WWW-Authenticate"], response["X-More"])
    assert shown == ("application/json", "Bearer", "yes")
    assert dict(InvalidApiKey.headers) == {"WWW-Authenticate": "Bearer"}  # the first answer's headers are not shared


@pytest.mark.parametrize("raised", [ZeroDivisionError("secret"), exceptions.APIException("secret")])
def test_an_unexpected_error_is_logged_and_hidden_from_clients(
    raised: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        status, body, _ = handled(raised)
    assert (status, body) == (500, {"error": "Internal error", "code": "internal_error"})
    (logged,) = caplog.records
    assert "/x" in logged.getMessage()
    assert logged.exc_info is not None
    assert logged.exc_info[1] is raised


@pytest.mark.django_db(transaction=True)  # Django closes old connections at each request of a file, too
@pytest.mark.parametrize(
    ("path", "host", "status", "error"),
    [
        ("/static/nothing.css", "testserver", 404, "Not found"),
        ("/nothing", "testserver", 404, "Not found"),
    ],
)
def test_both_stacks_answer_in_json_with_a_request_id(path: str, host: str, status: int, error: str) -> None:
    api = Api(None)
    for given in ("req-1", None):
        headers = {"Host": host, **({"X-Request-Id": given} if given else {})}
        response = api.request("GET", path, headers=headers)
        assert (response.status_code, response.headers["Content-Type"]) == (status, "application/json")
        assert response.json()["error"] == error
        shown = response.headers["X-Request-Id"]
        assert shown == given if given else len(shown) == 32


@pytest.mark.django_db(transaction=True)  # Django closes old connections at each request of a page
def test_the_admin_answers_in_html_with_a_request_id() -> None:
    answer = Api(None).request("GET", "/admin/login/", headers={"Host": "somebody.else", "X-Request-Id": "req-1"})
    assert (answer.status_code, answer.headers["Content-Type"]) == (400, "text/html; charset=utf-8")
    assert "Invalid request" in answer.text
    assert "req-1" in answer.text


def test_a_request_keeps_one_id() -> None:
    request = HttpRequest()
    assert request_id(request) == request_id(request)
    assert request_id(request) != request_id(HttpRequest())
