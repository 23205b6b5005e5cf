"""API keys: which tokens are accepted and which are refused."""

import base64
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest
from django.apps import apps
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.core import serializers
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from config.common import redis
from datasets import services
from datasets.contracts import cache
from datasets.contracts.keys import InvalidApiKey, MissingProjectClaim, issue_token, read_token
from datasets.models import ApiKey, Dataset, Project
from tests.conftest import FIELDS, Api, record
from tests.support.admin.forms import form_of

INVALID = {"error": "Invalid API key", "code": "invalid_api_key"}
MISSING = {"error": "Missing API key", "code": "missing_api_key"}
NO_PROJECT = {"error": "Project not found in API token claims", "code": "missing_project_claim"}


def sign(claims: dict[str, Any], secret: str | None = None, algorithm: str = "HS256") -> str:
    return jwt.encode(claims, secret or django_settings.API_KEY_SECRET, algorithm=algorithm)


def claims_of(key: ApiKey, **changes: Any) -> dict[str, Any]:
    """Return the claims of a key's token with changes. The value `...` leaves a claim out."""
    claims = {"jti": str(key.token_id), "project_id": key.project_id, "iat": int(time.time()), **changes}
    return {name: value for name, value in claims.items() if value is not ...}


def encoded(part: Any) -> str:
    text = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def with_authorization(api: Api, value: str) -> httpx.Response:
    return Api(None, api.dataset).one(record(), Authorization=value)


def assert_refused(response: httpx.Response, answer: dict[str, str] = INVALID) -> None:
    assert (response.status_code, response.json()) == (401, answer)
    assert response.headers["WWW-Authenticate"] == "Bearer"


# -- the header ---------------------------------------------------------------------------------------


def test_the_bearer_scheme_is_accepted_in_any_case(api: Api) -> None:
    for scheme in ("Bearer", "bearer", "BEARER"):
        assert with_authorization(api, f"{scheme} {api.token}").status_code == 202
    assert with_authorization(api, f"Bearer   {api.token}  ").status_code == 202


def test_anything_but_a_bearer_token_is_a_missing_key(api: Api, dataset: Dataset) -> None:
    for value in ("", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", f"Token {api.token}", f"{api.token}", "Bearer:x"):
        assert_refused(with_authorization(api, value), MISSING)
    assert_refused(Api(None, dataset).one(record()), MISSING)


def test_a_key_outside_the_header_is_ignored(api: Api, dataset: Dataset) -> None:
    nobody = Api(None, dataset)
    path = f"/datasets/{dataset.pk}"
    assert_refused(nobody.post(f"{path}?token={api.token}&api_key={api.token}", record()), MISSING)
    assert_refused(nobody.post(path, record(), X_Api_Key=str(api.token), Cookie=f"token={api.token}"), MISSING)


def test_a_personal_token_has_its_own_error(api: Api) -> None:
    for token in ("pat_", "pat_abc", f"pat_{api.token}"):
        response = with_authorization(api, f"Bearer {token}")
        answer = {"error": "Use a project API key, not a personal access token", "code": "personal_access_token"}
        assert response.status_code == 403
        assert answer.items() <= response.json().items()
        assert "WWW-Authenticate" not in response.headers
    assert_refused(with_authorization(api, "Bearer PAT_abc"))


# -- the token ----------------------------------------------------------------------------------------


def test_a_malformed_token_is_refused(api: Api) -> None:
    header, payload, signature = str(api.token).split(".")
    for token in (
        "x",
        ".",
        "..",
        "...",
        "a.b.c",
        f"{header}.{payload}",
        f"{header}.{payload}.",
        f"{header}.{payload}.{signature}.",
        f"{header}.{payload}.{signature}x",
        f"{header}.{payload}.{signature[:-2]}",
        f"{header}..{signature}",
        f".{payload}.{signature}",
        f"{payload}.{header}.{signature}",
        f"{api.token} {api.token}",
        f"{encoded([])}.{payload}.{signature}",
        f"{encoded(b'{')}.{payload}.{signature}",
        f"{encoded({'alg': 'HS256', 'crit': ['x']})}.{payload}.{signature}",
        "x" * 4097,
        "x" * 30_000,
        "~" * 100,
        "%00",
        "null",
    ):
        assert_refused(with_authorization(api, f"Bearer {token}"))


def test_a_key_has_one_token(api: Api) -> None:
    """base64 allows other spellings of a signature. They are refused, because the catalog would cache each of them."""
    header, payload, signature = str(api.token).split(".")
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".index(signature[-1])
    same_bits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[last ^ 1]
    for spelling in (f"!{signature}", f"{signature}!!!", f"{signature}=", signature[:-1] + same_bits, f"{signature}\n"):
        with pytest.raises(InvalidApiKey):
            read_token(f"{header}.{payload}.{spelling}")
    assert api.one(record()).status_code == 202


def test_text_that_is_not_ascii_is_refused(api: Api) -> None:
    for token in ("é", "\u2713.\u2713.\u2713", f"{api.token}é", "\ud800"):
        with pytest.raises(InvalidApiKey):
            read_token(token)


def test_a_token_with_another_signature_is_refused(api: Api, key: ApiKey) -> None:
    claims = claims_of(key)
    header, payload, signature = sign(claims).split(".")
    own = encoded({**claims, "project_id": claims["project_id"] + 1})
    for token in (
        sign(claims, "another secret, just as long as the one that signs"),
        sign(claims, algorithm="HS384"),
        jwt.encode(claims, "", algorithm="none"),
        f"{encoded({'alg': 'none', 'typ': 'JWT'})}.{payload}.",
        f"{encoded({'alg': 'None', 'typ': 'JWT'})}.{payload}.{signature}",
        f"{encoded({'alg': 'RS256', 'typ': 'JWT'})}.{payload}.{signature}",
        f"{encoded({'alg': 'HS256', 'typ': 'JWT', 'jwk': {'kty': 'oct', 'k': 'eA'}})}.{payload}.{signature}",
        f"{encoded({'typ': 'JWT'})}.{payload}.{signature}",
        f"{header}.{own}.{signature}",
    ):
        assert_refused(with_authorization(api, f"Bearer {token}"))
    assert with_authorization(api, f"Bearer {sign(claims)}").status_code == 202


def test_a_token_without_a_project_has_its_own_error(api: Api, key: ApiKey) -> None:
    wrong: list[Any] = [..., None, "", str(key.project_id), float(key.project_id), True, [key.project_id], {}]
    for project_id in wrong:
        token = sign(claims_of(key, project_id=project_id))
        assert_refused(with_authorization(api, f"Bearer {token}"), NO_PROJECT)


def test_a_token_of_no_existing_key_is_refused(api: Api, key: ApiKey) -> None:
    wrong: list[Any] = [..., None, "", "x", 7, [], str(uuid4()), str(key.pk)]
    for token_id in wrong:
        assert_refused(with_authorization(api, f"Bearer {sign(claims_of(key, jti=token_id))}"))


def test_a_token_with_another_keys_project_is_refused(api: Api, key: ApiKey) -> None:
    other = services.create_project(slug="other", owner=User.objects.create_user("other"))
    for project_id in (other.pk, 0, -1, 10**6, 2**63, 2**70, 10**400):
        assert_refused(with_authorization(api, f"Bearer {sign(claims_of(key, project_id=project_id))}"))


def test_a_token_is_valid_until_it_expires(api: Api, key: ApiKey) -> None:
    moment = int(time.time())
    wrong: list[dict[str, Any]] = [
        {"exp": moment - 1},
        {"exp": 0},
        {"exp": -1},
        {"exp": True},
        {"exp": None},
        {"exp": "soon"},
        {"exp": []},
        {"exp": 1e400},
        {"nbf": moment + 3600},
        {"nbf": "soon"},
        {"nbf": None},
        {"exp": moment + 3600, "nbf": moment + 1800},
    ]
    for changes in wrong:
        assert_refused(with_authorization(api, f"Bearer {sign(claims_of(key, **changes))}"))
    for changes in ({"exp": moment + 3600}, {"exp": str(moment + 3600)}, {"nbf": moment - 1}, {"iat": moment + 3600}):
        assert with_authorization(api, f"Bearer {sign(claims_of(key, **changes))}").status_code == 202, changes


def test_the_claims_are_read_without_a_database_or_redis(key: ApiKey) -> None:
    key.expires_at = datetime(2100, 1, 1, tzinfo=UTC)
    claims = read_token(issue_token(key))
    assert (claims.token_id, claims.project_id) == (key.token_id, key.project_id)
    assert claims.expires_at == key.expires_at.timestamp()
    with pytest.raises(MissingProjectClaim):
        read_token(sign({"jti": str(key.token_id)}))


# -- the key ------------------------------------------------------------------------------------------


def test_a_revoked_key_is_refused_on_the_next_request(api: Api, key: ApiKey, project: Project) -> None:
    another = Api(issue_token(services.create_key(project=project, name="another")), api.dataset)
    assert (api.one(record()).status_code, another.one(record()).status_code) == (202, 202)
    services.revoke_key(key)
    for response in (api.one(record()), api.batch([record()]), api.one(b"{"), api.post("/datasets/999999", b"")):
        assert_refused(response)
    assert another.one(record()).status_code == 202


def test_revoking_again_keeps_the_first_time(key: ApiKey) -> None:
    services.revoke_key(key)
    revoked_at = key.revoked_at
    assert revoked_at is not None
    services.revoke_key(key)
    assert key.revoked_at == revoked_at


def test_keys_are_refused_while_the_owner_is_inactive(api: Api, project: Project, owner: User) -> None:
    browser = Client()
    browser.force_login(User.objects.create_superuser("root"))
    path = reverse("admin:auth_user_change", args=(owner.pk,))
    form = form_of(browser.get(path).content.decode(), "user_form")
    assert api.one(record()).status_code == 202
    deactivated = {name: value for name, value in form.values.items() if name not in ("is_active", "_loaded")}
    assert browser.post(path, deactivated).status_code == 302
    assert_refused(api.one(record()))
    why = browser.get(reverse("admin:ingest_diagnosis", args=(project.pk,))).content.decode()
    assert "owner, owner, is inactive, so all keys of the project are refused." in why
    assert browser.post(path, {**deactivated, "is_active": "on"}).status_code == 302
    assert api.one(record()).status_code == 202


@pytest.mark.parametrize("project_id", [2**63, 10**30, 0, -1])
def test_a_genuine_token_of_an_impossible_project_is_refused(key: ApiKey, dataset: Dataset, project_id: int) -> None:
    claims = {"jti": str(key.token_id), "project_id": project_id}
    token = jwt.encode(claims, django_settings.API_KEY_SECRET, algorithm="HS256")
    assert_refused(Api(token, dataset).one(record()))


def test_keys_are_refused_while_the_project_is_inactive(api: Api, project: Project) -> None:
    assert api.one(record()).status_code == 202
    project.is_active = False
    services.save_project(project, changed=["is_active"])
    assert_refused(api.one(record()))
    project.is_active = True
    services.save_project(project, changed=["is_active"])
    assert api.one(record()).status_code == 202


def test_another_projects_key_finds_no_dataset(api: Api, dataset: Dataset) -> None:
    other = services.create_project(slug="other", owner=User.objects.create_user("other"))
    services.create_dataset(project=other, name="Theirs", fields=FIELDS)
    stranger = Api(issue_token(services.create_key(project=other, name="tests")), dataset)
    assert stranger.one(record()).status_code == 404
    assert api.one(record()).status_code == 202


def test_an_expired_key_is_refused_despite_a_cached_contract(project: Project, dataset: Dataset) -> None:
    expires_at = datetime.now(UTC) + timedelta(seconds=2)
    api = Api(issue_token(services.create_key(project=project, name="brief", expires_at=expires_at)), dataset)
    assert api.one(record()).status_code == 202
    deadline = time.monotonic() + 30
    while (response := api.one(record())).status_code == 202:
        assert time.monotonic() < deadline
    assert_refused(response)
    assert time.time() >= expires_at.timestamp()


def test_an_expiry_set_later_is_obeyed(api: Api, key: ApiKey) -> None:
    assert api.one(record()).status_code == 202
    key.expires_at = datetime.now(UTC) - timedelta(seconds=1)
    services.save_key(key, changed=["expires_at"])
    assert_refused(api.one(record()))
    key.expires_at = datetime.now(UTC) + timedelta(hours=1)
    services.save_key(key, changed=["expires_at"])
    assert api.one(record()).status_code == 202


def test_a_later_expiry_does_not_extend_an_issued_token(project: Project, dataset: Dataset) -> None:
    key = services.create_key(project=project, name="brief")
    key.expires_at = datetime.now(UTC) - timedelta(seconds=1)
    services.save_key(key, changed=["expires_at"])
    api = Api(issue_token(key), dataset)
    assert_refused(api.one(record()))
    key.expires_at = None
    services.save_key(key, changed=["expires_at"])
    assert_refused(api.one(record()))
    assert Api(issue_token(key), dataset).one(record()).status_code == 202


def test_a_rotated_key_works_during_its_grace_period(api: Api, key: ApiKey) -> None:
    successor = Api(issue_token(services.rotate_key(key, grace=timedelta(hours=1))), api.dataset)
    assert (api.one(record()).status_code, successor.one(record()).status_code) == (202, 202)
    key.refresh_from_db()
    assert key.expires_at is not None
    last = Api(issue_token(services.rotate_key(key, grace=timedelta(0))), api.dataset)
    assert_refused(api.one(record()))
    assert (successor.one(record()).status_code, last.one(record()).status_code) == (202, 202)


# -- the secret ---------------------------------------------------------------------------------------


def test_issued_keys_work_while_their_secret_is_a_fallback(api: Api, key: ApiKey, settings: Settings) -> None:
    former = settings.API_KEY_SECRET
    receipt = api.one(record()).headers["Location"]
    settings.API_KEY_SECRET = "the new secret, which signs from now on, " + "x" * 20
    settings.API_KEY_SECRET_FALLBACKS = ["one in between, of which there are no keys left", former]
    for _ in range(2):  # first from the cache, then as in another process
        assert api.one(record()).status_code == 202
        assert api.request("GET", receipt).status_code == 200
        cache.forget_all()
    renewed = Api(issue_token(key), api.dataset)
    assert renewed.token != api.token
    settings.API_KEY_SECRET_FALLBACKS = []
    assert_refused(api.one(record()))
    assert renewed.one(record()).status_code == 202
    assert renewed.request("GET", receipt).status_code == 404


def test_an_expired_token_of_a_fallback_secret_is_refused(api: Api, key: ApiKey, settings: Settings) -> None:
    former = settings.API_KEY_SECRET
    settings.API_KEY_SECRET, settings.API_KEY_SECRET_FALLBACKS = "another secret of a decent length, now", [former]
    expired = sign(claims_of(key, exp=int(time.time()) - 1), former)
    assert_refused(with_authorization(api, f"Bearer {expired}"))


def test_a_token_is_not_stored(api: Api, key: ApiKey) -> None:
    assert api.one(record()).status_code == 202
    token = str(api.token)
    rows = [row for model in apps.get_models() for row in model._default_manager.all()]
    database = serializers.serialize("json", rows)
    assert str(key.token_id) in database
    client = redis.client()
    found = [database.encode(), *(each for name in client.keys("*") for each in (name, client.dump(name)))]
    for part in (token, token.split(".")[2]):
        assert not any(part.encode() in each for each in found)
