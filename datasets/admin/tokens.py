"""Personal access tokens in the admin: users make, see once, and revoke their own."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path, reverse

from datasets import personal_tokens
from datasets.access import projects_of
from datasets.admin.expiring import ExpiringForm, last_used, state_of
from datasets.admin.pages import AuditedAdmin, base_url, page
from datasets.models import PersonalAccessToken

_SHOWN = ("user", "scope", "state", "last_used", "created_at", "expires_at", "revoked_at")


class TokenForm(ExpiringForm):
    """A new token of the user who is logged in."""

    request: HttpRequest  # set by GuardedAdmin

    class Meta:
        model = PersonalAccessToken
        fields = ("name", "scope")
        widgets: ClassVar[dict[str, Any]] = {"scope": forms.Select(attrs={"class": "ours-input"})}

    def clean_name(self) -> str:
        """Raise ValidationError if the user has an active token with this name.

        This also stops a second token when a browser reloads the page with the secret, which sends the form again.
        """
        name: str = self.cleaned_data["name"]
        if personal_tokens.in_force().filter(user=self.request.user.pk, name=name).exists():
            raise ValidationError(
                "You have an active token with this name. Choose another name, or revoke that token first."
            )
        return name


@admin.register(PersonalAccessToken)
class PersonalAccessTokenAdmin(AuditedAdmin[PersonalAccessToken]):
    """Tokens with which programs use the management API. Superusers see and revoke the tokens of all users."""

    tenant_path = "user"
    nothing = "No token yet. A program needs one to manage projects at /api/. It is shown once, when you make it."
    conditional_fields: ClassVar[dict[str, str]] = {"ends_on": "ends == 'date'"}
    list_display = ("name", "user", "scope", "state", "last_used", "created_at", "expires_at")
    list_filter = ("scope", ("revoked_at", admin.EmptyFieldListFilter))
    list_select_related = ("user",)
    search_fields = ("name", "user__username")
    ordering = ("-pk",)
    actions = ("revoke",)

    def of_tenant(self, queryset: QuerySet[PersonalAccessToken], user: Any) -> QuerySet[PersonalAccessToken]:
        return queryset.filter(user=user)

    def get_form(
        self, request: HttpRequest, obj: PersonalAccessToken | None = None, change: bool = False, **kwargs: Any
    ) -> Any:
        return super().get_form(request, obj, change, **kwargs if obj else {**kwargs, "form": TokenForm})

    def get_fields(self, request: HttpRequest, obj: PersonalAccessToken | None = None) -> tuple[str, ...]:
        return ("name", *_SHOWN) if obj else ("name", "scope", "ends", "ends_on")

    def get_readonly_fields(self, request: HttpRequest, obj: PersonalAccessToken | None = None) -> tuple[str, ...]:
        return _SHOWN if obj else ()

    @admin.display(description="state")
    def state(self, token: PersonalAccessToken) -> str:
        return state_of(token.expires_at, token.revoked_at)

    @admin.display(description="last used", ordering="last_used_at")
    def last_used(self, token: PersonalAccessToken) -> str:
        return last_used(token.last_used_at)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
            return
        obj.user = request.user
        obj.secret = personal_tokens.issue(obj)  # for `response_add`; it is not a field

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        """Show the token in this response only. It is not kept in a session, a cookie or the database."""
        return page(
            request,
            "admin/datasets/personalaccesstoken/issued.html",
            opts=self.opts,
            title="Personal access token made",
            token=obj,
            secret=obj.secret,
            base_url=base_url(request),
            project=projects_of(request.user).first(),
        )

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.revoke_view)
        return [
            path("<int:object_id>/revoke/", view, name="datasets_personalaccesstoken_revoke"),
            *super().get_urls(),
        ]

    def revoke_view(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """Ask for confirmation on GET. Revoke the token on POST."""
        token = self.get_object_or_404(request, object_id)
        if request.method == "POST":
            self._revoke(request, [token])
            return HttpResponseRedirect(reverse("admin:datasets_personalaccesstoken_changelist"))
        return self._confirm(request, [token], f"Revoke “{token}”?", original=token)

    @admin.action(description="Revoke: requests using these tokens fail immediately", permissions=("change",))
    def revoke(self, request: HttpRequest, queryset: QuerySet[PersonalAccessToken]) -> HttpResponse | None:
        tokens = list(queryset.select_related("user"))
        if "confirmed" not in request.POST:
            return self._confirm(request, tokens, "Revoke these tokens?")
        self._revoke(request, tokens)
        return None

    def _confirm(
        self, request: HttpRequest, tokens: list[PersonalAccessToken], title: str, **context: Any
    ) -> HttpResponse:
        template = "admin/datasets/personalaccesstoken/revoke.html"
        return page(request, template, opts=self.opts, title=title, tokens=tokens, **context)

    def _revoke(self, request: HttpRequest, tokens: list[PersonalAccessToken]) -> None:
        personal_tokens.revoke(tokens)
        for token in tokens:
            self.log_change(request, token, "Revoked.")
        messages.success(request, "Revoked: " + ", ".join(f"“{token}”" for token in tokens) + ".")
