"""The paths of the admin. The paths of the APIs are in `ingest.api.management` and `ingest.api.urls`."""

from django.contrib import admin
from django.urls import include, path, re_path

from ingest.api.openapi import DocsPage

handler400 = "config.web.pages.bad_request"
handler403 = "config.web.pages.permission_denied"
handler404 = "config.web.pages.not_found"
handler500 = "config.web.pages.server_error"

# Load the admin here, and not when Django starts: commands and workers serve no pages, and start faster without it.
admin.autodiscover()

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/", include("ingest.api.management")),
    re_path("^docs/?$", DocsPage.as_view()),
    path("", include("ingest.api.urls")),
]
