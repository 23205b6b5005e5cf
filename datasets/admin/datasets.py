"""Datasets in the admin: a schema editor, what a change means before it is published, and how to send records."""

import json
from collections.abc import Sequence
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.core.exceptions import BadRequest, ValidationError
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.loader import render_to_string
from django.urls import path, reverse

from datasets import services
from datasets.admin.edits import edited
from datasets.admin.pages import AuditedAdmin, base_url
from datasets.admin.tenancy import ScopedFilter
from datasets.models import Dataset, SchemaVersion
from datasets.schemas.changes import differences, problems
from datasets.schemas.field_types import FIELD_TYPES
from datasets.schemas.samples import example_record, infer, snippets
from datasets.schemas.schema import MAX_FIELDS, Field, check_size, check_successor, read_fields

_MAX_VERSIONS = 50


def _as_text(fields: Sequence[Field]) -> str:
    return json.dumps({"fields": [field.as_json() for field in fields]}, indent=2, ensure_ascii=False)


class DatasetForm(forms.ModelForm[Dataset]):
    """A dataset with its schema in force; saving another schema publishes the next version.

    The schema is JSON; the page's editor writes it from its rows.
    """

    schema = forms.CharField(
        required=False,
        widget=forms.Textarea(attrs={"rows": 12, "class": "ours-input ours-code", "spellcheck": "false"}),
    )

    class Meta:
        model = Dataset
        fields = ("project", "name", "slug", "description", "is_archived")

    archive_confirmed = forms.BooleanField(
        required=False,
        label="Yes, archive it",
        help_text="From the next request on, its senders are answered 404. What is stored and queued stays.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        version = self.instance.latest_version() if self.instance.pk else None
        if "slug" in self.fields:
            self.fields["slug"].help_text = "Names exported files; clients send to the id."
        if "description" in self.fields:
            self.fields["description"].widget.attrs["rows"] = 2
        self.in_force = version.field_list() if version else []
        if version:
            self.fields["schema"].initial = _as_text(self.in_force)

    def clean_slug(self) -> str:
        """Django does not check the constraint for a dataset that exists: its project is not in the form."""
        slug: str = self.cleaned_data["slug"]
        if self.instance.pk:
            namesakes = Dataset.objects.filter(project=self.instance.project_id, slug=slug)
            if namesakes.exclude(pk=self.instance.pk).exists():
                raise ValidationError("The project has another dataset with this slug. Choose another slug.")
        return slug

    def clean_archive_confirmed(self) -> bool:
        """Ask before a dataset is archived."""
        confirmed: bool = self.cleaned_data["archive_confirmed"]
        if self.cleaned_data.get("is_archived") and not self.instance.is_archived and not confirmed:
            raise ValidationError("Nothing was saved. Its senders will be refused: confirm that it is to be archived.")
        return confirmed

    def clean_schema(self) -> list[Field] | None:
        """The fields, checked against the rules and against what the table already holds; None: publish nothing."""
        text = self.cleaned_data["schema"].strip()
        versions = list(self.instance.versions.order_by("number")) if self.instance.pk else []
        fields = read_fields(text) if text else []
        if not versions and not fields:
            return None
        check_successor([version.field_list() for version in versions], fields)
        return fields

    def describe_schema(self) -> str:
        """For the log."""
        changes = list(differences(self.in_force, self.cleaned_data["schema"] or ()))
        return "Schema: " + "; ".join(f"{each.kind} {each.field}" for each in changes) + "." if changes else ""


@admin.register(Dataset)
class DatasetAdmin(AuditedAdmin[Dataset]):
    """Where a dataset is defined."""

    tenant_path = "project"
    nothing = "No dataset yet. Paste a sample record, and its fields are read from it."
    form = DatasetForm
    list_display = ("name", "id", "project", "version", "state", "created_at")
    list_filter = ("is_archived", ("project", ScopedFilter))
    list_select_related = ("project",)
    search_fields = ("name", "slug", "project__name")
    autocomplete_fields = ("project",)
    conditional_fields: ClassVar[dict[str, str]] = {"archive_confirmed": "is_archived == true"}
    _fields = ("project", "name", "slug", "description")

    def get_fieldsets(self, request: HttpRequest, obj: Dataset | None = None) -> Any:
        archiving = () if obj is None else ("is_archived",) if obj.is_archived else ("is_archived", "archive_confirmed")
        return ((None, {"fields": (*self._fields, *archiving)}),)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Dataset]:
        latest = SchemaVersion.objects.filter(dataset=OuterRef("pk")).order_by("-number").values("number")[:1]
        return super().get_queryset(request).annotate(latest_number=Subquery(latest))

    @admin.display(description="schema", ordering="latest_number")
    def version(self, dataset: Any) -> str:
        return f"version {dataset.latest_number}" if dataset.latest_number else "none yet: accepts nothing"

    @admin.display(description="state", ordering="is_archived")
    def state(self, dataset: Dataset) -> str:
        return "archived" if dataset.is_archived else "open"

    def get_readonly_fields(self, request: HttpRequest, obj: Dataset | None = None) -> tuple[str, ...]:
        # Its table's address names the project.
        return ("project",) if obj else ()

    def get_prepopulated_fields(self, request: HttpRequest, obj: Dataset | None = None) -> dict[str, Any]:
        return {} if obj else {"slug": ("name",)}

    def save_model(self, request: HttpRequest, obj: Dataset, form: DatasetForm, change: bool) -> None:
        author: Any = request.user
        services.save_dataset(obj, changed=edited(form), fields=form.cleaned_data["schema"], author=author)

    def response_add(self, request: HttpRequest, obj: Dataset, post_url_continue: str | None = None) -> HttpResponse:
        """On to what is needed next: a key, if the project has none in force, else the lines that send a record."""
        response = super().response_add(request, obj, post_url_continue)
        if "_save" not in request.POST:
            return response
        if obj.project.keys_in_force().exists():
            return HttpResponseRedirect(reverse("admin:datasets_dataset_change", args=(obj.pk,)))
        return HttpResponseRedirect(reverse("admin:datasets_apikey_add") + f"?project={obj.project_id}")

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view
        return [
            path("infer/", view(self.infer_view), name="datasets_dataset_infer"),
            path("check/", view(self.check_view), name="datasets_dataset_check_new"),
            path("<int:object_id>/check/", view(self.check_view), name="datasets_dataset_check"),
            *super().get_urls(),
        ]

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        versions = list(obj.versions.select_related("created_by").order_by("-number")) if obj else []
        in_force = versions[0].field_list() if versions else []
        context |= {
            "field_types": [{"name": each.name, "help": each.help} for each in FIELD_TYPES.values()],
            "history": _history(versions[: _MAX_VERSIONS + 1])[:_MAX_VERSIONS],
            "panel": _panel(request, obj, in_force, request.POST.get("_sample", "")),
            "sample": request.POST.get("_sample", ""),
        }
        return super().render_change_form(request, context, add, change, form_url, obj)

    def infer_view(self, request: HttpRequest) -> HttpResponse:
        """Fields from a pasted sample, to be approved."""
        if not self.has_add_permission(request):
            return HttpResponse(status=403)
        try:
            inferred = infer(request.POST.get("sample", ""))
        except ValidationError as error:
            return JsonResponse({"error": " ".join(error.messages)}, status=400)
        return JsonResponse({"fields": [field.as_json() for field in inferred.fields], "notes": inferred.notes})

    def check_view(self, request: HttpRequest, object_id: int | None = None) -> HttpResponse:
        """What the rows in the editor would mean, if they were published."""
        dataset = self.get_object_or_404(request, object_id) if object_id else None
        if dataset is None and not self.has_add_permission(request):
            return HttpResponse(status=403)
        text = request.POST.get("schema", "")
        try:
            check_size(text)
            rows = json.loads(text)["fields"]
            fields = [Field(str(row["name"]), str(row["type"]), str(row.get("description", ""))) for row in rows]
        except ValidationError as error:
            raise BadRequest(" ".join(error.messages)) from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise BadRequest("The fields are no list of names, types and descriptions.") from None
        earlier = [version.field_list() for version in dataset.versions.order_by("number")] if dataset else []
        found = problems(earlier, fields)
        preview = {
            "changes": list(differences(earlier[-1] if earlier else (), fields)) if len(fields) <= MAX_FIELDS else [],
            "next": len(earlier) + 1,
            "problems": found,
        }
        answer = {
            "problems": [{"index": each.index, "text": each.text} for each in found],
            "preview": render_to_string("admin/datasets/dataset/preview.html", preview),
        }
        if not found:
            answer["panel"] = render_to_string(
                "admin/datasets/dataset/panel.html",
                {"panel": _panel(request, dataset, fields, request.POST.get("sample", ""))},
            )
        return JsonResponse(answer)


def _panel(request: HttpRequest, dataset: Dataset | None, fields: Sequence[Field], sample: str) -> dict[str, Any]:
    address = dataset.pk if dataset else "DATASET_ID"
    example = json.dumps(json.loads(example_record(fields, sample)), indent=2, ensure_ascii=False)
    project = dataset and dataset.project_id
    return {
        "example": example,
        "snippets": snippets(base_url(request), address, fields, sample=sample),
        "project": project,
    }


def _history(versions: Sequence[SchemaVersion]) -> list[dict[str, Any]]:
    """Each version, latest first, with what it changed."""
    before = [*(version.field_list() for version in versions[1:]), []]
    return [
        {"version": version, "changes": list(differences(earlier, version.field_list()))}
        for version, earlier in zip(versions, before, strict=False)  # without versions, `before` has one too many
    ]
