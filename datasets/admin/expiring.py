"""What the pages of API keys and of personal access tokens share: both expire, are revoked, and are shown once."""

from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.timesince import timesince, timeuntil

from config.common import clock

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
            if end is None or end <= moment:
                raise ValidationError({"ends_on": "Choose a day in the future."})
            self.instance.expires_at = end.replace(microsecond=0)
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
