"""The quarantine in the admin: accepted requests that could not be stored, and why."""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path, reverse
from django.utils.html import format_html
from redis.exceptions import RedisError

from config.common.text import counted, visible, visible_lines
from datasets.admin.pages import number, page
from datasets.admin.tenancy import ReadOnlyAdmin, ScopedFilter
from ingest.models import QuarantinedEntry
from ingest.storing import editing, quarantine

_HELD = QuarantinedEntry.State.HELD
# A page shows at most this number of characters of a body. The export has the whole body.
_MAX_SHOWN = 100_000
_MAX_NAMED = 20  # entries in a message


@admin.register(QuarantinedEntry)
class QuarantinedEntryAdmin(ReadOnlyAdmin[QuarantinedEntry]):
    """Accepted requests that could not be stored."""

    tenant_path = "dataset__project"
    row_noun = "request"
    nothing = "The quarantine is empty. All accepted records are stored or queued."
    list_display = ("id", "dataset", "project", "count", "short_reason", "state", "created_at")
    list_filter = ("state", ("dataset__project", ScopedFilter))
    list_select_related = ("dataset__project",)
    search_fields = ("trace_id", "reason", "dataset__name")
    fields = ("dataset", "state", "full_reason", "count", "body_text", "trace", "stream_id", "created_at", "outcome")
    readonly_fields = fields
    actions = ("replay", "discard")

    @admin.display(description="project")
    def project(self, entry: QuarantinedEntry) -> str:
        return str(entry.dataset.project)

    @admin.display(description="reason", ordering="reason")
    def short_reason(self, entry: QuarantinedEntry) -> str:
        return visible(entry.reason if len(entry.reason) < 90 else entry.reason[:87] + "…")

    @admin.display(description="reason")
    def full_reason(self, entry: QuarantinedEntry) -> str:
        return visible(entry.reason)

    @admin.display(description="body")
    def body_text(self, entry: QuarantinedEntry) -> str:
        return format_html('<pre class="ours-code ours-box" tabindex="0">{}</pre>', _pretty(entry))

    @admin.display(description="trace ID")
    def trace(self, entry: QuarantinedEntry) -> str:
        return entry.trace_id

    @admin.display(description="stream ID of the first acceptance")
    def stream_id(self, entry: QuarantinedEntry) -> str:
        return entry.origin

    @admin.display(description="outcome")
    def outcome(self, entry: QuarantinedEntry) -> str:
        if entry.state == QuarantinedEntry.State.DISCARDED:
            return f"discarded on {entry.discarded_at:%Y-%m-%d %H:%M} UTC"
        if entry.state != QuarantinedEntry.State.REPLAYED:
            return "in quarantine"
        again = QuarantinedEntry.objects.filter(dataset=entry.dataset, origin=entry.origin, pk__gt=entry.pk).first()
        if again is None:
            return f"replayed on {entry.replayed_at:%Y-%m-%d %H:%M} UTC, and now stored or queued"
        link = reverse("admin:ingest_quarantinedentry_change", args=(again.pk,))
        return format_html('replayed, and back in quarantine as <a href="{}">entry {}</a>', link, again.pk)

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view
        return [
            path("<int:object_id>/replay/", view(self.replay_view), name="ingest_quarantinedentry_replay"),
            path("<int:object_id>/edit/", view(self.edit_view), name="ingest_quarantinedentry_edit"),
            path("<int:object_id>/body/", view(self.body_view), name="ingest_quarantinedentry_body"),
            path("<int:object_id>/discard/", view(self.discard_view), name="ingest_quarantinedentry_discard"),
            *super().get_urls(),
        ]

    def replay_view(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """Replay one entry on POST, and go back to its page."""
        entry = self.get_object_or_404(request, object_id)
        if request.method == "POST":
            self._replay(request, [entry])
        return HttpResponseRedirect(reverse("admin:ingest_quarantinedentry_change", args=(entry.pk,)))

    def edit_view(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """Show a form with the body. On POST, check and save the new body, and replay it if the user asked for that."""
        entry = self.get_object_or_404(request, object_id)
        back = HttpResponseRedirect(reverse("admin:ingest_quarantinedentry_change", args=(entry.pk,)))
        offered = {str(version.pk): (version, label) for version, label in editing.versions(entry)}
        if entry.state != _HELD or not offered or len(entry.body) > editing.MAX_EDITED_BYTES:
            messages.error(request, "This entry cannot be edited here. Export its body instead.")
            return back
        refusal: editing.EditRefused | None = None
        if request.method == "POST":
            version, label = offered.get(request.POST.get("version", ""), next(iter(offered.values())))
            author: Any = request.user
            try:
                seen = number(request.POST.get("edits", ""))
                editing.edit(entry, request.POST.get("body", ""), version, author, seen=seen)
            except editing.EditRefused as reason:
                refusal = reason
            else:
                self.log_change(request, entry, f"Body edited and checked against {label}.")
                messages.success(request, f"The body is saved. It matches {version} of the schema.")
                if "replay" in request.POST:
                    self._replay(request, [entry])
                return back
        versions = [(key, label) for key, (_, label) in offered.items()]
        return self._edit_page(request, entry, versions, refusal)

    def _edit_page(
        self,
        request: HttpRequest,
        entry: QuarantinedEntry,
        versions: list[tuple[str, str]],
        refusal: editing.EditRefused | None,
    ) -> HttpResponse:
        """Show the form with the body, or with the posted text. If another edit came first, also show its result."""
        # Show the body unformatted: a save must not change what the user did not edit.
        is_outdated = isinstance(refusal, editing.EditedMeanwhile)
        if is_outdated:
            entry.refresh_from_db()
        seen = None if is_outdated else request.POST.get("edits")
        return page(
            request,
            "admin/ingest/quarantinedentry/edit.html",
            opts=self.opts,
            title=f"Edit entry {entry.pk}",
            original=entry,
            text=request.POST.get("body") or bytes(entry.body).decode(errors="replace"),
            versions=versions,
            chosen=request.POST.get("version", ""),
            problems=refusal.problems if refusal else (),
            current=_shown(entry.body) if is_outdated else "",
            why=editing.explain(entry),
            edits=seen or entry.edits.count(),
        )

    def body_view(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """Return the body as a file, so that a user can show it to the sender."""
        entry = self.get_object_or_404(request, object_id)
        ending = "ndjson" if entry.format == "l" else "json"
        response = HttpResponse(bytes(entry.body), content_type="application/octet-stream")
        response.headers["Content-Disposition"] = f'attachment; filename="quarantine-{entry.pk}.{ending}"'
        response.headers["Cache-Control"] = "no-store"
        return response

    def extra_form_context(self, request: HttpRequest, obj: QuarantinedEntry | None) -> dict[str, Any]:
        if obj is None:
            return {}
        can_edit = obj.state == _HELD and len(obj.body) <= editing.MAX_EDITED_BYTES
        return {
            "why": editing.explain(obj) if obj.state == _HELD else (),
            "can_edit": can_edit and bool(editing.versions(obj)),
            "edits": [
                {"edit": each, "before": _shown(each.before), "after": _shown(each.after)}
                for each in obj.edits.select_related("author")
            ],
        }

    def discard_view(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """Ask for confirmation on GET. Discard the entry on POST."""
        entry = self.get_object_or_404(request, object_id)
        if request.method != "POST":
            return self._ask(request, [entry])
        self._discard(request, [entry])
        return HttpResponseRedirect(reverse("admin:ingest_quarantinedentry_change", args=(entry.pk,)))

    @admin.action(description="Replay: put these requests back into the queue", permissions=("view",))
    def replay(self, request: HttpRequest, queryset: QuerySet[QuarantinedEntry]) -> None:
        self._replay(request, queryset)

    @admin.action(description="Discard: delete these bodies permanently", permissions=("view",))
    def discard(self, request: HttpRequest, queryset: QuerySet[QuarantinedEntry]) -> HttpResponse | None:
        if "confirmed" not in request.POST:
            return self._ask(request, list(queryset))
        self._discard(request, queryset)
        return None

    def _ask(self, request: HttpRequest, entries: list[QuarantinedEntry]) -> HttpResponse:
        held = [entry for entry in entries if entry.state == _HELD]
        template = "admin/ingest/quarantinedentry/discard.html"
        return page(request, template, opts=self.opts, title="Discard permanently?", entries=entries, held=held)

    def _replay(self, request: HttpRequest, entries: Iterable[QuarantinedEntry]) -> None:
        self._each(request, entries, quarantine.replay, "Replayed", "back in the queue")

    def _discard(self, request: HttpRequest, entries: Iterable[QuarantinedEntry]) -> None:
        self._each(request, entries, quarantine.discard, "Discarded", "permanently discarded")

    def _each(
        self,
        request: HttpRequest,
        entries: Iterable[QuarantinedEntry],
        act: Callable[[QuarantinedEntry], bool],
        log: str,
        outcome: str,
    ) -> None:
        done: list[QuarantinedEntry] = []
        before: list[QuarantinedEntry] = []
        for entry in entries:
            try:
                acted = act(entry)
            except RedisError:
                messages.error(request, f"Redis does not answer, so entry {entry.pk} was not changed. Try again.")
                break
            (done if acted else before).append(entry)
            if acted:
                self.log_change(request, entry, f"{log} entry {entry.pk}: {counted(entry.count)}.")
        if done:
            records = sum(entry.count for entry in done)
            which = _listed([str(entry.pk) for entry in done])
            messages.success(request, f"{counted(records)} {'is' if records == 1 else 'are'} {outcome}: {which}.")
        if before:
            which = _listed([f"{entry.pk} ({entry.get_state_display()})" for entry in before])
            messages.warning(request, f"Not changed: {which}.")


def _listed(names: list[str]) -> str:
    """Return the first 20 entries in words: `entry 7`, or `entries 9, 8, 7`."""
    further = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return f"{'entry' if len(names) == 1 else 'entries'} {', '.join(names[:_MAX_NAMED])}{further}"


def _pretty(entry: QuarantinedEntry) -> str:
    """Return the body as text. JSON gets line breaks."""
    if entry.state == QuarantinedEntry.State.DISCARDED:
        return "The body was deleted."
    return _shown(entry.body)


def _shown(body: bytes | memoryview) -> str:
    text = bytes(body).decode(errors="replace")
    if len(text) > _MAX_SHOWN:
        return visible_lines(text[:_MAX_SHOWN]) + "\n…"
    try:
        return visible_lines(msgspec.json.format(text, indent=2))
    except (ValueError, RecursionError):
        return visible_lines(text)
