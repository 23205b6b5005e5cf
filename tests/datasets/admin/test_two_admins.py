"""Two admins change the same object at the same time: no change is lost, and no old state comes back."""

import json
from collections.abc import Callable
from datetime import timedelta
from itertools import combinations
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.db.models import Model
from django.test import Client, RequestFactory
from django.urls import reverse

from datasets import personal_tokens, services
from datasets.admin.edits import GuardedAdmin
from datasets.models import ApiKey, Dataset, PersonalAccessToken, Project
from datasets.schemas.fields import Field
from quotas.models import QuotaLimit
from tests.conftest import FIELDS
from tests.support.admin.forms import Form, form_of
from tests.support.sending.at_once import at_once
from tests.support.servers.outages import redis_away

Act = Callable[[Any], object]
MORE = [*FIELDS, Field("source", "string")]


def _set(name: str, value: Any, save: Callable[..., None]) -> Act:
    def act(loaded: Any) -> None:
        setattr(loaded, name, value)
        save(loaded, changed=[name])

    return act


# Actions of an admin. Each has a condition that must be true afterwards, even if another admin made a change meanwhile.
KEY_ACTS: list[tuple[Act, Callable[[Any], bool]]] = [
    (_set("name", "renamed", services.save_key), lambda key: key.name == "renamed"),
    (services.revoke_key, lambda key: key.revoked_at is not None),
    (
        lambda key: services.rotate_key(key, grace=timedelta(hours=1)),
        lambda key: key.expires_at is not None or key.revoked_at is not None,
    ),
]
PROJECT_ACTS: list[tuple[Act, Callable[[Any], bool]]] = [
    (_set("name", "renamed", services.save_project), lambda project: project.name == "renamed"),
    (_set("is_active", False, services.save_project), lambda project: not project.is_active),
    (_set("slug", "moved", services.save_project), lambda project: project.slug == "moved"),
]
DATASET_ACTS: list[tuple[Act, Callable[[Any], bool]]] = [
    (_set("description", "new", services.save_dataset), lambda dataset: dataset.description == "new"),
    (_set("is_archived", True, services.save_dataset), lambda dataset: dataset.is_archived),
    (
        lambda dataset: services.save_dataset(dataset, fields=MORE),
        lambda dataset: dataset.versions.count() == 2,
    ),
    (services.note_table, lambda dataset: dataset.has_table),
]


def _object(model: type[Model], project: Project, number: int) -> Model:
    if model is Project:
        return services.create_project(slug=f"p{number}", owner=project.owner)
    if model is ApiKey:
        return services.create_key(project=project, name=f"key {number}")
    return services.create_dataset(project=project, name=f"Dataset {number}", fields=FIELDS)


@pytest.mark.parametrize(
    ("model", "acts"),
    [(ApiKey, KEY_ACTS), (Project, PROJECT_ACTS), (Dataset, DATASET_ACTS)],
    ids=["a key", "a project", "a dataset"],
)
def test_two_concurrent_changes_both_hold(project: Project, model: type[Model], acts: list[Any]) -> None:
    """Each admin acts on the state that was loaded before the other one acted."""
    for number, ((one, one_holds), (other, other_holds)) in enumerate(combinations(acts, 2)):
        for order in range(3):
            pk = _object(model, project, number * 3 + order).pk
            mine, yours = (model._default_manager.get(pk=pk) for _ in range(2))
            if order == 0:
                at_once([lambda a=one, o=mine: a(o), lambda a=other, o=yours: a(o)])  # type: ignore[misc]
            elif order == 1:
                one(mine), other(yours)
            else:
                other(yours), one(mine)
            now = model._default_manager.get(pk=pk)
            assert one_holds(now), (number, order)
            assert other_holds(now), (number, order)
            if model is Project:
                services.save_project(_renamed(now), changed=["slug"])  # free the slug for the next round


def _renamed(project: Any) -> Project:
    project.slug = f"done-{project.pk}"
    return project  # type: ignore[no-any-return]


# -- forms --------------------------------------------------------------------------------------------


def _client(name: str) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser(name))
    return client


def _load(client: Client, thing: Model) -> tuple[str, Form]:
    path = reverse(f"admin:{thing._meta.app_label}_{thing._meta.model_name}_change", args=(thing.pk,))
    return path, form_of(client.get(path).content.decode(), f"{thing._meta.model_name}_form")


def _schema(fields: list[Field]) -> str:
    return json.dumps({"fields": [field.as_json() for field in fields]}, indent=2)


@pytest.fixture
def things(project: Project, dataset: Dataset, key: ApiKey) -> dict[type[Model], Model]:
    """One object of each model that the admin edits."""
    user = User.objects.create_user("carol")
    limit = QuotaLimit.objects.create(user=user, records_per_month=10_000)
    group = Group.objects.create(name="readers")
    token, _ = personal_tokens.create(user=User.objects.create_superuser("token owner"), name="deploy")
    personal: dict[type[Model], Model] = {PersonalAccessToken: token, User: user, Group: group, QuotaLimit: limit}
    return {Project: project, Dataset: dataset, ApiKey: key, **personal}


# The change of one admin, and the change of another admin on a page that was loaded before the first change.
PAIRS: list[tuple[type[Model], dict[str, str], dict[str, str]]] = [
    (Project, {"name": "First"}, {"slug": "second"}),
    (Project, {"name": "First"}, {"name": "Second"}),
    (Dataset, {"schema": _schema(MORE)}, {"description": "Second"}),
    (Dataset, {"description": "First"}, {"schema": _schema(MORE)}),
    (Dataset, {"name": "First"}, {"name": "Second"}),
    (ApiKey, {"name": "First"}, {"name": "Second"}),
    (PersonalAccessToken, {"name": "First"}, {"name": "Second"}),
    (User, {"email": "first@example.com"}, {"first_name": "Second"}),
    (Group, {"name": "First"}, {"name": "Second"}),
    (QuotaLimit, {"preset": "0"}, {"preset": "100000"}),
]


def test_these_tests_cover_each_form_that_changes_data(things: dict[type[Model], Model]) -> None:
    admin.autodiscover()
    request = RequestFactory().get("/")
    request.user = User.objects.create_superuser("root")
    changed = {model for model, each in admin.site._registry.items() if each.has_change_permission(request)}
    assert changed == set(things) == {model for model, _, _ in PAIRS}
    assert all(isinstance(admin.site._registry[model], GuardedAdmin) for model in changed)


@pytest.mark.parametrize(("model", "first", "second"), PAIRS, ids=str)
def test_a_form_loaded_before_another_save_changes_nothing(
    things: dict[type[Model], Model], model: type[Model], first: dict[str, str], second: dict[str, str]
) -> None:
    alice, bob = _client("alice"), _client("bob")
    path, early = _load(bob, things[model])
    _, current = _load(alice, things[model])
    assert alice.post(path, current.filled(**first)).status_code == 302
    before = list(model._default_manager.values())
    answer = bob.post(path, early.filled(**second))
    page = answer.content.decode()
    assert answer.status_code == 200
    assert "Nothing was saved, because this page is out of date." in page
    assert "alice, " in page
    assert list(model._default_manager.values()) == before
    shown = form_of(page, f"{model._meta.model_name}_form")
    for name, value in second.items():
        if name in first:
            assert shown.values[name] == [first[name]]
            assert f"<pre>{value}</pre>" in page
        else:
            assert shown.values[name] == [value]
    # The page shown now can be saved, and both changes hold.
    assert bob.post(path, shown.filled()).status_code == 302
    _, after = _load(bob, things[model])
    for name, value in {**second, **first}.items():
        assert after.values[name] == [value]


@pytest.mark.parametrize(("model", "first", "second"), PAIRS, ids=str)
def test_the_second_of_two_concurrent_saves_reports_the_first(
    things: dict[type[Model], Model], model: type[Model], first: dict[str, str], second: dict[str, str]
) -> None:
    saves = []
    for name, changes in (("alice", first), ("bob", second)):
        client = _client(name)
        path, form = _load(client, things[model])
        posted = form.filled(**changes)
        saves.append(lambda client=client, path=path, posted=posted: client.post(path, posted))
    answers = at_once(saves)
    assert sorted(answer.status_code for answer in answers) == [200, 302]
    refused = next(answer for answer in answers if answer.status_code == 200)
    assert "Nothing was saved, because this page is out of date." in refused.content.decode()


def test_an_admin_can_save_the_same_page_twice(things: dict[type[Model], Model]) -> None:
    client = _client("alice")
    for name in ("One", "Two"):
        path, form = _load(client, things[Project])
        assert client.post(path, form.filled(name=name)).status_code == 302
    assert Project.objects.get(pk=things[Project].pk).name == "Two"


@pytest.mark.parametrize("loaded", ["", "nonsense", "x:y:z"])
def test_a_forged_page_state_saves_nothing(things: dict[type[Model], Model], loaded: str) -> None:
    path, form = _load(_client("alice"), things[Project])
    answer = _client("bob").post(path, form.filled(name="New", _loaded=loaded))
    assert answer.status_code == 200
    assert Project.objects.get(pk=things[Project].pk).name == "billing"


def test_a_refused_save_keeps_the_input(things: dict[type[Model], Model]) -> None:
    client = _client("alice")
    path, form = _load(client, things[Dataset])
    with redis_away():
        answer = client.post(path, form.filled(description="a long description"))
    assert answer.status_code == 200
    assert "Redis does not answer, so the change could not take effect. Try again." in answer.content.decode()
    shown = form_of(answer.content.decode(), "dataset_form")
    assert shown.values["description"] == ["a long description"]
    assert client.post(path, shown.filled()).status_code == 302
    assert Dataset.objects.get(pk=things[Dataset].pk).description == "a long description"


def test_a_dataset_cannot_take_the_slug_of_another(things: dict[type[Model], Model], project: Project) -> None:
    services.create_dataset(project=project, name="Orders")
    client = _client("alice")
    path, form = _load(client, things[Dataset])
    page = client.post(path, form.filled(slug="orders", name="Not saved yet")).content.decode()
    assert "The project has another dataset with this slug. Choose another slug." in page
    assert page.count("Not saved yet") == 1  # in the form, but not in the breadcrumb


def test_one_of_two_equal_new_names_is_refused(project: Project) -> None:
    saves = []
    for name in ("alice", "bob"):
        client, path = _client(name), reverse("admin:datasets_project_add")
        form = form_of(client.get(path).content.decode(), "project_form")
        posted = form.filled(name="Shop", slug="shop")
        saves.append(lambda client=client, posted=posted, path=path: client.post(path, posted))
    answers = at_once(saves)
    assert sorted(answer.status_code for answer in answers) == [200, 302]
    assert Project.objects.filter(slug="shop").count() == 1


@pytest.mark.parametrize("own", [False, True])
def test_a_new_password_does_not_undo_a_deactivation(
    things: dict[type[Model], Model], own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, secret = _client("alice"), "a long password for carol"
    user = User.objects.get(username="alice" if own else "carol")
    user.set_password("the old one")
    user.save()
    client.force_login(User.objects.get(username="alice"))
    hashed = User.set_password

    def deactivated_meanwhile(self: User, password: str) -> None:
        User.objects.filter(pk=self.pk).update(is_active=False)
        hashed(self, password)

    monkeypatch.setattr(User, "set_password", deactivated_meanwhile)
    path = reverse("admin:password_change") if own else reverse("admin:auth_user_password_change", args=(user.pk,))
    posted = {"password1": secret, "password2": secret, "usable_password": "true"}
    posted |= {"old_password": "the old one", "new_password1": secret, "new_password2": secret}
    assert client.post(path, posted).status_code == 302
    user.refresh_from_db()
    assert user.check_password(secret)
    assert not user.is_active
