"""All paths of the management API, below /api/. Each view is in the package that has its data."""

from django.urls import re_path

from datasets.api import urls
from ingest.api.ledger import LedgerView
from quotas.api import QuotaView

urlpatterns = [
    *urls.urlpatterns,
    re_path(r"^ledger/(?P<project_slug>[^/]+)/?$", LedgerView.as_view()),
    re_path(r"^quota/(?P<project_slug>[^/]+)/?$", QuotaView.as_view()),
]
