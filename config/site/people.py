"""Users, groups and failed logins in the admin. Only superusers see them."""

from math import ceil
from typing import TYPE_CHECKING, Any

from axes.models import AccessAttempt
from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import Max
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from config.common import clock
from config.common.requests import client_address
from config.site.passwords import PasswordForm
from datasets import services
from datasets.admin.edits import edited
from datasets.admin.pages import AuditedAdmin
from datasets.admin.tenancy import ReadOnlyAdmin

if TYPE_CHECKING:
    from django.contrib.auth.forms import UserChangeForm, UserCreationForm
else:
    from unfold.forms import UserChangeForm, UserCreationForm

# Titles, breadcrumbs and counts use these names. Django-axes calls failed logins access attempts.
for _app in ("auth", "axes"):
    apps.get_app_config(_app).verbose_name = "People"
AccessAttempt._meta.verbose_name, AccessAttempt._meta.verbose_name_plural = "failed login", "failed logins"

admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class PeopleAdmin(UserAdmin[User], AuditedAdmin[User]):  # type: ignore[misc]  # the stubs disagree on get_form
    """Users. Staff can log in to the admin and see the projects that they own or are members of."""

    form: Any = UserChangeForm
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
    list_display = ("username", "ip_address", "failures_since_start", "attempt_time", "user_agent")
    search_fields = ("username", "ip_address")
    fields = ("username", "ip_address", "failures_since_start", "attempt_time", "user_agent", "path_info")

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
