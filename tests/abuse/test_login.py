"""The admin's login and its protection: lockouts, cookies, forms from other sites, frames."""

import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.conf import settings as configured
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone
from pytest_django import Settings

LOGIN = "/admin/login/"
PASSWORD = "correct horse battery staple"
LIMIT = configured.AXES_FAILURE_LIMIT


@pytest.fixture(autouse=True)
def quick(settings: Settings) -> None:
    """Use a fast hasher. With Django's hasher, these tests would take much longer."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def ada(transactional_db: None) -> User:
    return User.objects.create_superuser("ada", password=PASSWORD)


def log_in(username: str, password: str, address: str = "192.0.2.1", **headers: str) -> Any:
    """Log in from an address with a new browser. Return the answer."""
    return Client(REMOTE_ADDR=address).post(LOGIN, {"username": username, "password": password}, headers=headers)


def guess(times: int, username: str = "ada", address: str = "192.0.2.1") -> list[int]:
    return [log_in(username, f"guess {n}", address).status_code for n in range(times)]


# -- guessing -----------------------------------------------------------------------------------------


def test_guessing_passwords_leads_to_a_lockout(ada: User) -> None:
    assert guess(LIMIT + 3) == [200] * (LIMIT - 1) + [429] * 4
    answer = log_in("ada", PASSWORD)  # the right password, too late
    assert answer.status_code == 429
    assert "_auth_user_id" not in answer.client.session
    page = answer.content.decode()
    assert re.search(r"Try again in 15 minutes, at \d\d:\d\d UTC", page)
    assert 890 < int(answer.headers["Retry-After"]) <= 900
    assert PASSWORD not in page


def test_a_lockout_affects_no_other_user_or_address(ada: User) -> None:
    User.objects.create_superuser("bob", password=PASSWORD)
    guess(LIMIT)
    assert log_in("ada", PASSWORD, "192.0.2.2").status_code == 302
    assert log_in("bob", PASSWORD).status_code == 302
    assert log_in("ada", PASSWORD).status_code == 429


def test_attempts_do_not_prolong_a_lockout(ada: User, settings: Settings) -> None:
    guess(LIMIT)
    AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(minutes=10))
    guess(LIMIT)
    AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(minutes=16))
    assert log_in("ada", PASSWORD).status_code == 302


def test_a_login_resets_the_failures(ada: User) -> None:
    for _ in range(3):
        guess(LIMIT - 1)
        assert log_in("ada", PASSWORD).status_code == 302


def test_failures_are_counted_for_all_web_processes(ada: User) -> None:
    """The count is in the database, and not in the memory of one process."""
    guess(LIMIT)
    (attempt,) = AccessAttempt.objects.all()
    assert (attempt.username, attempt.ip_address, attempt.failures_since_start) == ("ada", "192.0.2.1", LIMIT)
    assert not any("guess" in str(value) for value in vars(attempt).values()), "a password is kept"


def test_only_addresses_from_our_proxies_are_believed(ada: User, settings: Settings) -> None:
    def attempt(forwarded: str, password: str = "wrong") -> int:
        status: int = log_in("ada", password, "127.0.0.1", **{"X-Forwarded-For": forwarded}).status_code
        return status

    for n in range(LIMIT):  # without a proxy, the header is ignored: all come from one address
        attempt(f"198.51.100.{n}")
    assert attempt("198.51.100.99", PASSWORD) == 429
    settings.PROXY_COUNT = 1
    for n in range(LIMIT):  # the proxy added the last address; the client forged the others
        attempt(f"198.51.100.{n}, 203.0.113.1")
    assert attempt("10.0.0.1, 203.0.113.1", PASSWORD) == 429
    assert attempt("203.0.113.1, 203.0.113.2", PASSWORD) == 302
    for nonsense in ("", "nonsense", "203.0.113.1, x" * 10, "' OR 1=1", "1.2.3.4:80"):
        assert attempt(nonsense) in (200, 429)


def test_a_superuser_sees_failed_logins_and_clears_them(ada: User) -> None:
    guess(LIMIT)
    browser = Client()
    browser.force_login(ada)
    page = browser.get("/admin/axes/accessattempt/").content.decode()
    assert "192.0.2.1" in page
    assert "Failed logins" in page
    attempt = AccessAttempt.objects.get()
    answer = browser.post(f"/admin/axes/accessattempt/{attempt.pk}/delete/", {"post": "yes"}, follow=True)
    assert answer.redirect_chain == [("/admin/axes/accessattempt/", 302)]
    assert "The failed logins of ada from 192.0.2.1 are deleted. This user can log in again" in answer.content.decode()
    assert LogEntry.objects.latest("pk").object_repr == "ada from 192.0.2.1"
    assert log_in("ada", PASSWORD).status_code == 302


def test_other_staff_cannot_see_failed_logins(ada: User) -> None:
    guess(1)
    browser = Client()
    browser.force_login(User.objects.create_user("eve", is_staff=True))
    attempt = AccessAttempt.objects.get()
    for path in ("", f"{attempt.pk}/change/", f"{attempt.pk}/delete/"):
        assert browser.get(f"/admin/axes/accessattempt/{path}").status_code in (403, 404)
    assert "Failed logins" not in browser.get("/admin/").content.decode()


def test_any_username_is_counted(ada: User) -> None:
    for username in ("", " ", "a" * 150, "a" * 5000, "a\x00b", "'; --", "ä\u202e\U0001f600", "ADA"):
        assert log_in(username, "x", **{"User-Agent": "x" * 5000}).status_code in (200, 429)


# -- sessions and forms -------------------------------------------------------------------------------


@pytest.mark.parametrize("https", [False, True])
def test_cookies_are_sent_only_to_this_site(ada: User, settings: Settings, https: bool) -> None:
    settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = https
    answer = log_in("ada", PASSWORD)
    session, token = answer.cookies["sessionid"], answer.cookies["csrftoken"]
    assert (session["httponly"], session["samesite"], bool(session["secure"])) == (True, "Lax", https)
    assert (token["samesite"], bool(token["secure"])) == ("Lax", https)
    assert session["max-age"] == 12 * 3600


def test_a_login_starts_a_session_and_a_logout_ends_it(ada: User) -> None:
    browser = Client()
    browser.get(LOGIN)
    session = browser.session
    session["planted"] = True
    session.save()
    browser.cookies["sessionid"] = planted = session.session_key or ""
    browser.post(LOGIN, {"username": "ada", "password": PASSWORD})
    assert browser.cookies["sessionid"].value != planted
    stolen = browser.cookies["sessionid"].value
    browser.post("/admin/logout/")
    browser.cookies["sessionid"] = stolen
    assert browser.get("/admin/").status_code == 302


def test_a_form_without_its_token_is_refused(ada: User) -> None:
    """Every path of the admin refuses a form without its token, even a path that does nothing with a POST."""
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(ada)
    paths = {re.sub(r"\(.*?\)|<[^>]+>", "1", path) for path in _addresses(get_resolver().url_patterns, "/")}
    paths = {path for path in paths if path.startswith("/admin/")}
    assert len(paths) > 50
    for path in paths:
        assert browser.post(path, {"post": "yes"}).status_code == 403, path


def _addresses(patterns: Sequence[URLPattern | URLResolver], prefix: str) -> Iterator[str]:
    """Yield the paths of all views, with example parameters."""
    for each in patterns:
        path = prefix + str(each.pattern)
        if isinstance(each, URLResolver):
            yield from _addresses(each.url_patterns, path)
        else:
            yield path.removesuffix("$")


def test_pages_carry_security_headers(ada: User) -> None:
    browser = Client()
    for log_in_first in (False, True):
        if log_in_first:
            browser.force_login(ada)
        answer = browser.get("/admin/" if log_in_first else LOGIN)
        assert answer.status_code == 200
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        policy = dict(each.strip().split(" ", 1) for each in answer.headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == policy["form-action"] == "'self'"
        assert policy["frame-ancestors"] == policy["object-src"] == policy["base-uri"] == "'none'"
        assert "http" not in answer.headers["Content-Security-Policy"]


def test_the_login_redirects_only_within_the_site(ada: User) -> None:
    for target in ("https://evil.example/", "//evil.example/", "javascript:alert(1)", "/\\evil.example"):
        answer = Client().post(f"{LOGIN}?next={target}", {"username": "ada", "password": PASSWORD, "next": target})
        assert (answer.status_code, answer.headers["Location"]) == (302, "/admin/"), target
