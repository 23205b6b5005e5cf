"""Each form of the admin has fields, and does what it says."""

import json
import re
import time

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.test import Client, RequestFactory
from django.urls import reverse

from datasets import services
from datasets.models import Dataset, Project
from ingest.storing.drain import drain
from tests.conftest import FIELDS
from tests.support.admin.forms import form_of
from tests.support.entries import enqueue


@pytest.fixture
def superuser(transactional_db: None) -> User:
    return User.objects.create_superuser("root")


@pytest.fixture
def client(superuser: User) -> Client:
    client = Client()
    client.force_login(superuser)
    return client


def test_each_add_page_has_fields(client: Client, superuser: User, project: Project) -> None:
    admin.autodiscover()
    request = RequestFactory().get("/admin/")
    request.user = superuser
    asked = []
    for model, model_admin in admin.site._registry.items():
        if model_admin.has_add_permission(request):
            asked.append(model)
            path = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_add")
            page = client.get(path).content.decode()
            form = page[page.index(f'id="{model._meta.model_name}_form"') :].partition("</form>")[0]
            assert re.findall(r'<(?:input|select|textarea)[^>]* name="(?!csrfmiddlewaretoken|_)', form), path
    assert {User, Group} < set(asked)


def test_a_superuser_adds_a_user_who_can_log_in(client: Client) -> None:
    path = reverse("admin:auth_user_add")
    assert 'name="password2"' in client.get(path).content.decode()
    secret = "a long password for bob"
    posted = {"username": "bob", "usable_password": "true", "password1": secret, "password2": secret}
    assert client.post(path, posted).status_code == 302
    assert User.objects.get(username="bob").check_password(secret)


def test_deleting_people_says_what_it_means(client: Client, superuser: User, project: Project, owner: User) -> None:
    users = reverse("admin:auth_user_changelist")
    both = {"action": "delete_selected", "_selected_action": [superuser.pk, owner.pk]}
    page = client.post(users, both).content.decode()
    assert "Deactivate these users instead" in page
    assert f'href="{reverse("admin:auth_user_change", args=(owner.pk,))}"' in page
    member = User.objects.create_user("member")
    services.set_members(project, [member])
    page = client.get(reverse("admin:auth_user_delete", args=(member.pk,))).content.decode()
    assert f"Membership: member in {project}" in page


def test_the_last_superuser_keeps_their_status(client: Client, superuser: User) -> None:
    path = reverse("admin:auth_user_change", args=(superuser.pk,))
    form = form_of(client.get(path).content.decode(), "user_form")
    for name in ("is_active", "is_staff", "is_superuser"):
        values = {key: value for key, value in form.filled().items() if key != name}
        assert "no other superuser could log in" in client.post(path, values).content.decode(), name
    User.objects.create_superuser("second")
    assert client.post(path, values).status_code == 302


def test_a_popup_closes_and_hands_over_the_new_object(client: Client, superuser: User, project: Project) -> None:
    for model, values in (("project", {"owner": str(superuser.pk)}), ("dataset", {"project": str(project.pk)})):
        path = reverse(f"admin:datasets_{model}_add") + "?_popup=1"
        form = form_of(client.get(path).content.decode(), f"{model}_form")
        answer = client.post(path, form.filled(name="In a popup", slug="popup", _save="Save", **values))
        assert answer.status_code == 200, model
        assert "data-popup-response" in answer.content.decode(), model


def test_a_form_does_not_reveal_other_staff(client: Client, superuser: User, owner: User) -> None:
    services.create_project(slug="secret", owner=superuser)
    own = services.create_project(slug="own", owner=owner)
    User.objects.filter(pk=owner.pk).update(is_staff=True)
    client.force_login(owner)
    path = reverse("admin:datasets_project_change", args=(own.pk,))
    form = form_of(client.get(path).content.decode(), "project_form")
    said = client.post(path, form.filled(slug="secret", member_names="nobody")).content.decode()
    assert "This slug cannot be used. Choose another one." in said
    assert "This name cannot be a member: nobody. Check its spelling." in said
    said = client.post(path, form.filled(member_names="none, nobody")).content.decode()
    assert "These names cannot be members: nobody, none. Check their spelling." in said
    assert "exists" not in said
    assert "There is no user" not in said


def test_archiving_asks_first_and_is_shown_everywhere(client: Client, dataset: Dataset) -> None:
    path = reverse("admin:datasets_dataset_change", args=(dataset.pk,))
    form = form_of(client.get(path).content.decode(), "dataset_form")
    asked = client.post(path, form.filled(is_archived="on"))
    assert "confirm that you want to archive it." in asked.content.decode()
    dataset.refresh_from_db()
    assert not dataset.is_archived
    assert client.post(path, form.filled(is_archived="on", archive_confirmed="on")).status_code == 302
    assert LogEntry.objects.latest("pk").change_message == "Is archived: “no” → “yes”."
    for name in ("datasets_dataset_change", "ingest_datasetrecords_change", "ingest_datasetrecords_try"):
        shown = client.get(reverse(f"admin:{name}", args=(dataset.pk,))).content.decode()
        assert "Signups (archived)" in shown, name
    assert "The dataset is archived, so the answer is 404." in client.get(path).text
    assert "Signups (archived)" in client.get(reverse("admin:ingest_ledger")).content.decode()
    # Restoring the dataset asks no question.
    form = form_of(client.get(path).content.decode(), "dataset_form")
    del form.values["is_archived"]
    assert client.post(path, form.filled()).status_code == 302
    dataset.refresh_from_db()
    assert not dataset.is_archived


def test_a_pasted_sample_survives_a_refused_save(client: Client, project: Project) -> None:
    path = reverse("admin:datasets_dataset_add")
    sample = '{"timestamp": "2026-01-02T03:04:05Z", "context": {}, "sku": "A-17", "price": 9.75, "more": 1}'
    schema = '{"fields": {"sku": "string", "price": "number", "paid": "boolean"}}'
    form = form_of(client.get(path).content.decode(), "dataset_form")
    refused = client.post(path, form.filled(name="", slug="", schema=schema, _sample=sample))
    assert form_of(refused.content.decode(), "dataset_form").values["_sample"] == [sample]
    check = reverse("admin:datasets_dataset_check_new")
    rows = [{"name": "sku", "type": "string"}, {"name": "price", "type": "number"}, {"name": "paid", "type": "boolean"}]
    panel = client.post(check, {"schema": json.dumps({"fields": rows}), "sample": sample}).json()["panel"]
    assert "A-17" in panel
    assert "9.75" in panel
    assert "2026-01-02T03:04:05Z" in panel
    assert "more" not in panel


def test_the_start_page_sorts_by_trouble_then_name(client: Client, superuser: User) -> None:
    projects = {
        name: services.create_project(slug=name.lower().replace(" ", "-"), owner=superuser, name=name)
        for name in ("Shop 10", "Shop 2", "apple", "Zoo", "Off")
    }
    projects["Off"].is_active = False
    services.save_project(projects["Off"], changed=["is_active"])
    troubled = services.create_dataset(project=projects["Zoo"], name="Animals", fields=FIELDS)
    enqueue(troubled, b"no json")
    drain(troubled.pk)

    def shown(query: str = "") -> list[str]:
        page = client.get(reverse("admin:index") + query).content.decode()
        return re.findall(r'<h2 id="project-\d+"><a [^>]*>([^<]*)</a>', page)

    assert shown() == ["Off", "Zoo", "apple", "Shop 2", "Shop 10"]
    assert shown("?q=shop") == ["Shop 2", "Shop 10"]
    assert shown("?q=nothing") == []
    assert "No project matches “nothing”" in client.get(reverse("admin:index") + "?q=nothing").content.decode()


def test_the_editor_refuses_a_huge_schema_quickly(client: Client) -> None:
    began = time.process_time()
    rows = [{"name": f"f{n}", "type": "string"} for n in range(20_000)]
    answer = client.post(reverse("admin:datasets_dataset_check_new"), {"schema": json.dumps({"fields": rows})})
    assert time.process_time() - began < 2
    assert [each["text"] for each in answer.json()["problems"]] == ["The schema has 20000 fields. The limit is 200."]
    assert len(answer.content) < 10_000
    answer = client.post(reverse("admin:datasets_dataset_check_new"), {"schema": json.dumps({"fields": rows * 2})})
    assert "The limit is 1,000,000." in answer.json()["problems"][0]["text"]


def test_a_form_that_is_too_large_says_so(client: Client) -> None:
    body = "_sample=" + "x" * 3_000_000
    path = reverse("admin:datasets_dataset_infer")
    answer = client.post(path, body, content_type="application/x-www-form-urlencoded")
    assert answer.status_code == 400
    assert "The texts of the form have more than 2.5 MB. Go back and shorten the longest text." in answer.text


def test_a_dataset_without_fields_says_that_it_accepts_no_records(client: Client, project: Project) -> None:
    path = reverse("admin:datasets_dataset_add")
    form = form_of(client.get(path).text, "dataset_form")
    schema = json.dumps({"fields": []})
    added = client.post(
        path, form.filled(project=str(project.pk), name="Empty", slug="e", schema=schema, _save="1"), follow=True
    )
    assert added.redirect_chain == [(reverse("admin:datasets_dataset_change", args=(project.datasets.get().pk,)), 302)]
    assert "The dataset accepts no records until it has a field." in added.text
    assert "curl" not in added.text
    assert project.datasets.get().latest_version() is None


def test_the_editor_shows_only_rows_that_it_can_show_whole(client: Client) -> None:
    def rows(*said: object) -> object:
        posted = {"schema": json.dumps({"fields": said}), "typed": "1"}
        return client.post(reverse("admin:datasets_dataset_check_new"), posted).json()["rows"]

    assert rows() == []
    plain = {"name": "a", "type": "string", "description": ""}
    assert rows({"name": "a", "type": "string?"}) == [{**plain, "optional": True}]
    assert rows({**plain, "min_length": "many"}) == [{**plain, "min_length": "many"}]
    refused: tuple[object, ...] = (5, None, [], {}, {"name": "b"}, {**plain, "color": "red"}, {**plain, "optional": 1})
    for row in refused:
        assert rows(plain, row) is None, row


def test_a_member_who_removes_themselves_is_asked_first(client: Client, superuser: User, owner: User) -> None:
    project = services.create_project(slug="shared", owner=superuser)
    services.set_members(project, [owner])
    User.objects.filter(pk=owner.pk).update(is_staff=True)
    client.force_login(owner)
    path = reverse("admin:datasets_project_change", args=(project.pk,))
    page = client.get(path).content.decode()
    assert "Yes, remove me" not in page
    form = form_of(page, "project_form")
    asked = client.post(path, form.filled(member_names="")).content.decode()
    assert "You are removing yourself from this project: confirm it here." in asked
    assert "Yes, remove me from this project" in asked
    assert list(project.members.all()) == [owner]
    done = client.post(path, form.filled(member_names="", leave_confirmed="on"), follow=True)
    assert done.redirect_chain == [(reverse("admin:datasets_project_changelist"), 302)]
    assert list(project.members.all()) == []


def test_members_see_the_owner_without_a_link(client: Client, superuser: User, owner: User) -> None:
    project = services.create_project(slug="shared", owner=superuser)
    services.set_members(project, [owner])
    User.objects.filter(pk=owner.pk).update(is_staff=True)
    client.force_login(owner)
    page = client.get(reverse("admin:datasets_project_change", args=(project.pk,))).content.decode()
    assert "root" in page
    assert "/admin/auth/user/" not in page


@pytest.mark.parametrize("name", ["datasets_dataset_add", "datasets_apikey_add"])
def test_without_a_project_the_add_page_says_what_to_do(client: Client, owner: User, name: str) -> None:
    path = reverse(f"admin:{name}")
    page = client.get(path).content.decode()
    assert "You need a project first" in page
    assert f'href="{reverse("admin:datasets_project_add")}"' in page
    User.objects.filter(pk=owner.pk).update(is_staff=True)
    client.force_login(owner)
    page = client.get(path).content.decode()
    assert "Ask the owner of a project to add you as a member" in page
    assert reverse("admin:datasets_project_add") not in page
