"""Changes of projects, datasets, schemas and keys: what they change, and what they do not change."""

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db.models import ProtectedError
from django.test import Client
from pytest_django import Settings

from config.common import clock, redis
from datasets import services
from datasets.contracts import revisions
from datasets.contracts.revisions import ChangeRefused
from datasets.models import ApiKey, Dataset, Project, SchemaVersion
from datasets.schemas.fields import Field
from ingest.storing.drain import drain
from tests.conftest import FIELDS, Api, record
from tests.support.sending.at_once import at_once
from tests.support.servers.outages import redis_away

A, B = Field("a", "string"), Field("b", "number")


def versions(dataset: Dataset) -> list[tuple[int, list[Field]]]:
    return [(each.number, each.field_list()) for each in dataset.versions.order_by("number")]


# -- projects and datasets ----------------------------------------------------------------------------


def test_a_new_project_is_active_and_has_a_name(owner: User) -> None:
    project = services.create_project(slug="shop", owner=owner)
    assert (project.name, project.is_active, project.default_dataset, project.owner) == ("shop", True, None, owner)
    assert services.create_project(slug="other", owner=owner, name="The other").name == "The other"


@pytest.mark.parametrize("slug", ["", "a b", "é", "x" * 101, "shop"])
def test_an_invalid_or_taken_slug_is_refused(owner: User, slug: str) -> None:
    services.create_project(slug="shop", owner=owner)
    with pytest.raises(ValidationError):
        services.create_project(slug=slug, owner=owner)
    assert Project.objects.count() == 1


def test_an_unknown_slug_is_refused(project: Project) -> None:
    assert services.find_project("billing") == project
    with pytest.raises(ValidationError, match="There is no project “nothing”"):
        services.find_project("nothing")


def test_a_dataset_is_created_with_or_without_a_schema(project: Project) -> None:
    assert versions(services.create_dataset(project=project, name="Orders", fields=[A])) == [(1, [A])]
    assert versions(services.create_dataset(project=project, name="Later")) == []
    assert versions(services.create_dataset(project=project, name="Empty", fields=[])) == [(1, [])]


@pytest.mark.parametrize("name", ["", "x" * 201, "Orders", "orders!"])
def test_a_taken_dataset_name_is_refused(project: Project, name: str) -> None:
    services.create_dataset(project=project, name="Orders")
    with pytest.raises(ValidationError):
        services.create_dataset(project=project, name=name, fields=[A])
    assert (project.datasets.count(), SchemaVersion.objects.count()) == (1, 0)


def test_names_in_any_script_are_accepted(project: Project) -> None:
    made = [services.create_dataset(project=project, name=name) for name in ("Заказы", "注文", "طلبات")]
    assert len({dataset.slug for dataset in made}) == 3
    assert [dataset.name for dataset in made] == ["Заказы", "注文", "طلبات"]


def test_two_projects_can_have_datasets_of_the_same_name(project: Project, owner: User) -> None:
    other = services.create_project(slug="other", owner=owner)
    assert len({services.create_dataset(project=each, name="Orders").pk for each in (project, other)}) == 2


def test_a_project_has_a_maximum_of_open_datasets(project: Project, settings: Settings, admin_client: Client) -> None:
    settings.DATASETS_PER_PROJECT = 2
    first = services.create_dataset(project=project, name="first")
    services.create_dataset(project=project, name="second")
    with pytest.raises(ValidationError, match="The project already has 2 open datasets, the maximum"):
        services.create_dataset(project=project, name="third")
    form = {"project": project.pk, "name": "third", "slug": "third", "description": "", "schema": "[]"}
    answer = admin_client.post("/admin/datasets/dataset/add/", form)
    assert "The project already has 2 open datasets, the maximum" in answer.content.decode()

    first.is_archived = True
    services.save_dataset(first, changed=["is_archived"])
    services.create_dataset(project=project, name="third")
    first.is_archived = False
    with pytest.raises(ValidationError, match="the maximum"):
        first.full_clean()
    settings.DATASETS_PER_PROJECT = 1
    project.datasets.get(name="second").full_clean()  # datasets that exist already stay valid


# -- publishing ---------------------------------------------------------------------------------------


def test_saving_other_fields_publishes_the_next_version(dataset: Dataset, owner: User) -> None:
    services.save_dataset(dataset, fields=[*FIELDS, A], author=owner)
    services.save_dataset(dataset, fields=FIELDS)
    assert versions(dataset) == [(1, FIELDS), (2, [*FIELDS, A]), (3, FIELDS)]
    assert [each.created_by for each in dataset.versions.order_by("number")] == [None, owner, None]


def test_saving_the_same_fields_publishes_nothing(dataset: Dataset) -> None:
    dataset.description = "What we sell."
    services.save_dataset(dataset, fields=list(FIELDS))
    services.save_dataset(dataset, changed=["description"])
    assert versions(dataset) == [(1, FIELDS)]
    dataset.refresh_from_db()
    assert dataset.description == "What we sell."


def test_a_new_order_or_description_is_a_new_version(project: Project) -> None:
    dataset = services.create_dataset(project=project, name="Orders", fields=[A, B])
    described = Field("a", "string", "of the customer")
    services.save_dataset(dataset, fields=[B, A])
    services.save_dataset(dataset, fields=[B, described])
    assert versions(dataset) == [(1, [A, B]), (2, [B, A]), (3, [B, described])]


def test_a_removed_field_cannot_return_with_another_type(api: Api, dataset: Dataset) -> None:
    assert api.one(record()).status_code == 202
    drain(dataset.pk)
    without = [field for field in FIELDS if field.name != "amount"]
    services.save_dataset(dataset, fields=without)
    dataset.description = "not saved"
    with pytest.raises(ValidationError, match="“amount” is stored as number and cannot become string"):
        services.save_dataset(dataset, fields=[*without, Field("amount", "string")])
    dataset.refresh_from_db()
    assert (dataset.description, len(versions(dataset))) == ("", 2)
    services.save_dataset(dataset, fields=FIELDS)
    assert api.one(record()).status_code == 202


def test_concurrent_changes_get_different_numbers(dataset: Dataset) -> None:
    changes = [[*FIELDS, Field(f"f{n}", "string")] for n in range(6)]
    at_once([lambda fields=fields: services.save_dataset(dataset, fields=fields) for fields in changes])  # type: ignore[misc]
    published = versions(dataset)
    assert [number for number, _ in published] == [1, 2, 3, 4, 5, 6, 7]
    assert sorted(fields[-1].name for _, fields in published[1:]) == [f"f{n}" for n in range(6)]


# -- published versions stay --------------------------------------------------------------------------


def test_published_versions_never_change(dataset: Dataset, owner: User) -> None:
    first = SchemaVersion.objects.values().get(dataset=dataset)
    services.save_dataset(dataset, fields=[A, *FIELDS], author=owner)
    dataset.is_archived = True
    services.save_dataset(dataset, fields=FIELDS[:1])
    assert SchemaVersion.objects.values().get(dataset=dataset, number=1) == first


def test_the_admin_keeps_what_records_refer_to(dataset: Dataset, key: ApiKey) -> None:
    assert SchemaVersion not in admin.site._registry
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    for each in (dataset, key, dataset.project):
        address = f"/admin/datasets/{each._meta.model_name}/{each.pk}/delete/"
        assert client.post(address, {"post": "yes"}).status_code == 403
        action = {"action": "delete_selected", "_selected_action": each.pk, "post": "yes"}
        client.post(f"/admin/datasets/{each._meta.model_name}/", action)
        each.refresh_from_db()
    for each in (dataset, dataset.project):
        with pytest.raises(ProtectedError):
            each.delete()
    assert versions(dataset) == [(1, FIELDS)]


# -- keys ---------------------------------------------------------------------------------------------


def test_a_key_has_a_name_and_an_expiry(project: Project) -> None:
    end = clock.now() + timedelta(days=1)
    key = services.create_key(project=project, name="checkout", expires_at=end)
    key.refresh_from_db()
    assert (key.name, key.expires_at, key.revoked_at, key.last_used_at) == ("checkout", end, None, None)


def test_a_key_that_has_already_expired_is_refused(project: Project) -> None:
    with pytest.raises(ValidationError, match=r"2020-01-31 00:00 UTC is in the past\. Choose a later time\."):
        services.create_key(project=project, name="late", expires_at=datetime(2020, 1, 31, tzinfo=UTC))
    for name in ("", "x" * 201):
        with pytest.raises(ValidationError):
            services.create_key(project=project, name=name)
    assert project.keys.count() == 0


def test_a_rotation_creates_a_key_and_ends_the_old_one(key: ApiKey) -> None:
    successor = services.rotate_key(key, grace=timedelta())
    assert (successor.project, successor.name, successor.revoked_at) == (key.project, key.name, None)
    assert successor.token_id != key.token_id
    assert key.revoked_at is not None

    before = clock.now()
    third = services.rotate_key(successor, grace=timedelta(hours=1))
    assert successor.revoked_at is None
    assert successor.expires_at is not None
    assert before + timedelta(hours=1) <= successor.expires_at <= clock.now() + timedelta(hours=1)
    assert third.expires_at is None


# -- announcements of changes -------------------------------------------------------------------------


def test_a_change_gives_the_project_a_new_revision(project: Project, dataset: Dataset, key: ApiKey) -> None:
    seen = {redis.client().get(revisions.key(project.pk))}
    for change in (
        lambda: services.save_project(project, changed=()),
        lambda: services.create_dataset(project=project, name="Another"),
        lambda: services.save_dataset(dataset),
        lambda: services.create_key(project=project, name="another"),
        lambda: services.save_key(key, changed=()),
        lambda: services.rotate_key(key, grace=timedelta(hours=1)),
        lambda: services.revoke_key(key),
    ):
        change()
        revision = redis.client().get(revisions.key(project.pk))
        assert revision is not None
        assert revisions.is_settled(revision)
        assert revision not in seen
        seen.add(revision)


def test_without_redis_a_rotation_creates_no_key(key: ApiKey) -> None:
    with redis_away():
        for grace in (timedelta(), timedelta(hours=1)):
            with pytest.raises(ChangeRefused):
                services.rotate_key(key, grace=grace)
    assert [(each.expires_at, each.revoked_at) for each in ApiKey.objects.all()] == [(None, None)]
