"""Decide which objects each admin user sees. Every admin page uses this module.

Superusers see everything. Other staff see the projects that they own or are members of, and everything in these
projects. There they can do everything that a page offers, without Django permissions. Only a new project requires the
permission `datasets.add_project`.

The `tenant_path` of a model admin says how its model leads to a project. Lists, object pages, form choices, filters,
autocompletes, actions and exports all call `scope`.
"""

from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import BadRequest
from django.core.paginator import Page, Paginator
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.html import strip_tags
from django.utils.text import capfirst

from datasets.access import projects_of

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin
else:  # unfold's has no types; it has the same interface as Django's
    from unfold.admin import ModelAdmin

_Model = TypeVar("_Model", bound=Model)

# The `tenant_path` of the project itself.
ITSELF = ""


def scope(queryset: QuerySet[_Model], user: User | AnonymousUser) -> QuerySet[_Model]:
    """Return the part of a queryset that a user sees. If the model has no `TenantAdmin`, only superusers see it."""
    if user.is_superuser:
        return queryset
    registered = admin.site.get_model_admin(queryset.model) if admin.site.is_registered(queryset.model) else None
    if not isinstance(registered, TenantAdmin):
        return queryset.none()
    return registered.of_tenant(queryset, user)


class _Pages(Paginator[Any]):
    """The pages of a list. After the last page comes the last page again, so that an old address still works."""

    def page(self, number: int | str) -> Page[Any]:
        return super().page(min(int(number), self.num_pages))


class TenantAdmin(ModelAdmin[_Model]):
    """A model admin that shows each user only the objects of their projects."""

    # The path from the model to its project: `ITSELF`, "project", "dataset__project". None: only for superusers.
    tenant_path: ClassVar[str | None] = None
    # The text of an empty list, and an optional button below it: a label and the name of a URL.
    nothing = "There are none yet."
    next_step: tuple[str, str] | None = None
    # The noun after a count of rows, if it is not the model's name: "3 months".
    row_noun = ""
    list_per_page = 25
    list_filter_sheet = True
    show_full_result_count = False
    paginator = _Pages
    compressed_fields = False
    # Show users as text. Django would link to a page that only superusers can open.
    readonly_preprocess_fields: ClassVar[dict[str, Any]] = {"owner": strip_tags, "user": strip_tags}

    def of_tenant(self, queryset: QuerySet[_Model], user: User | AnonymousUser) -> QuerySet[_Model]:
        """Return the part of a queryset that a user who is not a superuser sees."""
        if self.tenant_path is None:
            return queryset.none()
        return queryset.filter(**{f"{self.tenant_path}__in" if self.tenant_path else "pk__in": projects_of(user)})

    def get_queryset(self, request: HttpRequest) -> QuerySet[_Model]:
        return scope(super().get_queryset(request), request.user)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Refuse regular expressions, because the database would run an expression from the URL."""
        return not lookup.endswith("regex") and super().lookup_allowed(lookup, value, request)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Return the list, titled as in the sidebar. Without a filter, run one COUNT query instead of two."""
        try:
            changes: Any = super().get_changelist_instance(request)
        except (IncorrectLookupParameters, ValueError) as failure:
            raise BadRequest("The address filters this list by an invalid value.") from failure
        changes.title = capfirst(str(self.opts.verbose_name_plural))
        changes.page_num = min(changes.page_num, changes.paginator.num_pages)
        # Links from other pages filter a list by values that its own filters do not offer.
        changes.is_narrowed = bool(changes.query or changes.has_active_filters or changes.get_filters_params())
        if not changes.is_narrowed:
            changes.full_result_count = changes.result_count
        return changes

    def get_field_queryset(self, db: str | None, db_field: Any, request: HttpRequest) -> QuerySet[Any] | None:
        """Return the objects that a form offers and accepts for a relation."""
        queryset = super().get_field_queryset(db, db_field, request)
        if queryset is None:
            queryset = db_field.remote_field.model._default_manager.all()
        return scope(queryset, request.user)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Preselect the project if the user sees exactly one project."""
        initial: dict[str, Any] = dict(super().get_changeform_initial_data(request))
        if self.tenant_path == "project" and "project" not in initial:
            first_two = projects_of(request.user).values_list("pk", flat=True)[:2]
            initial |= {"project": first_two[0]} if len(first_two) == 1 else {}
        return initial

    def get_object_or_404(self, request: HttpRequest, pk: Any) -> _Model:
        """Return the object for a page of our own. Raises Http404 if this user does not see it."""
        found = self.get_object(request, str(pk))
        if found is None or not self.has_view_permission(request, found):
            raise Http404
        return found

    def extra_form_context(self, request: HttpRequest, obj: _Model | None) -> dict[str, Any]:
        """Return what the model's form template needs besides Django's context. `obj` is None for a new object."""
        return {}

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: _Model | None = None,
    ) -> HttpResponse:
        """Render the form with the model's extra context."""
        context |= self.extra_form_context(request, obj)
        return super().render_change_form(request, context, add, change, form_url, obj)

    def _get_obj_does_not_exist_redirect(self, request: HttpRequest, opts: Any, object_id: str) -> HttpResponse:
        """Answer 404. Django would redirect to the start page with a message."""
        raise Http404

    def _may_use(self, request: HttpRequest, obj: _Model | None) -> bool:
        user = request.user
        if user.is_superuser:
            return True
        if not (user.is_active and user.is_staff) or self.tenant_path is None:
            return False
        return obj is None or scope(self.model._default_manager.filter(pk=obj.pk), user).exists()

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self._may_use(request, None)

    def has_view_permission(self, request: HttpRequest, obj: _Model | None = None) -> bool:
        return self._may_use(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: _Model | None = None) -> bool:
        return self._may_use(request, obj)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self._may_use(request, None)

    def has_delete_permission(self, request: HttpRequest, obj: _Model | None = None) -> bool:
        """Refuse to delete what records refer to. Admins deactivate projects, archive datasets and revoke keys."""
        return False


class ReadOnlyAdmin(TenantAdmin[_Model]):
    """Objects that the service writes and that admins only read."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: _Model | None = None) -> bool:
        return False


class ScopedFilter(admin.RelatedFieldListFilter):
    """A list filter by a relation. It offers the first `max_choices` objects that this user sees, ordered by name."""

    max_choices = 200

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> list[Any]:
        model: type[Model] = field.remote_field.model
        related = scope(model._default_manager.all(), request.user)
        return [(each.pk, str(each)) for each in related[: self.max_choices]]
