"""The start page: one card for each project, with its records, quota, backlog, quarantine and ledger."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import Q, Sum
from django.http import Http404, HttpRequest, HttpResponse
from django.template.loader import render_to_string
from redis.exceptions import RedisError

from config.common import clock
from datasets.access import projects_of
from datasets.models import Dataset, Project
from datasets.queries import figures
from datasets.queries.figures import EndedQuery
from ingest.models import QuarantinedEntry
from ingest.monitoring import health, heartbeat, statistics
from ingest.monitoring.statistics import Traffic
from ingest.storing import ledger
from quotas import services as quotas
from quotas.services import Quota

_PROJECTS = 8
_LEDGER_SECONDS = 2.0
_SPANS = {"24h": "24 hours", "30d": "30 days"}


@dataclass(slots=True)
class Bar:
    """One bar of a chart. Its position and size are in percent of the chart."""

    x: float
    height: float
    width: float
    label: str
    value: int


@dataclass(slots=True)
class Card:
    """What the start page shows of a project."""

    project: Project
    quota: Quota
    traffic: Traffic
    today: int
    month: int
    held: int
    bars: list[Bar]
    # The most frequent error codes: the code, how many requests were refused with it, and this count in percent of the
    # count of the most frequent code.
    refused: list[tuple[str, int, int]] = field(default_factory=list)
    first_dataset: Dataset | None = None
    slow: list[EndedQuery] = field(default_factory=list)

    @property
    def total(self) -> int:
        return sum(bar.value for bar in self.bars)

    @property
    def most(self) -> int:
        return max((bar.value for bar in self.bars), default=0)


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Return the context of the start page, with its cards rendered. This is unfold's DASHBOARD_CALLBACK."""
    return {**context, "cards": render_to_string("admin/start/cards.html", _cards(request), request=request)}


def _cards(request: HttpRequest) -> dict[str, Any]:
    span = request.GET.get("span", "24h")
    span = span if span in _SPANS else "24h"
    shown = Paginator(_ordered(request), _PROJECTS).get_page(request.GET.get("page"))
    context = {"page": shown, "span": span, "spans": _SPANS, "now": clock.now(), "can_add": _can_add(request)}
    query = request.GET.get("q", "").strip()
    context |= {"query": query, "extra": urlencode({"span": span, **({"q": query} if query else {})}) + "&"}
    try:
        heartbeats = heartbeat.read()
        states = health.states(heartbeats)
        return {
            **context,
            "projects": _each(_projects(list(shown)), span),
            "processes": [(name, states[name], last) for name, last in heartbeats.items()],
        }
    except (RedisError, OSError):
        return {**context, "projects": [], "redis_is_down": True}


def _ordered(request: HttpRequest) -> list[int]:
    """Return the IDs of the projects that match the search, sorted by name.

    Inactive projects and projects with quarantined records come first.
    """
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
    """Return a sort key that puts “Shop 2” before “Shop 10”."""
    parts = re.split(r"(\d+)", row[1].casefold(), flags=re.ASCII)
    return ([part.zfill(20) if part.isdecimal() else part for part in parts], row[0])


def _projects(ids: list[int]) -> list[Project]:
    found = Project.objects.select_related("owner").in_bulk(ids)
    return [found[pk] for pk in ids if pk in found]


def _can_add(request: HttpRequest) -> bool:
    return admin.site.get_model_admin(Project).has_add_permission(request)


def _each(shown: Sequence[Project], span: str) -> list[Card]:
    ids = [project.pk for project in shown]
    of_project: dict[int, list[int]] = {pk: [] for pk in ids}
    for dataset_id, project_id in (
        Dataset.objects.filter(project_id__in=ids).order_by("pk").values_list("pk", "project_id")
    ):
        of_project[project_id].append(dataset_id)
    traffic = statistics.traffic([dataset_id for datasets in of_project.values() for dataset_id in datasets])
    limits = quotas.current_many(project.owner_id for project in shown)
    held, slow = _held(ids), figures.slow(ids)
    now, moment = statistics.this_hour(), clock.now()
    cards = []
    for project in shown:
        total = statistics.total(traffic[dataset_id] for dataset_id in of_project[project.pk])
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
                slow=slow[project.pk],
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
    """Return only the cards. The start page requests them every few seconds."""
    return HttpResponse(render_to_string("admin/start/cards.html", _cards(request), request=request))


def audit_view(request: HttpRequest, project_id: int) -> HttpResponse:
    """Return a short text: whether the ledgers of a project's datasets add up."""
    project = projects_of(request.user).filter(pk=project_id).first()
    if project is None:
        raise Http404
    try:
        audit = ledger.audit(list(project.datasets.all()), seconds=_LEDGER_SECONDS)
    except (RedisError, OSError):
        audit = None
    return HttpResponse(render_to_string("admin/start/audit.html", {"audit": audit, "project": project}))
