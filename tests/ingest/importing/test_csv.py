"""`manage.py import` of CSV: only the type of a field decides how a cell becomes a value."""

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from pytest_django import Settings

from config.common import clock
from datasets import services
from datasets.models import Dataset, Project
from datasets.schemas.field_types import FIELD_TYPES
from datasets.schemas.fields import Field
from tests.conftest import FIELDS, stored
from tests.ingest.importing.importing import import_file, refused

HEADER = "timestamp,context,country,plan,amount,active,signup_at"
ROW = "2026-06-10T10:58:00Z,{},RO,pro,42.5,true,2026-06-01T08:00:00Z"


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def row(**changes: str) -> str:
    return ",".join({**dict(zip(HEADER.split(","), ROW.split(","), strict=True)), **changes}.values())


def test_cells_become_values_of_their_fields(dataset: Dataset, tmp_path: Path) -> None:
    context = '"{""a"": [1, ""x""]}"'
    path = write(tmp_path / "a.csv", "\n".join([HEADER, row(context=context), row(amount="-1e3", active="false")]))
    done = import_file(dataset, path)
    assert (done.code, done.err) == (0, "")
    first, second = stored(dataset)
    assert first["context"] == '{"a": [1, "x"]}'
    assert (first["country"], first["amount"], first["active"]) == ("RO", 42.5, True)
    assert first["signup_at"] == datetime(2026, 6, 1, 8, tzinfo=UTC)
    assert (second["amount"], second["active"]) == (-1000.0, False)


def test_every_field_type_says_how_a_cell_is_read() -> None:
    literals = {name for name, each in FIELD_TYPES.items() if each.is_literal}
    texts = {"string", "timestamp", "decimal(p,s)", "date", "uuid", "enum"}
    assert literals == set(FIELD_TYPES) - texts


@pytest.mark.parametrize(
    ("kind", "cell", "value"),
    [
        ("integer", "9223372036854775807", 2**63 - 1),
        ("integer", "1.0", "Invalid integer field: value"),
        ("integer", "1e3", "Invalid integer field: value"),
        ("decimal(10,2)", "12.50", Decimal("12.50")),
        ("decimal(10,2)", '"12,50"', "Invalid decimal(10,2) field: value"),
        ("decimal(10,2)", "12.505", "Invalid decimal(10,2) field: value"),
        ("date", "2026-06-10", date(2026, 6, 10)),
        ("date", "10.06.2026", "Invalid date field: value"),
        ("uuid", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"),
        ("uuid", "f81d4fae", "Invalid uuid field: value"),
        ("enum", "a", "a"),
        ("enum", "c", "Invalid enum field: value"),
        ("json", '"{""a"": [1]}"', '{"a": [1]}'),
        ("json", '"""a"""', '"a"'),
        ("json", "12.50", "12.50"),
        ("json", "a", "Invalid JSON body"),
        ("json", '"1,""value"":2"', "Invalid JSON body"),
        ("string[]", '"[""a"",""b,c""]"', ["a", "b,c"]),
        ("string[]", '"a,b"', "Invalid string[] field: value"),
        ("number[]", '"[1,2.5]"', [1.0, 2.5]),
        ("integer[]", "[]", []),
        ("timestamp[]", '"[""2026-06-10""]"', "Invalid timestamp[] field: value"),
    ],
)
def test_a_cell_of_each_type(project: Project, tmp_path: Path, kind: str, cell: str, value: object) -> None:
    field = Field("value", kind, values=("a", "b") if kind == "enum" else ())
    dataset = services.create_dataset(project=project, name="Typed", fields=[field])
    path = write(tmp_path / "a.csv", f"timestamp,value\n2026-06-10T10:58:00Z,{cell}\n")
    if import_file(dataset, path).code == 0:
        assert [each["value"] for each in stored(dataset)] == [value]
    else:
        (found,) = refused(path)
        assert (found["error"], found["record"]["timestamp"]) == (value, "2026-06-10T10:58:00Z")


def test_an_optional_field_may_be_empty_or_have_no_column(project: Project, tmp_path: Path) -> None:
    fields = [Field("note", "string", optional=True), Field("score", "integer", optional=True)]
    dataset = services.create_dataset(project=project, name="Optional", fields=fields)
    path = write(tmp_path / "a.csv", 'timestamp,note\n2026-06-10T10:58:00Z,\n2026-06-10T10:58:00Z,""\n')
    assert import_file(dataset, path).code == 0
    assert [(each["note"], each["score"]) for each in stored(dataset)] == [(None, None), ("", None)]


def test_in_a_grace_period_the_columns_may_be_those_of_the_version_before(dataset: Dataset, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", f"{HEADER}\n{ROW}\n")
    until = clock.now() + timedelta(hours=1)
    services.save_dataset(dataset, fields=[*FIELDS, Field("note", "string")], previous_valid_until=until)
    assert import_file(dataset, path).code == 0
    services.end_grace(dataset.versions.get(number=2))
    other = write(tmp_path / "b.csv", f"{HEADER}\n{ROW}\n\n")
    assert "The file has no column for the field “note”." in import_file(dataset, other).err
    assert [each["__schemaVersion"] for each in stored(dataset)] == [1]


@pytest.mark.parametrize(
    ("column", "cell", "error"),
    [
        ("amount", '"12,5"', "Invalid number field: amount"),
        ("amount", "1 000", "Invalid number field: amount"),
        ("amount", "+1", "Invalid number field: amount"),
        ("amount", "NaN", "Invalid number field: amount"),
        ("amount", "true", "Invalid number field: amount"),
        ("amount", '""', "Invalid number field: amount"),
        ("amount", "", "Missing field: amount"),
        ("active", "1", "Invalid boolean field: active"),
        ("active", "TRUE", "Invalid boolean field: active"),
        ("active", "yes", "Invalid boolean field: active"),
        ("country", "", "Missing field: country"),
        ("timestamp", "2026-06-10 10:58:00", "Invalid or missing timestamp"),
        ("signup_at", "1780000000", "Invalid timestamp field: signup_at"),
        ("context", "", "context must be an object"),
        ("context", "[]", "context must be an object"),
        ("context", "{a}", "context must be an object"),
    ],
)
def test_a_cell_that_is_not_a_value_of_its_type_is_refused(
    dataset: Dataset, tmp_path: Path, column: str, cell: str, error: str
) -> None:
    path = write(tmp_path / "a.csv", "\n".join([HEADER, ROW, row(**{column: cell})]))
    assert import_file(dataset, path).code == 3
    (found,) = refused(path)
    assert (found["row"], found["error"]) == (3, error)
    assert len(stored(dataset)) == 1


def test_texts_do_not_change(dataset: Dataset, tmp_path: Path) -> None:
    texts = ['""', '" a "', '"a ""b"""', '"two\nlines"', '"one\r\nmore"', "1", "true", "null", "'=x", "é\u2028"]
    path = write(tmp_path / "a.csv", "\n".join([HEADER, *(row(country=text) for text in texts)]))
    assert import_file(dataset, path).code == 0
    assert [each["country"] for each in stored(dataset)] == [
        *("", " a ", 'a "b"', "two\nlines", "one\r\nmore", "1", "true", "null", "'=x", "é\u2028")
    ]


def test_byte_order_mark_crlf_and_blank_rows(dataset: Dataset, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "\r\n".join([HEADER, ROW, "", row(amount="x"), ROW, ""]), "utf-8-sig")
    assert import_file(dataset, path).out == f"Dataset {dataset.pk} has accepted 2 records of 3 rows.\n"
    assert [each["row"] for each in refused(path)] == [4]


def test_rows_with_more_or_fewer_cells_are_refused_in_their_place(
    dataset: Dataset, tmp_path: Path, settings: Settings
) -> None:
    settings.MAX_BATCH_RECORDS = 2
    path = write(tmp_path / "a.csv", "\n".join([HEADER, "a,b", ROW, f"{ROW},more", "c", row(plan="last"), "d", ""]))
    assert import_file(dataset, path).code == 3
    assert [(each["row"], each["error"], each["record"]) for each in refused(path)] == [
        (2, "The row has 2 cells, not 7", "a,b"),
        (4, "The row has 8 cells, not 7", f"{ROW},more"),
        (5, "The row has 1 cells, not 7", "c"),
        (7, "The row has 1 cells, not 7", "d"),
    ]
    assert [each["plan"] for each in stored(dataset)] == ["pro", "last"]


def test_a_cell_that_is_not_utf8_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "\n".join([HEADER, row(country="Österreich"), row(amount="é"), ROW]), "latin-1")
    assert import_file(dataset, path).code == 3
    details = [each["errors"][0]["detail"] for each in refused(path)]
    assert details == [f"The cell of the column “{name}” is not UTF-8." for name in ("country", "amount")]
    assert len(stored(dataset)) == 1


def test_columns_are_renamed_and_dropped(dataset: Dataset, tmp_path: Path) -> None:
    header = "When,country,plan,amount,active,signup_at,id"
    path = write(tmp_path / "a.csv", f"{header}\n2026-06-10T10:58:00Z,RO,pro,1,true,2026-06-01T08:00:00Z,7\n")
    done = import_file(dataset, path, "--timestamp-column", "When", "--drop", "id")
    assert (done.code, done.err) == (0, "The file has no context: each record gets an empty one.\n")
    (found,) = stored(dataset)
    assert (found["timestamp"], found["context"]) == (datetime(2026, 6, 10, 10, 58, tzinfo=UTC), "{}")


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_another_delimiter_is_named(dataset: Dataset, tmp_path: Path, delimiter: str) -> None:
    text = "\n".join([HEADER, ROW]).replace(",", delimiter)
    path = write(tmp_path / "a.csv", text)
    done = import_file(dataset, path)
    assert done.code == 1
    assert f"use --delimiter '{repr(delimiter)[1:-1]}'." in done.err
    assert import_file(dataset, path, "--delimiter", repr(delimiter)[1:-1]).code == 0
    assert len(stored(dataset)) == 1


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        ("", (), "The first row of the file is empty. It must have the names of the columns."),
        ("\n", (), "The first row of the file is empty."),
        ("when,amount\n1,2\n", (), "The file has no column “timestamp”. Say with --timestamp-column which column"),
        ("when,amount\n1,2\n", (), "“when”, “amount”."),
        (f"{HEADER},more\n", (), "The schema has no field “more”. Say with --map COLUMN=FIELD which field a column is"),
        (HEADER.removesuffix(",signup_at"), (), "The file has no column for the field “signup_at”."),
        (HEADER.replace("plan", "country"), (), "The file has several columns “country”."),
        (HEADER, ("--map", "plan=country"), "Several columns become “country”."),
        (HEADER, ("--drop", "foo"), "The file has no column “foo”. Columns: “timestamp”, "),
        (HEADER, ("--map", "foo=plan"), "The file has no column “foo”."),
    ],
)
def test_columns_that_do_not_fit_are_explained_before_anything_is_sent(
    dataset: Dataset, tmp_path: Path, text: str, words: tuple[str, ...], said: str
) -> None:
    path = write(tmp_path / "a.csv", text)
    done = import_file(dataset, path, *words)
    assert (done.code, done.out) == (1, "")
    assert said in done.err
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == ["a.csv"]


def test_utf16_is_explained(dataset: Dataset, tmp_path: Path) -> None:
    done = import_file(dataset, write(tmp_path / "a.csv", HEADER, "utf-16"))
    assert (done.code, done.err) == (1, "The file is UTF-16. Save it as UTF-8.")


def test_a_file_without_rows_has_no_records(dataset: Dataset, tmp_path: Path) -> None:
    for name, text in (("a.csv", HEADER), ("b.csv", f"{HEADER}\n")):
        done = import_file(dataset, write(tmp_path / name, text))
        assert (done.code, done.out) == (0, f"Dataset {dataset.pk} has accepted 0 records of 0 rows.\n")


def test_a_large_row_is_read(dataset: Dataset, tmp_path: Path) -> None:
    large = row(country="x" * 5_000_000)
    path = write(tmp_path / "a.csv", "\n".join([HEADER, ROW, "too,few", large, row(plan="last")]))
    assert import_file(dataset, path).out == f"Dataset {dataset.pk} has accepted 3 records of 4 rows.\n"
    assert [(len(each["country"]), each["plan"]) for each in stored(dataset)] == [
        *((2, "pro"), (5_000_000, "pro"), (2, "last"))
    ]
    assert [each["row"] for each in refused(path)] == [3]


def test_a_quotation_mark_that_is_not_closed_stops_the_import(
    dataset: Dataset, tmp_path: Path, settings: Settings
) -> None:
    settings.MAX_BODY_BYTES = 1000
    path = write(tmp_path / "a.csv", "\n".join([HEADER, ROW, row(country='"' + "x" * 5_000_000), ROW]))
    done = import_file(dataset, path)
    assert (done.code, done.err) == (1, "A row of the file is too large, or a quotation mark is not closed.")


def test_a_resumed_import_counts_rows_and_not_lines(dataset: Dataset, tmp_path: Path, settings: Settings) -> None:
    settings.MAX_BATCH_RECORDS = 2
    rows = [row(country=f'"a\n{n}"') if n != 3 else "too,few" for n in range(8)]
    path = write(tmp_path / "a.csv", "\n".join([HEADER, *rows]))
    import_file(dataset, path)
    place = path.with_name(f"a.csv.import-{dataset.pk}")
    lines = place.read_bytes().splitlines(keepends=True)
    for kept in range(1, len(lines)):
        place.write_bytes(b"".join(lines[:kept]))
        done = import_file(dataset, path)
        assert done.out == f"Dataset {dataset.pk} has accepted 7 records of 8 rows.\n"
        assert [each["row"] for each in refused(path)] == [5]
    assert [each["country"] for each in stored(dataset)] == [f"a\n{n}" for n in range(8) if n != 3]
    assert json.loads(stored(dataset)[0]["context"]) == {}
