"""`dataset-ingest import` with the service in this process: formats, refused rows, and runs that continue."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from dataset_ingest.importing.progress import Progress
from dataset_ingest.importing.rows import Columns, Stopped
from dataset_ingest.importing.run import Import, Place, View
from django.contrib.auth.models import User
from pyarrow import parquet
from pytest_django import Settings

from datasets import services
from datasets.contracts.keys import issue_token
from datasets.models import ApiKey, Dataset, Project
from datasets.schemas.declarations import parse_fields
from ingest.storing.ledger import balance
from quotas.services import set_limit
from tests.clients.python.seen import Seen
from tests.conftest import stored

FIELDS = {"country": "string?", "amount": "number", "price": "decimal(10,2)?", "tags": "string[]?", "extra": "json?"}


class Shown(View):
    """Keeps what an import shows."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


class Importer:
    """Imports files into a dataset."""

    def __init__(self, dataset: Dataset, key: ApiKey, directory: Path) -> None:
        self.dataset, self.directory = dataset, directory
        self.headers = {"Authorization": f"Bearer {issue_token(key)}"}
        self.view = Shown()

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.write_bytes(text.encode())
        return path

    def run(self, file: Path, seen: Seen | None = None, **columns: Any) -> Progress:
        place = Place(file, file.with_suffix(".progress"), file.with_suffix(".refused"))
        with httpx.Client(transport=seen or Seen(), base_url="http://testserver", headers=self.headers) as http:
            return Import(http, self.dataset.pk, place, Columns(**columns), self.view).run()

    def refused(self, file: Path) -> list[dict[str, Any]]:
        return [json.loads(line) for line in file.with_suffix(".refused").read_text().splitlines()]

    def rows(self) -> list[dict[str, Any]]:
        return sorted(stored(self.dataset), key=lambda row: row["amount"])


@pytest.fixture
def importer(project: Project, key: ApiKey, tmp_path: Path) -> Importer:
    fields = parse_fields({"fields": FIELDS})
    return Importer(services.create_dataset(project=project, name="Imported", fields=fields), key, tmp_path)


def line(amount: object, **more: Any) -> str:
    return json.dumps({"timestamp": "2026-06-10T10:58:00Z", "context": {}, "amount": amount, **more})


def test_ndjson_is_imported_and_bad_lines_are_written_out(importer: Importer) -> None:
    lines = [line(1), "", line("2"), line(3), "{not json", line(4)]
    file = importer.write("a.ndjson", "\n".join(lines))
    done = importer.run(file)
    assert (done.accepted, done.refused) == (3, 2)
    assert [row["amount"] for row in importer.rows()] == [1, 3, 4]
    first, second = importer.refused(file)
    assert (first["row"], first["error"], first["record"]["amount"]) == (3, "Invalid number field: amount", "2")
    assert (second["row"], second["code"], second["record"]) == (5, "invalid_json", "{not json")


def test_cells_of_csv_become_values_as_the_columns_say(importer: Importer) -> None:
    text = (
        "Ordered,Land,amount,price,tags,extra,note\r\n"
        '2026-06-10T10:58:00Z,RO,1.5,12.50,"[""a"", ""b""]","{""x"": 1}",left out\r\n'
        '2026-06-10T10:58:00Z,"Two\nlines, ""quoted""",2,,,,\r\n'
        '2026-06-10T10:58:00Z,"",3,,,,\r\n'
        "2026-06-10T10:58:00Z,,4,,,,\r\n"
        '2026-06-10T10:58:00Z,RO,"1,000",,,,\r\n'
        "2026-06-10T10:58:00Z,RO\r\n"
        '2026-06-10T10:58:00Z,RO,"5,""country"":""injected""",,,,\r\n'
    )
    file = importer.write("a.csv", text)
    done = importer.run(file, renamed={"Ordered": "timestamp", "Land": "country"}, dropped=["note"])
    assert (done.accepted, done.refused) == (4, 3)
    rows = importer.rows()
    assert [row["country"] for row in rows] == ["RO", 'Two\nlines, "quoted"', "", None]
    assert (rows[0]["price"], rows[0]["tags"], rows[0]["extra"]) == (Decimal("12.50"), ["a", "b"], '{"x": 1}')
    told = [(each["row"], each["error"]) for each in importer.refused(file)]
    assert told == [
        (6, "Invalid number field: amount"),
        (7, "The row has 2 cells, not 7"),
        (8, "Invalid number field: amount"),
    ]


@pytest.mark.parametrize(
    ("header", "columns", "message"),
    [
        ("amount,country", {}, "no column “timestamp”"),
        ("timestamp,amount,Land", {}, "no field “Land”"),
        ("timestamp,country", {}, "no column for the field “amount”"),
        ("timestamp,amount", {"dropped": ["x"]}, "no column “x”"),
        ("timestamp,amount,a", {"renamed": {"a": "amount"}}, "Several columns become “amount”"),
    ],
)
def test_columns_that_do_not_fit_stop_the_import_before_it_sends(
    importer: Importer, header: str, columns: dict[str, Any], message: str
) -> None:
    with pytest.raises(Stopped, match=message):
        importer.run(importer.write("a.csv", f"{header}\n"), **columns)


def test_parquet_keeps_its_types(importer: Importer, tmp_path: Path) -> None:
    moment = datetime(2026, 6, 10, 10, 58, tzinfo=UTC)
    table = pa.table(
        {
            "timestamp": pa.array([moment] * 3, pa.timestamp("us", "Europe/Bucharest")),
            "amount": pa.array([1.5, 2.0, float("nan")]),
            "price": pa.array([Decimal("12.50"), None, None], pa.decimal128(10, 2)),
            "tags": pa.array([["a"], [], None]),
            "extra": pa.array([{"x": 1}, None, None]),
        }
    )
    file = tmp_path / "a.parquet"
    parquet.write_table(table, file)
    done = importer.run(file)
    assert (done.accepted, done.refused) == (2, 1)
    first, second = importer.rows()
    assert (first["timestamp"], first["price"], first["tags"]) == (moment, Decimal("12.50"), ["a"])
    assert (first["extra"], second["price"], second["tags"], second["country"]) == ('{"x":1}', None, [], None)


def stop_at(number: int, *, after: bool) -> Seen:
    """Return a transport that kills the program at a batch: before it is sent, or after it was accepted."""

    def kill(request: httpx.Request) -> httpx.Response | None:
        batches = [each for each in seen.requests if each.method == "POST"]
        if len(batches) == number and request.method == "POST":
            if after:
                super(Seen, seen).handle_request(request)
            raise KeyboardInterrupt
        return None

    seen = Seen(kill)
    return seen


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("name", ["a.ndjson", "a.csv"])
def test_an_import_that_is_killed_continues_and_doubles_nothing(
    importer: Importer, monkeypatch: pytest.MonkeyPatch, name: str, after: bool
) -> None:
    monkeypatch.setattr("dataset_ingest.importing.run._MAX_ROWS", 10)
    bad = (7, 23, 24)
    rows = ['"bad"' if number in bad else str(number) for number in range(45)]
    records = [line(json.loads(row)) for row in rows]
    cells = ["timestamp,amount", *(f"2026-06-10T10:58:00Z,{row}" for row in rows)]
    file = importer.write(name, "\n".join(records if name.endswith("json") else cells))
    for number in (2, 1, 3):
        with pytest.raises(KeyboardInterrupt):
            importer.run(file, stop_at(number, after=after))
    done = importer.run(file)
    assert (done.accepted, done.refused) == (42, 3)
    assert [row["amount"] for row in importer.rows()] == [number for number in range(45) if number not in bad]
    assert [each["row"] for each in importer.refused(file)] == [n + (2 if name.endswith("csv") else 1) for n in bad]
    assert importer.run(file) == done  # nothing is sent a second time
    assert balance(importer.dataset).accepted == 42


def test_a_file_that_has_changed_is_not_continued(importer: Importer) -> None:
    file = importer.write("a.ndjson", line(1))
    importer.run(file)
    importer.write("a.ndjson", line(1) + "\n" + line(2))
    with pytest.raises(Stopped, match="have changed"):
        importer.run(file)


def test_a_change_of_the_schema_takes_effect_in_the_middle(importer: Importer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataset_ingest.importing.run._MAX_ROWS", 2)

    def change(request: httpx.Request) -> httpx.Response | None:
        if sum(each.method == "POST" for each in seen.requests) == 2:
            fields = parse_fields({"fields": {**FIELDS, "amount": {"type": "number", "maximum": 3}}})
            services.save_dataset(importer.dataset, fields=fields)
        return None

    seen = Seen(change)
    file = importer.write("a.ndjson", "\n".join(line(number) for number in range(6)))
    done = importer.run(file, seen)
    assert (done.accepted, done.refused) == (4, 2)
    assert [each["detail"] for each in importer.refused(file)] == ["It is more than 3."] * 2


def test_lower_limits_of_the_service_make_smaller_chunks(importer: Importer, settings: Settings) -> None:
    settings.MAX_BATCH_RECORDS = 3
    done = importer.run(importer.write("a.ndjson", "\n".join(line(number) for number in range(20))))
    assert done.accepted == 20
    assert len(importer.rows()) == 20


def test_an_exceeded_quota_stops_the_import_and_it_continues_later(
    importer: Importer, owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dataset_ingest.importing.run._MAX_ROWS", 5)
    set_limit(owner, 12)
    file = importer.write("a.ndjson", "\n".join(line(number) for number in range(20)))
    with pytest.raises(Stopped, match="do not fit into the monthly quota: 10 of 12 records are used"):
        importer.run(file)
    set_limit(owner, -1)
    assert importer.run(file).accepted == 20
    assert importer.view.notes == ["Continuing after row 15."]
    assert len(importer.rows()) == 20
