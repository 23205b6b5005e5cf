"""The quarantine and the ledger in the admin."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path
from redis.exceptions import RedisError

from datasets.models import Dataset
from ingest import ledger, quarantine
from ingest.models import QuarantinedEntry


@admin.register(QuarantinedEntry)
class QuarantinedEntryAdmin(admin.ModelAdmin[QuarantinedEntry]):
    list_display = ("id", "dataset", "count", "reason", "state", "trace_id", "created_at")
    list_filter = ("state", "dataset")
    list_select_related = ("dataset",)
    search_fields = ("trace_id", "reason")
    fields = ("dataset", "state", "reason", "count", "text", "trace_id", "origin", "created_at", "replayed_at")
    readonly_fields = fields
    actions = ("replay",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description="body")
    def text(self, entry: QuarantinedEntry) -> str:
        return bytes(entry.body).decode(errors="replace")

    @admin.action(description="Replay the selected entries", permissions=("change",))
    def replay(self, request: HttpRequest, queryset: QuerySet[QuarantinedEntry]) -> None:
        try:
            replayed = sum(quarantine.replay(entry) for entry in queryset)
        except RedisError:
            messages.error(request, "Redis does not answer. Try again: what was replayed is not replayed twice.")
            return
        messages.success(request, f"{replayed} entries are in the queue again.")

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.ledger_view)
        return [path("ledger/", view, name="ingest_ledger"), *super().get_urls()]

    def ledger_view(self, request: HttpRequest) -> HttpResponse:
        """accepted = stored + queued + quarantined, per dataset."""
        balances = [(dataset, ledger.balance(dataset)) for dataset in Dataset.objects.select_related("project")]
        context = {**self.admin_site.each_context(request), "title": "Ledger", "balances": balances, "opts": self.opts}
        return TemplateResponse(request, "admin/ingest/ledger.html", context)
