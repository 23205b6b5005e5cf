"""Quota limits, monthly usage and threshold events in the admin."""

from typing import Any, ClassVar, TypeVar

from django import forms
from django.conf import settings
from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html

from config.common import clock
from datasets.admin.edits import GuardedAdmin
from datasets.admin.tenancy import ReadOnlyAdmin
from quotas import services
from quotas.models import MAX_LIMIT, UNLIMITED, MonthlyUsage, QuotaLimit, ThresholdEvent, limit_in_words
from quotas.period import period_of

_Model = TypeVar("_Model", bound=Model)

_PRESETS = (
    (str(UNLIMITED), "Unlimited"),
    ("10000", "10,000 records a month"),
    ("100000", "100,000 records a month"),
    ("1000000", "1 million records a month"),
    ("10000000", "10 million records a month"),
    ("0", "0: refuse every request"),
    ("other", "Another number"),
)
_MONTHS = 12


class PersonalAdmin(GuardedAdmin[_Model]):
    """Objects that belong to a user. Staff see their own objects. Only superusers can change objects."""

    tenant_path = "user"

    def of_tenant(self, queryset: QuerySet[_Model], user: Any) -> QuerySet[_Model]:
        return queryset.filter(user=user)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.is_superuser

    def has_change_permission(self, request: HttpRequest, obj: _Model | None = None) -> bool:
        return request.user.is_superuser


class LimitForm(forms.ModelForm[QuotaLimit]):
    """A quota limit: one of the presets, or another number."""

    preset = forms.ChoiceField(
        label="Limit", choices=_PRESETS, widget=forms.Select(attrs={"class": "ours-input"}), initial="100000"
    )
    number = forms.IntegerField(
        label="Records a month",
        required=False,
        min_value=0,
        max_value=MAX_LIMIT,
        widget=forms.NumberInput(attrs={"class": "ours-input"}),
    )

    class Meta:
        model = QuotaLimit
        fields = ("user",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        limit = self.instance.records_per_month
        if limit is not None and "preset" in self.fields:
            usual = str(limit) in dict(_PRESETS)
            self.fields["preset"].initial = str(limit) if usual else "other"
            self.fields["number"].initial = None if usual else limit

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        chosen = data.get("preset")
        number = data.get("number") if chosen == "other" else int(chosen) if chosen else None
        if number is not None:
            self.instance.records_per_month = number
        elif chosen == "other" and "number" not in self.errors:
            self.add_error("number", "Enter the number of records a month.")
        return data


@admin.register(QuotaLimit)
class QuotaLimitAdmin(PersonalAdmin[QuotaLimit]):
    """A user's quota limit, with the usage of the last twelve months and the threshold events."""

    nothing = f"No custom limits. A user without one has the default: {limit_in_words(settings.DEFAULT_QUOTA_LIMIT)}."
    conditional_fields: ClassVar[dict[str, str]] = {"number": "preset == 'other'"}
    form = LimitForm
    list_display = ("user", "limit", "this_month")
    search_fields = ("user__username",)
    autocomplete_fields = ("user",)
    list_select_related = ("user",)
    actions = None

    def get_fields(self, request: HttpRequest, obj: QuotaLimit | None = None) -> tuple[str, ...]:
        return ("user", "preset", "number") if request.user.is_superuser else ("user", "limit")

    def get_readonly_fields(self, request: HttpRequest, obj: QuotaLimit | None = None) -> tuple[str, ...]:
        return (*(("user",) if obj else ()), *(() if request.user.is_superuser else ("limit",)))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Allow superusers to delete a limit, so that the default applies again."""
        return request.user.is_superuser

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """Ask for confirmation. Name the limit that applies afterwards."""
        default = limit_in_words(settings.DEFAULT_QUOTA_LIMIT)
        return super().delete_view(request, object_id, {"default": default, **(extra_context or {})})

    @admin.display(description="limit", ordering="records_per_month")
    def limit(self, row: QuotaLimit) -> str:
        return limit_in_words(row.records_per_month)

    @admin.display(description="this month")
    def this_month(self, row: Any) -> str:
        quota = row.quota
        if quota.percent is None:
            return f"{quota.used:,}"
        return format_html(
            '<span class="ours-meter"><progress max="100" value="{}" aria-label="Share of the limit">{} %</progress>'
            "</span> {} ({} %)",
            quota.percent,
            quota.percent,
            f"{quota.used:,}",
            quota.percent,
        )

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changes = super().get_changelist_instance(request)
        quotas = services.current_many(row.user_id for row in changes.result_list)
        for row in changes.result_list:
            row.quota = quotas[row.user_id]
        return changes

    def extra_form_context(self, request: HttpRequest, obj: QuotaLimit | None) -> dict[str, Any]:
        if obj is None:
            return {}
        return {
            "quota": services.current_many([obj.user_id])[obj.user_id],
            "months": _months(obj.user_id),
            "events": ThresholdEvent.objects.filter(user_id=obj.user_id)[:20],
        }

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:
        if add:
            return super().construct_change_message(request, form, formsets, add)
        preset, number = form.fields["preset"].initial, form.fields["number"].initial
        before = number if preset == "other" else preset
        return f"Records a month: “{before}” → “{form.instance.records_per_month}”."

    def save_model(
        self, request: HttpRequest, obj: QuotaLimit, form: forms.ModelForm[QuotaLimit], change: bool
    ) -> None:
        services.save_limit(obj)

    def delete_model(self, request: HttpRequest, obj: QuotaLimit) -> None:
        services.delete_limit(obj)


def _months(user_id: int) -> list[dict[str, Any]]:
    """Return the usage of the last twelve months, latest first, as a number and in percent of the largest month."""
    rows = MonthlyUsage.objects.filter(user_id=user_id).order_by("-period")
    used = dict(rows.values_list("period", "used")[:_MONTHS])
    quota = services.current_many([user_id])[user_id]
    used[quota.period] = quota.used
    year, month = (int(part) for part in period_of(clock.now()).split("-"))
    ends = [divmod(year * 12 + month - 1 - back, 12) for back in range(_MONTHS)]
    counts = [(f"{each:04}-{before + 1:02}", used.get(f"{each:04}-{before + 1:02}", 0)) for each, before in ends]
    most = max(1, *(count for _, count in counts))
    return [{"period": period, "used": count, "share": count * 100 // most} for period, count in counts]


class UsageHistoryAdmin(ReadOnlyAdmin[_Model], PersonalAdmin[_Model]):
    """What the service records about a user's usage."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: _Model | None = None) -> bool:
        return False


@admin.register(MonthlyUsage)
class MonthlyUsageAdmin(UsageHistoryAdmin[MonthlyUsage]):
    """The usage of each user and month, as of the last flush."""

    nothing = "No usage yet."
    row_noun = "month"
    list_display = fields = readonly_fields = ("user", "period", "records", "updated_at")
    list_filter = ("period",)
    search_fields = ("user__username",)
    list_select_related = ("user",)

    @admin.display(description="records", ordering="used")
    def records(self, row: MonthlyUsage) -> str:
        return f"{row.used:,}"


@admin.register(ThresholdEvent)
class ThresholdEventAdmin(UsageHistoryAdmin[ThresholdEvent]):
    """Users who have reached 80, 95 or 100 % of their limit, and when a flush found this."""

    nothing = "No events yet. This page lists when a user has used 80, 95 and 100 % of a limit."
    list_display = fields = readonly_fields = ("user", "period", "reached", "records", "of_limit", "crossed_at")
    list_filter = ("percent", "period")
    search_fields = ("user__username",)
    list_select_related = ("user",)

    @admin.display(description="reached", ordering="percent")
    def reached(self, row: ThresholdEvent) -> str:
        return f"{row.percent} %"

    @admin.display(description="records", ordering="used")
    def records(self, row: ThresholdEvent) -> str:
        return f"{row.used:,}"

    @admin.display(description="limit", ordering="limit")
    def of_limit(self, row: ThresholdEvent) -> str:
        return f"{row.limit:,}"
