"""The forms of the search on the records page. The page's address has all inputs, so that users can share a search."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Any

from django import forms
from django.http import QueryDict
from django.utils import timezone

from datasets.queries.columns import AGGREGATES, BUCKETS, COMPARABLE, operators
from datasets.queries.query import Column

MAX_CONDITIONS = 20
NO_CHART = "none"
_MAX_CHARACTERS = 1000
_WORDS = {
    "=": "is",
    "!=": "is not",
    "<": "is less than",
    "<=": "is at most",
    ">": "is greater than",
    ">=": "is at least",
    "in": "is one of",
    "not_in": "is none of",
    "contains": "contains",
    "starts_with": "starts with",
    "is_null": "is null",
    "is_not_null": "is not null",
}
Choices = Sequence[tuple[str, str]]
_NONE = ("", "—")
_BY_RECEPTION = ("", "time received")
DIRECTIONS = (("desc", "descending"), ("asc", "ascending"))
CHARTS = (("", "automatic"), *((unit, f"by {unit}") for unit in BUCKETS), (NO_CHART, "no chart"))
_COUNTS = {"count": "number of records", "count_distinct": "number of different values"}
# The inputs that say how the records are shown, each with its default.
DISPLAY = {"sort": "", "direction": "desc", "chart": "", "group": "", "measure": "count", "of": ""}
MEASURES = [(name, _COUNTS.get(name, name)) for name in AGGREGATES]


class MomentField(forms.CharField):
    """A time in ISO 8601, UTC if it has no offset."""

    widget = forms.DateTimeInput(attrs={"type": "datetime-local", "step": "any"})

    def clean(self, value: Any) -> datetime | None:
        """Return the time, or None if the input is empty."""
        text = super().clean(value)
        moment = self.read(text)
        if text and moment is None:
            raise forms.ValidationError(f"“{text[:100]}” is not a time. Write it like 2026-06-10T10:58.")
        return moment

    @staticmethod
    def read(text: str) -> datetime | None:
        """Return the time that a text describes, or None if it is not a time."""
        try:
            moment = datetime.fromisoformat(text.strip())
            moment = moment.replace(tzinfo=UTC) if timezone.is_naive(moment) else moment
            return moment.astimezone(UTC)
        except (ValueError, OverflowError):
            return None


class _Form(forms.Form):
    """A form whose inputs have the style of our other pages."""

    def __init__(self, given: Mapping[str, Any], auto_id: str, choices: Mapping[str, Choices]) -> None:
        super().__init__(given, auto_id=auto_id, label_suffix="")
        for name, field in self.fields.items():
            code = " ours-code" if isinstance(field.widget, forms.TextInput) else ""
            field.widget.attrs["class"] = f"ours-input{code}"
            if isinstance(field, forms.ChoiceField) and name in choices:
                field.choices = choices[name]

    def fail(self, name: str | None, sentence: str) -> None:
        """Add an error to the input `name`, or to the form if `name` is None. An input keeps only its first error."""
        if name is None or not self.has_error(name):
            self.add_error(name, sentence)


class SearchForm(_Form):
    """All inputs except the conditions on fields. An input that is not in the address has its default."""

    since = MomentField(required=False, label="Received from (UTC)")
    until = MomentField(required=False, label="Received before (UTC)")
    trace = forms.CharField(required=False, label="Trace ID", max_length=_MAX_CHARACTERS)
    record = forms.CharField(required=False, label="Record ID, or its beginning", max_length=_MAX_CHARACTERS)
    receipt = forms.CharField(required=False, label="Receipt", max_length=_MAX_CHARACTERS)
    sent_from = MomentField(required=False, label="Timestamp from (UTC)")
    sent_to = MomentField(required=False, label="Timestamp up to (UTC)")
    sort = forms.ChoiceField(required=False, label="Sort by")
    direction = forms.ChoiceField(required=False, label="Order", choices=DIRECTIONS)
    chart = forms.ChoiceField(required=False, label="Count by time", choices=CHARTS)
    group = forms.ChoiceField(required=False, label="Group by")
    measure = forms.ChoiceField(required=False, label="Value of a group", choices=MEASURES)
    of = forms.ChoiceField(required=False, label="Of the field")

    def __init__(self, given: QueryDict, columns: Mapping[str, Column]) -> None:
        comparable = _choices(column for column in columns.values() if column.kind in COMPARABLE)
        measured = _choices(column for column in columns.values() if column.kind in AGGREGATES["count"])
        choices = {"sort": [_BY_RECEPTION, *comparable], "group": [_NONE, *comparable], "of": [_NONE, *measured]}
        filled = {name: value for name, value in given.dict().items() if value}
        super().__init__({**DISPLAY, **filled}, "%s", choices)

    @property
    def filter_inputs(self) -> list[forms.BoundField]:
        """The inputs that say which records are found."""
        return [self[name] for name in ("sent_from", "sent_to", "since", "until", "trace", "record", "receipt")]

    @property
    def display_inputs(self) -> list[forms.BoundField]:
        """The inputs that say how the records are shown."""
        return [self[name] for name in DISPLAY]

    @property
    def has_display_choices(self) -> bool:
        """Whether a display input has an error, or a value that is not its default."""
        return any(self.has_error(name) or self[name].value() not in (None, DISPLAY[name]) for name in DISPLAY)

    def clean(self) -> None:
        first, last = self.cleaned_data.get("sent_from"), self.cleaned_data.get("sent_to")
        if first and last and first > last:
            self.fail("sent_to", "This time is before the time in “Timestamp from”.")


class ConditionForm(_Form):
    """One condition: a field, an operator and a value. A form without a field is ignored."""

    field = forms.ChoiceField(required=False, label="Field")
    op = forms.ChoiceField(required=False, label="Operator", choices=list(_WORDS.items()))
    value = forms.CharField(required=False, strip=False, label="Value", max_length=_MAX_CHARACTERS)

    def __init__(self, number: int, given: Mapping[str, str], columns: Mapping[str, Column]) -> None:
        allowed = _choices(column for column in columns.values() if operators(column))
        super().__init__(given, f"condition-{number}-%s", {"field": [_NONE, *allowed]})

    @property
    def is_filled(self) -> bool:
        """Whether the condition names a field."""
        return bool(self["field"].value())


def conditions(given: QueryDict, columns: Mapping[str, Column]) -> list[ConditionForm]:
    """Return forms for the first MAX_CONDITIONS conditions in an address, and an empty form for one more."""
    inputs = zip_longest(given.getlist("field"), given.getlist("op"), given.getlist("value"), fillvalue="")
    rows = [{"field": field, "op": op, "value": value} for field, op, value in inputs if field]
    rows = [*rows[:MAX_CONDITIONS], {"op": "="}]
    return [ConditionForm(number, row, columns) for number, row in enumerate(rows)]


def _choices(columns: Iterable[Column]) -> Choices:
    return [(column.name, f"{column.name} ({column.type})") for column in columns]
