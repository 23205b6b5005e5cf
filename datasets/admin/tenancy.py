"""Who sees what in the admin: the one mechanism that every page goes through.

Superusers see everything. Other staff see the projects that they own or are members of, and what belongs to these; in
them they may do everything a page offers, without Django permissions of their own. A new project, though, takes the
permission `datasets.add_project`.

A model admin says by `tenant_path` how its model leads to a project; lists, direct addresses, choices of forms and
filters, autocompletes, actions and exports all ask `scope`.
"""

from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import BadRequest
from django.db.models import Model, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse

from datasets.models import Project

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin, TabularInline
else:  # unfold's, which carry no types, are Django's with other looks
    from unfold.admin import ModelAdmin, TabularInline

_Model = TypeVar("_Model", bound=Model)
_Parent = TypeVar("_Parent", bound=Model)

# The model is the project itself.
ITSELF = ""


def projects_of(user: User | AnonymousUser) -> QuerySet[Project]:
    """The projects that a person sees."""
    if user.is_superuser:
        return Project.objects.all()
    if not (user.is_active and user.is_staff):
        return Project.objects.none()
    # By a subquery, not a join: a member who is also the owner must not see the project twice.
    shared = Project.members.through._default_manager.filter(user=user.pk).values("project")
    return Project.objects.filter(Q(owner_id=user.pk) | Q(pk__in=shared))


def scope(queryset: QuerySet[_Model], user: User | AnonymousUser) -> QuerySet[_Model]:
    """What a person sees of a queryset of any model: nothing, where no page of the admin says how it is shared out."""
    if user.is_superuser:
        return queryset
    registered = admin.site.get_model_admin(queryset.model) if admin.site.is_registered(queryset.model) else None
    if not isinstance(registered, TenantAdmin):
        return queryset.none()
    return registered.of_tenant(queryset, user)


class TenantAdmin(ModelAdmin[_Model]):
    """A model admin that shows each person what is theirs."""

    # From the model to its project: `ITSELF`, "project", "dataset__project"; None: superusers alone.
    tenant_path: ClassVar[str | None] = None
    # What an empty list says, and where to go from there: a label and the name of an address.
    nothing = "There is none yet."
    next_step: tuple[str, str] | None = None
    list_per_page = 25
    list_filter_sheet = True
    show_full_result_count = False
    compressed_fields = False

    def of_tenant(self, queryset: QuerySet[_Model], user: User | AnonymousUser) -> QuerySet[_Model]:
        """The part of a queryset that a person who is not a superuser sees."""
        if self.tenant_path is None:
            return queryset.none()
        return queryset.filter(**{f"{self.tenant_path}__in" if self.tenant_path else "pk__in": projects_of(user)})

    def get_queryset(self, request: HttpRequest) -> QuerySet[_Model]:
        return scope(super().get_queryset(request), request.user)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Allow what filters and links use: a regular expression of an address would run in the database."""
        return not lookup.endswith("regex") and super().lookup_allowed(lookup, value, request)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Return the list without a second count: a list that is not narrowed down shows all there is."""
        try:
            changes = super().get_changelist_instance(request)
        except (IncorrectLookupParameters, ValueError) as failure:
            raise BadRequest("The address filters this list by a value that it cannot have.") from failure
        if not changes.query and not changes.has_active_filters:
            changes.full_result_count = changes.result_count
        return changes

    def get_field_queryset(self, db: str | None, db_field: Any, request: HttpRequest) -> QuerySet[Any] | None:
        """What a form offers, and takes, for a relation."""
        queryset = super().get_field_queryset(db, db_field, request)
        if queryset is None:
            queryset = db_field.remote_field.model._default_manager.all()
        return scope(queryset, request.user)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Who has one project need not choose it."""
        initial: dict[str, Any] = dict(super().get_changeform_initial_data(request))
        if self.tenant_path == "project" and "project" not in initial:
            first_two = projects_of(request.user).values_list("pk", flat=True)[:2]
            initial |= {"project": first_two[0]} if len(first_two) == 1 else {}
        return initial

    def get_object_or_404(self, request: HttpRequest, pk: Any) -> _Model:
        """The object, if this person may see it; for pages beside Django's own."""
        found = self.get_object(request, str(pk))
        if found is None or not self.has_view_permission(request, found):
            raise Http404
        return found

    def _get_obj_does_not_exist_redirect(self, request: HttpRequest, opts: Any, object_id: str) -> HttpResponse:
        """404, where Django would go to the start page with a message."""
        raise Http404

    def _shares(self, request: HttpRequest, obj: _Model | None) -> bool:
        user = request.user
        if user.is_superuser:
            return True
        if not (user.is_active and user.is_staff) or self.tenant_path is None:
            return False
        return obj is None or scope(self.model._default_manager.filter(pk=obj.pk), user).exists()

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self._shares(request, None)

    def has_view_permission(self, request: HttpRequest, obj: _Model | None = None) -> bool:
        return self._shares(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: _Model | None = None) -> bool:
        return self._shares(request, obj)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self._shares(request, None)

    def has_delete_permission(self, request: HttpRequest, obj: _Model | None = None) -> bool:
        """Nothing that records refer to is deleted: projects are deactivated, datasets archived, keys revoked."""
        return False


class ReadOnlyAdmin(TenantAdmin[_Model]):
    """What the service writes down: to be read, not edited."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: _Model | None = None) -> bool:
        return False


class ScopedInline(TabularInline[_Model, _Parent]):
    """Rows of an object that this person sees: they are seen with it."""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ScopedFilter(admin.RelatedFieldListFilter):
    """A list filter by a relation, which offers what this person sees; by name, up to `most`."""

    most = 200

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> list[Any]:
        model: type[Model] = field.remote_field.model
        related = scope(model._default_manager.all(), request.user)
        return [(each.pk, str(each)) for each in related[: self.most]]
