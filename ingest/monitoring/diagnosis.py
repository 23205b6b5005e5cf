"""Find out why records of a project do not arrive: check everything that a request depends on, in that order."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from django.db.models import Exists, OuterRef, Q, Sum

from config.common import redis
from config.common.text import counted
from config.lazy import deltalake
from datasets.models import Dataset, Project, SchemaVersion
from datasets.tables.table import DatasetTable
from ingest.models import QuarantinedEntry
from ingest.monitoring import health, statistics
from ingest.monitoring.refusals import REJECTED_RECORDS
from ingest.queue import redis_keys
from ingest.storing import isolation
from quotas import services as quotas

# For each error code: what is wrong, and what to do about it.
ADVICE = {
    "invalid_dataset_id": (
        "The dataset ID is not a positive integer.",
        "Use the address that the dataset's page shows.",
    ),
    "invalid_json": ("The body is not valid JSON.", "Paste the body into “Try it” to see where the error is."),
    "not_an_object": ("A record is not a JSON object.", "Send {…}, or an array of objects to /batch."),
    "invalid_batch": (
        "A batch is empty, or it is not an array.",
        "Send [{…}, …] to /batch, or a single record to the dataset.",
    ),
    "invalid_timestamp": (
        "A record's timestamp is missing, or it is not an RFC 3339 time with an offset.",
        "Send a time like 2026-06-10T10:58:00Z.",
    ),
    "invalid_context": ("A record's context is missing, or it is not an object.", "Send at least {}."),
    "extra_field": ("A record has a field that the schema does not have.", "Add the field, or move it into context."),
    "missing_field": (
        "A record lacks a required field of the schema.",
        "Send the field, or make it optional in the schema.",
    ),
    "invalid_field": (
        "A field's value does not match its declared type.",
        "Values are not converted: send 42.5, not “42.5”.",
    ),
    "rejected_records": (
        "Lenient batches contained invalid records. Their valid records were accepted.",
        "See the refused requests, and correct the client.",
    ),
    "invalid_idempotency_key": ("An Idempotency-Key is too long, or not visible ASCII.", "Use a UUID."),
    "idempotency_key_in_progress": (
        "Another request with the same Idempotency-Key was in progress.",
        "Send the request again after a second.",
    ),
    "idempotency_key_reused": (
        "An Idempotency-Key was used for two different bodies.",
        "Use a new key for each body.",
    ),
    "invalid_api_key": (
        "The API key is revoked, expired or forged, or its project is inactive.",
        "Create an API key, and use it.",
    ),
    "missing_api_key": ("The request has no API key.", "Send the header Authorization: Bearer KEY."),
    "missing_project_claim": ("The token names no project.", "Use an API key of this service."),
    "personal_access_token": ("The token is a personal one (pat_…).", "Use an API key of the project."),
    "origin_not_allowed": (
        "A browser key came from a page whose origin is not on its list, or from a program other than a browser.",
        "If the page is yours, add its origin to the key. Programs need an ordinary key.",
    ),
    "browser_key_required": (
        "An ordinary API key stands in a web page, where everybody can read it.",
        "Revoke it, and issue a browser key for the page. If a server passes requests on, remove the header Origin.",
    ),
    "api_key_in_address": (
        "An ordinary API key was in the address of a request. Logs of proxies may have it now.",
        "Rotate the key, and send it in the header Authorization: Bearer KEY.",
    ),
    "dataset_schema_not_found": (
        "The key's project has no such dataset, or the dataset is archived, or it has no schema.",
        "Compare the ID in the address with the dataset's page, and check the key's project.",
    ),
    "body_too_slow": (
        "A client sent nothing of its body for BODY_SILENCE_SECONDS.",
        "Send bodies without long pauses. For clients on slow lines, put a proxy in front that buffers bodies.",
    ),
    "body_too_large": ("A body is larger than MAX_BODY_BYTES.", "Send smaller batches."),
    "too_many_records": (
        "A batch has more records than MAX_BATCH_RECORDS, or than a browser key may send in a minute.",
        "Send smaller batches.",
    ),
    "unsupported_media_type": (
        "The address does not accept this Content-Type.",
        "Send application/json, or application/x-ndjson to the address that ends in /batch.",
    ),
    "unsupported_content_encoding": (
        "The Content-Encoding is not supported.",
        "Use gzip, deflate or zstd, or do not compress.",
    ),
    "quota_exceeded": (
        "The request had more records than the owner's monthly quota had left.",
        "Send smaller batches while some of the quota is left. Otherwise ask a superuser to raise the quota, or wait "
        "for the next month (UTC).",
    ),
    "rate_limited": (
        "Pages with a browser key have sent more records than the key allows in a minute.",
        "Raise the limit on the key's page. If the records are not yours, rotate the key.",
    ),
    "too_many_idempotency_keys": (
        "The project has used the maximum number of Idempotency-Keys.",
        "Send larger batches with one key each, or raise IDEMPOTENCY_KEYS_PER_PROJECT.",
    ),
    "queue_full": (
        "The queue is full, because the workers store records more slowly than clients send them.",
        "Check that a worker runs, that the storage is writable, and that Redis has memory left (see /readyz).",
    ),
    "queue_unavailable": (
        "Redis or the database did not answer, or a web process had too many bodies or requests.",
        "/readyz names what does not answer; if all is ok, clients sent too much at the same time. Clients must retry "
        "with the same Idempotency-Key, so that nothing is stored twice.",
    ),
    "receipt_not_found": (
        "A client asked for a receipt that does not exist.",
        "Use the whole Location header of the answer.",
    ),
    "method_not_allowed": (
        "A request used a method that its address does not have.",
        "Use POST for records, and GET for receipts.",
    ),
    "not_found": ("The address does not exist.", "Use the address that the dataset's page shows."),
    "bad_request": ("A request is malformed.", "Compare the request with the curl command on the dataset's page."),
    "internal_error": ("This is a bug in the service.", "Find the details in its log."),
}
# For each part of the service that is not ok: what to do.
_SERVICE_ADVICE = {
    "redis": "The service refuses every request until Redis answers and has memory left.",
    "database": "Start the database. Accepted records wait until it answers.",
    "worker": "Start the worker process; its log says why it stopped. Accepted records wait until it runs.",
    "upkeep": "Start the upkeep process. Records are stored, but small and replaced files accumulate.",
    "beat": "Start the beat process; its log says why it stopped. Accepted records wait until it runs.",
    "storage": "Check the storage, and the worker that reads it. Accepted records wait until then.",
}
# Requests refused with these codes have no valid key, so their project is unknown.
_WITHOUT_PROJECT = ("missing_api_key", "invalid_api_key", "missing_project_claim", "personal_access_token")
_LATE_SECONDS = 60
_MAX_NAMED = 5  # datasets of a project that a page names
_TABLE_SECONDS = 5.0  # after which a storage counts as unreachable


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of the diagnosis. `place` names the page to open next. The admin turns this name into an address."""

    wrong: bool
    text: str
    advice: str = ""
    place: str = ""


def findings(project: Project) -> list[Finding]:
    """Return what is wrong, in the order in which a request depends on it. Raises RedisError if Redis stops answering.

    If Redis does not answer, check only the parts that work without it: each further attempt would take seconds.
    """
    states = health.checks()
    found = list(_service(states))
    looks = [_project, _datasets, _keys]
    if states["redis"] != health.NO_ANSWER:
        looks += [_quota, _refusals, _refused_without_project, _queue, _tables, _quarantine]
    return found + [finding for look in looks for finding in look(project)]


def _service(states: Mapping[str, str]) -> Iterator[Finding]:
    # Without Redis the state of the other processes is unknown.
    known = ("redis", "database") if states["redis"] == health.NO_ANSWER else states
    for name in known:
        state = states[name]
        if state != "ok":
            yield Finding(True, f"{name.capitalize()}: {state}.", _SERVICE_ADVICE[name])


def _project(project: Project) -> Iterator[Finding]:
    if not project.is_active:
        yield Finding(True, "The project is inactive, so all its keys are refused.", "Activate it.", "project")
    elif not project.owner.is_active:
        what = f"The project's owner, {project.owner}, is inactive, so all keys of the project are refused."
        yield Finding(True, what, "Ask a superuser to activate the owner, or to choose another owner.", "project")


def _datasets(project: Project) -> Iterator[Finding]:
    schema = Exists(SchemaVersion.objects.filter(dataset=OuterRef("pk")))
    datasets = Dataset.objects.filter(project=project).annotate(has_schema=schema)
    if not datasets.filter(has_schema=True, is_archived=False).exists():
        yield Finding(True, "No dataset accepts records.", "Add a dataset with fields.", "datasets")
    closed = datasets.filter(Q(has_schema=False) | Q(is_archived=True)).order_by("is_archived", "pk")
    for dataset in closed[:_MAX_NAMED]:
        reason = "is archived" if dataset.is_archived else "has no schema"
        text = f"“{dataset.name}” (ID {dataset.pk}) {reason}, so it accepts no records."
        yield Finding(not dataset.is_archived, text, "", "datasets")


def _keys(project: Project) -> Iterator[Finding]:
    if not project.keys_in_force().exists():
        yield Finding(True, "The project has no active API key.", "Create one.", "key")


def _quota(project: Project) -> Iterator[Finding]:
    quota = quotas.current_many([project.owner_id])[project.owner_id]
    if quota.percent == 100:
        text = f"The quota of {project.owner} is used up: {quota.used:,} of {quota.limit:,} records in {quota.period}."
        yield Finding(True, text, "Ask a superuser to raise the quota, or wait for the next month (UTC).", "quota")


def _refusals(project: Project) -> Iterator[Finding]:
    """Yield a finding for each error code of the last 24 hours.

    Yield another finding if the statistics have no request of the project in the last month.
    """
    refused, oldest = statistics.refused([project.pk]), statistics.this_hour() - 23
    counts: Counter[str] = Counter()
    for (hour, code), count in refused.items():
        counts[code] += count if hour >= oldest else 0
    for code, count in counts.most_common():
        if count:
            text, advice = ADVICE.get(code, (f"Refused: {code}.", ""))
            place = "key" if code in _WITHOUT_PROJECT else "refused"
            what = counted(count, "record" if code == REJECTED_RECORDS else "request")
            yield Finding(True, f"{what} refused in the last 24 hours ({code}). {text}", advice, place)
    ids = list(project.datasets.values_list("pk", flat=True))
    accepted = statistics.total(statistics.traffic(ids).values()).by_hour.total()
    if not accepted and not refused:
        text = "No request with a key of this project has arrived in the last month."
        advice = "Compare the client's address with the curl command on the dataset's page."
        yield Finding(True, text, advice, "datasets")


def _refused_without_project(project: Project) -> Iterator[Finding]:
    counts = dict(zip(_WITHOUT_PROJECT, redis.client().hmget(redis_keys.REFUSED, _WITHOUT_PROJECT), strict=True))
    seen = ", ".join(f"{code} {int(count):,}" for code, count in counts.items() if count)
    if seen:
        text = f"Requests refused because of their API key, for all projects together, since Redis was set up: {seen}."
        yield Finding(False, text, "If a number grows while your client sends, the client's key is wrong.", "keys")


def _queue(project: Project) -> Iterator[Finding]:
    ids = list(project.datasets.values_list("pk", flat=True))
    backlog = statistics.total(statistics.traffic(ids).values()).backlog
    if backlog.age > _LATE_SECONDS:
        text = f"{counted(backlog.records)} accepted but not yet stored. The oldest has waited {backlog.age:,.0f} s."
        yield Finding(True, text, "No record is lost. The worker's log says why the records wait.", "ledger")
    suspects = isolation.suspects(ids)
    for dataset in project.datasets.filter(pk__in=suspects).order_by("pk")[:_MAX_NAMED]:
        text = f"The worker process died repeatedly while it stored records of “{dataset.name}” (ID {dataset.pk})."
        advice = (
            "It now stores fewer records at a time. If a single request kills it, this request goes to quarantine. "
            "Check that the worker's machine has memory left."
        )
        yield Finding(True, text, advice, "ledger")


def _tables(project: Project) -> Iterator[Finding]:
    """Yield problems with the tables of datasets that have queued records."""
    datasets = {dataset.pk: dataset for dataset in project.datasets.all()}
    traffic = statistics.traffic(list(datasets)).items()
    waiting = [(datasets[pk], each.backlog) for pk, each in traffic if each.backlog.records]
    for dataset, backlog in waiting[:_MAX_NAMED]:
        name = f"The table of “{dataset}” (ID {dataset.pk})"
        table = DatasetTable.of(dataset)
        try:
            there = table.is_there(_TABLE_SECONDS)
            ours = not there or table.is_ours(_TABLE_SECONDS)
        except (deltalake.exceptions.DeltaError, OSError) as failure:
            text = f"{name} cannot be reached: {type(failure).__name__}."
            yield Finding(True, text, "See the worker's log.", "ledger")
            return  # the storage fails, so each further table would take the same time
        wait = f"{counted(backlog.records)} {'waits' if backlog.records == 1 else 'wait'} for it."
        if not ours:
            advice = "Check DATABASE_URL and STORAGE_URL: the table was made with another database."
            yield Finding(True, f"{name} belongs to another dataset. {wait}", advice, "ledger")
        elif dataset.has_table and not there:
            advice = (
                "Check that the storage is mounted. If the table was deleted on purpose, run manage.py new_table "
                f"{dataset.pk}."
            )
            yield Finding(True, f"{name} is missing. {wait}", advice, "ledger")


def _quarantine(project: Project) -> Iterator[Finding]:
    held = QuarantinedEntry.objects.filter(dataset__project=project, state=QuarantinedEntry.State.HELD)
    if records := held.aggregate(records=Sum("count"))["records"]:
        text = f"In quarantine: {counted(records)} accepted but not stored."
        yield Finding(True, text, "Each entry says why. Solve the problem, then replay the entry.", "quarantine")
