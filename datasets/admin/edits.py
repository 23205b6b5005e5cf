"""Keep two admins who edit the same object from overwriting each other's changes.

Each page carries a digest of each field's value at the time when the page was made. A save locks the object's row and
compares the digests with the current values. If another change came first, nothing is saved: the page says who changed
what, shows the current value of the changed fields, and keeps everything else that the admin typed.

A page also keeps what the admin typed if the save is refused because Redis is unreachable or the name is taken.
"""

import json
from collections.abc import Collection
from datetime import datetime
from typing import Any, TypeVar

from django import forms
from django.contrib import messages
from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core import signing
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.crypto import salted_hmac
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from config.common import clock
from config.common.errors import Refused
from datasets.admin.tenancy import TenantAdmin

_Model = TypeVar("_Model", bound=Model)

# The name of the hidden field with the state that the page showed.
LOADED = "_loaded"
_SALT = "datasets.admin.edits"
# If the first attempt of a save was refused, `request.META` has the reason under this key.
_REFUSED = "admin.refused"


class GuardedForm(forms.BaseModelForm[Any]):
    """A form that knows which state its page showed. `GuardedAdmin` adds this class to each form."""

    request: HttpRequest
    # True after a refused save, when the page shows the current values.
    shows_current = False

    def loaded_state(self) -> str:
        """Return the value of the hidden field: the state that this page shows."""
        posted = self.data.get(LOADED) if self.is_bound else None
        if posted and not self.shows_current:
            return str(posted)
        return signing.dumps([clock.now().isoformat(), self._digests()], salt=_SALT)

    def clean(self) -> dict[str, Any] | None:
        """Refuse the save if the object has changed since its page was loaded.

        Also refuse it if `changeform_view` runs the form a second time, to show why the first run was refused.
        """
        if names := self._changed_since_load():
            self._show_current(names)
            return self.cleaned_data
        if refusal := self.request.META.get(_REFUSED):
            self.add_error(None, str(refusal))
        return super().clean()

    def _digests(self) -> dict[str, str]:
        return {name: _digest(self[name].initial) for name, field in self.fields.items() if not field.disabled}

    def _posted_state(self) -> tuple[datetime | None, dict[str, str]]:
        """Return when the page was loaded, and the digest of each field then."""
        try:
            moment, digests = signing.loads(self.data.get(LOADED, ""), salt=_SALT)
            return datetime.fromisoformat(moment), dict(digests)
        except signing.BadSignature:
            return None, {}

    def _changed_since_load(self) -> list[str]:
        """Return the names of the fields that changed after the page was loaded."""
        if not self.is_bound or LOADED not in self.data or self.instance.pk is None:
            return []
        before = self._posted_state()[1]
        return [name for name, now in self._digests().items() if before.get(name) != now]

    def _show_current(self, names: Collection[str]) -> None:
        """Say who changed the fields, and show their current values instead of the posted ones."""
        since, before = self._posted_state()
        typed = {
            str(self[name].label): str(self[name].value()) for name in names if before.get(name) != self._typed(name)
        }
        self.shows_current = True
        for name in names:
            self.errors.pop(name, None)
            vars(self.fields[name])["bound_data"] = lambda data, initial: initial
        labels = ", ".join(f"“{self[name].label}”" for name in names)
        self.add_error(
            None,
            ValidationError(
                format_html(
                    "Nothing was saved, because this page is out of date. {} The page now shows the current "
                    "value of {} and keeps everything else that you typed. Check it, then save again.{}",
                    self._who_changed(since),
                    labels,
                    _kept(typed),
                )
            ),
        )

    def _typed(self, name: str) -> str:
        value = self[name].value()
        return _digest(value.replace("\r\n", "\n") if isinstance(value, str) else value)

    def _who_changed(self, since: datetime | None) -> str:
        entries = LogEntry.objects.filter(
            content_type=ContentType.objects.get_for_model(self.instance), object_id=str(self.instance.pk)
        )
        changes = [
            f"{entry.user}, {entry.action_time:%H:%M} UTC: {entry.get_change_message()}"
            for entry in (entries.filter(action_time__gte=since).select_related("user")[:5] if since else ())
        ]
        return " ".join(changes) or "The object was changed outside this admin."


class GuardedAdmin(TenantAdmin[_Model]):
    """A model admin that saves a form only if the object has not changed since its page was loaded."""

    change_form_before_template = "admin/loaded_state.html"

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, obj, change, **kwargs)
        return type(form)(form.__name__, (GuardedForm, form), {"request": request})

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> _Model | None:
        """Return the object. In a save, its row stays locked until the transaction ends."""
        found: _Model | None = super().get_object(request, object_id, from_field)
        if found is None or request.method != "POST" or not transaction.get_connection().in_atomic_block:
            return found
        rows: QuerySet[_Model] = self.model._base_manager.select_for_update(no_key=True)
        rows.filter(pk=found.pk).first()
        return super().get_object(request, object_id, from_field)

    def save_model(self, request: HttpRequest, obj: _Model, form: Any, change: bool) -> None:
        """Write only the fields that were changed in the form."""
        obj.save(update_fields=edited(form) if change else None)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any) -> Any:
        """Render the form. After a refused save, the title and the breadcrumb have the saved name."""
        obj = options.get("obj")
        if obj is not None and context["errors"]:
            saved = self.model._base_manager.get(pk=obj.pk)
            context |= {"original": saved, "subtitle": str(saved)}
        return super().render_change_form(request, context, *args, **options)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except Refused as refusal:
            request.META[_REFUSED] = str(refusal)
        except IntegrityError:
            request.META[_REFUSED] = "Nothing was saved, because this name cannot be used. Choose another one."
        return super().changeform_view(request, object_id, form_url, extra_context)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        try:
            return super().delete_view(request, object_id, extra_context)
        except Refused as refusal:
            messages.error(request, str(refusal))
            return HttpResponseRedirect(request.get_full_path())


def edited(form: Any) -> list[str]:
    """Return the names of the model's own fields that the user changed in a form."""
    concrete = {field.name for field in form.instance._meta.concrete_fields}
    return [name for name in form.changed_data if name in concrete]


def _digest(value: Any) -> str:
    """Return a short digest of a field's value. A value has this digest in the database and in a form."""
    if isinstance(value, list | tuple | QuerySet):
        value = sorted(str(each.pk if isinstance(each, Model) else each) for each in value)
    text = "" if value is None else json.dumps(value, default=str) if isinstance(value, list) else str(value)
    return salted_hmac(_SALT, text).hexdigest()[:16]


def _kept(typed: dict[str, str]) -> SafeString:
    """Return what the user typed into fields that now show another value, as HTML to copy from."""
    if not typed:
        return SafeString("")
    rows = format_html_join("", "<dt>{}</dt><dd><pre>{}</pre></dd>", typed.items())
    return format_html("<details open><summary>What you typed there</summary><dl>{}</dl></details>", rows)
