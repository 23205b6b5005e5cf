"""What our own admin pages and forms share."""

from collections.abc import Iterable
from typing import Any, TypeVar

from django.contrib import admin
from django.contrib.admin.options import IS_POPUP_VAR
from django.core.exceptions import BadRequest
from django.db.models import Model
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.cache import add_never_cache_headers

from datasets.access import projects_of
from datasets.admin.edits import GuardedAdmin
from datasets.models import Project

_Model = TypeVar("_Model", bound=Model)


def page(request: HttpRequest, template: str, *, title: str, opts: Any = None, **context: Any) -> TemplateResponse:
    """Return a page in the admin's frame. Browsers keep no copy, because it may hold a token or a tenant's records.

    `opts` are the options of the model that the page belongs to. A page without a model shows its title as a heading.
    """
    heading = {} if opts else {"content_title": title}
    frame = {**admin.site.each_context(request), "opts": opts, "title": title, **heading}
    request.current_app = admin.site.name
    response = TemplateResponse(request, template, {**frame, **context})
    add_never_cache_headers(response)
    return response


def base_url(request: HttpRequest) -> str:
    """Return the base URL of the API, with the host name that this browser uses."""
    return f"{request.scheme}://{request.get_host()}"


def number(text: str) -> int:
    """Return the ID in a URL or a form. Raises BadRequest if the text cannot be an ID."""
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise BadRequest(f"“{text[:50]}” is not an ID.")
    return int(text)


def continues(request: HttpRequest) -> bool:
    """Return whether the page after this new object is the next step: the user pressed Save, outside of a popup."""
    return "_save" in request.POST and IS_POPUP_VAR not in request.POST


class AuditedAdmin(GuardedAdmin[_Model]):
    """A model admin that writes the old and the new value of each changed field to Django's admin log."""

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """Show the form, or what to do first if a new object needs a project and this user has none."""
        if self.tenant_path == "project" and not projects_of(request.user).exists():
            title = f"Add {self.opts.verbose_name}"
            can_add = admin.site.get_model_admin(Project).has_add_permission(request)
            return page(request, "admin/no_project.html", opts=self.opts, title=title, can_add_project=can_add)
        return super().add_view(request, form_url, extra_context)

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:
        """Return the message for Django's log: old and new value of each changed field."""
        if add or not isinstance(form, ModelForm):
            return super().construct_change_message(request, form, formsets, add)
        # A confirmation is not a change of the object.
        changed = [name for name in form.changed_data if not name.endswith("_confirmed")]
        return " ".join(_described(form, name) for name in changed) or "Saved without changes."


def _described(form: Any, name: str) -> str:
    describe = getattr(form, f"describe_{name}", None)
    if describe is not None:
        return str(describe())
    before = form.get_initial_for_field(form.fields[name], name)
    related = getattr(form.fields[name], "queryset", None)
    if related is not None and before is not None and not isinstance(before, list):
        before = related.model._default_manager.filter(pk=before).first()
    return f"{name.replace('_', ' ').capitalize()}: “{_plain(before)}” → “{_plain(form.cleaned_data.get(name))}”."


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Iterable) and not isinstance(value, str):  # several objects
        return ", ".join(sorted(map(str, value)))
    return "" if value is None else str(value)
