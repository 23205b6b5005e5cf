"""Edit the body of a quarantined entry: explain what is wrong with it, check the new body, keep the old body."""

from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction

from config.common import redis
from config.common.errors import ApiError, Refused
from config.common.text import counted, visible
from datasets.models import SchemaVersion
from ingest.errors import InvalidRecords
from ingest.models import QuarantinedEntry, QuarantineEdit
from ingest.queue import redis_keys
from ingest.queue.formats import LINES, OBJECT, Earlier, Payload
from ingest.validation.payloads import validate_array, validate_lines, validate_one

# The admin does not edit larger bodies: they can only be exported.
MAX_EDITED_BYTES = 1_000_000

_HELD = QuarantinedEntry.State.HELD


class EditRefused(Refused):
    """The edited body was not saved. The text says why, and lists the problems of the body."""

    def __init__(self, *problems: str) -> None:
        super().__init__(" ".join(problems))
        self.problems = problems


class EditedMeanwhile(EditRefused):
    """Another edit of the entry was saved after the author's page was loaded."""

    def __init__(self, entry: QuarantinedEntry) -> None:
        latest = entry.edits.select_related("author").last()
        who = f"{latest.author or 'a deleted user'} at {latest.made_at:%H:%M} UTC" if latest else "somebody else"
        super().__init__(
            f"Nothing was saved, because the entry was edited meanwhile by {who}. Your text is still below: compare it "
            "with the current body, then save again."
        )


def versions(entry: QuarantinedEntry) -> list[tuple[SchemaVersion, str]]:
    """Return the schema versions that an edited body can be checked against, each with its label."""
    accepted, latest, earlier = _accepted_under(entry), entry.dataset.latest_version(), _earlier(entry)
    label = f"{accepted} or {earlier} (this entry's versions)" if earlier else f"{accepted} (this entry's version)"
    offered = [(accepted, label)] if accepted else []
    if latest and latest != accepted:
        offered.append((latest, f"{latest} (in force now)"))
    return offered


def _accepted_under(entry: QuarantinedEntry) -> SchemaVersion | None:
    """Return the schema version of an entry: the version of its last edit, or else the version of its acceptance.

    Return None if the database does not have it.
    """
    return SchemaVersion.objects.filter(dataset=entry.dataset_id, pk=entry.schema_version_id).first()


def _earlier(entry: QuarantinedEntry) -> SchemaVersion | None:
    """Return the earlier of the two schema versions of an entry's records, or None if they are of one version."""
    earlier = Earlier.read(entry.earlier)
    return SchemaVersion.objects.filter(dataset=entry.dataset_id, pk=earlier.version_id).first() if earlier else None


def explain(entry: QuarantinedEntry) -> list[str]:
    """Return the reasons why an entry could not be stored, in plain words."""
    accepted = _accepted_under(entry)
    if accepted is None:
        return ["The schema version under which these records were accepted is missing from the database."]
    if len(entry.body) > MAX_EDITED_BYTES:
        return ["The body is too large to be checked here. Export it to see what is wrong."]
    try:
        payload = _checked(entry, bytes(entry.body), accepted)
    except ApiError as refusal:
        return _in_words(refusal)
    if payload.count != entry.count:
        return [f"The body holds {counted(payload.count)}, but the request was accepted with {counted(entry.count)}."]
    if entry.reason.startswith("column "):
        return [
            "The body matches the schema, but the table does not: one of its columns has another type. Something "
            "outside this service changed the table."
        ]
    return ["The body matches the schema, so the cause may be gone. Replay the entry."]


def edit(entry: QuarantinedEntry, text: str, version: SchemaVersion, author: AbstractBaseUser, *, seen: int) -> None:
    """Replace the body of an entry. The old body is kept in the entry's history.

    The number of records must not change, so that the ledger adds up. Raises EditRefused.

    Args:
        entry: The entry in quarantine.
        text: The new body.
        version: The schema version to check the new body against.
        author: The user who edits the body.
        seen: The number of edits that the author's page showed. If there are more by now, the edit is refused.
    """
    with transaction.atomic():
        locked = QuarantinedEntry.objects.select_for_update(no_key=True).get(pk=entry.pk)
        if locked.state != _HELD or redis.client().hexists(redis_keys.replayed(entry.dataset_id), entry.pk):
            raise EditRefused("Nothing was saved: the entry was replayed or discarded meanwhile.")
        if locked.edits.count() != seen:
            raise EditedMeanwhile(locked)
        try:
            payload = _checked(locked, text.replace("\r\n", "\n").encode(errors="replace"), version)
        except ApiError as refusal:
            raise EditRefused(*_in_words(refusal)) from refusal
        if payload.count != locked.count:
            raise EditRefused(
                f"The body holds {counted(payload.count)}, but the request was accepted with {counted(locked.count)}. "
                "Keep the number of records, so that the ledger adds up."
            )
        by = version.pk if payload.earlier is None or not payload.earlier.has_all else payload.earlier.version_id
        QuarantineEdit.objects.create(
            entry=locked,
            author=author,  # type: ignore[misc]
            before=bytes(locked.body),
            after=payload.body,
            version_before=locked.schema_version_id,
            version_after=by,
        )
        locked.body, locked.format = payload.body, payload.format.decode()
        locked.schema_version_id = by
        locked.earlier = payload.earlier.text if payload.earlier and not payload.earlier.has_all else ""
        locked.save(update_fields=["body", "format", "schema_version_id", "earlier"])
    entry.refresh_from_db()


def _checked(entry: QuarantinedEntry, body: bytes, version: SchemaVersion) -> Payload:
    """Check a body as the API would, and return it as a payload. Raises ApiError."""
    earlier = _earlier(entry) if version.pk == entry.schema_version_id else None
    form = entry.format.encode()
    is_lines = form == LINES and not body.lstrip().startswith(b"[")
    validate = validate_one if form == OBJECT else validate_lines if is_lines else validate_array
    return validate(version.compiled(), body, earlier=earlier.compiled() if earlier else None)


def _in_words(refusal: ApiError) -> list[str]:
    if isinstance(refusal, InvalidRecords):
        return [_problem(each) for each in refusal.details["errors"]]
    detail = refusal.details.get("detail")
    return [visible(f"{refusal.error}: {detail}" if detail else f"{refusal.error}.")]


def _problem(problem: dict[str, Any]) -> str:
    record = f"Record {int(problem['index']) + 1}: " if "index" in problem else ""
    words = f"{record}{problem['error']}"
    if problem.get("expected") and problem.get("received"):
        words += f" (expected {problem['expected']}, received {problem['received']})"
    return visible(f"{words}. {problem['detail']}" if problem.get("detail") else f"{words}.")
