"""Stored records in the admin: found, followed by their receipt, exported; and tried out before they are sent."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from deltalake.exceptions import DeltaError
from django.contrib import admin
from django.core.cache import cache
from django.db.models import Count, QuerySet
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.urls import path, reverse
from django.utils import timezone
from redis.exceptions import RedisError

from config import clock
from config.errors import ApiError
from datasets import exports, records
from datasets.admin.pages import number, page
from datasets.admin.tenancy import ReadOnlyAdmin, ScopedFilter
from datasets.models import ApiKey, Dataset
from datasets.records import Selection
from datasets.samples import example_record
from datasets.schema import Field
from datasets.table import unreadable
from ingest import receipts, refusals, statistics, tryout
from ingest.lookup import look_up
from ingest.models import DatasetRecords, QuarantinedEntry
from ingest.statistics import Traffic

_ROWS = 50
_CELL = 201
_PROGRESS_SECONDS = 600
# Around the declared fields: the first before them, the rest after.
_BASE = ("timestamp", "context", "__traceId", "ingested_at", "id")


@admin.register(DatasetRecords)
class DatasetRecordsAdmin(ReadOnlyAdmin[DatasetRecords]):
    """What came of the records sent to each dataset."""

    tenant_path = "project"
    nothing = "No dataset yet, so no records."
    next_step = ("Define a dataset", "admin:datasets_dataset_add")
    list_display = ("name", "project", "last_day", "waiting", "held", "state")
    list_filter = ("is_archived", ("project", ScopedFilter))
    list_select_related = ("project",)
    search_fields = ("name", "slug", "project__name")
    actions = None

    def get_queryset(self, request: HttpRequest) -> QuerySet[DatasetRecords]:
        return super().get_queryset(request).select_related("project")

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changes = super().get_changelist_instance(request)
        rows = list(changes.result_list)
        traffic = statistics.traffic([row.pk for row in rows])
        held = _held_by_dataset([row.pk for row in rows])
        for row in rows:
            row.traffic, row.held_records = traffic[row.pk], held.get(row.pk, 0)
        changes.result_list = rows
        return changes

    @admin.display(description="accepted, last 24 hours")
    def last_day(self, row: Any) -> str:
        traffic: Traffic = row.traffic
        return f"{traffic.since(statistics.this_hour() - 23):,}"

    @admin.display(description="state", ordering="is_archived")
    def state(self, row: DatasetRecords) -> str:
        return "archived" if row.is_archived else "open"

    @admin.display(description="queued")
    def waiting(self, row: Any) -> str:
        return f"{row.traffic.backlog.records:,}"

    @admin.display(description="in quarantine")
    def held(self, row: Any) -> str:
        return f"{row.held_records:,}"

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view
        name = "ingest_datasetrecords"
        return [
            path("<int:object_id>/export/progress/", view(self.progress_view), name=f"{name}_progress"),
            path("<int:object_id>/export/<str:form>/", view(self.export_view), name=f"{name}_export"),
            path("<int:object_id>/try/", view(self.try_view), name=f"{name}_try"),
            path("<int:object_id>/try/answer/", view(self.answer_view), name=f"{name}_answer"),
            *super().get_urls(),
        ]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The latest records of a selection, or where a receipt's are."""
        dataset = self.get_object_or_404(request, object_id)
        selection, problems = _selection(request)
        context: dict[str, Any] = {"dataset": dataset, "original": dataset, "problems": problems}
        if receipt := request.GET.get("receipt", "").strip():
            context |= {"receipt": _status(dataset, receipt)}
        if not problems:
            try:
                context |= _rows(dataset, selection, request.GET.get("before", ""))
            except (DeltaError, OSError) as reason:
                problems.append(unreadable(reason))
        query = request.GET.copy()
        query.pop("before", None)
        context["waits"] = not query and not problems and not context.get("rows")
        context |= {"query": query.urlencode(), "given": request.GET, "formats": sorted(exports.FORMATS)}
        return page(self, request, "admin/ingest/datasetrecords/records.html", title=f"Records of {dataset}", **context)

    def export_view(self, request: HttpRequest, object_id: int, form: str) -> HttpResponseBase:
        """All records of the selection as a file, streamed; its progress can be asked for by `export_id`."""
        dataset = self.get_object_or_404(request, object_id)
        selection, problems = _selection(request)
        if problems or form not in exports.FORMATS:
            raise Http404
        content_type, write = exports.FORMATS[form]
        batches = records.batches(dataset, selection)
        try:
            total = records.count(dataset, selection)
        except (DeltaError, OSError) as reason:
            return HttpResponse(unreadable(reason), status=503, content_type="text/plain")
        followed = _followed(batches, total, _progress_key(request, request.GET.get("export_id", "")))
        name = f"{dataset.project.slug}-{dataset.slug}-{clock.now():%Y%m%dT%H%M%SZ}.{form}"
        headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
        return StreamingHttpResponse(write(followed), content_type=content_type, headers=headers)

    def progress_view(self, request: HttpRequest, object_id: int) -> JsonResponse:
        """How far an export is, in records."""
        self.get_object_or_404(request, object_id)
        done, total = cache.get(_progress_key(request, request.GET.get("export_id", "")), (0, None))
        return JsonResponse({"done": done, "total": total})

    def try_view(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """A place to paste records and see what the API says."""
        dataset = self.get_object_or_404(request, object_id)
        version = dataset.versions.order_by("-number").first()
        context = {
            "dataset": dataset,
            "original": dataset,
            "version": version,
            "forms": [(name, form.label) for name, form in tryout.FORMS.items()],
            "keys": _keys(dataset)[:100],
            "example": _example(version.field_list()) if version else "",
        }
        if wanted := request.GET.get("refusal"):
            context |= _refused(dataset, wanted)
        return page(self, request, "admin/ingest/datasetrecords/try.html", title=f"Try it: {dataset}", **context)

    def answer_view(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """What the API would answer; with a key chosen, what it answers."""
        dataset = self.get_object_or_404(request, object_id)
        if request.method != "POST":
            return HttpResponseRedirect(reverse("admin:ingest_datasetrecords_try", args=(dataset.pk,)))
        form = tryout.FORMS.get(request.POST.get("form", "single"))
        if form is None:
            raise Http404
        # A form's text comes with CRLF line ends, which nobody typed.
        body = request.POST.get("body", "").replace("\r\n", "\n").encode(errors="surrogatepass")
        chosen = request.POST.get("key") if request.POST.get("send") else None
        if chosen:
            key = _keys(dataset).filter(pk=number(chosen)).first()
            if key is None:
                raise Http404
            answer = tryout.send(dataset, body, form, key)
            self.log_change(request, dataset, f"Sent by hand with key “{key}”: answered {answer.status}.")
        else:
            answer = tryout.preview(dataset, body, form)
        context = {
            "answer": answer,
            "sent": bool(chosen),
            "records": list(tryout.marked(body, form, answer.problems)),
            "fault": tryout.fault(body, answer),
            "dataset": dataset,
            "receipt": dict(answer.headers).get("Location", "").rpartition("/")[2],
        }
        return page(self, request, "admin/ingest/datasetrecords/answer.html", title="Answer", **context)


def _refused(dataset: Dataset, wanted: str) -> dict[str, Any]:
    """Fill Try it with the body of a refusal of this dataset, if it is still kept."""
    try:
        refusal = refusals.find(dataset.project_id, wanted)
    except (RedisError, OSError):
        refusal = None
    if refusal is None or refusal.dataset_id != dataset.pk:
        return {"refusal_is_gone": True}
    return {"refusal": refusal, "example": refusal.text, "chosen": refusal.form}


def _example(fields: list[Field]) -> str:
    return json.dumps(json.loads(example_record(fields)), indent=2, ensure_ascii=False)


def _keys(dataset: Dataset) -> QuerySet[ApiKey]:
    """The keys of the dataset's project that are in force."""
    return dataset.project.keys_in_force()


def _held_by_dataset(dataset_ids: list[int]) -> dict[int, int]:
    """Quarantine entries held, by dataset."""
    held = QuarantinedEntry.objects.filter(dataset_id__in=dataset_ids, state=QuarantinedEntry.State.HELD)
    return dict(held.order_by().values_list("dataset_id").annotate(Count("pk")))


def _selection(request: HttpRequest) -> tuple[Selection, list[str]]:
    """The selection that the address asks for, and what is wrong with it."""
    problems: list[str] = []

    def moment(name: str) -> datetime | None:
        text = request.GET.get(name, "").strip()
        if not text:
            return None
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            problems.append(f"“{text}” is not a time like 2026-06-10T10:58.")
            return None
        return found.replace(tzinfo=UTC) if timezone.is_naive(found) else found

    selection = Selection(
        since=moment("since"),
        until=moment("until"),
        trace_id=request.GET.get("trace", "").strip(),
        record_id=request.GET.get("record", "").strip(),
    )
    return selection, problems


def _rows(dataset: Dataset, selection: Selection, before: str) -> dict[str, Any]:
    table = records.latest(dataset, _ROWS + 1, selection, before=before, longest=_CELL)
    if table is None:
        return {"columns": [], "rows": [], "older": ""}
    found = [row for batch in table.to_batches() for row in exports.rows(batch)]
    hidden = ("project_id", "dataset_id")
    declared = [name for name in table.schema.names if name not in (*_BASE, *hidden)]
    columns = [*_BASE[:1], *declared, *_BASE[1:]]
    rows = [[_shown(row[name]) for name in columns] for row in found[:_ROWS]]
    return {"columns": columns, "rows": rows, "older": found[_ROWS - 1]["id"] if len(found) > _ROWS else ""}


def _shown(value: Any) -> Any:
    """As JSON has it: true, not True."""
    return json.dumps(value) if isinstance(value, bool) else value


def _status(dataset: Dataset, receipt: str) -> dict[str, Any]:
    """What the API says of a receipt; given as such, or as the Location it came in."""
    try:
        return look_up(receipts.read(dataset.pk, receipt.rstrip("/").rpartition("/")[2]))
    except ApiError as refusal:
        return {"status": refusal.error}


def _progress_key(request: HttpRequest, export_id: str) -> str:
    return f"export:{request.user.pk}:{export_id[:64]}"


def _followed(batches: Iterator[Any], total: int, key: str) -> Iterator[Any]:
    done = 0
    cache.set(key, (done, total), _PROGRESS_SECONDS)
    for batch in batches:
        yield batch
        done += batch.num_rows
        cache.set(key, (done, total), _PROGRESS_SECONDS)
    cache.set(key, (done, done), _PROGRESS_SECONDS)
