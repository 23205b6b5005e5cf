"""Every address of the service."""

from django.contrib import admin
from django.urls import include, path

handler400 = "config.web.pages.bad_request"
handler403 = "config.web.pages.permission_denied"
handler404 = "config.web.pages.not_found"
handler500 = "config.web.pages.server_error"

# Here, and not as Django starts: commands and workers serve no page, and start in three quarters of the time without.
admin.autodiscover()

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("ingest.api.urls")),
]
