"""Users, groups and failed logins in the admin. Only superusers see them."""

from collections.abc import Callable
from math import ceil
from typing import TYPE_CHECKING, Any

from axes.models import AccessAttempt
from django.apps import apps
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import Max
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse

from config.common import clock
from config.common.requests import client_address
from config.site.passwords import PasswordForm
from datasets import services
from datasets.admin.edits import edited
from datasets.admin.pages import AuditedAdmin
from datasets.admin.tenancy import ReadOnlyAdmin
from datasets.models import Project

if TYPE_CHECKING:
    from django.contrib.auth.forms import UserChangeForm, UserCreationForm
else:
    from unfold.forms import UserChangeForm, UserCreationForm

# Titles, breadcrumbs and counts use these names. Django-axes calls failed logins access attempts.
for _app in ("auth", "axes"):
    apps.get_app_config(_app).verbose_name = "People"


def _name(model: Any, noun: str, describe: Callable[[Any], str]) -> None:
    """Set the words with which pages and Django's log name a model that another package defines."""
    model._meta.verbose_name, model._meta.verbose_name_plural, model.__str__ = noun, f"{noun}s", describe


_name(AccessAttempt, "failed login", lambda tried: f"{tried.username or 'no username'} from {tried.ip_address}")
# The page that deletes a user or group lists these rows of tables between two models.
_name(Project.members.through, "membership", lambda row: f"{row.user} in {row.project}")
_name(User.groups.through, "group membership", lambda row: f"{row.user} in {row.group}")
_name(User.user_permissions.through, "permission of a user", lambda row: f"{row.user}: {row.permission.name}")
_name(Group.permissions.through, "permission of a group", lambda row: f"{row.group}: {row.permission.name}")

admin.site.unregister(User)
admin.site.unregister(Group)


_POWERS = ("is_active", "is_staff", "is_superuser")


class PersonForm(UserChangeForm[User]):
    """A user. At least one superuser must remain who can log in to the admin."""

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        taken = [
            name for name in _POWERS if name in self.fields and getattr(self.instance, name) and not data.get(name)
        ]
        superusers = User.objects.filter(**dict.fromkeys(_POWERS, True))
        if taken and superusers.contains(self.instance) and superusers.count() == 1:
            self.add_error(
                taken[0], "Nothing was saved, because no other superuser could log in. Add another one first."
            )
        return data


@admin.register(User)
class PeopleAdmin(UserAdmin[User], AuditedAdmin[User]):  # type: ignore[misc]  # the stubs disagree on get_form
    """Users. Staff can log in to the admin and see the projects that they own or are members of."""

    form: Any = PersonForm
    add_form = UserCreationForm
    change_password_form = PasswordForm
    readonly_fields = ("last_login", "date_joined")
    list_display = ("username", "email", "is_active", "is_staff", "is_superuser", "last_login")

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        if change:
            services.save_user(obj, changed=edited(form))
        else:
            super().save_model(request, obj, form, change)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.is_superuser


@admin.register(Group)
class GroupsAdmin(GroupAdmin, AuditedAdmin[Group]):
    """Groups of Django permissions. The only permission that staff can need is `datasets.add_project`."""

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.is_superuser


@admin.register(AccessAttempt)
class FailedLoginsAdmin(ReadOnlyAdmin[AccessAttempt]):
    """Recent failed logins. Deleting an entry lifts the lockout of that username and address."""

    nothing = "No failed logins."
    row_noun = "row"
    list_display = ("username", "ip_address", "failures", "attempt_time", "user_agent")
    search_fields = ("username", "ip_address")
    fields = ("username", "ip_address", "failures", "attempt_time", "user_agent", "path_info")
    readonly_fields = fields

    @admin.display(description="failed logins", ordering="failures_since_start")
    def failures(self, tried: AccessAttempt) -> int:
        return int(tried.failures_since_start)

    def response_delete(self, request: HttpRequest, obj_display: str, obj_id: int) -> HttpResponse:
        """Say what the deletion means, and go back to the list. Django would go to the start page."""
        text = f"The failed logins of {obj_display} are deleted. This user can log in again from this address."
        messages.success(request, text)
        return HttpResponseRedirect(reverse("admin:axes_accessattempt_changelist"))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.is_superuser


def tried_username(request: HttpRequest, credentials: dict[str, Any] | None) -> str:
    """Return the username of a login, cut to the length of its column. Only browsers enforce the form's limit."""
    tried: str = (credentials or {}).get("username") or request.POST.get("username", "")
    return tried[:255].replace("\0", "")


def locked_out(request: HttpRequest, response: HttpResponse | None, credentials: dict[str, Any] | None) -> HttpResponse:
    """Return the page that says when this username can try again from this address."""
    username = tried_username(request, credentials)
    failed = AccessAttempt.objects.filter(username=username, ip_address=client_address(request))
    last = failed.aggregate(last=Max("attempt_time"))["last"] or clock.now()
    until = last + settings.AXES_COOLOFF_TIME
    seconds = max(1, ceil((until - clock.now()).total_seconds()))
    context = {**admin.site.each_context(request), "until": until, "minutes": ceil(seconds / 60)}
    page = render(request, "admin/locked_out.html", context, status=429)
    page.headers["Retry-After"] = str(seconds)
    return page
