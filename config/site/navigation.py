"""The admin's sidebar. A model's link is named like the model, so that breadcrumbs and titles use the same words."""

from typing import Any

from django.apps import apps
from django.http import HttpRequest
from django.urls import reverse
from django.utils.text import capfirst

# Each group has a title and links. The title is also the `verbose_name` of the group's apps. Each link has a model (or
# the title of a page), an icon, and whether only superusers see it.
_GROUPS: tuple[tuple[str, tuple[tuple[str, str, bool], ...]], ...] = (
    (
        "Define",
        (
            ("datasets.Project", "folder", False),
            ("datasets.Dataset", "dataset", False),
            ("datasets.ApiKey", "key", False),
            ("datasets.PersonalAccessToken", "passkey", False),
        ),
    ),
    (
        "Data",
        (
            ("ingest.DatasetRecords", "table_rows", False),
            ("Refused requests", "block", False),
            ("ingest.QuarantinedEntry", "report", False),
            ("Ledger", "balance", False),
            ("admin.LogEntry", "history", False),
        ),
    ),
    (
        "Limits",
        (
            ("quotas.QuotaLimit", "speed", False),
            ("quotas.MonthlyUsage", "calendar_month", False),
            ("quotas.ThresholdEvent", "notification_important", False),
        ),
    ),
    (
        "People",
        (
            ("auth.User", "person", True),
            ("auth.Group", "group", True),
            ("axes.AccessAttempt", "lock", True),
        ),
    ),
)
# The URL names of pages that belong to no model.
_PAGES = {"Refused requests": "admin:ingest_refusals", "Ledger": "admin:ingest_ledger"}


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the groups of links that this user can open."""
    is_superuser = bool(getattr(request.user, "is_superuser", False))
    start = {"title": "Start", "icon": "monitoring", "link": reverse("admin:index")}
    groups = [{"title": "", "separator": False, "items": [start]}]
    for title, links in _GROUPS:
        items = [_link(what, icon) for what, icon, for_superusers in links if is_superuser or not for_superusers]
        if items:
            groups.append({"title": title, "separator": False, "items": items})
    return groups


def _link(what: str, icon: str) -> dict[str, str]:
    if what in _PAGES:
        return {"title": what, "icon": icon, "link": reverse(_PAGES[what])}
    options = apps.get_model(what)._meta
    address = reverse(f"admin:{options.app_label}_{options.model_name}_changelist")
    return {"title": capfirst(str(options.verbose_name_plural)), "icon": icon, "link": address}
