"""No page, list, filter, choice, action or export of the admin shows or changes objects of another tenant.

The tests take pages and models from the admin's registry and URLs, so they cover pages that are added later. All
objects of the other tenant contain one word, which no response may contain.
"""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from datasets import personal_tokens, services
from datasets.admin.tenancy import TenantAdmin, scope
from datasets.contracts.keys import issue_token
from datasets.models import ApiKey, Dataset, PersonalAccessToken, Project
from datasets.schemas.fields import Field
from ingest.models import DatasetRecords, QuarantinedEntry
from ingest.monitoring import refusals
from quotas.models import MonthlyUsage, QuotaLimit, ThresholdEvent
from tests.conftest import Api, record, stored

SECRET = "zebra7f3"
_OWN = "heron"


class Tenant:
    """A staff user with a project and one object of every model in the admin."""

    def __init__(self, word: str) -> None:
        self.user = User.objects.create_user(word, f"{word}@example.com", is_staff=True)
        self.project = services.create_project(slug=word, owner=self.user, name=f"Project {word}")
        fields = [Field("country", "string", word)]
        self.dataset = services.create_dataset(project=self.project, name=f"Dataset {word}", fields=fields)
        self.key = services.create_key(project=self.project, name=f"Key {word}")
        token, _ = personal_tokens.create(user=self.user, name=f"Token {word}")
        entry = QuarantinedEntry.objects.create(
            dataset=self.dataset,
            generation=word[:8],
            position=1,
            origin="1-0",
            count=1,
            body=f'{{"country": "{word}"}}'.encode(),
            format="o",
            schema_version_id=self.dataset.versions.get().pk,
            trace_id=word,
            reason=f"because of {word}",
        )
        limit = QuotaLimit.objects.create(user=self.user, records_per_month=1000)
        usage = MonthlyUsage.objects.create(user=self.user, period="2026-01", used=5)
        event = ThresholdEvent.objects.create(user=self.user, period="2026-01", percent=80, used=800, limit=1000)
        log = LogEntry.objects.create(
            user=self.user,
            content_type=ContentType.objects.get_for_model(Dataset),
            object_id=str(self.dataset.pk),
            object_repr=f"Dataset {word}",
            action_flag=CHANGE,
            change_message=f"Changed {word}.",
        )
        self.objects: dict[type[Model], Model] = {
            Project: self.project,
            Dataset: self.dataset,
            DatasetRecords: DatasetRecords.objects.get(pk=self.dataset.pk),
            ApiKey: self.key,
            PersonalAccessToken: token,
            QuarantinedEntry: entry,
            QuotaLimit: limit,
            MonthlyUsage: usage,
            ThresholdEvent: event,
            LogEntry: log,
            User: self.user,
            Group: Group.objects.create(name=f"Group {word}"),
            AccessAttempt: AccessAttempt.objects.create(username=word, ip_address="192.0.2.1", failures_since_start=1),
        }
        sent = {"timestamp": record()["timestamp"], "context": {}, "country": word}
        assert Api(issue_token(self.key), self.dataset).one(sent, X_Request_Id=word).status_code == 202
        (row,) = stored(self.dataset)
        assert row["country"] == word
        self.record_id: str = row["id"]
        refused = Api(issue_token(self.key), self.dataset).one({**sent, word: 1}, X_Request_Id=word)
        assert refused.status_code == 400
        (self.refusal,) = refusals.latest(self.project.pk)

    def everything(self) -> dict[str, list[dict[str, Any]]]:
        """Return all rows of this tenant."""
        kept = {model: scope(model._default_manager.all(), self.user) for model in self.objects}
        return {str(model): list(rows.order_by("pk").values()) for model, rows in kept.items()}


@pytest.fixture
def zebra(transactional_db: None) -> Tenant:
    return Tenant(SECRET)


@pytest.fixture
def heron(transactional_db: None) -> Tenant:
    return Tenant(_OWN)


def as_user(user: User) -> Client:
    client = Client(raise_request_exception=True)
    client.force_login(user)
    return client


def text_of(response: Any) -> str:
    streamed = getattr(response, "streaming_content", None)
    content = b"".join(streamed) if streamed is not None else response.content
    return str(content, errors="replace")


def patterns(resolver: URLResolver, prefix: str = "") -> Iterator[tuple[str, URLPattern]]:
    """Yield the path and the pattern of every URL of the admin."""
    for each in resolver.url_patterns:
        path = prefix + str(each.pattern)
        if isinstance(each, URLResolver):
            yield from patterns(each, path)
        else:
            yield path, each


def admin_patterns() -> list[tuple[str, URLPattern]]:
    (root,) = (each for each in get_resolver().url_patterns if str(each.pattern) == "admin/")
    assert isinstance(root, URLResolver)
    return list(patterns(root))


def names_of(pattern: URLPattern) -> list[str]:
    """Return the names of a URL's arguments."""
    return [*getattr(pattern.pattern, "converters", ()), *pattern.pattern.regex.groupindex]


def addresses_of(tenant: Tenant) -> Iterator[tuple[str, str]]:
    """Yield the name and the path of every page of one object, for the tenant's objects."""
    by_path = {f"{model._meta.app_label}/{model._meta.model_name}/": each for model, each in tenant.objects.items()}
    for written, pattern in admin_patterns():
        arguments = set(names_of(pattern))
        if not arguments or arguments & {"url", "app_label", "content_type_id"}:
            continue
        about = next((each for prefix, each in by_path.items() if written.startswith(prefix)), None)
        filled = {
            "object_id": about.pk if about else None,
            "id": tenant.user.pk,
            "project_id": tenant.project.pk,
            "file_format": "ndjson",
            "record_id": tenant.record_id,
        }
        assert arguments <= set(filled), f"{written}: say in this test what {arguments} is"
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", written).format_map(filled)
        yield pattern.name or written, f"/admin/{path}"


def test_every_model_admin_is_a_tenant_admin(zebra: Tenant) -> None:
    for model, model_admin in admin.site._registry.items():
        assert isinstance(model_admin, TenantAdmin), f"{model_admin} does not ask who is looking"
        assert model in zebra.objects, f"add a {model.__name__} to this test's tenants"


def test_pages_of_other_tenants_are_a_404(zebra: Tenant, heron: Tenant) -> None:
    pages = list(addresses_of(zebra))
    assert len(pages) > 40
    before = zebra.everything()
    for name, path in pages:
        for method in ("get", "post"):
            response = getattr(as_user(heron.user), method)(path, {"confirmed": "yes", "grace": "0"}, follow=True)
            assert response.status_code in (403, 404), f"{method} {name} {path}: {response.status_code}"
            assert SECRET not in text_of(response), f"{method} {name}"
    assert zebra.everything() == before


def test_owner_and_members_can_open_the_same_pages(zebra: Tenant, heron: Tenant) -> None:
    services.set_members(zebra.project, [heron.user])
    personal = ("auth", "quotas", "admin/logentry", "axes", "datasets/personalaccesstoken")
    skipped = tuple(f"/admin/{each}/" for each in personal)
    pages = [each for each in addresses_of(zebra) if not each[1].startswith(skipped) and "/delete/" not in each[1]]
    assert len(pages) > 15
    for user in (zebra.user, heron.user):
        for name, path in pages:
            response = as_user(user).get(path, follow=True)
            response.close()  # an unread export holds its permit until it is closed
            assert response.status_code in (200, 400), f"{name} for {user}: {response.status_code}"


def lists() -> list[str]:
    """Return the path of every page that needs no object."""
    skipped = ("logout", "autocomplete", "password_change_done")
    return [
        reverse(f"admin:{pattern.name}")
        for _, pattern in admin_patterns()
        if not names_of(pattern) and pattern.name and pattern.name not in skipped
    ]


def test_lists_and_filters_show_nothing_of_other_tenants(zebra: Tenant, heron: Tenant) -> None:
    foreign = {
        f"{path}__{name}__exact": zebra.objects[model].pk
        for path, model in (
            ("project", Project),
            ("dataset", Dataset),
            ("dataset__project", Project),
            ("user", User),
            ("owner", User),
        )
        for name in ("id",)
    }
    client = as_user(heron.user)
    pages = [
        *lists(),
        *(reverse("admin:app_list", args=(label,)) for label in ("datasets", "ingest", "quotas", "auth", "axes")),
    ]
    assert len(pages) > 20
    for path in pages:
        queries: list[dict[str, Any]] = [{}, {"q": "zebra", "s": "zebra", "extended": "1", "project": zebra.project.pk}]
        queries += [{name: pk} for name, pk in foreign.items()] if path.count("/") == 4 else []  # lists
        for query in queries:
            response = client.get(path, query, follow=True)
            assert response.status_code < 500, (path, query)
            assert SECRET not in text_of(response), (path, query)


def test_lists_show_a_tenant_its_own_objects(zebra: Tenant) -> None:
    shown = [path for path in lists() if SECRET in text_of(as_user(zebra.user).get(path, follow=True))]
    for name in ("datasets_project", "datasets_dataset", "datasets_apikey", "ingest_quarantinedentry"):
        assert reverse(f"admin:{name}_changelist") in shown
    assert {reverse("admin:index"), reverse("admin:start_cards"), reverse("admin:ingest_ledger")} <= set(shown)
    assert reverse("admin:ingest_refusals") in shown
    assert reverse("admin:admin_logentry_changelist") in shown
    # The form of a new key offers the tenant's only project.
    assert reverse("admin:datasets_apikey_add") in shown


def test_autocompletes_offer_nothing_of_other_tenants(zebra: Tenant, heron: Tenant) -> None:
    asked = 0
    for model in admin.site._registry:
        for field in model._meta.get_fields():
            if not (field.many_to_one or field.many_to_many or field.one_to_one) or not field.concrete:
                continue
            asked += 1
            query = {
                "app_label": model._meta.app_label,
                "model_name": model._meta.model_name or "",
                "field_name": field.name,
                "term": "",
            }
            response = as_user(heron.user).get(reverse("admin:autocomplete"), query)
            assert SECRET not in text_of(response), query
    assert asked > 10


def test_actions_do_not_change_other_tenants(zebra: Tenant, heron: Tenant) -> None:
    before, tried = zebra.everything(), 0
    for model, model_admin in admin.site._registry.items():
        for action in ["delete_selected", *(name for name in model_admin.actions or () if isinstance(name, str))]:
            tried += 1
            path = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
            posted = {
                "action": action,
                "_selected_action": [zebra.objects[model].pk],
                "confirmed": "yes",
                "post": "yes",
            }
            response = as_user(heron.user).post(path, posted, follow=True)
            assert SECRET not in text_of(response), (model, action)
            assert zebra.everything() == before, (model, action)
    assert tried > 10


def test_forms_accept_no_relation_to_other_tenants(zebra: Tenant, heron: Tenant) -> None:
    client, before = as_user(heron.user), zebra.everything()
    relations = {"project": zebra.project.pk, "user": zebra.user.pk, "owner": zebra.user.pk}
    relations["default_dataset"] = zebra.dataset.pk
    written = {"name": "new", "slug": "new", "ends": "", "schema": "", "preset": "0", "member_names": ""}
    for model in admin.site._registry:
        name = f"{model._meta.app_label}_{model._meta.model_name}"
        own = heron.objects[model].pk
        for path in (reverse(f"admin:{name}_add"), reverse(f"admin:{name}_change", args=(own,))):
            response = client.post(path, {**written, **relations})
            assert response.status_code in (200, 302, 403), path
            assert SECRET not in text_of(response), path
    assert zebra.everything() == before
    heron.project.refresh_from_db()
    assert heron.project.default_dataset is None
    assert heron.project.owner == heron.user


def test_former_member_sees_nothing(zebra: Tenant, heron: Tenant) -> None:
    services.set_members(zebra.project, [heron.user])
    page = reverse("admin:datasets_dataset_change", args=(zebra.dataset.pk,))
    assert as_user(heron.user).get(page).status_code == 200
    services.set_members(zebra.project, [])
    assert as_user(heron.user).get(page).status_code == 404


def test_new_project_needs_the_permission_and_sets_the_owner(zebra: Tenant, heron: Tenant) -> None:
    posted = {"name": "Second", "slug": "second", "member_names": "", "is_active": "on", "owner": zebra.user.pk}
    assert as_user(heron.user).post(reverse("admin:datasets_project_add"), posted).status_code == 403
    heron.user.user_permissions.add(Permission.objects.get(codename="add_project"))
    assert as_user(heron.user).post(reverse("admin:datasets_project_add"), posted).status_code == 302
    assert Project.objects.get(slug="second").owner == heron.user


def test_user_who_is_not_staff_sees_no_page(zebra: Tenant) -> None:
    User.objects.filter(pk=zebra.user.pk).update(is_staff=False)
    client = as_user(User.objects.get(pk=zebra.user.pk))
    for path in lists():
        response = client.get(path)
        assert response.status_code in (302, 403) or SECRET not in text_of(response), path


def test_user_cannot_send_with_the_key_of_another_tenant(zebra: Tenant, heron: Tenant) -> None:
    address = reverse("admin:ingest_datasetrecords_answer", args=(heron.dataset.pk,))
    response = as_user(heron.user).post(address, {"body": "{}", "send": "yes", "key": zebra.key.pk})
    assert response.status_code == 404


def test_urls_by_type_and_id_show_nothing_of_other_tenants(zebra: Tenant, heron: Tenant) -> None:
    client = as_user(heron.user)
    for model, each in zebra.objects.items():
        kind = ContentType.objects.get_for_model(model).pk
        response = client.get(reverse("admin:view_on_site", args=(kind, each.pk)))
        assert response.status_code == 404, model
        assert SECRET not in text_of(client.get(reverse("admin:app_list", args=(model._meta.app_label,)))), model
