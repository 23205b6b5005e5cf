"""Which projects a user may work on, in the admin and in the management API."""

from django.contrib.auth.models import AnonymousUser, User
from django.db.models import Q, QuerySet

from datasets.models import Project

_CREATE = "datasets.add_project"


def may_manage(user: User | AnonymousUser) -> bool:
    """Return whether a user may use the admin and the management API at all."""
    return user.is_active and (user.is_staff or user.is_superuser)


def projects_of(user: User | AnonymousUser) -> QuerySet[Project]:
    """Return the projects that a user sees."""
    if not may_manage(user):
        return Project.objects.none()
    if user.is_superuser:
        return Project.objects.all()
    # A subquery, not a join: an owner who is also a member must not see the project twice.
    shared = Project.members.through._default_manager.filter(user=user.pk).values("project")
    return Project.objects.filter(Q(owner_id=user.pk) | Q(pk__in=shared))


def may_create_projects(user: User | AnonymousUser) -> bool:
    """Return whether a user may create projects. The user then owns them."""
    return may_manage(user) and user.has_perm(_CREATE)
