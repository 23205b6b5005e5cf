"""The admin site: unfold's, with a start page and pages that belong to no model."""

from dataclasses import asdict
from typing import Any

from django.contrib.auth.views import PasswordChangeView
from django.http import HttpRequest, HttpResponseBase
from django.urls import include, path, reverse
from unfold.sites import UnfoldAdminSite

from config.site.passwords import OwnPasswordForm


class AdminSite(UnfoldAdminSite):  # type: ignore[misc]  # unfold has no types
    """The site of `admin.site` (see `config.apps.AdminConfig`)."""

    index_title = "Start"
    index_template = "admin/start/start.html"

    def get_urls(self) -> list[Any]:
        """Return our pages before those that Django and unfold have."""
        return [path("", include("config.site.urls")), *super().get_urls()]

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponseBase:
        """Answer as unfold does, with our form."""
        view = PasswordChangeView.as_view(
            form_class=OwnPasswordForm,
            success_url=reverse("admin:password_change_done"),
            extra_context={**self.each_context(request), **(extra_context or {})},
        )
        return view(request)

    def _search_apps(self, app_list: list[dict[str, Any]], search_term: str) -> list[dict[str, Any]]:
        """Return what the sidebar's search found as JSON can hold it: unfold keeps it in the cache, which is JSON."""
        return [asdict(found) for found in super()._search_apps(app_list, search_term)]
