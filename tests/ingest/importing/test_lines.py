"""`manage.py import` of NDJSON: what happens to each line, and what the command tells the user."""

import gzip
import json
import threading
from datetime import timedelta
from pathlib import Path

import pytest
import zstandard
from pytest_django import Settings

from config.common import clock
from datasets import services
from datasets.contracts import old_form
from datasets.models import Dataset
from datasets.schemas.fields import Field
from quotas.services import set_limit
from tests.conftest import FIELDS, record, stored
from tests.ingest.importing.importing import import_file, refused, write_lines
from tests.support.books import books, this_month

GOOD = [record(amount=float(n)) for n in range(5)]


def test_records_are_stored_in_the_order_of_the_file(dataset: Dataset, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.ndjson", *GOOD)
    done = import_file(dataset, path)
    assert (done.code, done.err) == (0, "")
    assert done.out == f"Dataset {dataset.pk} has accepted 5 records of 5 rows.\n"
    rows = stored(dataset)
    assert [row["amount"] for row in rows] == [0, 1, 2, 3, 4]
    assert json.loads(rows[0]["context"]) == GOOD[0]["context"]
    assert {row["__traceId"].rpartition("-")[0].partition("-")[0] for row in rows} == {"import"}
    assert sorted(each.name for each in tmp_path.iterdir() if each.is_file()) == [
        "a.ndjson",
        f"a.ndjson.import-{dataset.pk}",
    ]


def test_records_are_charged_to_the_owner(dataset: Dataset, tmp_path: Path) -> None:
    import_file(dataset, write_lines(tmp_path / "a.jsonl", *GOOD))
    assert books(dataset.project.owner).total == 5


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_compressed_file_is_read(dataset: Dataset, tmp_path: Path, suffix: str) -> None:
    text = write_lines(tmp_path / "plain", *GOOD).read_bytes()
    compress = gzip.compress if suffix == "gz" else zstandard.compress
    path = tmp_path / f"a.ndjson.{suffix}"
    path.write_bytes(compress(text[:100]) + compress(text[100:]))
    assert import_file(dataset, path).code == 0
    assert [row["amount"] for row in stored(dataset)] == [0, 1, 2, 3, 4]


def test_half_of_a_compressed_file_is_an_error(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson.gz"
    text = write_lines(tmp_path / "plain", *GOOD).read_bytes()
    path.write_bytes(gzip.compress(text)[:-9])
    done = import_file(dataset, path)
    assert (done.code, done.out) == (1, "")
    assert "Truncated compressed stream" in done.err


def test_byte_order_mark_crlf_blank_lines_and_no_last_line_break(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    lines = [json.dumps(each).encode() for each in GOOD]
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join([lines[0], b"", b"  ", *lines[1:]]))
    assert import_file(dataset, path).out == f"Dataset {dataset.pk} has accepted 5 records of 5 rows.\n"
    assert len(stored(dataset)) == 5


def test_refused_rows_have_number_reason_and_record(dataset: Dataset, tmp_path: Path) -> None:
    bad = record(amount="12,5", country=1)
    path = write_lines(tmp_path / "a.ndjson", GOOD[0], bad, "", '{"half":', "[1]", GOOD[1])
    done = import_file(dataset, path)
    assert done.code == 3
    assert done.out == f"Dataset {dataset.pk} has accepted 2 records of 5 rows.\n"
    assert done.err == f"3 rows were refused: see {path}.refused.ndjson.\n"
    first, second, third = refused(path)
    assert (first["row"], first["error"], first["record"]) == (2, "Invalid string field: country", bad)
    assert [each["field"] for each in first["errors"]] == ["country", "amount"]
    assert (second["row"], second["error"], second["record"]) == (4, "Invalid JSON body", '{"half":')
    assert "Line 1, column 9" in second["errors"][0]["detail"]
    assert (third["row"], third["error"], third["record"]) == (5, "Payload must be an object", "[1]")
    assert [row["amount"] for row in stored(dataset)] == [0, 1]
    assert books(dataset.project.owner).total == 2


def test_a_refused_row_can_be_imported_after_correction(dataset: Dataset, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.ndjson", record(amount="1"))
    assert import_file(dataset, path).code == 3
    (row,) = refused(path)
    corrected = write_lines(tmp_path / "b.ndjson", {**row["record"], "amount": 1})
    assert import_file(dataset, corrected).code == 0
    assert len(stored(dataset)) == 1


def test_text_that_is_not_utf8_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_bytes(json.dumps(record(country="?")).encode().replace(b"?", b"\xff") + b"\n")
    assert import_file(dataset, path).code == 3
    (row,) = refused(path)
    assert row["error"] == "Invalid JSON body"
    assert "\N{REPLACEMENT CHARACTER}" in row["record"]


@pytest.mark.parametrize("size", [2_000, 3_000_000])
def test_a_line_that_is_larger_than_a_request_is_refused(
    dataset: Dataset, tmp_path: Path, settings: Settings, size: int
) -> None:
    settings.MAX_BODY_BYTES = 1_000
    path = write_lines(tmp_path / "a.ndjson", GOOD[0], record(country="x" * size), GOOD[1])
    assert import_file(dataset, path).code == 3
    (row,) = refused(path)
    assert (row["row"], row["error"], len(row["record"])) == (2, "Request body too large", 1000)
    assert len(stored(dataset)) == 2


def test_chunks_are_as_large_as_the_limits_of_a_batch(dataset: Dataset, tmp_path: Path, settings: Settings) -> None:
    settings.MAX_BATCH_RECORDS = 2
    path = write_lines(tmp_path / "a.ndjson", *GOOD)
    import_file(dataset, path)
    assert [row["__traceId"].rpartition("-")[2] for row in stored(dataset)] == ["0", "0", "2", "2", "4"]

    settings.MAX_BATCH_RECORDS = 10_000
    line = len(json.dumps(GOOD[0])) + 1
    settings.MAX_BODY_BYTES = 3 * line + 1
    path = write_lines(tmp_path / "b.ndjson", *GOOD[::-1])
    import_file(dataset, path)
    assert [row["__traceId"].rpartition("-")[2] for row in stored(dataset)[5:]] == ["0", "0", "0", "3", "3"]


def test_members_are_renamed_and_dropped(dataset: Dataset, tmp_path: Path) -> None:
    sent = {"at" if name == "timestamp" else "land" if name == "country" else name: v for name, v in GOOD[1].items()}
    path = write_lines(tmp_path / "a.ndjson", {**sent, "id": 7}, {**sent, "country": "two"})
    words = ("--map", "land=country", "--timestamp-column", "at", "--drop", "id")
    assert import_file(dataset, path, *words).code == 3
    (row,) = stored(dataset)
    assert (row["country"], row["timestamp"].isoformat()) == ("RO", "2026-06-10T10:58:00+00:00")
    assert refused(path)[0]["error"] == "Two members of the record are called “country” after --map"


def test_records_without_context_get_an_empty_one(dataset: Dataset, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.ndjson", record(context=...), record())
    done = import_file(dataset, path)
    assert (done.code, done.err) == (0, "The file has no context: each record gets an empty one.\n")
    assert [row["context"][:3] for row in stored(dataset)] == ["{}", '{"s']


def test_a_record_without_timestamp_names_its_members(dataset: Dataset, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.ndjson", {"at": 1, "land": "RO"})
    done = import_file(dataset, path)
    assert (done.code, done.out) == (1, "")
    assert done.err.endswith("Say with --timestamp-column which of its members is the time: “at”, “land”.")
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == ["a.ndjson"], "nothing was begun"


def test_an_id_of_the_user_is_not_dropped_silently(dataset: Dataset, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.ndjson", {**GOOD[0], "id": 7})
    assert import_file(dataset, path).code == 3
    assert refused(path)[0]["error"] == "Extra field: id"


def test_each_chunk_must_match_the_schema_in_force(dataset: Dataset, tmp_path: Path, settings: Settings) -> None:
    settings.MAX_BATCH_RECORDS = 5
    path = write_lines(tmp_path / "a.ndjson", *GOOD, *GOOD)
    set_limit(dataset.project.owner, 5)
    assert import_file(dataset, path).code == 1, "the quota is used"
    services.save_dataset(dataset, fields=[*FIELDS, Field("note", "string")])
    done = import_file(dataset, path)
    assert (done.code, done.out) == (3, f"Dataset {dataset.pk} has accepted 5 records of 10 rows.\n")
    assert {row["error"] for row in refused(path)} == {"Missing field: note"}
    assert len(stored(dataset)) == 5


def test_a_file_that_changes_meanwhile_is_not_read_further(
    dataset: Dataset, tmp_path: Path, settings: Settings
) -> None:
    settings.MAX_BATCH_RECORDS = 5
    path = write_lines(tmp_path / "a.ndjson", *(GOOD * 500))
    progress = path.with_name(f"a.ndjson.import-{dataset.pk}")

    def change() -> None:
        while not progress.exists() or progress.stat().st_size < 1_000:
            pass
        with path.open("a") as file:
            file.write("\n")

    other = threading.Thread(target=change)
    other.start()
    done = import_file(dataset, path)
    other.join()
    assert (done.code, done.out) == (1, "")
    assert "The file has changed while it was imported." in done.err


def test_what_cannot_be_imported_is_explained(dataset: Dataset, tmp_path: Path) -> None:
    for name, said in (
        ("-", "Standard input cannot be read again after an interruption."),
        ("a.json", "“a.json” is not a name of a file that can be imported."),
        ("a.parquet.gz", "“a.parquet.gz” is not a name of a file that can be imported."),
        ("missing.ndjson", "No such file or directory"),
    ):
        path = Path(name) if name == "-" else tmp_path / name
        if name.startswith("a."):
            path.write_text("")
        done = import_file(dataset, path)
        assert (done.code, done.out) == (1, "")
        assert said in done.err
    path = write_lines(tmp_path / "a.ndjson", GOOD[0])
    for words, said in (
        (("--map", "a"), "--map a: write --map COLUMN=FIELD."),
        (("--map", "a=b", "--drop", "a"), "--map or --drop name the column “a” twice."),
        (("--delimiter", ";;"), "--delimiter must be one ASCII character"),
    ):
        assert said in import_file(dataset, path, *words).err


def test_a_dataset_that_accepts_no_records_is_explained(dataset: Dataset, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.ndjson", GOOD[0])
    project = dataset.project
    project.is_active = False
    services.save_project(project, changed=["is_active"])
    assert "The project or its owner is inactive." in import_file(dataset, path).err
    project.is_active = True
    services.save_project(project, changed=["is_active"])
    dataset.is_archived = True
    services.save_dataset(dataset, changed=["is_archived"])
    assert "takes no records: it is archived, or has no schema yet." in import_file(dataset, path).err
    empty = services.create_dataset(project=project, name="Without a schema")
    assert "takes no records: it is archived, or has no schema yet." in import_file(empty, path).err
    assert books(project.owner, this_month()).total in (None, 0)


def test_in_a_grace_period_a_file_may_mix_both_forms(dataset: Dataset, tmp_path: Path) -> None:
    until = clock.now() + timedelta(hours=1)
    services.save_dataset(dataset, fields=[*FIELDS, Field("source", "string")], previous_valid_until=until)
    version = dataset.latest_version()
    assert version is not None
    mixed = [record(source="web"), record(), record(amount="x"), record()]
    done = import_file(dataset, write_lines(tmp_path / "a.ndjson", *mixed))
    assert done.out.startswith(f"Dataset {dataset.pk} has accepted 3 records of 4 rows.")
    assert [row["__schemaVersion"] for row in stored(dataset)] == [2, 1, 1]
    assert [(sender.key_id, sender.records) for sender in old_form.senders(version)] == [(0, 2)]
    services.end_grace(version)
    assert "accepted 0 records of 1" in import_file(dataset, write_lines(tmp_path / "b.ndjson", record())).out
