"""What a receipt says, from acceptance to the table."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.conf import settings

from config.common import redis
from datasets import services
from datasets.contracts.keys import issue_token
from datasets.models import Dataset, Project
from datasets.schemas.fields import Field
from ingest.models import QuarantinedEntry
from ingest.storing.drain import drain
from ingest.storing.quarantine import discard, replay
from tests.conftest import FIELDS, Api, record
from tests.support.entries import names_in_table, send, status, table_of

NOT_FOUND = {"error": "Receipt not found", "code": "receipt_not_found"}


def look(api: Api, path: str) -> tuple[int, dict[str, Any]]:
    response = api.request("GET", path)
    assert response.headers["Content-Type"] == "application/json"
    return response.status_code, response.json()


def receipt(accepted: httpx.Response) -> str:
    return accepted.headers["Location"].rpartition("/")[2]


def quarantine_next(api: Api, dataset: Dataset, *names: str) -> tuple[httpx.Response, QuarantinedEntry]:
    """Let records be accepted and then quarantined, because their schema version is missing for some time."""
    accepted = send(api, *names)
    version = dataset.versions.get()
    saved = (version.pk, version.number, version.fields)
    dataset.versions.filter(pk=saved[0]).delete()
    drain(dataset.pk)
    dataset.versions.create(pk=saved[0], number=saved[1], fields=saved[2])
    return accepted, QuarantinedEntry.objects.get(state=QuarantinedEntry.State.HELD)


def spoil(entry: QuarantinedEntry) -> QuarantinedEntry:
    """Damage a quarantined body, so that its replay ends in quarantine again."""
    entry.body = b"{"
    entry.save()
    return entry


def test_it_is_queued_and_then_stored(api: Api, dataset: Dataset) -> None:
    accepted = send(api, "a")
    _, ms, _, _ = receipt(accepted).split("-")
    queued = status(api, accepted)
    assert queued == {"status": "queued", "dataset_id": dataset.pk, "accepted_at": queued["accepted_at"]}
    drain(dataset.pk)
    stored = status(api, accepted)
    assert stored == {"status": "stored", "dataset_id": dataset.pk, "accepted_at": queued["accepted_at"]}
    assert stored["accepted_at"].endswith("Z")
    (row,) = (each for each in _rows(dataset) if each["country"] == "a")
    assert row["ingested_at"].isoformat(timespec="milliseconds") == stored["accepted_at"].replace("Z", "+00:00")
    assert row["id"].startswith(ms)


def _rows(dataset: Dataset) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table_of(dataset).to_pyarrow_table().to_pylist()
    return rows


def test_each_request_has_its_own_receipt(api: Api, dataset: Dataset) -> None:
    first, second = send(api, "a"), send(api, "b")
    assert receipt(first) != receipt(second)
    drain(dataset.pk)
    third = send(api, "c")
    assert [status(api, each)["status"] for each in (first, second, third)] == ["stored", "stored", "queued"]


def test_it_is_quarantined_with_the_reason_replayed_and_stored(api: Api, dataset: Dataset) -> None:
    accepted, entry = quarantine_next(api, dataset, "a")
    at = status(api, accepted)
    assert (at["status"], at["reason"]) == ("quarantined", entry.reason)
    replay(entry)
    assert status(api, accepted) == {"status": "queued", "dataset_id": dataset.pk, "accepted_at": at["accepted_at"]}
    drain(dataset.pk)
    assert status(api, accepted) == {"status": "stored", "dataset_id": dataset.pk, "accepted_at": at["accepted_at"]}


def test_replayed_entry_is_quarantined_again_if_the_reason_remains(api: Api, dataset: Dataset) -> None:
    accepted, entry = quarantine_next(api, dataset, "a")
    replay(spoil(entry))
    drain(dataset.pk)
    assert status(api, accepted)["status"] == "quarantined"
    replay(QuarantinedEntry.objects.get(state=QuarantinedEntry.State.HELD))
    assert status(api, accepted)["status"] == "queued"
    drain(dataset.pk)
    assert status(api, accepted)["status"] == "quarantined"


def test_discarded_entry_stays_quarantined(api: Api, dataset: Dataset) -> None:
    accepted, entry = quarantine_next(api, dataset, "a")
    discard(entry)
    assert status(api, accepted)["status"] == "quarantined"


# -- receipts that were not given out -----------------------------------------------------------------


@pytest.mark.parametrize(
    "forged",
    [
        "x",
        "{receipt}0",
        "{generation}-{ms}-{seq}",
        "{generation}-{ms}-{seq}-{zeros}",
        "{generation}-{ms}-1-{signature}",
        "{generation}-{later}-{seq}-{signature}",
        "00000000-{ms}-{seq}-{signature}",
        "{generation}-{ms}-{seq}-{SIGNATURE}",
        "{generation}-0{ms}-{seq}-{signature}",
        "{generation}-{ms}-{seq}-{signature}%0A",
        "{receipt}%00",
    ],
)
def test_a_forged_receipt_is_not_found(api: Api, dataset: Dataset, forged: str) -> None:
    accepted = receipt(send(api, "a"))
    drain(dataset.pk)
    generation, ms, seq, signature = accepted.split("-")
    given = forged.format(
        receipt=accepted,
        generation=generation,
        ms=ms,
        later=int(ms) + 1,
        seq=seq,
        signature=signature,
        SIGNATURE=signature.upper() + ("" if signature.upper() != signature else "x"),
        zeros="0" * 16,
    )
    assert look(api, f"/datasets/{dataset.pk}/receipts/{given}") == (404, NOT_FOUND)


def test_another_datasets_receipt_is_not_found(api: Api, dataset: Dataset, project: Project) -> None:
    accepted = receipt(send(api, "a"))
    other = services.create_dataset(project=project, name="Other", fields=FIELDS)
    assert look(api, f"/datasets/{other.pk}/receipts/{accepted}") == (404, NOT_FOUND)


def test_another_projects_receipt_is_not_found(api: Api, dataset: Dataset, project: Project) -> None:
    accepted = receipt(send(api, "a"))
    stranger = services.create_project(slug="stranger", owner=project.owner)
    theirs = Api(issue_token(services.create_key(project=stranger, name="theirs")))
    own = services.create_dataset(project=stranger, name="Own", fields=[Field("country", "string")])
    assert look(theirs, f"/datasets/{own.pk}/receipts/{accepted}") == (404, NOT_FOUND)
    assert look(theirs, f"/datasets/{dataset.pk}/receipts/{accepted}") == (
        404,
        {"error": "Dataset schema not found", "code": "dataset_schema_not_found"},
    )


def test_receipt_is_shown_only_with_a_key(api: Api, dataset: Dataset) -> None:
    accepted = receipt(send(api, "a"))
    status, answer = look(Api(None), f"/datasets/{dataset.pk}/receipts/{accepted}")
    assert (status, answer["error"]) == (401, "Missing API key")


def test_receipt_stays_valid_after_the_secret_was_rotated(
    api: Api, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted = send(api, "a")
    old = settings.API_KEY_SECRET
    monkeypatch.setattr(settings, "API_KEY_SECRET", "n" * 50)
    monkeypatch.setattr(settings, "API_KEY_SECRET_FALLBACKS", [old])
    assert status(api, accepted)["status"] == "queued"
    assert status(api, send(api, "b"))["status"] == "queued"


# -- a Redis that is wiped ----------------------------------------------------------------------------


def test_wipe_keeps_stored_records_and_loses_queued_ones(api: Api, dataset: Dataset) -> None:
    stored = send(api, "a")
    drain(dataset.pk)
    lost = send(api, "b")
    redis.client().flushall()
    for _ in range(2):  # before and after the new queue's first acceptance
        assert status(api, stored)["status"] == "stored"
        assert look(api, lost.headers["Location"]) == (404, NOT_FOUND)
        send(api, "c")
    drain(dataset.pk)
    assert status(api, stored)["status"] == "stored"
    assert look(api, lost.headers["Location"]) == (404, NOT_FOUND)


def test_wipe_before_the_first_drain_loses_queued_records(api: Api, dataset: Dataset) -> None:
    lost = send(api, "a")
    redis.client().flushall()
    assert look(api, lost.headers["Location"]) == (404, NOT_FOUND)


def test_wipe_keeps_the_quarantine_which_can_be_replayed(api: Api, dataset: Dataset) -> None:
    accepted, entry = quarantine_next(api, dataset, "a")
    redis.client().flushall()
    assert status(api, accepted)["status"] == "quarantined"
    replay(entry)
    assert status(api, accepted)["status"] == "queued"
    drain(dataset.pk)
    assert status(api, accepted)["status"] == "stored"
    assert names_in_table(dataset) == ["a"]
    redis.client().flushall()
    assert status(api, accepted)["status"] == "stored"


def test_wipe_then_new_quarantine_is_not_reported_as_stored(api: Api, dataset: Dataset) -> None:
    accepted, entry = quarantine_next(api, dataset, "a")
    redis.client().flushall()
    replay(spoil(entry))
    drain(dataset.pk)
    assert status(api, accepted)["status"] == "quarantined"


@pytest.mark.parametrize("wiped_before", [False, True])
def test_replay_that_was_wiped_is_not_reported_as_stored(api: Api, dataset: Dataset, wiped_before: bool) -> None:
    accepted, entry = quarantine_next(api, dataset, "a")
    if wiped_before:
        redis.client().flushall()
    replay(entry)
    redis.client().flushall()
    send(api, "b")
    drain(dataset.pk)
    assert look(api, accepted.headers["Location"]) == (404, NOT_FOUND)


# -- what is out of reach -----------------------------------------------------------------------------


def test_a_storage_that_does_not_answer_is_a_503(api: Api, dataset: Dataset) -> None:
    """The service needs the table only for a receipt of an earlier generation."""
    accepted = send(api, "a")
    drain(dataset.pk)
    first_commit = Path(table_of(dataset).table_uri.removeprefix("file://")) / "_delta_log" / f"{0:020}.json"
    first_commit.write_text("{a disk that is broken")
    assert status(api, accepted)["status"] == "stored"
    redis.client().flushall()
    code, answer = look(api, accepted.headers["Location"])
    assert (code, answer["error"]) == (503, "Ingest queue unavailable")
    assert answer["detail"].startswith("The storage does not answer")


def test_batches_of_every_format_have_a_receipt(api: Api, dataset: Dataset) -> None:
    one = json.dumps(record())
    responses = [api.one(one), api.batch(f"[{one},{one}]"), api.batch(f"{one}\n", content_type="application/x-ndjson")]
    drain(dataset.pk)
    assert [status(api, each)["status"] for each in responses] == ["stored"] * 3


def test_receipts_are_answered_after_the_dataset_was_archived(api: Api, dataset: Dataset) -> None:
    queued = api.one(record())
    dataset.is_archived = True
    services.save_dataset(dataset, changed=["is_archived"])
    assert api.one(record()).status_code == 404
    assert status(api, queued)["status"] == "queued"
    drain(dataset.pk)
    assert status(api, queued)["status"] == "stored"
