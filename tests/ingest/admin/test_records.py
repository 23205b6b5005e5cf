"""The records page: searches, receipts, exports, long values, and a table that cannot be read."""

import json
import re
from dataclasses import replace
from datetime import timedelta
from html import unescape
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet
import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from config.common import clock
from datasets import services
from datasets.models import Dataset
from datasets.tables import exports, records
from datasets.tables.records import Selection
from ingest.admin.exporting import MAX_OF_A_USER, Export, TooManyExports
from ingest.storing.drain import drain
from tests.conftest import FIELDS, Api, record, stored
from tests.support.entries import send, status


@pytest.fixture
def client(owner: User) -> Client:
    User.objects.filter(pk=owner.pk).update(is_staff=True)
    client = Client()
    client.force_login(User.objects.get(pk=owner.pk))
    return client


def test_records_are_found_by_time_trace_and_id(api: Api, dataset: Dataset) -> None:
    first = api.one(record(country="A"), X_Request_Id="it's one")
    assert first.headers["X-Request-Id"] != "it's one"  # a space is not a visible character
    api.one(record(country="B"), X_Request_Id="o'two")
    rows = stored(dataset)

    def found(selection: Selection) -> list[str]:
        table = records.latest(dataset, 10, selection, max_characters=100)
        assert table is not None
        assert records.count(dataset, selection) == table.num_rows
        assert sum(batch.num_rows for batch in records.batches(dataset, selection)) == table.num_rows
        return [str(country) for country in table["country"].to_pylist()]

    assert found(Selection()) == ["B", "A"]
    assert found(Selection(trace_id="o'two")) == ["B"]
    assert found(Selection(record_id=rows[0]["id"])) == ["A"]
    assert found(Selection(record_id="' OR true --")) == []
    assert found(Selection(since=clock.now() + timedelta(minutes=1))) == []
    assert found(Selection(since=clock.now() - timedelta(minutes=1), until=clock.now())) == ["B", "A"]


def test_export_holds_the_search_results_in_each_format(client: Client, api: Api, dataset: Dataset) -> None:
    send(api, *range(1000))
    drain(dataset.pk)
    files = {}
    for form in exports.FORMATS:
        address = reverse("admin:ingest_datasetrecords_export", args=(dataset.pk, form))
        response = client.get(address, {"export_id": form})
        assert response.streaming
        files[form] = b"".join(response.streaming_content)  # type: ignore[attr-defined]
        progress = client.get(reverse("admin:ingest_datasetrecords_progress", args=(dataset.pk,)), {"export_id": form})
        assert progress.json() == {"done": 1000, "total": 1000}
    names = {json.loads(line)["country"] for line in files["ndjson"].splitlines()}
    assert names == {str(n) for n in range(1000)}
    assert pyarrow.csv.read_csv(pyarrow.BufferReader(files["csv"])).num_rows == 1000
    table = pyarrow.parquet.read_table(pyarrow.BufferReader(files["parquet"]))
    assert set(table["country"].to_pylist()) == names


def test_failed_export_releases_its_permit() -> None:
    for _ in range(2 * MAX_OF_A_USER):
        Export(1, {})
    kept = [Export(1, {}) for _ in range(MAX_OF_A_USER)]
    with pytest.raises(TooManyExports):
        Export(1, {})
    for export in kept:
        export.close()


def page_and_export(client: Client, dataset: Dataset, query: dict[str, str]) -> tuple[str, set[str]]:
    """Return the records page of a search and the countries in its export. Assert that both show the same."""
    page = client.get(reverse("admin:ingest_datasetrecords_change", args=(dataset.pk,)), query).content.decode()
    exported = client.get(reverse("admin:ingest_datasetrecords_export", args=(dataset.pk, "ndjson")), query)
    if exported.status_code != 200:
        assert "<html" in exported.content.decode()
        return page, set()
    lines = b"".join(exported.streaming_content).splitlines()  # type: ignore[attr-defined]
    found = {json.loads(line)["country"] for line in lines}
    assert {country for country in ("ada", "bob", "eve") if f">{country}</td>" in page} == found
    return page, found


def test_receipt_shows_and_exports_its_records(client: Client, api: Api, dataset: Dataset) -> None:
    send(api, "eve")
    accepted = send(api, "ada", "bob")
    receipt = {"receipt": accepted.headers["Location"]}
    page, found = page_and_export(client, dataset, receipt)
    assert "<strong>queued</strong>" in page
    assert found == set()
    drain(dataset.pk)
    assert status(api, accepted)["status"] == "stored"
    page, found = page_and_export(client, dataset, receipt)
    assert "<strong>stored</strong>" in page
    assert found == {"ada", "bob"}
    assert page_and_export(client, dataset, {"receipt": accepted.headers["Location"].rpartition("/")[2]})[1] == found


def test_invalid_receipt_shows_and_exports_nothing(client: Client, api: Api, dataset: Dataset) -> None:
    send(api, "ada")
    drain(dataset.pk)
    page, found = page_and_export(client, dataset, {"receipt": "nonsense"})
    assert "This is not a receipt of this dataset." in page
    assert "data-export" not in page
    assert found == set()
    assert ">ada</td>" not in page
    address = reverse("admin:ingest_datasetrecords_export", args=(dataset.pk, "ndjson"))
    assert client.get(address, {"receipt": "nonsense"}).status_code == 400
    assert client.get(address, {"since": "nonsense"}).status_code == 400


def test_every_search_exports_what_it_shows(client: Client, api: Api, dataset: Dataset) -> None:
    traces = {name: send_one(api, name) for name in ("ada", "bob", "eve")}
    rows = stored(dataset)
    now = f"{clock.now() + timedelta(minutes=1):%Y-%m-%dT%H:%M}"
    for query, expected in (
        ({"trace": traces["bob"]}, {"bob"}),
        ({"record": rows[0]["id"]}, {"ada"}),
        ({"record": rows[0]["id"], "trace": traces["bob"]}, set()),
        ({"record": "nonsense"}, set()),
        ({"since": now}, set()),
        ({"until": now}, {"ada", "bob", "eve"}),
        ({}, {"ada", "bob", "eve"}),
    ):
        assert page_and_export(client, dataset, query)[1] == expected, query


def send_one(api: Api, name: str) -> str:
    """Send a record. Return its trace ID."""
    return api.one(record(country=name)).headers["X-Request-Id"]


@pytest.mark.parametrize(
    "address",
    [
        "?since=&until=&trace=&record=&receipt=&field=&op=%3D&value=&direction=desc&measure=count&group=",
        "?_changelist_filters=project__id__exact%3D1",
        "?other=1",
    ],
)
def test_url_without_a_search_shows_the_latest_records(client: Client, dataset: Dataset, address: str) -> None:
    page = client.get(reverse("admin:ingest_datasetrecords_change", args=(dataset.pk,)) + address).content.decode()
    assert "Latest records" in page
    assert "No record is stored yet" in page
    assert "Search results" not in page
    assert "Export these results" not in page


def test_each_column_says_what_it_holds(client: Client, api: Api, dataset: Dataset) -> None:
    assert api.one(record()).status_code == 202
    drain(dataset.pk)
    kept = [field for field in FIELDS if field.name != "plan"]
    services.save_dataset(dataset, fields=[replace(kept[0], optional=True), *kept[1:]])
    (row,) = stored(dataset)
    shown = client.get(reverse("admin:ingest_datasetrecords_change", args=(dataset.pk,))).content.decode()
    alone = client.get(reverse("admin:ingest_datasetrecords_record", args=(dataset.pk, row["id"]))).content.decode()
    for page in (shown, alone):
        words = re.findall(r'([a-z_]+)(?:</span>|</a>)? <span class="ours-words">([^<]+)</span>', page)
        assert dict(words) == {
            "country": "string; optional",
            "plan": "not in the current schema version",
            "amount": "number",
            "active": "boolean",
            "signup_at": "timestamp",
        }


def test_long_values_are_cut_and_loaded_on_demand(client: Client, api: Api, dataset: Dataset) -> None:
    text = "x" * 500_000
    for _ in range(60):
        assert api.one(record(country=text, plan="\u202e" + "y" * 299)).status_code == 202
    (*_, last) = stored(dataset)
    page = client.get(reverse("admin:ingest_datasetrecords_change", args=(dataset.pk,)))
    assert "Latest records</h2>" in page.content.decode()
    (older,) = re.findall(r'href="(\?[^"]*before=[^"]*)"', page.content.decode())
    second = client.get(page.request["PATH_INFO"] + unescape(older)).content.decode()
    assert "Older records</h2>" in second
    assert '<a class="ours-button" href="?">Latest records</a>' in second
    assert r"\u202eyyy" in second  # it would reverse the text
    assert len(page.content) < 200_000
    assert "x" * 200 + "…</td>" in page.content.decode()
    whole = reverse("admin:ingest_datasetrecords_record", args=(dataset.pk, last["id"]))
    assert whole in page.content.decode()
    shown = client.get(whole)
    assert "x" * 10_000 + "… <span" in shown.content.decode()
    assert r"\u202e" + "y" * 299 + "</td>" in shown.content.decode()
    assert len(shown.content) < 200_000
    assert client.get(whole.replace(last["id"], last["id"][:-1])).status_code == 404


def test_unreadable_table_gives_a_page_that_says_so(client: Client, api: Api, dataset: Dataset) -> None:
    send(api, "ada")
    drain(dataset.pk)
    (row,) = records.latest(dataset, 1, max_characters=50).to_pylist()  # type: ignore[union-attr]
    addresses = [
        reverse("admin:ingest_datasetrecords_change", args=(dataset.pk,)),
        reverse("admin:ingest_datasetrecords_record", args=(dataset.pk, row["id"])),
        *(reverse("admin:ingest_datasetrecords_export", args=(dataset.pk, form)) for form in exports.FORMATS),
    ]
    table = Path(settings.STORAGE_URL) / f"project_{dataset.project_id}" / f"dataset_{dataset.pk}"
    for file in table.rglob("*.parquet"):
        if "_delta_log" not in file.parts:
            file.write_bytes(b"PAR1 nonsense PAR1")
    for address in addresses:
        said = client.get(address).content.decode()
        assert "<html" in said
        assert "The table cannot be read" in said
    table.rename(table.with_name("gone"))
    for address in addresses:
        said = client.get(address).content.decode()
        assert "<html" in said
        assert "The table is gone. Check that the storage is mounted." in said
        assert ("Nothing was exported" in said) == ("/export/" in address)
