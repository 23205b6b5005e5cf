"""The admin site: unfold's, with our start page and pages that belong to no model."""

from dataclasses import asdict
from typing import Any

from django.contrib.auth.views import PasswordChangeView
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.urls import include, path, reverse
from unfold.sites import UnfoldAdminSite

from config.site.passwords import OwnPasswordForm


class AdminSite(UnfoldAdminSite):  # type: ignore[misc]  # unfold has no types
    """The class of `admin.site` (see `config.apps.AdminConfig`)."""

    index_title = "Start"
    index_template = "admin/start/start.html"

    def get_urls(self) -> list[Any]:
        """Return our pages, then those of unfold and Django."""
        return [path("", include("config.site.urls")), *super().get_urls()]

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponseBase:
        """Change the password of the user who is logged in, with our form."""
        view = PasswordChangeView.as_view(
            form_class=OwnPasswordForm,
            success_url=reverse("admin:password_change_done"),
            extra_context={**self.each_context(request), **(extra_context or {})},
        )
        return view(request)

    def app_index(
        self, request: HttpRequest, app_label: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Go to the start page. The sidebar lists the pages that Django would list here."""
        return HttpResponseRedirect(reverse("admin:index"))

    def _search_apps(self, app_list: list[dict[str, Any]], search_term: str) -> list[dict[str, Any]]:
        """Return the results of the sidebar's search as dicts: unfold caches them, and our cache only stores JSON."""
        return [asdict(found) for found in super()._search_apps(app_list, search_term)]
