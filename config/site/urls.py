"""The admin's pages that belong to no model."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.urls import URLPattern, path

from config.site.start import audit_view, cards_view
from ingest.admin.diagnosis import diagnosis_view
from ingest.admin.ledger import ledger_view
from ingest.admin.refusals import refusals_view


def _page(address: str, view: Callable[..., Any], name: str) -> URLPattern:
    return path(address, admin.site.admin_view(view), name=name)


urlpatterns = [
    _page("start/cards/", cards_view, "start_cards"),
    _page("start/audit/<int:project_id>/", audit_view, "start_audit"),
    _page("start/why/<int:project_id>/", diagnosis_view, "ingest_diagnosis"),
    _page("ledger/", ledger_view, "ingest_ledger"),
    _page("refusals/", refusals_view, "ingest_refusals"),
]
