"""The search on the records page: conditions, count, sort, charts, groups, exports and what it says about problems."""

import html
import json
import re
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import User
from django.http import QueryDict
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from datasets import services
from datasets.models import Dataset
from datasets.schemas.fields import Field
from ingest.admin.searching import listing, search
from tests.conftest import FIELDS, Api, record, stored

Pairs = list[tuple[str, Any]]


def where(*conditions: tuple[str, str, str], **more: str) -> Pairs:
    """Return the names and values for the address of a search with these conditions."""
    return [pair for each in conditions for pair in zip(("field", "op", "value"), each, strict=True)] + [*more.items()]


class Page:
    """The records page, read from the HTML of an answer."""

    def __init__(self, client: Client, dataset: Dataset, address: Pairs | str) -> None:
        path = reverse("admin:ingest_datasetrecords_change", args=(dataset.pk,))
        text = address if isinstance(address, str) else urlencode(address)
        response = client.get(f"{path}?{text.removeprefix('?')}")
        assert response.status_code == 200
        self.text = response.content.decode()

    def column(self, name: str) -> list[str]:
        """Return the cells of a column of the list."""
        heads = [re.sub("<[^>]*>", "", each).strip().split(" ")[0] for each in self._parts("records", "th")]
        rows = re.findall("<tr>(.*?)</tr>", self._table("records").partition("<tbody>")[2], re.S)
        at = heads.index(name) if rows else 0
        return [re.sub("<[^>]*>", "", re.findall("<td.*?</td>", row, re.S)[at]) for row in rows]

    def figures(self, name: str) -> dict[str, str]:
        """Return the table below a chart as a mapping: the first cell of each row -> the second cell."""
        rows = re.findall("<tr>(.*?)</tr>", self._table(f"{name}-figures").partition("<tbody>")[2], re.S)
        cells = (
            [html.unescape(re.sub("<[^>]*>", "", cell)) for cell in re.findall("<t[hd].*?</t[hd]>", row)]
            for row in rows
        )
        return dict(cells)

    def links(self, name: str) -> dict[str, str]:
        """Return the links of a table by their texts."""
        return {
            html.unescape(text): html.unescape(address)
            for address, text in re.findall('<a href="([^"]*)"[^>]*>([^<]*)</a>', self._table(name))
        }

    def errors(self) -> dict[str, str]:
        """Return the errors that the page shows, by input. Errors about the whole form have an empty name."""
        found = re.findall(
            '<p class="[^"]*ours-bad[^"]*"(?: id="([^"]*)_error")? role="alert">(.*?)</p>', self.text, re.S
        )
        return {name: html.unescape(text) for name, text in found}

    @property
    def count(self) -> str:
        found = re.search('id="count">([^<]*)<', self.text)
        return found[1] if found else ""

    def _table(self, name: str) -> str:
        found = re.search(f'<table[^>]*id="{name}".*?</table>', self.text, re.S)
        return found[0] if found else ""

    def _parts(self, name: str, tag: str) -> list[str]:
        return re.findall(f"<{tag}[ >].*?</{tag}>", self._table(name), re.S)


@pytest.fixture
def client(owner: User) -> Client:
    User.objects.filter(pk=owner.pk).update(is_staff=True)
    client = Client()
    client.force_login(User.objects.get(pk=owner.pk))
    return client


@pytest.fixture(autouse=True)
def patience(settings: Settings) -> None:
    """Let queries take long: they run with a low priority, so other tests delay them."""
    settings.QUERY_TIMEOUT_SECONDS = 60.0


DAYS = ("2026-06-10", "2026-06-10", "2026-06-11", "2026-06-13", "2026-06-13")


@pytest.fixture
def orders(api: Api, dataset: Dataset) -> Dataset:
    """Five records on three days."""
    values = (("RO", 5), ("DE", 1.5), ("RO", 20), ("a,b", 7), ("</td>", 100))
    for day, (country, amount) in zip(DAYS, values, strict=True):
        sent = record(timestamp=f"{day}T10:58:00Z", country=country, amount=amount, active=amount > 6)
        assert api.one(sent).status_code == 202
    stored(dataset)
    return dataset


def exported(client: Client, dataset: Dataset, address: Pairs) -> list[float]:
    """Return the amounts in the export of a search, sorted."""
    path = reverse("admin:ingest_datasetrecords_export", args=(dataset.pk, "ndjson"))
    response: Any = client.get(f"{path}?{urlencode(address)}")
    assert response.status_code == 200
    return sorted(json.loads(line)["amount"] for line in b"".join(response.streaming_content).splitlines())


def test_conditions_select_what_is_listed_counted_and_exported(client: Client, orders: Dataset) -> None:
    for address, amounts in (
        (where(chart="day"), [1.5, 5, 7, 20, 100]),
        (where(("amount", ">=", " 5 "), ("country", "in", "RO, DE"), chart="none"), [5, 20]),
        (where(("active", "=", "true"), ("timestamp", "<", "2026-06-13"), chart="none"), [20]),
        (where(("country", "contains", ","), chart="none"), [7]),
        (where(sent_from="2026-06-11T00:00", sent_to="2026-06-13T10:58", chart="none"), [7, 20, 100]),
        (where(("country", "=", "' OR true --"), chart="none"), []),
        (where(("country", "=", "RO"), since="2020-01-01T00:00", chart="none"), [5, 20]),
        (where(("country", "=", "RO"), until="2020-01-01T00:00", record="nonsense", chart="none"), []),
    ):
        page = Page(client, orders, address)
        assert page.errors() == {}, address
        assert sorted(map(float, page.column("amount"))) == amounts, address
        assert page.count == f"{len(amounts)} record{'' if len(amounts) == 1 else 's'}"
        assert exported(client, orders, address) == amounts, address


def test_a_sort_order_holds_on_all_pages(client: Client, orders: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "ROWS", 2)
    page = Page(client, orders, where(sort="amount", direction="asc"))
    assert page.column("amount") == ["1.5", "5.0"]
    assert 'aria-sort="ascending"' in page.text
    amounts = []
    address = page.links("records")["amount"]
    while address:
        page = Page(client, orders, address)
        amounts += page.column("amount")
        found = re.search('href="([^"]*)">Next records', page.text)
        address = html.unescape(found[1]) if found else ""
    assert amounts == ["100.0", "20.0", "7.0", "5.0", "1.5"]
    assert page.count == "5 records"


def test_the_chart_counts_by_time_with_its_gaps(client: Client, orders: Dataset) -> None:
    page = Page(client, orders, where(chart="day"))
    assert page.figures("by-time") == {"2026-06-10": "2", "2026-06-11": "1", "2026-06-12": "0", "2026-06-13": "2"}
    data = json.loads(html.unescape(re.search('data-value="([^"]*)"', page.text)[1]))  # type: ignore[index]
    assert data["labels"] == ["2026-06-10", "2026-06-11", "2026-06-12", "2026-06-13"]
    assert data["datasets"][0]["data"] == [2, 1, 0, 2]
    assert Page(client, orders, where(chart="week")).figures("by-time") == {"2026-06-08": "5"}
    assert list(Page(client, orders, where(sort="id")).figures("by-time"))[:2] == [
        "2026-06-10 10:00",
        "2026-06-10 11:00",
    ]
    by_minute = Page(client, orders, where(chart="minute"))
    assert "A chart by minute would have more than 400 bars, so this chart counts by hour." in by_minute.text
    assert "<canvas" not in Page(client, orders, where(chart="none")).text


def test_groups_have_figures_and_links_to_their_records(client: Client, orders: Dataset) -> None:
    page = Page(client, orders, where(group="country", chart="none"))
    assert page.figures("by-group") == {"RO": "2", "DE": "1", "a,b": "1", "</td>": "1"}
    for country, amounts in (("RO", [5, 20]), ("</td>", [100])):
        found = Page(client, orders, page.links("by-group-figures")[country])
        assert sorted(float(each) for each in found.column("amount")) == amounts
    page = Page(client, orders, where(("amount", "<", "50"), group="country", measure="sum", of="amount"))
    assert page.figures("by-group") == {"RO": "25.0", "a,b": "7.0", "DE": "1.5"}
    page = Page(client, orders, where(group="active", measure="max", of="country", chart="none"))
    assert page.figures("by-group") == {"false": "RO", "true": "a,b"}
    assert "<canvas" not in page.text  # texts have no bars


@pytest.mark.parametrize(
    ("address", "at", "said"),
    [
        (where(("amount", ">", "abc")), "condition-0-value", "The value must be: number."),
        (where(("plan", "=", "x"), ("amount", ">", "")), "condition-1-value", "“>” needs a value."),
        (where(("amount", "contains", "1")), "condition-0-op", "The operator for “amount” (number) is not known here."),
        (where(("amount", "in", "1,x")), "condition-0-value", "The value must be: number."),
        (where(("nothing", "=", "1")), "condition-0-field", "Select a valid choice. nothing is not one of"),
        (where(("amount", "'; --", "1")), "condition-0-op", "Select a valid choice."),
        (where(("active", "=", "yes")), "condition-0-value", "The value must be: boolean."),
        (where(("plan", "=", "a\0b")), "condition-0-value", "Null characters are not allowed."),
        (where(sent_from="yesterday"), "sent_from", "“yesterday” is not a time. Write it like 2026-06-10T10:58."),
        (where(sent_from="2026-06-12", sent_to="2026-06-11"), "sent_to", "This time is before the time in"),
        (where(since="9999-12-31T23:59:59-23:00"), "since", "is not a time."),
        (where(sort="context"), "sort", "Select a valid choice."),
        (where(group="plan", measure="sum"), "of", "The field for “sum” is missing."),
        (where(group="plan", measure="sum", of="plan"), "of", "The field for “sum” is not known here."),
        (where(chart="century"), "chart", "Select a valid choice."),
        (where(receipt="nonsense"), "receipt", "This is not a receipt of this dataset."),
        (where(cursor="nonsense"), "", "This is not a cursor."),
    ],
)
def test_a_problem_is_shown_at_its_input(client: Client, orders: Dataset, address: Pairs, at: str, said: str) -> None:
    page = Page(client, orders, address)
    assert list(page.errors()) == [at]
    assert said in page.errors()[at]
    assert page.count == ""
    assert "The records cannot be shown." in page.text
    path = reverse("admin:ingest_datasetrecords_export", args=(orders.pk, "csv"))
    refused = client.get(f"{path}?{urlencode(address)}")
    assert refused.status_code == 400
    assert said in html.unescape(refused.content.decode())


_NAMES = ("amount", "country", "active", "signup_at", "id", "timestamp")
HOSTILE = (
    "'",
    '"',
    "\\",
    "--",
    ";",
    "%",
    "\x1b",
    "\u2028",
    "😀",
    "__proto__",
    "1e999999999",
    "nan",
    "-0",
    "9" * 400,
    "null",
    "{}",
    "१",
)


def test_no_input_causes_a_server_error(client: Client, orders: Dataset) -> None:
    for text in HOSTILE:
        inputs = ("sent_from", "sort", "direction", "chart", "group", "measure", "of", "cursor", "record", "trace")
        addresses = [where(("plan", "=", "x"), **{name: text}) for name in inputs]
        addresses += [where((name, op, text)) for name in (*_NAMES, text) for op in ("=", "in", "starts_with", text)]
        for address in addresses:
            found = search.Search(QueryDict(urlencode(address)), orders)
            assert found.query is not None or found.problems, address
    everywhere = [
        (name, "\\'\";") for name, _ in where(("", "", ""), sent_from="", sort="", chart="", group="", cursor="")
    ]
    assert len(Page(client, orders, everywhere).errors()) == 7


def test_the_last_search_is_offered_again_to_the_same_user_only(client: Client, orders: Dataset) -> None:
    address = where(("amount", ">", "6"), chart="none")
    Page(client, orders, address)
    Page(client, orders, where(("amount", ">", "wrong")))
    offered = re.search('href="([^"]*)">Your last search', Page(client, orders, "").text)
    assert offered
    assert Page(client, orders, html.unescape(offered[1])).column("amount") == ["100.0", "7.0", "20.0"]
    other = Client()
    other.force_login(User.objects.create_superuser("root"))
    assert "Your last search" not in Page(other, orders, "").text


def test_the_page_says_why_a_query_failed(client: Client, orders: Dataset, settings: Settings) -> None:
    settings.QUERY_CONCURRENCY = 0
    page = Page(client, orders, where(chart="day"))
    assert page.errors()[""].startswith("Too many queries. The project runs 0 queries already, the maximum.")
    assert "The records cannot be shown." in page.text


def test_fields_of_the_current_version_can_be_searched_from_the_first_moment(client: Client, orders: Dataset) -> None:
    services.save_dataset(orders, fields=[*FIELDS, Field("coupon", "string", optional=True)])
    address = where(("coupon", "is_null", ""), chart="none")
    assert Page(client, orders, address).count == "5 records"
    assert exported(client, orders, address) == [1.5, 5, 7, 20, 100]
    assert exported(client, orders, where(("coupon", "=", "x"))) == []


def test_a_dataset_without_a_table_has_no_results(client: Client, dataset: Dataset) -> None:
    page = Page(client, dataset, where(chart="day", group="plan"))
    assert page.count == "0 records"
    assert "No stored record matches." in page.text
    assert exported(client, dataset, where(("plan", "=", "pro"))) == []
