"""A staff user with a project, and a client with this user's token."""

import json
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User

from datasets import personal_tokens, services
from datasets.models import Project
from tests.conftest import Api


class Management(Api):
    """A client with a personal access token. Paths are below /api, bodies are JSON."""

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        content = None if body is None else json.dumps(body).encode()
        return self.request(
            method, f"/api{path}", content=content, headers={"Content-Type": "application/json", **given}
        )

    def ok(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Return the body of an answer that must be a success."""
        response = self.call(method, path, body, **headers)
        assert response.status_code < 300, response.text
        return response.json() if response.content else None


def error_of(response: httpx.Response) -> tuple[int, str, str]:
    """Return the status, text and code of an error."""
    body = response.json()
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["X-Request-Id"]
    return response.status_code, body["error"], body["code"]


def client_of(user: User, scope: str = "write") -> Management:
    _, secret = personal_tokens.create(user=user, name=f"{scope} of {user}", scope=scope)
    return Management(secret)


@pytest.fixture
def alice(transactional_db: None) -> User:
    return User.objects.create_user("alice", is_staff=True)


@pytest.fixture
def shop(alice: User) -> Project:
    return services.create_project(slug="shop", owner=alice, name="Web shop")


@pytest.fixture
def client(shop: Project, alice: User) -> Management:
    return client_of(alice)
