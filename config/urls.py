"""Every address of the service."""

from django.contrib import admin
from django.urls import include, path

handler400 = "config.errors.bad_request"
handler404 = "config.errors.not_found"
handler500 = "config.errors.server_error"

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("ingest.urls")),
]
