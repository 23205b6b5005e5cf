"""In the admin, a user creates a personal access token, sees it a single time, and revokes it."""

import re

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from datasets import personal_tokens
from datasets.models import PersonalAccessToken
from tests.conftest import Api

LIST = reverse("admin:datasets_personalaccesstoken_changelist")
ADD = reverse("admin:datasets_personalaccesstoken_add")


@pytest.fixture
def alice(transactional_db: None) -> User:
    return User.objects.create_user("alice", is_staff=True)


def logged_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def make(client: Client, name: str = "deploy", **form: str) -> str:
    """Make a token, and return the page that follows."""
    return client.post(ADD, {"name": name, "scope": "write", "ends": "", **form}).content.decode()


def shown_token(page: str) -> str:
    (token,) = set(re.findall(r"pat_[\w-]+", page))
    return str(token)


def works(token: str) -> bool:
    return Api(token).request("GET", "/api/projects").status_code == 200


def test_a_new_token_is_shown_once(alice: User) -> None:
    client = logged_in(alice)
    page = client.post(ADD, {"name": "deploy", "scope": "read", "ends": "30"})
    secret = shown_token(page.content.decode())
    assert works(secret)
    assert "no-store" in page.headers["Cache-Control"]
    token = PersonalAccessToken.objects.get()
    assert (token.user, token.name, token.scope) == (alice, "deploy", "read")
    assert token.expires_at is not None
    assert (token.expires_at - token.created_at).days in (29, 30)
    for path in (LIST, reverse("admin:datasets_personalaccesstoken_change", args=(token.pk,))):
        shown = client.get(path).content.decode()
        assert "deploy" in shown
        assert secret not in shown
        assert token.digest not in shown


def test_a_form_that_is_sent_twice_makes_one_token(alice: User) -> None:
    client = logged_in(alice)
    make(client)
    assert "You have an active token with this name" in make(client)
    assert PersonalAccessToken.objects.count() == 1
    personal_tokens.revoke([PersonalAccessToken.objects.get()])
    assert works(shown_token(make(client)))


def test_a_token_is_revoked_on_its_page_and_in_the_list(alice: User) -> None:
    client = logged_in(alice)
    first, second = shown_token(make(client, "first")), shown_token(make(client, "second"))
    one, two = PersonalAccessToken.objects.order_by("pk")
    revoke = reverse("admin:datasets_personalaccesstoken_revoke", args=(one.pk,))
    assert "Revoke this token?" in client.get(revoke).content.decode()
    assert works(first)
    assert "Revoked: “first”." in client.post(revoke, follow=True).content.decode()
    assert (works(first), works(second)) == (False, True)

    chosen = {"action": "revoke", "_selected_action": [two.pk]}
    assert "Revoke this token?" in client.post(LIST, chosen).content.decode()
    assert works(second)
    client.post(LIST, {**chosen, "confirmed": "yes"})
    assert not works(second)
    assert LogEntry.objects.filter(change_message="Revoked.").count() == 2


def test_a_superuser_revokes_tokens_of_others_and_makes_only_their_own(alice: User) -> None:
    theirs = shown_token(make(logged_in(alice)))
    root = User.objects.create_superuser("root")
    client = logged_in(root)
    client.post(reverse("admin:datasets_personalaccesstoken_revoke", args=(PersonalAccessToken.objects.get().pk,)))
    assert not works(theirs)
    make(client, user=str(alice.pk))
    assert PersonalAccessToken.objects.latest("pk").user == root


def test_renaming_a_token_keeps_it(alice: User) -> None:
    client = logged_in(alice)
    secret = shown_token(make(client))
    change = reverse("admin:datasets_personalaccesstoken_change", args=(PersonalAccessToken.objects.get().pk,))
    form = {"name": "release", "scope": "read", "digest": "x", "user": "1", "expires_at": ""}
    assert client.post(change, form).status_code == 302
    token = PersonalAccessToken.objects.get()
    assert (token.name, token.scope, token.user) == ("release", "write", alice)
    assert works(secret)
