"""The start page: how each project is doing, at a glance; and the ledger."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from deltalake.exceptions import DeltaError
from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet, Sum
from django.http import Http404, HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import path, reverse
from redis.exceptions import RedisError
from unfold.sites import UnfoldAdminSite

from config import clock
from datasets.admin.pages import number, page
from datasets.admin.people import password_change_view
from datasets.admin.tenancy import projects_of, scope
from datasets.models import Dataset, Project
from datasets.table import unreadable
from ingest import checkup, health, heartbeat, ledger, statistics
from ingest.admin.records import DatasetRecordsAdmin
from ingest.admin.refusals import refusals_view
from ingest.checkup import Finding
from ingest.models import DatasetRecords, QuarantinedEntry
from ingest.statistics import Traffic
from quotas import services as quotas
from quotas.services import Quota

_PROJECTS = 8
_LEDGER_SECONDS = 2.0
_LEDGER_ROWS = 15  # each takes a look at a table
_SPANS = {"24h": "24 hours", "30d": "30 days"}


@dataclass(slots=True)
class Bar:
    """One bar of a chart: its place and height in percent, and what it says."""

    x: float
    height: float
    width: float
    label: str
    value: int


@dataclass(slots=True)
class Card:
    """A project, as the start page shows it."""

    project: Project
    quota: Quota
    traffic: Traffic
    today: int
    month: int
    held: int
    bars: list[Bar]
    refused: list[tuple[str, int, int]] = field(default_factory=list)  # code, requests, percent of the most
    first_dataset: Dataset | None = None

    @property
    def total(self) -> int:
        return sum(bar.value for bar in self.bars)

    @property
    def most(self) -> int:
        return max((bar.value for bar in self.bars), default=0)


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """unfold's DASHBOARD_CALLBACK: the start page, with its cards in place before any script runs."""
    return {**context, "cards": render_to_string("admin/ingest/cards.html", _cards(request), request=request)}


def _cards(request: HttpRequest) -> dict[str, Any]:
    span = request.GET.get("span", "24h")
    span = span if span in _SPANS else "24h"
    shown = Paginator(_ordered(request), _PROJECTS).get_page(request.GET.get("page"))
    context = {"page": shown, "span": span, "spans": _SPANS, "now": clock.now(), "can_add": _can_add(request)}
    query = request.GET.get("q", "").strip()
    context |= {"query": query, "extra": urlencode({"span": span, **({"q": query} if query else {})}) + "&"}
    try:
        signs = heartbeat.read()
        states = health.states(signs)
        return {
            **context,
            "projects": _each(_projects(list(shown)), span),
            "processes": [(name, states[name], sign) for name, sign in signs.items()],
        }
    except (RedisError, OSError):
        return {**context, "projects": [], "redis_is_away": True}


def _ordered(request: HttpRequest) -> list[int]:
    """Return the ids of the projects that are searched for: those with trouble first, then by name as people sort."""
    found = projects_of(request.user)
    if wanted := request.GET.get("q", "").replace("\0", "").strip():
        found = found.filter(Q(name__icontains=wanted) | Q(slug__icontains=wanted))
    held = QuarantinedEntry.objects.filter(state=QuarantinedEntry.State.HELD)
    troubled = set(held.order_by().values_list("dataset__project_id", flat=True).distinct())
    rows = found.order_by().values_list("pk", "name", "is_active")
    return [
        pk for pk, name, active in sorted(rows, key=lambda row: (row[0] not in troubled and row[2], *_natural(row)))
    ]


def _natural(row: tuple[int, str, bool]) -> tuple[Any, ...]:
    """Return a key by which “Shop 2” comes before “Shop 10”."""
    parts = re.split(r"(\d+)", row[1].casefold(), flags=re.ASCII)
    return ([part.zfill(20) if part.isdecimal() else part for part in parts], row[0])


def _projects(ids: list[int]) -> list[Project]:
    found = Project.objects.select_related("owner").in_bulk(ids)
    return [found[pk] for pk in ids if pk in found]


def _can_add(request: HttpRequest) -> bool:
    return admin.site._registry[Project].has_add_permission(request)


def _each(shown: Sequence[Project], span: str) -> list[Card]:
    ids = [project.pk for project in shown]
    of_project: dict[int, list[int]] = {pk: [] for pk in ids}
    for dataset_id, project_id in (
        Dataset.objects.filter(project_id__in=ids).order_by("pk").values_list("pk", "project_id")
    ):
        of_project[project_id].append(dataset_id)
    traffic = statistics.traffic([dataset_id for datasets in of_project.values() for dataset_id in datasets])
    limits = quotas.currents(project.owner_id for project in shown)
    held = _held(ids)
    now, moment = statistics.this_hour(), clock.now()
    cards = []
    for project in shown:
        total = statistics.together(traffic[dataset_id] for dataset_id in of_project[project.pk])
        cards.append(
            Card(
                project=project,
                quota=limits[project.owner_id],
                traffic=total,
                today=total.since(now - moment.hour),
                month=total.since(now - moment.hour - 24 * (moment.day - 1)),
                held=held.get(project.pk, 0),
                bars=_bars(total.by_hour, span),
                refused=_refused(project.pk, span),
                first_dataset=Dataset(pk=of_project[project.pk][0]) if of_project[project.pk] else None,
            )
        )
    return cards


def _held(project_ids: list[int]) -> dict[int, int]:
    held = QuarantinedEntry.objects.filter(dataset__project_id__in=project_ids, state=QuarantinedEntry.State.HELD)
    return dict(held.order_by().values_list("dataset__project_id").annotate(Sum("count")))


def _bars(by_hour: Counter[int], span: str) -> list[Bar]:
    now, moment = statistics.this_hour(), clock.now()
    if span == "24h":
        counts = [(f"{hour % 24:02}:00", by_hour.get(hour, 0)) for hour in range(now - 23, now + 1)]
    else:
        today = (now - moment.hour) // 24
        days: Counter[int] = Counter()
        for hour, count in by_hour.items():
            days[hour // 24] += count
        counts = [(_day(day), days.get(day, 0)) for day in range(today - 29, today + 1)]
    most, width = max(1, *(count for _, count in counts)), 100 / len(counts)
    return [
        Bar(x=at * width, height=count * 100 / most, width=width * 0.8, label=label, value=count)
        for at, (label, count) in enumerate(counts)
    ]


def _day(days: int) -> str:
    return datetime.fromtimestamp(days * 86_400, UTC).strftime("%d %b")


def _refused(project_id: int, span: str) -> list[tuple[str, int, int]]:
    oldest = statistics.this_hour() - (23 if span == "24h" else 30 * 24 - 1)
    counts: Counter[str] = Counter()
    for (hour, code), count in statistics.refused([project_id]).items():
        if hour >= oldest:
            counts[code] += count
    most = max(counts.values(), default=1)
    return [(code, count, count * 100 // most) for code, count in counts.most_common(6)]


def cards_view(request: HttpRequest) -> HttpResponse:
    """The cards alone: what the start page asks for every few seconds."""
    return HttpResponse(render_to_string("admin/ingest/cards.html", _cards(request), request=request))


def audit_view(request: HttpRequest, project_id: int) -> HttpResponse:
    """Whether a project's ledgers add up."""
    project = projects_of(request.user).filter(pk=project_id).first()
    if project is None:
        raise Http404
    try:
        audit = ledger.audit(list(project.datasets.all()), seconds=_LEDGER_SECONDS)
    except (RedisError, OSError):
        audit = None
    return HttpResponse(render_to_string("admin/ingest/audit.html", {"audit": audit, "project": project}))


def why_view(model_admin: DatasetRecordsAdmin, request: HttpRequest, project_id: int) -> HttpResponse:
    """Why records of a project do not arrive, and where to mend it."""
    project = projects_of(request.user).select_related("owner").filter(pk=project_id).first()
    if project is None:
        raise Http404
    try:
        findings = checkup.findings(project)
    except (RedisError, OSError):
        findings = [Finding(True, "Redis does not answer: nothing is accepted until it does.", "Start it again.")]
    places = _places(project, request.user.is_superuser)
    return page(
        model_admin,
        request,
        "admin/ingest/why.html",
        title=f"Why records of {project} do not arrive",
        opts=None,
        content_title=f"Why records of {project} do not arrive",
        project=project,
        findings=[(finding, places.get(finding.place)) for finding in findings],
        something_is_wrong=any(finding.wrong for finding in findings),
        places=places,
    )


def _places(project: Project, everything: bool) -> dict[str, tuple[str, str]]:
    """What to open next: word -> label, address."""
    of_project, datasets = f"?project__id__exact={project.pk}", list(project.datasets.values_list("pk", flat=True)[:2])
    places = {
        "project": ("The project", reverse("admin:datasets_project_change", args=(project.pk,))),
        "datasets": ("Its datasets", reverse("admin:datasets_dataset_changelist") + of_project),
        "keys": ("Its keys", reverse("admin:datasets_apikey_changelist") + of_project),
        "key": ("Issue a key", reverse("admin:datasets_apikey_add") + f"?project={project.pk}"),
        "try": ("Try it: choose a dataset", reverse("admin:ingest_datasetrecords_changelist") + of_project),
        "refused": ("What was refused", reverse("admin:ingest_refusals") + f"?project={project.pk}"),
        "ledger": ("Its ledger", reverse("admin:ingest_ledger") + f"?project={project.pk}"),
        "quarantine": (
            "Its quarantine",
            reverse("admin:ingest_quarantinedentry_changelist")
            + f"?state__exact=held&dataset__project__id__exact={project.pk}",
        ),
    }
    if not datasets:
        places["datasets"] = ("Define a dataset", reverse("admin:datasets_dataset_add") + f"?project={project.pk}")
    if len(datasets) == 1:
        places["datasets"] = ("The dataset", reverse("admin:datasets_dataset_change", args=datasets))
        places["try"] = ("Try it", reverse("admin:ingest_datasetrecords_try", args=datasets))
    if everything:
        places["quota"] = ("Quotas", reverse("admin:quotas_quotalimit_changelist") + f"?q={project.owner}")
    return places


def ledger_view(model_admin: DatasetRecordsAdmin, request: HttpRequest) -> HttpResponse:
    """accepted = stored + queued + quarantined, per dataset."""
    datasets: QuerySet[Dataset] = scope(
        Dataset.objects.select_related("project").order_by("project__name", "name"), request.user
    )
    project_id = request.GET.get("project", "")
    if project_id:
        datasets = datasets.filter(project_id=number(project_id))
    shown = Paginator(datasets, _LEDGER_ROWS).get_page(request.GET.get("page"))
    balances = [(dataset, _balance(dataset)) for dataset in shown]
    return page(
        model_admin,
        request,
        "admin/ingest/ledger.html",
        title="Ledger",
        opts=None,  # the page is of no model: its own title is shown
        content_title="Ledger",
        balances=balances,
        page=shown,
        project=project_id,
    )


def _balance(dataset: Dataset) -> ledger.Balance | str:
    """The ledger, or why there is none to be seen."""
    try:
        return ledger.balance(dataset)
    except ledger.NeverStill:
        return "written to too fast to be looked at; reload"
    except (DeltaError, OSError) as reason:
        return unreadable(reason)


def _urls() -> list[Any]:
    view, records = admin.site.admin_view, admin.site._registry[DatasetRecords]
    return [
        path("password_change/", view(password_change_view, cacheable=True), name="password_change"),
        path("start/cards/", view(cards_view), name="ingest_cards"),
        path("start/audit/<int:project_id>/", view(audit_view), name="ingest_audit"),
        path(
            "start/why/<int:project_id>/",
            view(lambda request, project_id: why_view(records, request, project_id)),  # type: ignore[arg-type]
            name="ingest_why",
        ),
        path("ledger/", view(lambda request: ledger_view(records, request)), name="ingest_ledger"),  # type: ignore[arg-type]
        path("refusals/", view(lambda request: refusals_view(records, request)), name="ingest_refusals"),
    ]


def _searched(apps: list[dict[str, Any]], term: str) -> list[dict[str, Any]]:
    """Return what the sidebar's search found, as JSON can hold it: unfold keeps it in the cache, which is JSON."""
    return [asdict(found) for found in UnfoldAdminSite._search_apps(admin.site, apps, term)]


admin.site._search_apps = _searched  # type: ignore[attr-defined]  # unfold's; the cache would need pickle
admin.site.index_template = "admin/ingest/start.html"
admin.site.index_title = "Start"
admin.site.extra_urls = _urls  # type: ignore[attr-defined]  # unfold's way to pages that belong to no model
