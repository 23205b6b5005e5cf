"""Personal access tokens: who may use /api/, with which scope, and how failures are counted."""

from datetime import timedelta
from io import StringIO

import httpx
import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from pytest_django import Settings

from config.common import clock
from config.web import share
from datasets import personal_tokens
from datasets.models import PersonalAccessToken, Project
from tests.conftest import Api, record
from tests.support.servers.outages import database_away

CHALLENGE = "Bearer"


@pytest.fixture(autouse=True)
def no_strangers_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let strangers use more than their share, because these tests send many bad tokens."""
    monkeypatch.setattr(share, "_strangers", share.Budget(share=1, burst=600))


@pytest.fixture
def alice(transactional_db: None) -> User:
    return User.objects.create_user("alice", is_staff=True)


def issued(user: User, **kwargs: object) -> str:
    return personal_tokens.create(user=user, name="tests", **kwargs)[1]  # type: ignore[arg-type]


def ask(token: str | None, path: str = "/api/projects", **headers: str) -> httpx.Response:
    return Api(token).request("GET", path, headers=headers)


def error_of(response: httpx.Response) -> tuple[int, str, str]:
    body = response.json()
    return response.status_code, body["error"], body["code"]


INVALID = (401, "Invalid personal access token", "invalid_personal_access_token")


def test_a_token_opens_what_its_user_sees(alice: User, project: Project) -> None:
    token = issued(alice)
    assert ask(token).json() == {"projects": [], "next": None}
    project.members.add(alice)
    (shown,) = ask(token).json()["projects"]
    assert (shown["slug"], shown["owner"], shown["is_active"]) == ("billing", "owner", True)


def test_only_a_digest_is_stored(alice: User) -> None:
    token = issued(alice)
    assert token.startswith("pat_")
    assert len(token) == len("pat_") + 43  # 256 bits
    assert token not in str(list(PersonalAccessToken.objects.values()))
    assert issued(alice) != token


def test_a_request_without_a_token_is_refused(alice: User) -> None:
    for headers in ({}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer "}):
        response = ask(None, **headers)
        missing = (401, "Missing personal access token", "missing_personal_access_token")
        assert error_of(response) == missing
        assert response.headers["WWW-Authenticate"] == CHALLENGE
        assert response.headers["X-Request-Id"]


def test_a_token_outside_the_header_is_ignored(alice: User) -> None:
    token = issued(alice)
    assert ask(None, f"/api/projects?token={token}", Cookie=f"token={token}; sessionid={token}").status_code == 401


def test_a_revoked_token_is_refused_on_the_next_request(alice: User) -> None:
    token = issued(alice)
    assert ask(token).status_code == 200
    personal_tokens.revoke([PersonalAccessToken.objects.get()])
    assert error_of(ask(token)) == INVALID


def test_a_token_ends_when_it_expires(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    token = issued(alice, expires_at=clock.now() + timedelta(hours=1))
    assert ask(token).status_code == 200
    later = clock.now() + timedelta(hours=1)
    monkeypatch.setattr(clock, "now", lambda: later)
    assert error_of(ask(token)) == INVALID


def test_a_token_of_an_inactive_user_is_refused(alice: User) -> None:
    token = issued(alice)
    User.objects.update(is_active=False)
    assert error_of(ask(token)) == INVALID


def test_a_user_who_is_no_longer_staff_sees_nothing(alice: User, project: Project) -> None:
    token = issued(alice)
    project.members.add(alice)
    User.objects.filter(pk=alice.pk).update(is_staff=False)
    assert ask(token).json()["projects"] == []


def test_a_project_key_has_its_own_error(api: Api) -> None:
    response = ask(api.token)
    expected = (403, "Use a personal access token, not a project API key", "project_api_key")
    assert error_of(response) == expected


def test_ingest_says_where_personal_tokens_work(api: Api, alice: User) -> None:
    assert api.dataset is not None
    response = Api(issued(alice), api.dataset).one(record())
    expected = (403, "Use a project API key, not a personal access token", "personal_access_token")
    assert error_of(response) == expected
    assert "work at /api/" in response.json()["detail"]


def test_the_last_use_is_noted_once_a_minute(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    token, start = issued(alice), clock.now()
    used = []
    for seconds in (0, 30, 61):
        monkeypatch.setattr(clock, "now", lambda moment=start + timedelta(seconds=seconds): moment)
        assert ask(token).status_code == 200
        used.append(PersonalAccessToken.objects.get().last_used_at)
    assert used == [start, start, start + timedelta(seconds=61)]


# -- failures -----------------------------------------------------------------------------------------


def test_failed_tokens_are_limited_by_address(alice: User, settings: Settings) -> None:
    token = issued(alice)
    for _ in range(settings.AXES_FAILURE_LIMIT):
        assert error_of(ask("pat_wrong")) == INVALID
    response = ask("pat_wrong")
    assert error_of(response) == (429, "Too many failed tokens", "too_many_failed_tokens")
    assert 0 < int(response.headers["Retry-After"]) <= settings.AXES_COOLOFF_TIME.total_seconds()
    assert ask(token).status_code == 200  # a valid token from the same address

    settings.PROXY_COUNT = 1
    assert error_of(ask("pat_wrong", X_Forwarded_For="192.0.2.7")) != INVALID  # a name with underscores is ignored
    assert (
        error_of(Api("pat_wrong").request("GET", "/api/projects", headers={"X-Forwarded-For": "192.0.2.7"})) == INVALID
    )


def test_a_program_with_a_known_token_is_served_despite_a_flood(alice: User) -> None:
    token, other = issued(alice), issued(User.objects.create_user("bob", is_staff=True))
    assert ask(token).status_code == 200
    share._strangers.spend(10_000)
    assert ask(token).status_code == 200
    for stranger in (None, "pat_wrong", other):
        response = ask(stranger)
        assert error_of(response) == (503, "Service unavailable", "service_unavailable")
        assert (response.headers["Retry-After"], bool(response.headers["X-Request-Id"])) == ("5", True)


def test_a_token_opens_no_page_of_the_admin(alice: User) -> None:
    token = issued(alice)
    assert ask(token, "/api/projects", Cookie="sessionid=forged").status_code == 200
    assert ask(token, "/admin/").status_code == 302
    share._strangers.spend(10_000)
    assert ask(None, "/admin/", Cookie="sessionid=forged").status_code == 503


def test_without_the_database_the_answer_is_json(alice: User) -> None:
    token = issued(alice)
    with database_away():
        assert error_of(ask(token)) == (503, "Service unavailable", "service_unavailable")


# -- the command --------------------------------------------------------------------------------------


def create_pat(*arguments: str) -> str:
    out = StringIO()
    call_command("create_pat", *arguments, stdout=out, stderr=StringIO())
    return out.getvalue()


def test_create_pat_prints_only_a_token_that_works(alice: User) -> None:
    printed = create_pat("alice", "--name", "deploy", "--expires", "2999-01-31", "--read-only")
    assert ask(printed.strip()).status_code == 200
    assert printed.count("\n") == 1
    token = PersonalAccessToken.objects.get()
    assert (token.user, token.name, token.scope) == (alice, "deploy", "read")
    assert token.expires_at is not None
    assert token.expires_at.year == 2999
    create_pat("alice", "--name", "all")
    assert PersonalAccessToken.objects.get(name="all").scope == "write"


def test_create_pat_says_why_it_refuses(alice: User, owner: User) -> None:
    for arguments, reason in (
        (("nobody",), "There is no user “nobody”."),
        (("owner",), "owner is inactive or not staff"),
        (("alice", "--expires", "2020-01-31"), "2020-01-31 00:00 UTC is in the past"),
        (("alice", "--expires", "soon"), "“soon” is not a time"),
        (("alice", "--name", "x" * 201), "at most 200 characters"),
    ):
        with pytest.raises(CommandError, match=reason):
            create_pat(*arguments, *(() if "--name" in arguments else ("--name", "n")))
    assert not PersonalAccessToken.objects.exists()
