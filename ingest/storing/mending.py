"""A quarantined body, explained in plain words and mended: checked as the API checks it, kept with its history."""

from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction

from config.common import redis
from config.common.errors import ApiError, Refused
from config.common.text import counted
from datasets.models import SchemaVersion
from ingest.errors import InvalidRecords
from ingest.models import QuarantinedEntry, QuarantineEdit
from ingest.queue import redis_keys
from ingest.queue.formats import LINES, OBJECT, Payload
from ingest.validation.payloads import validate_array, validate_lines, validate_one

# A larger body is exported, not edited in a page.
MAX_EDITED_BYTES = 1_000_000

_HELD = QuarantinedEntry.State.HELD


class EditRefused(Refused):
    """An edited body that cannot take the place of the one in quarantine. The text lists what is wrong."""

    def __init__(self, *problems: str) -> None:
        super().__init__(" ".join(problems))
        self.problems = problems


def versions(entry: QuarantinedEntry) -> list[tuple[SchemaVersion, str]]:
    """Return the schema versions that an edited body may be checked against, each with its label."""
    accepted, latest = _accepted_under(entry), entry.dataset.latest_version()
    offered = [(accepted, f"{accepted}, under which it was accepted")] if accepted else []
    if latest and latest != accepted:
        offered.append((latest, f"{latest}, in force now"))
    return offered


def _accepted_under(entry: QuarantinedEntry) -> SchemaVersion | None:
    """Return the schema version that an entry was accepted under, None if the database does not have it."""
    return SchemaVersion.objects.filter(dataset=entry.dataset_id, pk=entry.schema_version_id).first()


def explain(entry: QuarantinedEntry) -> list[str]:
    """Return in plain words why an entry could not be stored."""
    accepted = _accepted_under(entry)
    if accepted is None:
        return ["The schema version that these records were accepted under is not in the database."]
    if len(entry.body) > MAX_EDITED_BYTES:
        return ["The body is too large to be checked here. Export it to see what is wrong."]
    try:
        payload = _checked(entry, bytes(entry.body), accepted)
    except ApiError as refusal:
        return _in_words(refusal)
    if payload.count != entry.count:
        return [f"The body holds {counted(payload.count)}, but {counted(entry.count)} were accepted."]
    if entry.reason.startswith("column "):
        return [
            "The body is as the schema asks. The table is not: one of its columns has another type, so something "
            "outside this service changed it."
        ]
    return ["The body is as the schema asks. Replay it: the reason may have passed."]


def edit(entry: QuarantinedEntry, text: str, version: SchemaVersion, author: AbstractBaseUser, *, seen: int) -> None:
    """Put an edited body in the place of the one in quarantine. The former body is kept in its history.

    `seen` is the number of edits that the author's page showed. The number of records stays, so that the ledger adds
    up. Raises EditRefused.
    """
    with transaction.atomic():
        locked = QuarantinedEntry.objects.select_for_update(no_key=True).get(pk=entry.pk)
        if locked.state != _HELD or redis.client().hexists(redis_keys.replayed(entry.dataset_id), entry.pk):
            raise EditRefused("Nothing was saved: the entry was replayed or discarded meanwhile.")
        if locked.edits.count() != seen:
            raise EditRefused("Nothing was saved: somebody else edited the entry meanwhile. See its history.")
        try:
            payload = _checked(locked, text.replace("\r\n", "\n").encode(errors="replace"), version)
        except ApiError as refusal:
            raise EditRefused(*_in_words(refusal)) from refusal
        if payload.count != locked.count:
            raise EditRefused(
                f"The body holds {counted(payload.count)}, but {counted(locked.count)} were accepted. "
                "Keep the number of records, so that the ledger adds up."
            )
        QuarantineEdit.objects.create(
            entry=locked,
            author=author,  # type: ignore[misc]
            before=bytes(locked.body),
            after=payload.body,
            version_before=locked.schema_version_id,
            version_after=version.pk,
        )
        locked.body, locked.format = payload.body, payload.format.decode()
        locked.schema_version_id = version.pk
        locked.save(update_fields=["body", "format", "schema_version_id"])
    entry.refresh_from_db()


def _checked(entry: QuarantinedEntry, body: bytes, version: SchemaVersion) -> Payload:
    """Return the body as a payload, checked as the API would check it. Raises ApiError."""
    schema = version.compiled()
    if entry.format.encode() == OBJECT:
        return validate_one(schema, body)
    if entry.format.encode() == LINES and not body.lstrip().startswith(b"["):
        return validate_lines(schema, body)
    return validate_array(schema, body)


def _in_words(refusal: ApiError) -> list[str]:
    if isinstance(refusal, InvalidRecords):
        return [_problem(each) for each in refusal.details["errors"]]
    detail = refusal.details.get("detail")
    return [f"{refusal.error}: {detail}" if detail else f"{refusal.error}."]


def _problem(problem: dict[str, Any]) -> str:
    record = f"Record {int(problem['index']) + 1}: " if "index" in problem else ""
    words = f"{record}{problem['error']}"
    if problem.get("expected") and problem.get("received"):
        words += f" (expected {problem['expected']}, received {problem['received']})"
    return f"{words}. {problem['detail']}" if problem.get("detail") else f"{words}."
