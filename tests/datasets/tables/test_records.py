"""Reading stored records, with `datasets.tables.records` and `manage.py records`."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from django.core.management import CommandError, call_command

from datasets import services
from datasets.models import Dataset, Project
from datasets.schemas.fields import Field
from datasets.tables import records
from ingest.storing.drain import drain
from tests.conftest import Api, record
from tests.support.entries import enqueue, send


@pytest.fixture
def filled(api: Api, dataset: Dataset) -> Dataset:
    """A dataset with five records in two commits."""
    send(api, "a", "b", "c")
    drain(dataset.pk)
    send(api, "d", "e")
    drain(dataset.pk)
    return dataset


def run(capfd: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Return what the command writes to standard output."""
    call_command("records", *map(str, arguments))
    return capfd.readouterr().out


def test_the_latest_records_come_first(filled: Dataset) -> None:
    latest = records.latest(filled, 3, max_characters=100)
    assert latest is not None
    assert latest["country"].to_pylist() == ["e", "d", "c"]
    assert "ingested-on" not in latest.column_names


def test_all_records_come_in_batches(filled: Dataset) -> None:
    found = [country for batch in records.batches(filled) for country in batch.column("country").to_pylist()]
    assert sorted(found) == ["a", "b", "c", "d", "e"]
    assert records.count(filled) == 5


def test_a_dataset_without_a_table_has_no_records(dataset: Dataset, capfd: pytest.CaptureFixture[str]) -> None:
    assert (records.count(dataset), records.latest(dataset, 3, max_characters=100), list(records.batches(dataset))) == (
        0,
        None,
        [],
    )
    assert run(capfd, dataset.pk) == "Nothing is stored yet.\n"
    assert run(capfd, dataset.pk, "--format", "ndjson") == ""


def test_an_empty_table_has_no_records(api: Api, dataset: Dataset, capfd: pytest.CaptureFixture[str]) -> None:
    enqueue(dataset, b"{}")
    drain(dataset.pk)
    assert records.count(dataset) == 0
    assert run(capfd, dataset.pk) == "Nothing is stored yet.\n"


@pytest.mark.parametrize("width", ["80", "400"])
def test_it_shows_the_latest_as_a_table(
    filled: Dataset, capfd: pytest.CaptureFixture[str], width: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    shown = run(capfd, filled.pk, "--limit", 2)
    values = [line.split("│")[1:-1] for line in shown.splitlines() if "│" in line]
    words = [value.strip() for line in values for value in line]
    assert [word for word in words if word in "abcde"] == ["e", "d"]
    assert words.count("2026-06-10T10:58:00Z") == 2
    assert words.count("true") == 2
    assert "country" in shown


def test_it_writes_ndjson(filled: Dataset, capfd: pytest.CaptureFixture[str]) -> None:
    rows = [json.loads(line) for line in run(capfd, filled.pk, "--format", "ndjson").splitlines()]
    assert sorted(row["country"] for row in rows) == ["a", "b", "c", "d", "e"]
    assert rows[0] | {"country": "a"} == rows[0] | record(country="a", context=rows[0]["context"])
    assert json.loads(rows[0]["context"]) == record()["context"]


def test_it_writes_the_latest_as_ndjson(filled: Dataset, capfd: pytest.CaptureFixture[str]) -> None:
    lines = run(capfd, filled.pk, "--format", "ndjson", "--limit", 2).splitlines()
    assert [json.loads(line)["country"] for line in lines] == ["e", "d"]


def test_it_writes_csv(filled: Dataset, capfd: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(run(capfd, filled.pk, "--format", "csv"))))
    assert sorted(row["country"] for row in rows) == ["a", "b", "c", "d", "e"]
    assert (rows[0]["amount"], rows[0]["active"]) == ("42.5", "true")


@pytest.mark.parametrize("limit", [(), ("--limit", 2)])
def test_it_writes_parquet_to_a_file(
    filled: Dataset, tmp_path: Path, capfd: pytest.CaptureFixture[str], limit: tuple[object, ...]
) -> None:
    path = tmp_path / "out.parquet"
    run(capfd, filled.pk, "--format", "parquet", "-o", path, *limit)
    found = pyarrow.parquet.read_table(path)["country"].to_pylist()
    assert sorted(found) == (["d", "e"] if limit else ["a", "b", "c", "d", "e"])


@pytest.mark.parametrize("form", ["table", "ndjson", "csv"])
def test_it_writes_to_a_file(filled: Dataset, tmp_path: Path, capfd: pytest.CaptureFixture[str], form: str) -> None:
    path = tmp_path / "out"
    assert run(capfd, filled.pk, "--format", form, "-o", path) == ""
    assert path.read_text() == run(capfd, filled.pk, "--format", form)
    assert len(path.read_text().splitlines()) >= 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("999999",), "There is no dataset 999999."),
        (("{id}", "--limit", "-1"), "--limit must be 0 or more."),
        (("{id}", "--format", "parquet"), "A terminal cannot show parquet. Name a file with -o."),
    ],
)
def test_wrong_arguments_are_refused_with_the_reason(
    dataset: Dataset, arguments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(CommandError, match=f"^{message}$"):
        call_command("records", *(each.format(id=dataset.pk) for each in arguments))


@pytest.mark.parametrize(
    ("sent", "written"),
    [
        ("0001-01-01T23:59:00+23:59", "0001-01-01T00:00:00Z"),
        ("9999-12-31T00:00:59.999999-23:59", "9999-12-31T23:59:59.999999Z"),
        ("2026-06-10T10:58:00.5+02:00", "2026-06-10T08:58:00.500000Z"),
    ],
)
@pytest.mark.parametrize("form", ["table", "ndjson", "csv", "parquet"])
def test_it_writes_each_timestamp_that_is_accepted(
    api: Api, dataset: Dataset, sent: str, written: str, form: str, tmp_path: Path
) -> None:
    assert api.one(record(signup_at=sent)).status_code == 202
    drain(dataset.pk)
    path = tmp_path / "out"
    call_command("records", str(dataset.pk), "--format", form, "-o", str(path))
    if form == "parquet":
        assert pyarrow.parquet.read_table(path).num_rows == 1
    else:
        assert written in path.read_text()


def test_it_reads_any_text(api: Api, project: Project, tmp_path: Path) -> None:
    fields = [Field("select", "string"), Field("Text", "string")]
    api.dataset = services.create_dataset(project=project, name="Texts", fields=fields)
    text = 'a\x00b,"c"\n😀\u2028'
    given: dict[str, Any] = {"timestamp": "2026-06-10T10:58:00Z", "context": {}, "select": text, "Text": text}
    assert api.one(given).status_code == 202
    drain(api.dataset.pk)
    path = tmp_path / "out"
    call_command("records", str(api.dataset.pk), "--format", "ndjson", "-o", str(path))
    row = json.loads(path.read_text())
    assert (row["select"], row["Text"]) == (text, text)
    call_command("records", str(api.dataset.pk), "--format", "csv", "-o", str(path), "--limit", "1")
    (row,) = csv.DictReader(path.open(newline=""))
    assert row["Text"] == text


def test_csv_can_be_sent_again_and_is_safe_in_spreadsheets(api: Api, project: Project, tmp_path: Path) -> None:
    fields = [Field("text", "string"), Field("number", "number"), Field("at", "timestamp")]
    dataset = api.dataset = services.create_dataset(project=project, name="Formulas", fields=fields)
    texts = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "plain", "a=1", ""]
    for text in texts:
        sent = {
            "timestamp": "2026-06-10T10:58:00+02:00",
            "context": {},
            "text": text,
            "number": -5,
            "at": record()["timestamp"],
        }
        assert api.one(sent).status_code == 202
    drain(dataset.pk)

    def rows(*options: str) -> list[dict[str, str]]:
        path = tmp_path / "out.csv"
        call_command("records", str(dataset.pk), "--format", "csv", "-o", str(path), *options)
        assert path.read_bytes().startswith(b"\xef\xbb\xbf") == ("--bom" in options)
        return list(csv.DictReader(path.open(newline="", encoding="utf-8-sig")))

    assert {row["timestamp"] for row in rows()} == {"2026-06-10T08:58:00Z"}
    assert {row["at"] for row in rows("--bom")} == {"2026-06-10T10:58:00Z"}
    assert {row["number"] for row in rows()} == {"-5"}
    assert sorted(row["text"] for row in rows()) == sorted(
        f"'{text}" if text[:1] in "=+-@\t\r" and text else text for text in texts
    )
    assert sorted(row["text"] for row in rows("--raw", "--bom")) == sorted(texts)


def test_ndjson_to_send_is_accepted_again(api: Api, dataset: Dataset, tmp_path: Path) -> None:
    context = '{\n  "nested": {"n": 1.0, "text": "a\\nb"}\r\n}'
    body = json.dumps(record(country="\x9b\u2028")).replace(json.dumps(record()["context"]), context)
    assert api.one(body).status_code == 202
    drain(dataset.pk)
    path = tmp_path / "out.ndjson"
    call_command("records", str(dataset.pk), "--format", "ndjson", "--to-send", "-o", str(path))
    sent = path.read_bytes()
    assert sent.count(b"\n") == 1
    assert api.batch(sent, content_type="application/x-ndjson").status_code == 202
    drain(dataset.pk)
    call_command("records", str(dataset.pk), "--format", "ndjson", "--to-send", "-o", str(path))
    first, second = path.read_bytes().splitlines()
    assert first == second
    assert json.loads(first)["context"] == {"nested": {"n": 1.0, "text": "a\nb"}}
