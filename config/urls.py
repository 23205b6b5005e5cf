"""Every address of the service."""

from django.contrib import admin
from django.urls import include, path

handler400 = "config.pages.bad_request"
handler403 = "config.pages.permission_denied"
handler404 = "config.pages.not_found"
handler500 = "config.pages.server_error"

# Here, and not as Django starts: commands and workers serve no page, and start in three quarters of the time without.
admin.autodiscover()

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("ingest.urls")),
]
