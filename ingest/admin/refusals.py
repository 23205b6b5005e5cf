"""The page of a project's latest refused requests."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.conf import settings
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from redis.exceptions import RedisError

from config.common.text import visible, visible_lines
from datasets.access import projects_of
from datasets.admin.pages import number, page
from datasets.models import ApiKey, Dataset, Project
from ingest.monitoring import refusals
from ingest.monitoring.refusals import Refusal

_ROWS = 25


@dataclass(frozen=True, slots=True)
class Row:
    """A refusal, as the page shows it."""

    refusal: Refusal
    dataset: Dataset | None  # None if the request named no dataset of the project
    error: str
    detail: str
    body: str
    key: str
    try_it: str  # the URL of the page “Try it” with this body; empty if there is no body or no dataset


class RefusalFilter(forms.Form):
    """The filter form. It offers the values that occur in the project's refusals."""

    project = forms.ChoiceField()
    dataset = forms.ChoiceField(required=False)
    code = forms.ChoiceField(required=False)
    key = forms.ChoiceField(required=False)
    since = forms.DateTimeField(required=False, label="Refused from (UTC)")
    until = forms.DateTimeField(required=False, label="Refused before (UTC)")

    def __init__(self, given: Any, projects: Sequence[Project], shown: Project, rows: Sequence[Row]) -> None:
        super().__init__({**given.dict(), "project": str(shown.pk)}, label_suffix="")
        choices: dict[str, Iterable[tuple[str, str]]] = {
            "project": [(str(each.pk), str(each)) for each in projects],
            "dataset": _choices((str(row.refusal.dataset_id), _dataset_name(row)) for row in rows),
            "code": _choices((row.refusal.code, row.refusal.code) for row in rows),
            "key": _choices((row.refusal.token_id, row.key) for row in rows),
        }
        for name, field in self.fields.items():
            field.widget.attrs["class"] = "ours-input"
            if isinstance(field, forms.ChoiceField):
                field.choices = [*choices[name]]
            else:
                field.widget.input_type = "datetime-local"

    def matches(self, row: Row) -> bool:
        """Return whether a row matches the form."""
        asked, refusal = self.cleaned_data, row.refusal
        return (
            asked["dataset"] in ("", str(refusal.dataset_id))
            and asked["code"] in ("", refusal.code)
            and asked["key"] in ("", refusal.token_id)
            and (asked["since"] is None or asked["since"] <= refusal.time)
            and (asked["until"] is None or asked["until"] > refusal.time)
        )


def _choices(found: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [("", "all"), *sorted(set(found), key=lambda choice: choice[1])]


def _dataset_name(row: Row) -> str:
    if row.dataset is not None:
        return f"{row.dataset} (ID {row.dataset.pk})"
    return f"ID {row.refusal.dataset_id}" if row.refusal.dataset_id else "none"


def refusals_view(request: HttpRequest) -> HttpResponse:
    """Show the latest refusals of one project, newest first."""
    try:
        context = _context(request)
    except (RedisError, OSError):
        context = {"redis_is_down": True}
    context |= {"is_off": not settings.REFUSAL_LOG_ENTRIES, "kept": settings.REFUSAL_LOG_ENTRIES}
    return page(request, "admin/ingest/refusals.html", title="Refused requests", **context)


def _context(request: HttpRequest) -> dict[str, Any]:
    projects = _projects(request)
    shown = _chosen(request, projects)
    if shown is None:
        return {}
    if shown not in projects:
        projects.append(shown)
    rows = _rows(shown)
    form = RefusalFilter(request.GET, projects, shown, rows)
    found = [row for row in rows if form.matches(row)] if form.is_valid() else []
    query = {name: value for name, value in request.GET.items() if name != "page"}
    return {
        "form": form,
        "project": shown,
        "any": bool(rows),
        "page": Paginator(found, _ROWS).get_page(request.GET.get("page")),
        "extra": urlencode(query) + "&" if query else "",
    }


def _projects(request: HttpRequest) -> list[Project]:
    """Return the projects with refusals that this user sees. The project with the latest refusal is the first."""
    ids = refusals.projects()
    found = projects_of(request.user).in_bulk(ids)
    return [found[project_id] for project_id in ids if project_id in found]


def _chosen(request: HttpRequest, projects: list[Project]) -> Project | None:
    """Return the project in the URL, or else the project with the latest refusal. Raises Http404 or BadRequest."""
    given = request.GET.get("project", "")
    if not given:
        return projects[0] if projects else None
    wanted = number(given)
    known = next((each for each in projects if each.pk == wanted), None)
    known = known or projects_of(request.user).filter(pk=wanted).first()
    if known is None:
        raise Http404
    return known


def _rows(project: Project) -> list[Row]:
    found = refusals.latest(project.pk)
    datasets = project.datasets.in_bulk({each.dataset_id for each in found})
    issued = ApiKey.objects.filter(project=project).values_list("token_id", "name", "pk")
    keys = {token_id.hex: f"{name} (ID {pk})" for token_id, name, pk in issued}
    return [
        Row(
            refusal=each,
            dataset=datasets.get(each.dataset_id),
            error=visible(each.error),
            detail=visible(each.detail),
            body=visible_lines(each.text),
            key=keys.get(each.token_id, "unknown"),
            try_it=_try_it(each) if each.dataset_id in datasets and each.body else "",
        )
        for each in found
    ]


def _try_it(refusal: Refusal) -> str:
    return reverse("admin:ingest_datasetrecords_try", args=(refusal.dataset_id,)) + f"?refusal={refusal.id}"
