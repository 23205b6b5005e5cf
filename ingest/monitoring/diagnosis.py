"""Why records of a project do not arrive: everything that a request meets on its way, in that order, and what to do."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from deltalake.exceptions import DeltaError
from django.db.models import Exists, OuterRef, Q, Sum

from config.common import redis
from config.common.text import counted
from datasets.models import Dataset, Project, SchemaVersion
from datasets.tables.table import DatasetTable
from ingest.models import QuarantinedEntry
from ingest.monitoring import health, statistics
from ingest.monitoring.refusals import REJECTED_RECORDS
from ingest.queue import redis_keys
from quotas import services as quotas

# Of an error code: what is the matter, and what to do about it.
ADVICE = {
    "invalid_dataset_id": (
        "The dataset id is not a positive integer.",
        "Use the address that the dataset's page shows.",
    ),
    "invalid_json": ("The body is not JSON.", "Paste it into Try it: the answer says where."),
    "not_an_object": ("A record is not an object.", "Send {…}; several as an array, to /batch."),
    "invalid_batch": ("A batch is no array, or it is empty.", "Send [{…}, …] to /batch, or one record to the dataset."),
    "invalid_timestamp": ("timestamp is missing, or no RFC 3339 time with an offset.", "Send 2026-06-10T10:58:00Z."),
    "invalid_context": ("context is missing, or no object.", "Send at least {}."),
    "extra_field": ("Records carry a field that is not declared.", "Declare it, or put it into context."),
    "missing_field": (
        "Records lack a declared field; every one is required.",
        "Send it, or remove it from the schema.",
    ),
    "invalid_field": ("A field has another type than is declared.", "Nothing is coerced: send 42.5, not “42.5”."),
    "rejected_records": (
        "Records of lenient batches were bad; the others of these batches were taken.",
        "See what was refused, and mend it at the sender.",
    ),
    "invalid_idempotency_key": ("The Idempotency-Key is too long, or not visible ASCII.", "Use a UUID."),
    "idempotency_key_in_progress": ("The same Idempotency-Key was under way.", "Send it again a second later."),
    "idempotency_key_reused": ("An Idempotency-Key came with another body.", "Use a new one for each body."),
    "invalid_api_key": ("The key is revoked, expired or forged, or the project is inactive.", "Issue a key; use that."),
    "missing_api_key": ("No key was sent.", "Send Authorization: Bearer and the key."),
    "missing_project_claim": ("The token names no project.", "Use a key that was issued here."),
    "personal_access_token": ("A personal token (pat_…) was sent.", "Use a project's API key."),
    "dataset_schema_not_found": (
        "There is no such dataset in the key's project, or it is archived, or has no schema.",
        "Compare the id in the address with the dataset's page, and the key's project.",
    ),
    "body_too_slow": (
        "Many requests at once began a body and did not send the rest.",
        "Send bodies whole; for clients on slow lines, put a proxy that buffers in front.",
    ),
    "length_required": (
        "NDJSON came in chunks, without its length: one that was cut short looks like a whole one.",
        "Send Content-Length, or compress it.",
    ),
    "body_too_large": ("The body is larger than MAX_BODY_BYTES.", "Send smaller batches."),
    "too_many_records": ("A batch has more records than MAX_BATCH_RECORDS.", "Send smaller batches."),
    "unsupported_media_type": ("The Content-Type is not JSON.", "Send Content-Type: application/json."),
    "unsupported_content_encoding": ("The Content-Encoding is unknown.", "Use gzip, zstd, or none."),
    "quota_exceeded": ("The owner's monthly quota is used up.", "Have it raised, or wait for the next month (UTC)."),
    "too_many_idempotency_keys": (
        "The project has used as many Idempotency-Keys as are remembered at a time.",
        "Send larger batches, one key each, or raise IDEMPOTENCY_KEYS_PER_PROJECT.",
    ),
    "queue_full": (
        "More was accepted than is being stored.",
        "Is a worker alive, and the storage writable? Has Redis memory left (see /readyz)?",
    ),
    "queue_unavailable": ("Redis or the database did not answer.", "See to these; clients may simply retry."),
    "receipt_not_found": ("A receipt was asked for that was not issued.", "Use the Location of the answer, whole."),
    "method_not_allowed": ("Records were not sent by POST.", "Use POST."),
    "not_found": ("The address does not exist.", "Use the address that the dataset's page shows."),
    "bad_request": ("The request is malformed.", "Compare it with the curl line of the dataset's page."),
    "internal_error": ("A defect of this service.", "Its log says more."),
}
# For each check of the service that is not ok.
_SERVICE_ADVICE = {
    "redis": "See to Redis: no request is accepted until it answers and has memory left.",
    "database": "Start the database: accepted records wait until it answers.",
    "worker": "Start the worker process: accepted records wait until it runs. Its log says why it stopped.",
    "upkeep": "Start the upkeep process: records are stored, but small files and replaced ones pile up.",
    "beat": "Start the beat process: accepted records wait until it runs. Its log says why it stopped.",
    "storage": "See to the storage, or to the worker that looks at it: accepted records wait until then.",
}
# These come without a key that can be read, so that nobody knows whose they are.
_NOBODYS = ("missing_api_key", "invalid_api_key", "missing_project_claim", "personal_access_token")
_LATE_SECONDS = 60
_NAMED = 5
# A page that says nothing for longer is given up.
_TABLE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `place` is what to open next, by a word that the page knows."""

    wrong: bool
    text: str
    advice: str = ""
    place: str = ""


def findings(project: Project) -> list[Finding]:
    """What was found, in the order in which a request meets it. Raises RedisError where Redis does not answer."""
    looks = (_service, _project, _datasets, _keys, _quota, _refusals, _nobodys, _queue, _tables, _quarantine)
    return [finding for look in looks for finding in look(project)]


def _service(project: Project) -> Iterator[Finding]:
    for name, state in health.checks().items():
        if state != "ok":
            yield Finding(True, f"{name.capitalize()}: {state}.", _SERVICE_ADVICE[name])


def _project(project: Project) -> Iterator[Finding]:
    if not project.is_active:
        yield Finding(True, "The project is inactive: all its keys are refused.", "Activate it.", "project")
    elif not project.owner.is_active:
        what = f"The project's owner, {project.owner}, is inactive: all keys of the project are refused."
        yield Finding(True, what, "A superuser can activate the owner, or give the project another one.", "project")


def _datasets(project: Project) -> Iterator[Finding]:
    schema = Exists(SchemaVersion.objects.filter(dataset=OuterRef("pk")))
    datasets = Dataset.objects.filter(project=project).annotate(has_schema=schema)
    if not datasets.filter(has_schema=True, is_archived=False).exists():
        yield Finding(True, "No dataset accepts records.", "Define one, with its fields.", "datasets")
    for dataset in datasets.filter(Q(has_schema=False) | Q(is_archived=True))[:_NAMED]:
        reason = "is archived" if dataset.is_archived else "has no schema"
        yield Finding(True, f"“{dataset}” (id {dataset.pk}) {reason}: it accepts nothing.", "", "datasets")


def _keys(project: Project) -> Iterator[Finding]:
    if not project.keys_in_force().exists():
        yield Finding(True, "No key is in force.", "Issue one.", "key")


def _quota(project: Project) -> Iterator[Finding]:
    quota = quotas.current_many([project.owner_id])[project.owner_id]
    if quota.percent == 100:
        text = f"The quota of {project.owner} is used up: {quota.used:,} of {quota.limit:,} records in {quota.period}."
        yield Finding(True, text, "A superuser can raise it; it begins anew with the month (UTC).", "quota")


def _refusals(project: Project) -> Iterator[Finding]:
    """Of the last 24 hours; and whether anything came at all."""
    refused, oldest = statistics.refused([project.pk]), statistics.this_hour() - 23
    counts: Counter[str] = Counter()
    for (hour, code), count in refused.items():
        counts[code] += count if hour >= oldest else 0
    for code, count in counts.most_common():
        if count:
            text, advice = ADVICE.get(code, (f"Refused: {code}.", ""))
            place = "key" if code in _NOBODYS else "refused"
            what = counted(count, "record" if code == REJECTED_RECORDS else "request")
            yield Finding(True, f"{what} refused in 24 hours, {code}: {text}", advice, place)
    ids = list(project.datasets.values_list("pk", flat=True))
    accepted = statistics.together(statistics.traffic(ids).values()).by_hour.total()
    if not accepted and not refused:
        text = "No request with a key of this project has come in a month."
        yield Finding(True, text, "Compare the address that the client uses with the dataset's curl line.", "datasets")


def _nobodys(project: Project) -> Iterator[Finding]:
    counts = dict(zip(_NOBODYS, redis.client().hmget(redis_keys.REFUSED, _NOBODYS), strict=True))
    seen = ", ".join(f"{code} {int(count):,}" for code, count in counts.items() if count)
    if seen:
        text = f"Refused for their key, whoever's they were, since Redis was set up: {seen}."
        yield Finding(False, text, "If the number grows while you send, it is your client's key.", "keys")


def _queue(project: Project) -> Iterator[Finding]:
    ids = list(project.datasets.values_list("pk", flat=True))
    backlog = statistics.together(statistics.traffic(ids).values()).backlog
    if backlog.age > _LATE_SECONDS:
        text = f"Accepted, and not yet stored: {counted(backlog.records)}, the oldest for {backlog.age:,.0f} seconds."
        yield Finding(True, text, "Nothing is lost. The worker's log says what keeps it.", "ledger")


def _tables(project: Project) -> Iterator[Finding]:
    """Look at the tables of datasets for which something waits."""
    datasets = {dataset.pk: dataset for dataset in project.datasets.all()}
    traffic = statistics.traffic(list(datasets)).items()
    waiting = [(datasets[pk], each.backlog) for pk, each in traffic if each.backlog.records]
    for dataset, backlog in waiting[:_NAMED]:
        name = f"The table of “{dataset}” (id {dataset.pk})"
        table = DatasetTable.of(dataset)
        try:
            there = table.is_there(_TABLE_SECONDS)
            ours = not there or table.is_ours(_TABLE_SECONDS)
        except (DeltaError, OSError) as failure:
            text = f"{name} cannot be looked for: {type(failure).__name__}."
            yield Finding(True, text, "The worker's log says more.", "ledger")
            return  # the storage is not well: to ask it for the others would take as long again
        wait = f"{counted(backlog.records)} {'waits' if backlog.records == 1 else 'wait'} for it."
        if not ours:
            text = f"{name} was made for another dataset: {wait}"
            yield Finding(True, text, "Is this the right database, and the right storage?", "ledger")
        elif dataset.has_table and not there:
            advice = f"Is the storage mounted? If it was deleted on purpose: manage.py new_table {dataset.pk}."
            yield Finding(True, f"{name} is gone: {wait}", advice, "ledger")


def _quarantine(project: Project) -> Iterator[Finding]:
    held = QuarantinedEntry.objects.filter(dataset__project=project, state=QuarantinedEntry.State.HELD)
    if records := held.aggregate(records=Sum("count"))["records"]:
        text = f"Accepted, but in quarantine, since it could not be stored: {counted(records)}."
        yield Finding(True, text, "Each entry says why; mend that, and replay it.", "quarantine")
