"""Personal access tokens in the admin. Users make and revoke their own tokens. A new token is shown once."""

from collections.abc import Sequence
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from datasets import personal_tokens
from datasets.access import projects_of
from datasets.admin.expiring import ExpiringForm, RevocableAdmin, last_used, state_of
from datasets.admin.pages import base_url, page
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

        If a browser reloads the page with the secret, it sends the form again. This check then prevents a second token.
        """
        name: str = self.cleaned_data["name"]
        if personal_tokens.in_force().filter(user=self.request.user.pk, name=name).exists():
            raise ValidationError(
                "You have an active token with this name. Choose another name, or revoke that token first."
            )
        return name


@admin.register(PersonalAccessToken)
class PersonalAccessTokenAdmin(RevocableAdmin[PersonalAccessToken]):
    """Tokens with which programs use the management API. Superusers see and revoke the tokens of all users."""

    tenant_path = "user"
    nothing = "No token yet. A program needs one to manage projects at /api/. It is shown once, when you make it."
    conditional_fields: ClassVar[dict[str, str]] = {"ends_on": "ends == 'date'"}
    list_display = ("name", "user", "scope", "state", "last_used", "created_at", "expires_at")
    list_filter = ("scope", ("revoked_at", admin.EmptyFieldListFilter))
    list_select_related = ("user",)
    search_fields = ("name", "user__username")
    ordering = ("-pk",)
    noun = "token"

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

    def revoke_all(self, revoked: Sequence[PersonalAccessToken]) -> None:
        personal_tokens.revoke(revoked)
