"""Browser keys in the admin: the form, its problems, warnings, and the page of a key."""

import re

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from datasets import services
from datasets.models import ApiKey, Dataset, Project
from tests.conftest import Api, record

ADD, LIST = reverse("admin:datasets_apikey_add"), reverse("admin:datasets_apikey_changelist")
SHOP = "https://shop.example.com"


@pytest.fixture
def client(owner: User) -> Client:
    User.objects.filter(pk=owner.pk).update(is_staff=True)
    client = Client()
    client.force_login(User.objects.get(pk=owner.pk))
    return client


def add(client: Client, project: Project, **form: str) -> str:
    given = {"project": project.pk, "name": "shop", "used_by": "browser", "ends": "", "records_per_minute": "100"}
    return client.post(ADD, {**given, **form}).content.decode()


def change(client: Client, key: ApiKey, **form: str) -> str:
    given = {"name": key.name, "origins": "\n".join(key.origins), "records_per_minute": str(key.records_per_minute)}
    path = reverse("admin:datasets_apikey_change", args=(key.pk,))
    return client.post(path, {**given, **form}, follow=True).content.decode()


def test_a_browser_key_is_issued_with_code_for_pages(client: Client, project: Project, dataset: Dataset) -> None:
    page = add(client, project, origins=f"HTTPS://Shop.example.com/\r\n\r\n{SHOP}\r\nhttp://localhost:3000")
    key = ApiKey.objects.get()
    assert (key.origins, key.records_per_minute) == ([SHOP, "http://localhost:3000"], 100)
    assert "Everybody can read this key" in page
    assert "All these pages together may send 100 records in any 60 seconds" in page
    assert "is not encrypted" not in page
    assert "navigator.sendBeacon(" in page
    assert "requests.post(" not in page
    (token,) = set(re.findall(r"eyJ[\w.-]+", page))
    assert Api(token, dataset).one(record(), Origin=SHOP).status_code == 202


def test_a_missing_date_and_a_missing_origin_are_reported_together(client: Client, project: Project) -> None:
    page = add(client, project, ends="date", origins="")
    assert "Choose a day in the future." in page
    assert "Add the origin of at least one page that will use the key." in page
    assert not ApiKey.objects.exists()


def test_an_ordinary_key_has_no_origins(client: Client, project: Project, dataset: Dataset) -> None:
    page = add(client, project, used_by="server", origins="nonsense", records_per_minute="")
    key = ApiKey.objects.get()
    assert key.origins == []
    assert "requests.post(" in page
    assert "Everybody can read this key" not in page
    shown = client.get(reverse("admin:datasets_apikey_change", args=(key.pk,))).content.decode()
    assert 'name="origins"' not in shown
    assert "requests.post(" in shown
    change(client, key, origins=SHOP)
    key.refresh_from_db()
    assert key.origins == []


@pytest.mark.parametrize(
    ("form", "problem"),
    [
        ({}, "Add the origin of at least one page that will use the key."),
        ({"origins": "*"}, "would let every page use the key"),
        ({"origins": "https://a.example\nshop.example.com"}, "“shop.example.com” does not begin with https://"),
        ({"origins": SHOP, "records_per_minute": "0"}, "greater than or equal to 1"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(
    client: Client, project: Project, form: dict[str, str], problem: str
) -> None:
    assert problem in add(client, project, **form)
    assert ApiKey.objects.count() == 0


def test_a_change_is_logged_and_an_unencrypted_origin_warned_of(client: Client, project: Project) -> None:
    key = services.create_key(project=project, name="shop", origins=[SHOP])
    page = change(client, key, origins="http://shop.example.com", records_per_minute="7")
    assert "http://shop.example.com is not encrypted: others on the network can change its pages" in page
    key.refresh_from_db()
    assert (key.origins, key.records_per_minute) == (["http://shop.example.com"], 7)
    said = LogEntry.objects.latest("pk").change_message
    assert said == f"Origins: “{SHOP}” → “http://shop.example.com”. Records per minute: “6000” → “7”."
    shown = client.get(reverse("admin:datasets_apikey_change", args=(key.pk,))).content.decode()
    assert "http://shop.example.com is not encrypted" in shown
    assert "web pages" in client.get(LIST).content.decode()


def test_a_browser_key_keeps_an_origin(client: Client, project: Project) -> None:
    key = services.create_key(project=project, name="shop", origins=[SHOP])
    assert "This field is required" in change(client, key, origins="")
    key.refresh_from_db()
    assert key.origins == [SHOP]


def test_the_page_of_a_key_shows_the_sample_of_its_dataset(client: Client, project: Project) -> None:
    sample = '{"timestamp": "2026-06-10T10:58:00Z", "context": {}, "country": "Wakanda", "secret": "not a field"}'
    schema = '{"fields": [{"name": "country", "type": "string", "description": ""}]}'
    form = {"project": project.pk, "name": "Visits", "slug": "visits", "schema": schema, "_sample": sample}
    assert client.post(reverse("admin:datasets_dataset_add"), form).status_code == 302
    dataset = Dataset.objects.get()
    assert '"country": "Wakanda"' in dataset.example
    assert "not a field" not in dataset.example
    key = services.create_key(project=project, name="till")
    for path in (("apikey", key.pk), ("dataset", dataset.pk)):
        shown = client.get(reverse(f"admin:datasets_{path[0]}_change", args=(path[1],))).content.decode()
        assert shown.count("Wakanda") >= 5
        assert "YOUR_API_KEY" in shown
    assert "Wakanda" in client.get(reverse("admin:ingest_datasetrecords_try", args=(dataset.pk,))).content.decode()
