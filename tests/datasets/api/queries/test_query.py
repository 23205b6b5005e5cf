"""Queries over HTTP: what a client sends, and what it gets."""

import csv
import io
import json
from datetime import timedelta
from typing import Any

import httpx
import pyarrow as pa
import pytest
from django.contrib.auth.models import User

from config.common import clock
from datasets import services
from datasets.models import Project
from datasets.schemas.fields import Field
from tests.conftest import Api
from tests.datasets.api.queries.conftest import FIELDS, Queries, client_of, error_of, sent

COUNTRIES = {
    "select": [{"field": "country"}, {"aggregate": "count", "as": "events"}],
    "groupBy": ["country"],
    "orderBy": [{"field": "events", "direction": "desc"}],
}


def test_the_example_query_of_the_contract_works(queries: Queries) -> None:
    old = (clock.now() - timedelta(days=30)).isoformat()
    queries.store(sent(), sent(), sent(country="DE"), sent(amount=1), sent(plan="free"), sent(timestamp=old))
    now = clock.now()
    result = queries.ok(
        {
            "range": {"from": (now - timedelta(days=9)).isoformat(), "to": now.isoformat()},
            "where": [{"field": "plan", "op": "=", "value": "pro"}, {"field": "amount", "op": ">", "value": 20}],
            "limit": 100,
            **COUNTRIES,
        }
    )
    assert result["columns"] == [{"name": "country", "type": "string"}, {"name": "events", "type": "integer"}]
    assert result["rows"] == [{"country": "RO", "events": 2}, {"country": "DE", "events": 1}]
    assert (result["row_count"], result["truncated"]) == (2, False)
    stats = result["stats"]
    assert set(stats) == {"elapsed_ms", "files_scanned", "bytes_scanned", "table_version"}
    assert stats["files_scanned"] == 1
    assert stats["bytes_scanned"] > 0
    assert stats["table_version"] > 0


def test_an_empty_query_counts_the_records_of_the_last_week(queries: Queries) -> None:
    old = (clock.now() - timedelta(days=8)).isoformat()
    queries.store(sent(), sent(), sent(timestamp=old))
    result = queries.ok({})
    assert result["rows"] == [{"count": 2}]
    assert list(result) == ["columns", "rows", "row_count", "truncated", "stats"]


def test_a_dataset_without_records_has_no_rows(queries: Queries) -> None:
    assert queries.rows() == [{"count": 0}]
    assert queries.ok({"select": [{"field": "country"}]})["rows"] == []


def test_queried_values_equal_the_sent_values(queries: Queries) -> None:
    exact = '{"a": [1.50, null],\n "b": "é"}'
    text = json.dumps(sent(price="?", visits=2**53 + 1, note="?", amount=0.1))
    text = text.replace('"price": "?"', '"price": 12345678.90').replace('"note": "?"', f'"note": {exact}')
    assert queries.sender.one(text).status_code == 202
    queries.store(sent(visits=None))
    names = ("timestamp", "context", "country", "plan", "amount", "price", "visits", "active", "note")
    answer = queries.ask(
        {"select": [{"field": name} for name in names], "where": [{"field": "visits", "op": "is_not_null"}]}
    )
    assert answer.status_code == 200, answer.text
    assert '"price":12345678.90,' in answer.text
    (row,) = answer.json()["rows"]
    assert row["timestamp"].endswith("Z")
    assert row["note"] == json.loads(exact)
    assert row["context"] == {"source": "shop"}
    assert (row["amount"], row["visits"], row["active"], row["plan"]) == (0.1, 2**53 + 1, True, "pro")
    (other,) = queries.rows(
        select=[{"field": "price"}, {"field": "note"}], where=[{"field": "visits", "op": "is_null"}]
    )
    assert other == {"price": None, "note": None}


def test_a_field_may_have_a_limit_of_many_digits(queries: Queries) -> None:
    fields = [*FIELDS, Field("huge", "decimal(38,0)", optional=True, minimum=-(10**37))]
    services.save_dataset(queries.dataset, fields=fields)
    where = [{"field": "huge", "op": ">", "value": 10**37}]
    assert queries.rows(where=where) == [{"count": 0}]


def test_a_record_that_is_stored_is_seen_by_the_next_query(queries: Queries) -> None:
    for count in range(1, 4):
        queries.store(sent())
        assert queries.rows() == [{"count": count}]


def test_more_rows_than_the_limit_are_truncated_and_paged(queries: Queries) -> None:
    queries.store(*(sent(visits=number) for number in range(5)))
    query: dict[str, Any] = {"select": [{"field": "visits"}], "orderBy": [{"field": "visits"}], "limit": 2}
    pages = []
    while True:
        result = queries.ok(query)
        pages.append([row["visits"] for row in result["rows"]])
        assert result["truncated"] == ("cursor" in result)
        if not result["truncated"]:
            break
        query["cursor"] = result["cursor"]
    assert pages == [[0, 1], [2, 3], [4]]


def test_the_legacy_path_queries_the_default_dataset(queries: Queries, shop: Project) -> None:
    queries.store(sent())
    answer = queries.client.call("POST", "/datasets/shop/query", {})
    assert error_of(answer) == (404, "Dataset not found", "dataset_not_found")
    shop.default_dataset = queries.dataset
    services.save_project(shop, changed=["default_dataset"])
    assert queries.client.ok("POST", "/datasets/shop/query/", {})["rows"] == [{"count": 1}]


def test_an_archived_dataset_can_be_queried(queries: Queries) -> None:
    queries.store(sent())
    assert queries.client.call("DELETE", queries.path.removesuffix("/query")).status_code == 204
    assert queries.rows() == [{"count": 1}]


# -- formats ------------------------------------------------------------------------------------------


def columns(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    return str(response.headers["Content-Type"])


def test_csv_is_safe_to_open(queries: Queries) -> None:
    evil = '=HYPERLINK("http://x")'
    queries.store(sent(country=evil, amount=-1), sent(country='a "b",\nc', amount=2))
    query = {"select": [{"field": "country"}, {"field": "amount"}], "orderBy": [{"field": "amount"}]}
    answer = queries.ask(query, Accept="text/csv")
    assert columns(answer) == "text/csv"
    assert list(csv.reader(io.StringIO(answer.text))) == [
        ["country", "amount"],
        ["'" + evil, "-1"],
        ['a "b",\nc', "2"],
    ]
    assert answer.headers["Query-Rows"] == "2"
    assert answer.headers["Query-Truncated"] == "false"
    assert int(answer.headers["Query-Table-Version"]) > 0


def test_csv_distinguishes_formulas_from_quoted_texts(queries: Queries) -> None:
    """A formula gets one more ' at its beginning, even if it already begins with '. Other texts stay as they are."""
    texts = ["=x", "'=x", "''=x", "'x", "-1", "'-1"]
    queries.store(*(sent(country=text, amount=number) for number, text in enumerate(texts)))
    query = {"select": [{"field": "country"}], "orderBy": [{"field": "amount"}]}
    cells = [row[0] for row in csv.reader(io.StringIO(queries.ask(query, Accept="text/csv").text))][1:]
    assert cells == ["'=x", "''=x", "'''=x", "'x", "'-1", "''-1"]


def test_csv_without_rows_has_the_names(queries: Queries) -> None:
    answer = queries.ask({"select": [{"field": "country"}, {"field": "amount"}]}, Accept="text/csv")
    assert answer.text.splitlines() == ['"country","amount"']
    assert (answer.headers["Query-Rows"], answer.headers["Query-Table-Version"]) == ("0", "-1")


def test_ndjson_has_a_row_on_each_line(queries: Queries) -> None:
    queries.store(sent(visits=1), sent(visits=2, price="7.10"))
    query = {"select": [{"field": "visits"}, {"field": "price"}], "orderBy": [{"field": "visits"}], "limit": 1}
    answer = queries.ask(query, Accept="application/x-ndjson")
    assert columns(answer) == "application/x-ndjson"
    assert answer.text == '{"visits":1,"price":null}\n'
    assert answer.headers["Query-Truncated"] == "true"
    again = queries.ask({**query, "cursor": answer.headers["Query-Cursor"]}, Accept="application/x-ndjson")
    assert again.text == '{"visits":2,"price":7.10}\n'
    assert "Query-Cursor" not in again.headers


def test_arrow_has_the_types_of_the_columns(queries: Queries) -> None:
    queries.store(sent(price="7.10", visits=3))
    query = {"select": [{"field": name} for name in ("timestamp", "country", "amount", "price", "visits", "active")]}
    answer = queries.ask(query, Accept="application/vnd.apache.arrow.stream")
    assert columns(answer) == "application/vnd.apache.arrow.stream"
    table = pa.ipc.open_stream(answer.content).read_all()
    types = ["timestamp[us, tz=UTC]", "string", "double", "decimal128(10, 2)", "int64", "bool"]
    assert [str(kind) for kind in table.schema.types] == types
    assert table.num_rows == 1


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", "application/json"),
        ("", "application/json"),
        ("application/json; charset=utf-8", "application/json"),
        ("text/csv;charset=UTF-8", "text/csv"),
        ("application/json, text/plain, */*", "application/json"),
        ("text/csv;q=0.5, application/json", "application/json"),
        ("text/*", "text/csv"),
        ("text/csv, */*;q=0.1", "text/csv"),
    ],
)
def test_accept_chooses_the_format(queries: Queries, accept: str, expected: str) -> None:
    assert columns(queries.ask({}, Accept=accept)) == expected


def test_an_unknown_format_is_refused(queries: Queries) -> None:
    answer = queries.ask({}, Accept="application/xml, text/html")
    assert error_of(answer) == (406, "Not acceptable", "not_acceptable")
    assert "text/csv" in answer.json()["expected"]
    # An error is JSON, even if the client accepts only other formats.
    assert error_of(queries.ask({"limit": 0}, Accept="text/csv"))[2] == "invalid_query"


def test_a_large_result_is_sent_whole(queries: Queries) -> None:
    queries.store(*(sent(country=f"{number:03}" + "é" * 1000) for number in range(300)))
    answer = queries.ask({"select": [{"field": "country"}], "limit": 1000})
    assert len(answer.content) == int(answer.headers["Content-Length"]) > 500_000
    assert sorted(row["country"][:3] for row in answer.json()["rows"]) == [f"{number:03}" for number in range(300)]


# -- errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "at", "received"),
    [
        ([], "", "array"),
        ({"sql": "SELECT 1"}, "sql", '"SELECT 1"'),
        (
            {"where": [{"field": "plan", "op": "=", "value": "pro"}, {"field": "amount", "op": "~"}]},
            "where[1].op",
            '"~"',
        ),
        ({"where": [{"field": "amount", "op": ">", "value": "20"}]}, "where[0].value", '"20"'),
        ({"select": [{"field": "Country"}]}, "select[0].field", '"Country"'),
        ({"select": [{"field": "__proto__"}]}, "select[0].field", '"__proto__"'),
        ({"limit": 0}, "limit", "0"),
        ({"groupBy": ["context"]}, "groupBy[0]", '"context"'),
        ({"cursor": "x"}, "cursor", '"x"'),
    ],
)
def test_a_wrong_query_names_the_place(queries: Queries, query: Any, at: str, received: str) -> None:
    answer = queries.ask(query)
    assert error_of(answer) == (400, "Invalid query", "invalid_query")
    body = answer.json()
    assert (body["at"], body["received"]) == (at, received)
    assert body["expected"]
    assert body["errors"][0] == {name: body[name] for name in ("at", "expected", "received", "detail")}


def test_a_result_that_is_too_large_for_a_column_is_refused(queries: Queries) -> None:
    queries.store(sent(amount=1.5e308), sent(amount=1.5e308))
    answer = queries.ask({"select": [{"aggregate": "sum", "field": "amount"}]})
    assert error_of(answer) == (400, "Invalid query", "invalid_query")
    assert answer.json()["at"].startswith("select")


def test_a_body_that_is_not_json_is_refused(queries: Queries) -> None:
    for body in (b"", b"{", b'{"limit":1,"limit":2}', b'{"limit":NaN}', b"\xff", b"[" * 100_000):
        answer = queries.client.request(
            "POST", f"/api{queries.path}", content=body, headers={"Content-Type": "application/json"}
        )
        assert error_of(answer) == (400, "Invalid JSON body", "invalid_json")
    answer = queries.client.request("POST", f"/api{queries.path}", content=b"{}", headers={"Content-Type": "text/csv"})
    assert error_of(answer) == (415, "Unsupported media type", "unsupported_media_type")


def test_the_answer_names_what_is_missing(queries: Queries, shop: Project) -> None:
    new = services.create_dataset(project=shop, name="New")
    missing = (404, "Dataset not found", "dataset_not_found")
    for path, expected in (
        (f"/datasets/shop/{new.pk}/query", (404, "Dataset schema not found", "dataset_schema_not_found")),
        ("/datasets/shop/999999/query", missing),
        ("/datasets/shop/query", missing),
        ("/datasets/nothing/1/query", (404, "Project not found", "project_not_found")),
        ("/datasets/shop/0/query", (400, "Invalid dataset ID", "invalid_dataset_id")),
        ("/datasets/shop/x/query", (400, "Invalid dataset ID", "invalid_dataset_id")),
    ):
        assert error_of(queries.client.call("POST", path, {})) == expected, path
    answer = queries.client.call("GET", queries.path)
    assert error_of(answer) == (405, "Method not allowed", "method_not_allowed")
    assert answer.headers["Allow"] == "POST"


def test_a_token_that_may_only_read_may_query(queries: Queries, alice: User) -> None:
    queries.store(sent())
    reader = client_of(alice, "read")
    assert reader.ok("POST", queries.path, {})["rows"] == [{"count": 1}]


def test_only_a_valid_personal_token_may_query(queries: Queries) -> None:
    for token, code in ((None, "missing_personal_access_token"), ("pat_x", "invalid_personal_access_token")):
        assert error_of(Api(token).post(f"/api{queries.path}", {}))[2] == code
    assert error_of(queries.sender.post(f"/api{queries.path}", {}))[2] == "project_api_key"


def test_a_table_that_is_gone_is_a_503(queries: Queries, settings: Any, tmp_path: Any) -> None:
    queries.store(sent())
    settings.STORAGE_URL = str(tmp_path / "elsewhere")
    answer = queries.ask({})
    assert error_of(answer) == (503, "Service unavailable", "service_unavailable")
    assert "storage is mounted" in answer.json()["detail"]
