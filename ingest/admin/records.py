"""Stored records in the admin: search, look up receipts, export, and try requests out."""

import json
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.db.models import QuerySet, Sum
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
from redis.exceptions import RedisError

from config.common import clock
from config.common.requests import IS_GONE
from config.lazy import deltalake
from datasets.admin.pages import number, page
from datasets.admin.tenancy import ReadOnlyAdmin, ScopedFilter
from datasets.models import ApiKey, Dataset
from datasets.schemas.fields import Field
from datasets.schemas.samples import example_record
from datasets.tables import exports
from datasets.tables.storage import unreadable
from ingest.admin import tryout
from ingest.admin.exporting import Export, TooManyExports, progress_key, progress_of
from ingest.admin.searching import listing
from ingest.admin.searching.results import SearchRunner
from ingest.admin.searching.search import Search
from ingest.models import DatasetRecords, LastSearch, QuarantinedEntry
from ingest.monitoring import refusals, statistics
from ingest.monitoring.statistics import Traffic

# The exports that the page offers: a label, a format and its option.
_EXPORTS = (
    ("NDJSON", "ndjson", ""),
    ("NDJSON to send again", "ndjson", "to_send=1"),
    ("CSV", "csv", ""),
    ("CSV for Excel", "csv", "bom=1"),
    ("CSV without the protecting '", "csv", "raw=1"),
    ("Parquet", "parquet", ""),
)
# The admin takes forms of DATA_UPLOAD_MAX_MEMORY_SIZE bytes. Try it leaves this number of bytes for all but the body.
_FORM_BYTES = 20_000


@admin.register(DatasetRecords)
class DatasetRecordsAdmin(ReadOnlyAdmin[DatasetRecords]):
    """The datasets, each with its records."""

    tenant_path = "project"
    row_noun = "dataset"
    nothing = "No records yet, because there is no dataset. Add a dataset first."
    next_step = ("Add a dataset", "admin:datasets_dataset_add")
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

    @admin.display(description="accepted in the last 24 hours")
    def last_day(self, row: Any) -> str:
        traffic: Traffic = row.traffic
        return f"{traffic.since(statistics.this_hour() - 23):,}"

    @admin.display(description="state", ordering="is_archived")
    def state(self, row: DatasetRecords) -> str:
        return "archived" if row.is_archived else "open"

    @admin.display(description="records queued")
    def waiting(self, row: Any) -> str:
        return f"{row.traffic.backlog.records:,}"

    @admin.display(description="records in quarantine")
    def held(self, row: Any) -> str:
        return f"{row.held_records:,}"

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view
        name = "ingest_datasetrecords"
        return [
            path("<int:object_id>/export/progress/", view(self.progress_view), name=f"{name}_progress"),
            path("<int:object_id>/export/<str:file_format>/", view(self.export_view), name=f"{name}_export"),
            path("<int:object_id>/record/<str:record_id>/", view(self.record_view), name=f"{name}_record"),
            path("<int:object_id>/try/", view(self.try_view), name=f"{name}_try"),
            path("<int:object_id>/try/answer/", view(self.answer_view), name=f"{name}_answer"),
            *super().get_urls(),
        ]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the records that the search finds. Without a search, show the latest records."""
        dataset = self.get_object_or_404(request, object_id)
        search = Search(request.GET, dataset)
        last = _last_search(request, dataset, search)
        context = _found(request, search)
        context |= {"dataset": dataset, "original": dataset, "search": search, "exports": _EXPORTS, "last": last}
        context["heads"] = search.heads(context.get("columns", []))
        context["waits"] = not context["address"] and not context["problem"] and not context.get("rows")
        context["is_later_page"] = bool(request.GET.get("before") or request.GET.get("cursor"))
        template = "admin/ingest/datasetrecords/records.html"
        return page(request, template, opts=self.opts, title=f"Records of {dataset}", **context)

    def record_view(self, request: HttpRequest, object_id: int, record_id: str) -> HttpResponse:
        """Show one record. This page shows longer values than the list."""
        dataset = self.get_object_or_404(request, object_id)
        try:
            values = listing.one(dataset, record_id)
        except (deltalake.exceptions.DeltaError, OSError) as reason:
            return self._unavailable(request, dataset, f"This record cannot be shown. {unreadable(reason)}", status=503)
        if values is None:
            raise Http404
        context = {"dataset": dataset, "original": dataset, "values": values, "record_id": record_id}
        return page(
            request, "admin/ingest/datasetrecords/record.html", opts=self.opts, title=f"Record {record_id}", **context
        )

    def export_view(self, request: HttpRequest, object_id: int, file_format: str) -> HttpResponseBase:
        """Stream all records of the search as a file. The page asks for the export's progress by its `export_id`."""
        dataset = self.get_object_or_404(request, object_id)
        if file_format not in exports.FORMATS:
            raise Http404
        search = Search(request.GET, dataset)
        if not search.is_valid:
            return self._not_exported(request, dataset, " ".join(search.problems), status=400)
        content_type, write = exports.writer(
            dataset, file_format, {name for name in exports.OPTIONS if request.GET.get(name)}
        )
        try:
            export = Export(_user_id(request), request.META)
        except TooManyExports as refusal:
            return self._not_exported(request, dataset, str(refusal), status=429)
        try:
            export.open(dataset, search.selection(), write, progress=_progress_key(request))
        except (deltalake.exceptions.DeltaError, OSError) as reason:
            export.close()
            return self._not_exported(request, dataset, unreadable(reason), status=503)
        except BaseException:
            export.close()
            raise
        name = f"{dataset.project.slug}-{dataset.slug}-{clock.now():%Y%m%dT%H%M%SZ}.{file_format}"
        headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
        return StreamingHttpResponse(export, content_type=content_type, headers=headers)

    def _not_exported(self, request: HttpRequest, dataset: DatasetRecords, why: str, *, status: int) -> HttpResponse:
        return self._unavailable(request, dataset, f"Nothing was exported. {why}", status=status)

    def _unavailable(self, request: HttpRequest, dataset: DatasetRecords, why: str, *, status: int) -> HttpResponse:
        context = {"dataset": dataset, "original": dataset, "why": why}
        template = "admin/ingest/datasetrecords/unavailable.html"
        answer = page(request, template, opts=self.opts, title="Records are not available", **context)
        answer.status_code = status
        return answer

    def progress_view(self, request: HttpRequest, object_id: int) -> JsonResponse:
        """Return the progress of an export, in records."""
        self.get_object_or_404(request, object_id)
        return JsonResponse(progress_of(_progress_key(request)))

    def try_view(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """Show the form to paste records and see the API's answer."""
        dataset = self.get_object_or_404(request, object_id)
        version = dataset.latest_version()
        context = {
            "dataset": dataset,
            "original": dataset,
            "version": version,
            "forms": [(name, form.label) for name, form in tryout.FORMS.items()],
            "keys": _keys(dataset)[:100],
            "max_bytes": (settings.DATA_UPLOAD_MAX_MEMORY_SIZE or 0) - _FORM_BYTES,
            "example": _example(version.field_list(), dataset.example) if version else "",
        }
        if wanted := request.GET.get("refusal"):
            context |= _refused(dataset, wanted)
        return page(
            request, "admin/ingest/datasetrecords/try.html", opts=self.opts, title=f"Try it: {dataset}", **context
        )

    def answer_view(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """Show what the API would answer, or send the records with the chosen key and show the real answer."""
        dataset = self.get_object_or_404(request, object_id)
        if request.method != "POST":
            return HttpResponseRedirect(reverse("admin:ingest_datasetrecords_try", args=(dataset.pk,)))
        form = tryout.FORMS.get(request.POST.get("form", "single"))
        if form is None:
            raise Http404
        # Browsers send the text of a form with CRLF line ends.
        body = request.POST.get("body", "").replace("\r\n", "\n").encode(errors="surrogatepass")
        chosen = request.POST.get("key") if request.POST.get("send") else None
        if chosen:
            key = _keys(dataset).filter(pk=number(chosen)).first()
            if key is None:
                raise Http404
            answer = tryout.send(dataset, body, form, key)
            self.log_change(
                request, dataset, f"Sent from Try it with key “{key}” (ID {key.pk}): answered {answer.status}."
            )
        else:
            answer = tryout.preview(dataset, body, form)
        context = {
            "answer": answer,
            "sent": bool(chosen),
            "records": list(tryout.marked(body, form, answer.problems)),
            "place": tryout.invalid_place(body, answer),
            "dataset": dataset,
            "receipt": dict(answer.headers).get("Location", "").rpartition("/")[2],
        }
        return page(request, "admin/ingest/datasetrecords/answer.html", opts=self.opts, title="Answer", **context)


def _found(request: HttpRequest, search: Search) -> dict[str, Any]:
    """Return what the page shows about a search: the rows and, if it is a query, also the count and the charts."""
    context: dict[str, Any] = {"address": search.address(), "problem": ""}
    if not search.is_valid:
        return context
    if search.query is not None:
        who = f"{request.user}, records page"
        found = SearchRunner(search, who, request.META.get(IS_GONE, lambda: False)).results()
        return context | found.rows | {"problem": found.problem, "found": found}
    try:
        return context | listing.rows(search.dataset, search.selection(), request.GET.get("before", ""))
    except (deltalake.exceptions.DeltaError, OSError) as reason:
        return context | {"problem": unreadable(reason)}


def _last_search(request: HttpRequest, dataset: Dataset, search: Search) -> str:
    """Save a valid search as the user's last search in the dataset. Without a search, return the saved search."""
    mine = LastSearch.objects.filter(user_id=_user_id(request), dataset_id=dataset.pk)
    kept = mine.values_list("address", flat=True).first()
    address = search.address()
    if not address:
        return kept or ""
    if search.is_valid and address != kept:
        LastSearch.objects.update_or_create(
            user_id=_user_id(request), dataset_id=dataset.pk, defaults={"address": address}
        )
    return ""


def _refused(dataset: Dataset, wanted: str) -> dict[str, Any]:
    """Return the context with which “Try it” shows the body of a refused request, if the log still has the request."""
    try:
        refusal = refusals.find(dataset.project_id, wanted)
    except (RedisError, OSError):
        refusal = None
    if refusal is None or refusal.dataset_id != dataset.pk:
        return {"refusal_is_gone": True}
    return {"refusal": refusal, "example": refusal.text, "chosen": refusal.form}


def _example(fields: list[Field], sample: str) -> str:
    return json.dumps(json.loads(example_record(fields, sample)), indent=2, ensure_ascii=False)


def _keys(dataset: Dataset) -> QuerySet[ApiKey]:
    """Return the active keys of the dataset's project."""
    return dataset.project.keys_in_force()


def _held_by_dataset(dataset_ids: list[int]) -> dict[int, int]:
    """Return the number of records in quarantine, by dataset."""
    held = QuarantinedEntry.objects.filter(dataset_id__in=dataset_ids, state=QuarantinedEntry.State.HELD)
    return dict(held.order_by().values_list("dataset_id").annotate(Sum("count")))


def _user_id(request: HttpRequest) -> int:
    return int(request.user.pk or 0)


def _progress_key(request: HttpRequest) -> str:
    return progress_key(_user_id(request), request.GET.get("export_id", ""))
