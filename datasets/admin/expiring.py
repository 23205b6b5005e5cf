"""What the pages of API keys and of personal access tokens share: both expire, are revoked, and are shown once."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, TypeVar

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path, reverse
from django.utils.timesince import timesince, timeuntil

from config.common import clock
from datasets.admin.pages import AuditedAdmin, page
from datasets.contracts.revisions import ChangeRefused
from datasets.models import ApiKey, PersonalAccessToken

_Revocable = TypeVar("_Revocable", ApiKey, PersonalAccessToken)

_ENDS = (
    ("", "Never"),
    ("7", "In 7 days"),
    ("30", "In 30 days"),
    ("90", "In 90 days"),
    ("365", "In a year"),
    ("date", "On a date"),
)


class ExpiringForm(forms.ModelForm[Any]):
    """A form of a new key or token, which sets when it expires."""

    ends = forms.ChoiceField(
        label="Expires", choices=_ENDS, required=False, widget=forms.Select(attrs={"class": "ours-input"})
    )
    ends_on = forms.DateField(
        label="Expires on",
        required=False,
        widget=forms.DateInput(attrs={"type": "date", "class": "ours-input"}),
        help_text="The first day (UTC) on which it no longer works.",
    )

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        chosen, moment = data.get("ends"), clock.now()
        if chosen == "date":
            day = data.get("ends_on")
            end = day and moment.replace(year=day.year, month=day.month, day=day.day, hour=0, minute=0, second=0)
            if end is not None and end > moment:
                self.instance.expires_at = end.replace(microsecond=0)
            elif "ends_on" not in self.errors:
                self.add_error("ends_on", "Choose a day in the future.")
        elif chosen:
            self.instance.expires_at = moment + timedelta(days=int(chosen))
        return data


def state_of(expires_at: datetime | None, revoked_at: datetime | None) -> str:
    """Return whether a key or token is active, in words."""
    if revoked_at is not None:
        return "revoked"
    if expires_at is None:
        return "active"
    if expires_at <= clock.now():
        return "expired"
    return f"active, expires in {timeuntil(expires_at, depth=1)}"


def last_used(moment: datetime | None) -> str:
    """Return when a key or token was used last, in words."""
    if moment is None:
        return "never"
    if clock.now() - moment < timedelta(minutes=1):
        return "in the last minute"
    return f"{timesince(moment, depth=1)} ago"


class RevocableAdmin(AuditedAdmin[_Revocable]):
    """A model admin with a page and an action that revoke keys or tokens, after a confirmation."""

    noun: ClassVar[str]  # the word for the object in the confirmation: key or token
    actions = ("revoke",)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any) -> Any:
        """Offer only *Save* for a new object, because the next page shows its token."""
        if options.get("add"):
            context |= {"show_save_and_continue": False, "show_save_and_add_another": False}
        return super().render_change_form(request, context, *args, **options)

    def revoke_all(self, revoked: Sequence[_Revocable]) -> None:
        """Revoke keys or tokens. Raises ChangeRefused."""
        raise NotImplementedError

    def in_words(self, revoked: _Revocable) -> str:
        """Return the name of a key or token for the message after its revocation."""
        return f"“{revoked}”"

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.revoke_view)
        name = f"{self.opts.app_label}_{self.opts.model_name}_revoke"
        return [path("<int:object_id>/revoke/", view, name=name), *super().get_urls()]

    def revoke_view(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """Ask for confirmation on GET. Revoke the key or token on POST."""
        found = self.get_object_or_404(request, object_id)
        if request.method == "POST":
            self._revoke(request, [found])
            return HttpResponseRedirect(reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist"))
        return self._confirm(request, [found], f"Revoke “{found}”?", original=found)

    @admin.action(
        description="Revoke: requests using these %(verbose_name_plural)s fail immediately", permissions=("change",)
    )
    def revoke(self, request: HttpRequest, queryset: QuerySet[_Revocable]) -> HttpResponse | None:
        """Ask for confirmation first. Revoke the chosen keys or tokens if the user has confirmed."""
        found = list(queryset.select_related(self.tenant_path))
        if "confirmed" not in request.POST:
            return self._confirm(request, found, f"Revoke these {self.noun}s?")
        self._revoke(request, found)
        return None

    def _confirm(self, request: HttpRequest, found: list[_Revocable], title: str, **context: Any) -> HttpResponse:
        template = "admin/datasets/revoke.html"
        return page(request, template, opts=self.opts, title=title, found=found, noun=self.noun, **context)

    def _revoke(self, request: HttpRequest, found: list[_Revocable]) -> None:
        try:
            self.revoke_all(found)
        except ChangeRefused as refusal:
            messages.error(request, str(refusal))
            return
        for each in found:
            self.log_change(request, each, "Revoked.")
        messages.success(request, "Revoked: " + ", ".join(map(self.in_words, found)) + ".")
