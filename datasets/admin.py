"""Projects, datasets and keys in the admin. What it changes, it changes through `datasets.services`."""

import json
from typing import Any, TypeVar

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.cache import add_never_cache_headers

from datasets import services
from datasets.field_types import FIELD_TYPES
from datasets.keys import issue_token
from datasets.models import ApiKey, Dataset, Project, SchemaVersion
from datasets.revisions import ChangeRefused
from datasets.schema import Field, check_successor, parse_fields

_TYPE_HELP = "; ".join(f"{each.name}: {each.help}" for each in FIELD_TYPES.values())


_Model = TypeVar("_Model", Project, Dataset, ApiKey)


class RefusableAdmin(admin.ModelAdmin[_Model]):
    """An admin whose changes take effect at once, or are refused: then nothing is saved, and the page says why."""

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except ChangeRefused as refusal:
            messages.error(request, str(refusal))
            return HttpResponseRedirect(request.get_full_path())

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nothing that records refer to is deleted: projects are deactivated, datasets archived, keys revoked."""
        return False


@admin.register(Project)
class ProjectAdmin(RefusableAdmin[Project]):
    list_display = ("name", "slug", "owner", "is_active", "created_at")
    list_filter = ("is_active",)
    search_fields = ("name", "slug", "owner__username")
    autocomplete_fields = ("owner",)
    fields = ("name", "slug", "owner", "is_active", "default_dataset")

    def get_prepopulated_fields(self, request: HttpRequest, obj: Project | None = None) -> dict[str, Any]:
        return {} if obj else {"slug": ("name",)}

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "default_dataset":
            project_id = request.resolver_match and request.resolver_match.kwargs.get("object_id")
            kwargs["queryset"] = Dataset.objects.filter(project_id=project_id) if project_id else Dataset.objects.none()
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def save_model(self, request: HttpRequest, obj: Project, form: forms.ModelForm[Project], change: bool) -> None:
        services.save_project(obj)


class DatasetForm(forms.ModelForm[Dataset]):
    """A dataset with its schema in force; saving another schema publishes the next version."""

    schema = forms.CharField(
        required=False,
        widget=forms.Textarea(attrs={"rows": 14, "class": "vLargeTextField", "spellcheck": "false"}),
        help_text=(
            '{"fields": {"amount": "number", ...}}, or with descriptions {"fields": [{"name": "amount", '
            f'"type": "number", "description": "in EUR"}}]}}. Types — {_TYPE_HELP}. timestamp and context '
            "are part of every record and are not declared."
        ),
    )

    class Meta:
        model = Dataset
        fields = ("project", "name", "slug", "description", "is_archived", "schema")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        version = self.instance.pk and self.instance.versions.order_by("-number").first()
        if version:
            self.fields["schema"].initial = json.dumps({"fields": version.fields}, indent=2, ensure_ascii=False)

    def clean_schema(self) -> list[Field] | None:
        """The fields, checked against the rules and against what the table already holds; None: publish nothing."""
        text = self.cleaned_data["schema"].strip()
        versions = list(self.instance.versions.order_by("number")) if self.instance.pk else []
        if not text:
            if versions:
                raise ValidationError("A published schema cannot be taken back: archive the dataset instead.")
            return None
        try:
            fields = parse_fields(json.loads(text))
        except ValueError as error:
            raise ValidationError(f"This is not JSON: {error}.") from error
        check_successor([version.field_list() for version in versions], fields)
        return fields


class SchemaVersionInline(admin.TabularInline[SchemaVersion, Dataset]):
    model = SchemaVersion
    verbose_name_plural = "published versions"
    fields = ("number", "declared", "created_by", "created_at")
    readonly_fields = fields
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description="fields")
    def declared(self, version: SchemaVersion) -> str:
        return ", ".join(f"{field.name} {field.type}" for field in version.field_list())


@admin.register(Dataset)
class DatasetAdmin(RefusableAdmin[Dataset]):
    form = DatasetForm
    list_display = ("name", "id", "project", "is_archived", "created_at")
    list_filter = ("is_archived", "project")
    list_select_related = ("project",)
    search_fields = ("name", "slug", "project__name")
    autocomplete_fields = ("project",)
    inlines = (SchemaVersionInline,)

    def get_readonly_fields(self, request: HttpRequest, obj: Dataset | None = None) -> tuple[str, ...]:
        # Its table's address names the project.
        return ("project",) if obj else ()

    def get_prepopulated_fields(self, request: HttpRequest, obj: Dataset | None = None) -> dict[str, Any]:
        return {} if obj else {"slug": ("name",)}

    def save_model(self, request: HttpRequest, obj: Dataset, form: DatasetForm, change: bool) -> None:
        author: Any = request.user
        services.save_dataset(obj, fields=form.cleaned_data["schema"], author=author)


@admin.register(ApiKey)
class ApiKeyAdmin(RefusableAdmin[ApiKey]):
    list_display = ("name", "project", "created_at", "expires_at", "last_used_at", "revoked_at")
    list_filter = ("project",)
    list_select_related = ("project",)
    search_fields = ("name", "project__name")
    autocomplete_fields = ("project",)
    fields = ("project", "name", "expires_at", "created_at", "last_used_at", "revoked_at")
    readonly_fields = ("created_at", "last_used_at", "revoked_at")
    actions = ("revoke",)

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        return ("project", "expires_at", *self.readonly_fields) if obj else self.readonly_fields

    def save_model(self, request: HttpRequest, obj: ApiKey, form: forms.ModelForm[ApiKey], change: bool) -> None:
        services.save_key(obj)

    def response_add(self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None) -> HttpResponse:
        """Show the token, in this answer and never again: it is not put into a session, a cookie or the database."""
        context = {**self.admin_site.each_context(request), "title": "API key issued", "key": obj, "opts": self.opts}
        response = TemplateResponse(
            request, "admin/datasets/apikey/issued.html", {**context, "token": issue_token(obj)}
        )
        add_never_cache_headers(response)
        return response

    @admin.action(description="Revoke the selected keys: their next request is refused", permissions=("change",))
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        try:
            for key in queryset:
                services.revoke_key(key)
        except ChangeRefused as refusal:
            messages.error(request, str(refusal))
            return
        messages.success(request, f"{queryset.count()} keys are revoked.")
