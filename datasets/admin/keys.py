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
from datasets.admin.snippets import PLACEHOLDER, sending
from datasets.admin.tenancy import ScopedFilter
from datasets.contracts.keys import issue_token
from datasets.models import ApiKey, Dataset
from datasets.origins import read_origins, unencrypted

# Each choice has a number of hours, and a label that follows the words “The old key expires”.
_GRACES = ((0, "immediately"), (1, "in 1 hour"), (24, "in 24 hours"), (168, "in 7 days"))


_ORIGINS: Any = ApiKey._meta.get_field("origins")
_RATE: Any = ApiKey._meta.get_field("records_per_minute")
# Only the form of a new key has the field `used_by`.
_FOR_BROWSERS = "typeof used_by === 'undefined' || used_by == 'browser'"
# A key's page shows how to send to one dataset, and links to at most this number of others.
_MAX_OTHERS = 10
_SHOWN = ("id", "state", "last_used", "created_at", "expires_at", "revoked_at")


_USES = (("server", "Servers and programs"), ("browser", "Web pages: a browser key, which everybody can read"))


class OriginsField(forms.CharField):
    """Origins of web pages, one per line."""

    widget = forms.Textarea

    def __init__(self, **kwargs: Any) -> None:
        attributes = {"rows": 3, "class": "ours-input ours-code", "placeholder": "https://shop.example.com"}
        super().__init__(widget=forms.Textarea(attrs=attributes), **kwargs)

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        return read_origins(value if isinstance(value, list) else str(value or "").split())


class BrowserKeyForm(forms.ModelForm[ApiKey]):
    """The form of an existing browser key."""

    origins = OriginsField(label=_ORIGINS.verbose_name.capitalize(), help_text=_ORIGINS.help_text)

    class Meta:
        model = ApiKey
        fields = ("name", "origins", "records_per_minute")


class KeyForm(ExpiringForm):
    """A new key: its project and name, who uses it, and when it expires."""

    used_by = forms.ChoiceField(
        label="Used by",
        choices=_USES,
        initial="server",
        required=False,
        widget=forms.Select(attrs={"class": "ours-input"}),
    )
    origins = OriginsField(
        label=_ORIGINS.verbose_name.capitalize(), help_text=_ORIGINS.help_text, required=False, initial=list
    )
    records_per_minute = forms.IntegerField(
        label=_RATE.verbose_name.capitalize(),
        help_text=_RATE.help_text,
        required=False,
        min_value=1,
        max_value=2**31 - 1,
        initial=ApiKey.DEFAULT_RECORDS_PER_MINUTE,
        widget=forms.NumberInput(attrs={"class": "ours-input"}),
    )

    class Meta:
        model = ApiKey
        fields = ("project", "name", "origins", "records_per_minute")

    def clean(self) -> dict[str, Any]:
        data = super().clean()
        if data.get("used_by") != "browser":
            data["origins"] = []
            self.errors.pop("origins", None)
            self.errors.pop("records_per_minute", None)
        elif not data.get("origins") and "origins" not in self.errors:
            self.add_error("origins", "Add the origin of at least one page that will use the key.")
        if data.get("records_per_minute") is None:
            data["records_per_minute"] = ApiKey.DEFAULT_RECORDS_PER_MINUTE
        project, name = data.get("project"), data.get("name")
        # If a browser reloads the page with the token, it sends the form again. This check then prevents a second key.
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
    conditional_fields: ClassVar[dict[str, str]] = {
        "ends_on": "ends == 'date'",
        "origins": _FOR_BROWSERS,
        "records_per_minute": _FOR_BROWSERS,
    }
    list_display = ("name", "id", "project", "used_by", "state", "last_used", "created_at", "expires_at")
    list_filter = (("project", ScopedFilter), ("revoked_at", admin.EmptyFieldListFilter))
    list_select_related = ("project",)
    search_fields = ("name",)
    autocomplete_fields = ("project",)
    ordering = ("-pk",)  # newest first; the primary key has an index
    noun = "key"

    def get_form(self, request: HttpRequest, obj: ApiKey | None = None, change: bool = False, **kwargs: Any) -> Any:
        if obj is None:
            kwargs["form"] = KeyForm
        elif obj.is_for_browsers:
            kwargs["form"] = BrowserKeyForm
        return super().get_form(request, obj, change, **kwargs)

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        if obj is None:
            return ("project", "name", "used_by", "origins", "records_per_minute", "ends", "ends_on")
        of_browsers = ("origins", "records_per_minute") if obj.is_for_browsers else ()
        return ("project", "name", *of_browsers, *_SHOWN)

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        return ("project", *_SHOWN) if obj else ()

    @admin.display(description="used by")
    def used_by(self, key: ApiKey) -> str:
        return "web pages" if key.is_for_browsers else "servers"

    @admin.display(description="state")
    def state(self, key: ApiKey) -> str:
        return state_of(key.expires_at, key.revoked_at)

    @admin.display(description="last used", ordering="last_used_at")
    def last_used(self, key: ApiKey) -> str:
        return last_used(key.last_used_at)

    def save_model(self, request: HttpRequest, obj: ApiKey, form: forms.ModelForm[ApiKey], change: bool) -> None:
        services.save_key(obj, changed=edited(form))
        # A new key needs no message here: its own page shows this warning.
        for origin in unencrypted(obj.origins) if change else ():
            text = "is not encrypted: others on the network can change its pages and the records. Use https://."
            messages.warning(request, f"{origin} {text}")

    def extra_form_context(self, request: HttpRequest, obj: ApiKey | None) -> dict[str, Any]:
        return self._sending(request, obj, PLACEHOLDER) if obj else {}

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
        """Issue a new key in place of an old one. The old key expires after a time that the user chooses."""
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
        context |= {"key": key, "token": token, **self._sending(request, key, token)}
        return page(request, "admin/datasets/apikey/issued.html", opts=self.opts, title=title, **context)

    def _sending(self, request: HttpRequest, key: ApiKey, token: str) -> dict[str, Any]:
        """Return the context that shows how to send a record with a key."""
        accepting = Dataset.objects.filter(project=key.project, is_archived=False, versions__isnull=False).distinct()
        first, *others = accepting.order_by("pk")[: 1 + _MAX_OTHERS] or [None]
        return {
            "sending": first and sending(base_url(request), first, token, for_browsers=key.is_for_browsers),
            "others": others,
            "further": accepting.count() - 1 - len(others) if len(others) == _MAX_OTHERS else 0,
            "unencrypted": unencrypted(key.origins),
        }
