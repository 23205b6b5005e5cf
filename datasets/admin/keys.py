"""API keys in the admin: issue, show once, rotate and revoke."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path

from config.common.errors import Refused
from datasets import services
from datasets.admin.edits import edited
from datasets.admin.expiring import ExpiringForm, RevocableAdmin, last_used, state_of
from datasets.admin.pages import base_url, number, page
from datasets.admin.snippets import snippets
from datasets.admin.tenancy import ScopedFilter
from datasets.contracts.keys import issue_token
from datasets.models import ApiKey, Dataset
from datasets.schemas.samples import without_example

# For each choice: hours, and its label after “The old key expires”.
_GRACES = ((0, "immediately"), (1, "in 1 hour"), (24, "in 24 hours"), (168, "in 7 days"))


_SHOWN = ("id", "state", "last_used", "created_at", "expires_at", "revoked_at")


class KeyForm(ExpiringForm):
    """A new key: its project, its name, and when it expires."""

    class Meta:
        model = ApiKey
        fields = ("project", "name")

    def clean(self) -> dict[str, Any]:
        data = super().clean()
        project, name = data.get("project"), data.get("name")
        # This also stops a second key when a browser reloads the page with the token, which sends the form again.
        if self.instance._state.adding and project and project.keys_in_force().filter(name=name).exists():
            raise ValidationError(
                {"name": "The project has an active key with this name. Choose another name, or rotate that key."}
            )
        return data


@admin.register(ApiKey)
class ApiKeyAdmin(RevocableAdmin[ApiKey]):
    """API keys of projects. A new key's token is shown once."""

    tenant_path = "project"
    nothing = "No API key yet. Clients need one to send records. Its token is shown once, when you create it."
    conditional_fields: ClassVar[dict[str, str]] = {"ends_on": "ends == 'date'"}
    list_display = ("name", "id", "project", "state", "last_used", "created_at", "expires_at")
    list_filter = (("project", ScopedFilter), ("revoked_at", admin.EmptyFieldListFilter))
    list_select_related = ("project",)
    search_fields = ("name",)
    autocomplete_fields = ("project",)
    ordering = ("-pk",)  # the order of creation; has an index
    noun = "key"

    def get_form(self, request: HttpRequest, obj: ApiKey | None = None, change: bool = False, **kwargs: Any) -> Any:
        return super().get_form(request, obj, change, **kwargs if obj else {**kwargs, "form": KeyForm})

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        if obj is None:
            return ("project", "name", "ends", "ends_on")
        return ("project", "name", *_SHOWN)

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        return ("project", *_SHOWN) if obj else ()

    @admin.display(description="state")
    def state(self, key: ApiKey) -> str:
        return state_of(key.expires_at, key.revoked_at)

    @admin.display(description="last used", ordering="last_used_at")
    def last_used(self, key: ApiKey) -> str:
        return last_used(key.last_used_at)

    def save_model(self, request: HttpRequest, obj: ApiKey, form: forms.ModelForm[ApiKey], change: bool) -> None:
        services.save_key(obj, changed=edited(form))

    def response_add(self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None) -> HttpResponse:
        return self._issued(request, obj, "API key issued")

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.rotate_view)
        return [path("<int:object_id>/rotate/", view, name="datasets_apikey_rotate"), *super().get_urls()]

    def revoke_all(self, revoked: Sequence[ApiKey]) -> None:
        services.revoke_keys(revoked)

    def in_words(self, revoked: ApiKey) -> str:
        return f"“{revoked}” (ID {revoked.pk})"

    def rotate_view(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """Issue a new key in place of an old one, which expires after a grace period that the user chooses."""
        key = self.get_object_or_404(request, object_id)
        hours = request.POST.get("grace", "")
        if request.method == "POST" and hours in {str(grace) for grace, _ in _GRACES}:
            try:
                newest = number(request.POST["newest"]) if "newest" in request.POST else None
                successor = services.rotate_key(key, grace=timedelta(hours=int(hours)), newest=newest)
            except Refused as refusal:
                messages.error(request, str(refusal))
                return HttpResponseRedirect(request.get_full_path())
            expires = dict(_GRACES)[int(hours)]
            self.log_change(request, key, f"Rotated: expires {expires}, replaced by key {successor.pk}.")
            self.log_addition(request, successor, f"Issued to replace key {key.pk}.")
            return self._issued(request, successor, "API key rotated", old=key)
        return page(
            request,
            "admin/datasets/apikey/rotate.html",
            opts=self.opts,
            title=f"Rotate “{key}”",
            original=key,
            newest=services.newest_namesake(key),
            graces=_GRACES,
        )

    def _issued(self, request: HttpRequest, key: ApiKey, title: str, **context: Any) -> HttpResponse:
        """Show the token in this response only. It is not kept in a session, a cookie or the database."""
        token = issue_token(key)
        dataset = (
            Dataset.objects.filter(project=key.project, is_archived=False, versions__isnull=False)
            .order_by("pk")
            .first()
        )
        version = dataset and dataset.latest_version()
        fields = version.field_list() if version else []
        lines = snippets(base_url(request), dataset.pk, fields, token) if dataset and version else []
        return page(
            request,
            "admin/datasets/apikey/issued.html",
            opts=self.opts,
            title=title,
            key=key,
            token=token,
            dataset=dataset,
            curl=lines[0].text if lines else "",
            without_example=without_example(fields),
            **context,
        )
