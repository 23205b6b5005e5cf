"""The sidebar, the breadcrumbs and the lists use one name for each place."""

import re

import httpx
import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.test import Client, RequestFactory

from config.site.navigation import sidebar
from config.web import share
from datasets.models import Project
from tests.support.sending.asgi import Transport


@pytest.fixture
def superuser(db: None) -> User:
    return User.objects.create_superuser("root")


def test_breadcrumbs_and_title_are_the_words_of_the_sidebar(superuser: User) -> None:
    client, request = Client(), RequestFactory().get("/admin/")
    client.force_login(superuser)
    request.user = superuser
    links = [(group["title"], link["title"], link["link"]) for group in sidebar(request) for link in group["items"]]
    assert len(links) > 12
    for group, label, path in links:
        page = client.get(path).content.decode()
        heading = re.sub(r"<[^>]*>", "\n", page.partition("<h1")[2].partition(">")[2].partition("</h1>")[0])
        words = [line.strip() for line in heading.splitlines() if line.strip() not in ("", "chevron_right")]
        assert words in ([group, label], [label]), path
        assert f"<title>{label} | " in " ".join(page.split()).replace("> ", ">"), path


def test_each_app_is_called_like_its_group() -> None:
    groups = {"datasets": "Define", "ingest": "Data", "admin": "Data", "quotas": "Limits", "auth": "People"}
    for app, title in {**groups, "axes": "People"}.items():
        assert apps.get_app_config(app).verbose_name == title


def test_an_empty_list_counts_in_words_that_fit_a_number(superuser: User) -> None:
    client = Client()
    client.force_login(superuser)
    counted = {
        "ingest/quarantinedentry": "0 requests",
        "ingest/datasetrecords": "0 datasets",
        "quotas/monthlyusage": "0 months",
        "admin/logentry": "0 changes",
        "axes/accessattempt": "0 rows",
    }
    for path, words in counted.items():
        page = " ".join(client.get(f"/admin/{path}/").content.decode().split())
        assert words in page, path


def test_user_who_cannot_be_deleted_can_be_deactivated(superuser: User, project: Project) -> None:
    client = Client()
    client.force_login(superuser)
    page = client.get(f"/admin/auth/user/{project.owner_id}/delete/").content.decode()
    assert "Deactivate this user instead" in page
    assert f'href="/admin/auth/user/{project.owner_id}/change/"' in page
    unused = User.objects.create_user("unused")
    page = client.get(f"/admin/auth/user/{unused.pk}/delete/").content.decode()
    assert "Yes, I’m sure" in page


def test_a_user_who_just_logged_in_is_served_despite_a_login_flood(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    User.objects.create_superuser("ada", password="correct horse")
    monkeypatch.setattr(share, "_strangers", share.Budget(share=0.2, burst=60))
    with httpx.Client(transport=Transport(), base_url="http://localhost") as client:
        client.get("/admin/login/")
        form = {"username": "ada", "password": "correct horse", "csrfmiddlewaretoken": client.cookies["csrftoken"]}
        assert client.post("/admin/login/", data=form, headers={"Referer": "http://localhost/"}).status_code == 302
        share._strangers.spend(1000)
        assert client.get("/admin/").status_code == 200
        client.cookies.clear()
        assert client.get("/admin/login/").status_code == 503
