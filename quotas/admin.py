"""Limits, usage and thresholds in the admin."""

from typing import Any, TypeVar

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from quotas import services
from quotas.models import MonthlyUsage, QuotaLimit, ThresholdEvent

_Model = TypeVar("_Model", MonthlyUsage, ThresholdEvent)


class RememberedAdmin(admin.ModelAdmin[_Model]):
    """What the service writes down: to be read, not edited."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(QuotaLimit)
class QuotaLimitAdmin(admin.ModelAdmin[QuotaLimit]):
    list_display = ("user", "records_per_month")
    search_fields = ("user__username",)
    autocomplete_fields = ("user",)
    list_select_related = ("user",)
    actions = None

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except services.LimitRefused as refusal:
            messages.error(request, str(refusal))
            return HttpResponseRedirect(request.get_full_path())

    def save_model(
        self, request: HttpRequest, obj: QuotaLimit, form: forms.ModelForm[QuotaLimit], change: bool
    ) -> None:
        services.save_limit(obj)

    def delete_model(self, request: HttpRequest, obj: QuotaLimit) -> None:
        services.delete_limit(obj)


@admin.register(MonthlyUsage)
class MonthlyUsageAdmin(RememberedAdmin[MonthlyUsage]):
    list_display = ("user", "period", "used", "updated_at")
    list_filter = ("period",)
    search_fields = ("user__username",)
    list_select_related = ("user",)


@admin.register(ThresholdEvent)
class ThresholdEventAdmin(RememberedAdmin[ThresholdEvent]):
    list_display = ("user", "period", "percent", "used", "limit", "crossed_at")
    list_filter = ("percent", "period")
    search_fields = ("user__username",)
    list_select_related = ("user",)
