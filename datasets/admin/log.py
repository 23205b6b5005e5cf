"""Django's log of admin changes as a page: who changed what, and when."""

from typing import Any

from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models import CharField, Q, QuerySet
from django.db.models.functions import Cast

from datasets.admin.tenancy import ReadOnlyAdmin, TenantAdmin, scope

# Django calls them log entries. Titles, breadcrumbs and counts use these names.
LogEntry._meta.verbose_name, LogEntry._meta.verbose_name_plural = "change", "changes"


@admin.register(LogEntry)
class LogAdmin(ReadOnlyAdmin[LogEntry]):
    """The changes that people made in the admin or with tokens, if the reader may see the changed objects."""

    # Nothing reads this path, but it must not be None, which would hide the page from all users except superusers. An
    # entry names its object by type and ID, so `of_tenant` below keeps the entries whose objects the user may see.
    tenant_path = "object"
    nothing = "No changes yet. This page lists what people and their tokens change."
    list_display = ("action_time", "user", "action", "kind", "object_name", "what")
    list_filter = ("action_flag",)
    list_select_related = ("user", "content_type")
    search_fields = ("object_repr", "change_message", "user__username")
    fields = ("action_time", "user", "action", "kind", "object_name", "what")
    readonly_fields = fields

    def of_tenant(self, queryset: QuerySet[LogEntry], user: Any) -> QuerySet[LogEntry]:
        seen = Q(pk__in=())
        for model in filter(self.admin_site.is_registered, apps.get_models()):
            registered = self.admin_site.get_model_admin(model)
            if isinstance(registered, TenantAdmin) and registered.tenant_path is not None and model is not LogEntry:
                ids = scope(model._default_manager.all(), user).values(key=Cast("pk", CharField()))
                seen |= Q(content_type=ContentType.objects.get_for_model(model), object_id__in=ids)
        return queryset.filter(seen)

    @admin.display(description="what changed")
    def what(self, entry: LogEntry) -> str:
        return entry.get_change_message()

    @admin.display(description="action", ordering="action_flag")
    def action(self, entry: LogEntry) -> str:
        return entry.get_action_flag_display()

    @admin.display(description="kind of object", ordering="content_type")
    def kind(self, entry: LogEntry) -> str:
        return entry.content_type.name if entry.content_type else "unknown"

    @admin.display(description="object", ordering="object_repr")
    def object_name(self, entry: LogEntry) -> str:
        return entry.object_repr
