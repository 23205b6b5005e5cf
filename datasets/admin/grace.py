"""Grace periods in the admin: begin one with a new schema version, see who still sends the old form, and end it."""

from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from redis.exceptions import RedisError

from config.common import clock
from datasets import services
from datasets.admin.pages import page
from datasets.contracts import old_form
from datasets.contracts.old_form import Sender
from datasets.contracts.revisions import ChangeRefused
from datasets.models import Dataset, SchemaVersion

_UNTIL = "time"
_CHOICES = (
    ("", "refused from the next request on"),
    ("1", "accepted for another hour"),
    ("24", "accepted for another 24 hours"),
    ("168", "accepted for another 7 days"),
    (_UNTIL, "accepted until this time (UTC)"),
)


class GraceForm(forms.ModelForm[Dataset]):
    """The part of a dataset's form that sets how long the present version stays valid after a new one is published."""

    grace = forms.ChoiceField(label="Records of the previous version", choices=_CHOICES, required=False)
    grace_until = forms.DateTimeField(
        label="Accepted until",
        required=False,
        widget=forms.DateTimeInput(
            attrs={"type": "datetime-local", "class": "ours-input", "aria-label": "Accepted until (UTC)"},
            format="%Y-%m-%dT%H:%M",
        ),
    )

    grace_ends: datetime | None = None  # set by `clean`

    def chosen_end(self) -> datetime | None:
        """Return the end of the grace period that the user chose, or None if there is none. Raises ValidationError."""
        chosen: str = self.cleaned_data.get("grace") or ""
        if chosen != _UNTIL:
            return clock.now() + timedelta(hours=int(chosen)) if chosen else None
        until: datetime | None = self.cleaned_data.get("grace_until")
        if until is None or until <= clock.now():
            raise ValidationError({"grace": "Choose a time in the future."})
        return until

    def describe_grace(self) -> str:
        """Return the chosen grace period for the log."""
        ends = self.grace_ends
        return f"Grace period of the previous version: until {ends:%Y-%m-%d %H:%M} UTC." if ends else ""

    def describe_grace_until(self) -> str:
        """Return an empty text, because `describe_grace` also describes this field."""
        return ""


def ended(version: SchemaVersion, successor: SchemaVersion | None) -> datetime | None:
    """Return the end of the grace period that a version has begun, or None if it has not begun one."""
    ends = version.previous_valid_until
    return min(ends, successor.created_at) if ends and successor else ends


def is_running(version: SchemaVersion, successor: SchemaVersion | None = None) -> bool:
    """Return whether the grace period that a version has begun has not ended yet."""
    ends = ended(version, successor)
    return ends is not None and ends > clock.now()


def card(version: SchemaVersion | None) -> dict[str, Any] | None:
    """Return what the page shows about the grace period that a version has begun. Return None if it has begun none."""
    if version is None or version.number == 1:
        return None
    ends = version.previous_valid_until
    senders: list[Sender] | None
    try:
        senders = old_form.senders(version)
    except (RedisError, OSError):
        senders = None
    if ends is None and not senders:
        return None
    return {"earlier": version.number - 1, "ends": ends, "is_running": is_running(version), "senders": senders}


def end(request: HttpRequest, admin: Any, dataset: Dataset) -> HttpResponse:
    """Ask for confirmation on GET. End the grace period on POST."""
    version = dataset.latest_version()
    shown = card(version)
    back = HttpResponseRedirect(reverse("admin:datasets_dataset_change", args=(dataset.pk,)))
    if version is None or shown is None or not shown["is_running"]:
        messages.warning(request, "No grace period is running.")
        return back
    if request.method != "POST":
        template, title = (
            "admin/datasets/dataset/end_grace.html",
            f"End the grace period of version {shown['earlier']}?",
        )
        return page(request, template, opts=admin.opts, title=title, original=dataset, version=version, grace=shown)
    if request.POST.get("version") != str(version.pk):
        messages.error(request, "Nothing was changed: another version was published since the page was loaded.")
        return back
    try:
        services.end_grace(version)
    except ChangeRefused as refusal:
        messages.error(request, str(refusal))
        return back
    text = f"The grace period of version {shown['earlier']} has ended."
    admin.log_change(request, dataset, text)
    messages.success(request, f"{text} Records of this version are refused from the next request on.")
    return back
