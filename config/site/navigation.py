"""The admin's sidebar."""

from typing import Any

from django.http import HttpRequest
from django.urls import reverse

_GROUPS: tuple[tuple[str, tuple[tuple[str, str, str, bool], ...]], ...] = (
    # title, then: label, icon, address, whether for superusers alone
    ("", (("Start", "monitoring", "admin:index", False),)),
    (
        "Define",
        (
            ("Projects", "folder", "admin:datasets_project_changelist", False),
            ("Datasets", "dataset", "admin:datasets_dataset_changelist", False),
            ("API keys", "key", "admin:datasets_apikey_changelist", False),
        ),
    ),
    (
        "Look",
        (
            ("Records", "table_rows", "admin:ingest_datasetrecords_changelist", False),
            ("Refused", "block", "admin:ingest_refusals", False),
            ("Quarantine", "report", "admin:ingest_quarantinedentry_changelist", False),
            ("Ledger", "balance", "admin:ingest_ledger", False),
            ("Changes", "history", "admin:admin_logentry_changelist", False),
        ),
    ),
    (
        "Limits",
        (
            ("Quotas", "speed", "admin:quotas_quotalimit_changelist", False),
            ("Usage by month", "calendar_month", "admin:quotas_monthlyusage_changelist", False),
            ("Thresholds crossed", "notification_important", "admin:quotas_thresholdevent_changelist", False),
        ),
    ),
    (
        "People",
        (
            ("Users", "person", "admin:auth_user_changelist", True),
            ("Groups", "group", "admin:auth_group_changelist", True),
            ("Failed logins", "lock", "admin:axes_accessattempt_changelist", True),
        ),
    ),
)


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """Groups of links, without those that lead nowhere for this person."""
    everything = bool(getattr(request.user, "is_superuser", False))
    groups = []
    for title, links in _GROUPS:
        items = [
            {"title": label, "icon": icon, "link": reverse(address)}
            for label, icon, address, superusers in links
            if everything or not superusers
        ]
        if items:
            groups.append({"title": title, "separator": False, "items": items})
    return groups
