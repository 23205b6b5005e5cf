"""Datasets in the admin: the schema editor, a preview of what a change means, and how to send records."""

import json
from collections.abc import Sequence
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.loader import render_to_string
from django.urls import path, reverse
from unfold.widgets import UnfoldBooleanSwitchWidget

from datasets import services
from datasets.admin import editor, grace
from datasets.admin.edits import edited
from datasets.admin.grace import GraceForm
from datasets.admin.pages import AuditedAdmin, base_url, continues
from datasets.admin.snippets import snippets
from datasets.admin.tenancy import ScopedFilter
from datasets.models import Dataset, SchemaVersion
from datasets.schemas.changes import check_successor, differences, in_short
from datasets.schemas.constraints import allowed
from datasets.schemas.declarations import MAX_CHARACTERS, read_fields
from datasets.schemas.field_types import FIELD_TYPES
from datasets.schemas.fields import Field
from datasets.schemas.samples import example_record, infer, without_example

_MAX_VERSIONS = 50


def _as_text(fields: Sequence[Field]) -> str:
    return json.dumps({"fields": [field.as_json() for field in fields]}, indent=2, ensure_ascii=False)


class DatasetForm(GraceForm):
    """A dataset with its current schema. Saving another schema publishes the next version.

    The schema field is JSON text, which the page's editor writes from its rows.
    """

    schema = forms.CharField(
        required=False,
        widget=forms.Textarea(
            attrs={
                "rows": 12,
                "class": "ours-input ours-code",
                "spellcheck": "false",
                "aria-describedby": "schema-text-errors",
            }
        ),
    )

    class Meta:
        model = Dataset
        fields = ("project", "name", "slug", "description", "is_archived")

    archive_confirmed = forms.BooleanField(
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        label="Yes, archive it",
        help_text="Requests to this dataset fail with 404 immediately. Stored and queued records stay.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        version = self.instance.latest_version() if self.instance.pk else None
        if "slug" in self.fields:
            self.fields["slug"].help_text = "Used in export file names. Clients use the dataset ID."
        if "description" in self.fields:
            self.fields["description"].widget.attrs["rows"] = 2
        self.current = version.field_list() if version else []
        if version:
            self.fields["schema"].initial = _as_text(self.current)

    def clean_slug(self) -> str:
        """Raise ValidationError if the slug is taken. Django does not check it if the project is not in the form."""
        slug: str = self.cleaned_data["slug"]
        if self.instance.pk:
            namesakes = Dataset.objects.filter(project=self.instance.project_id, slug=slug)
            if namesakes.exclude(pk=self.instance.pk).exists():
                raise ValidationError("The project has another dataset with this slug. Choose another slug.")
        return slug

    def clean_archive_confirmed(self) -> bool:
        """Raise ValidationError if the user archives the dataset without confirming it."""
        confirmed: bool = self.cleaned_data["archive_confirmed"]
        if self.cleaned_data.get("is_archived") and not self.instance.is_archived and not confirmed:
            raise ValidationError(
                "Nothing was saved. Requests to an archived dataset fail: confirm that you want to archive it."
            )
        return confirmed

    def clean_schema(self) -> list[Field] | None:
        """Return the checked fields, or None to publish nothing. Raises ValidationError if they are wrong."""
        text = self.cleaned_data["schema"].strip()
        versions = list(self.instance.versions.order_by("number")) if self.instance.pk else []
        if versions and not text:
            raise ValidationError(editor.EMPTY)
        earlier = [version.field_list() for version in versions]
        fields = read_fields(text, {field.name for version in earlier for field in version}) if text else []
        if not versions and not fields:
            return None
        check_successor(earlier, fields, with_grace=bool(self.cleaned_data.get("grace")))
        return fields

    def clean(self) -> dict[str, Any]:
        """Raise ValidationError if the user chose a wrong grace period, or a grace period without a new version."""
        data: dict[str, Any] = super().clean() or {}
        self.grace_ends = self.chosen_end()
        if self.grace_ends and data.get("schema") == self.current:
            raise ValidationError(
                {"grace": "The fields have not changed, so no version is published and no grace period begins."}
            )
        return data

    def schema_rows(self) -> list[dict[str, Any]] | None:
        """Return the schema in the form as rows for the editor, or None if rows cannot show it."""
        return editor.read(str(self["schema"].value() or "")).rows

    def describe_schema(self) -> str:
        """Return the change of the schema for the log."""
        return in_short(self.current, self.cleaned_data["schema"] or ())


@admin.register(Dataset)
class DatasetAdmin(AuditedAdmin[Dataset]):
    """A dataset's name, slug and schema."""

    tenant_path = "project"
    nothing = "No dataset yet. Add one: paste a sample record, and the form reads its fields."
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
        return f"version {dataset.latest_number}" if dataset.latest_number else "none yet, accepts no records"

    @admin.display(description="state", ordering="is_archived")
    def state(self, dataset: Dataset) -> str:
        return "archived" if dataset.is_archived else "open"

    def get_readonly_fields(self, request: HttpRequest, obj: Dataset | None = None) -> tuple[str, ...]:
        # The path of the dataset's table contains the project's ID.
        return ("project",) if obj else ()

    def get_prepopulated_fields(self, request: HttpRequest, obj: Dataset | None = None) -> dict[str, Any]:
        return {} if obj else {"slug": ("name",)}

    def save_model(self, request: HttpRequest, obj: Dataset, form: DatasetForm, change: bool) -> None:
        author: Any = request.user
        fields, until, changed = form.cleaned_data["schema"], form.grace_ends, edited(form)
        if fields and (sample := request.POST.get("_sample", "")):
            obj.example = example_record(fields, sample)
            changed.append("example")
        services.save_dataset(obj, changed=changed, fields=fields, author=author, previous_valid_until=until)
        if fields is None:
            messages.warning(request, "The dataset accepts no records until it has a field.")

    def response_add(self, request: HttpRequest, obj: Dataset, post_url_continue: str | None = None) -> HttpResponse:
        """Continue to the form of a new API key if the dataset has a schema and its project has no active key.

        Otherwise, continue to the dataset's page. The page after that form and the dataset's page both show code that
        sends a record.
        """
        response = super().response_add(request, obj, post_url_continue)
        if not continues(request):
            return response
        if obj.latest_version() is None or obj.project.keys_in_force().exists():
            return HttpResponseRedirect(reverse("admin:datasets_dataset_change", args=(obj.pk,)))
        return HttpResponseRedirect(reverse("admin:datasets_apikey_add") + f"?project={obj.project_id}")

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view
        return [
            path("infer/", view(self.infer_view), name="datasets_dataset_infer"),
            path("check/", view(self.check_view), name="datasets_dataset_check_new"),
            path("<int:object_id>/end-grace/", view(self.end_grace_view), name="datasets_dataset_end_grace"),
            path("<int:object_id>/check/", view(self.check_view), name="datasets_dataset_check"),
            *super().get_urls(),
        ]

    def extra_form_context(self, request: HttpRequest, obj: Dataset | None) -> dict[str, Any]:
        versions = list(obj.versions.select_related("created_by").order_by("-number")) if obj else []
        current = versions[0].field_list() if versions else []
        return {
            "field_types": _types(),
            "grace": grace.card(versions[0] if versions else None),
            "history": _history(versions[: _MAX_VERSIONS + 1])[:_MAX_VERSIONS],
            "panel": _panel(request, obj, current, request.POST.get("_sample", ""), is_published=bool(versions)),
            "sample": request.POST.get("_sample", ""),
            "max_characters": MAX_CHARACTERS,
        }

    def end_grace_view(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """Ask for confirmation on GET. End the grace period on POST."""
        return grace.end(request, self, self.get_object_or_404(request, object_id))

    def infer_view(self, request: HttpRequest) -> HttpResponse:
        """Return the fields of a pasted sample as JSON, for the user to check."""
        if not self.has_add_permission(request):
            return HttpResponse(status=403)
        try:
            inferred = infer(request.POST.get("sample", ""), editor.known_fields(request.POST.get("known", "")))
        except ValidationError as error:
            return JsonResponse({"error": " ".join(error.messages)}, status=400)
        return JsonResponse({"fields": [field.as_json() for field in inferred.fields], "notes": inferred.notes})

    def check_view(self, request: HttpRequest, object_id: int | None = None) -> HttpResponse:
        """Return, as JSON, the changes that publishing the editor's schema would make, and all its problems."""
        dataset = self.get_object_or_404(request, object_id) if object_id else None
        if dataset is None and not self.has_add_permission(request):
            return HttpResponse(status=403)
        earlier = [version.field_list() for version in dataset.versions.order_by("number")] if dataset else []
        text, is_typed = request.POST.get("schema", ""), bool(request.POST.get("typed"))
        preview = editor.preview(text, earlier, with_grace=bool(request.POST.get("grace")))
        answer = {
            "problems": [{"index": each.index, "text": each.text} for each in preview["problems"]],
            "suggestions": preview["suggestions"],
            "preview": render_to_string("admin/datasets/dataset/preview.html", {**preview, "is_typed": is_typed}),
        }
        if is_typed:
            answer["rows"] = preview["rows"]
        if not preview["problems"]:
            sample = request.POST.get("sample", "")
            panel = _panel(request, dataset, preview["fields"], sample, is_published=bool(earlier))
            answer["panel"] = render_to_string("admin/datasets/dataset/panel.html", {"panel": panel})
        return JsonResponse(answer)


def _types() -> list[dict[str, Any]]:
    """Return the types that the editor offers, each with the members that a field of this type may have."""
    return [
        {"name": each.name, "help": each.help, "members": ["unit", *allowed(each)]} for each in FIELD_TYPES.values()
    ]


def _panel(
    request: HttpRequest, dataset: Dataset | None, fields: Sequence[Field], sample: str, *, is_published: bool
) -> dict[str, Any]:
    """Return what the page shows about sending a record. Until a dataset has a field, it accepts none."""
    if not fields and not is_published:
        return {"accepts_nothing": True}
    sample = sample or (dataset.example if dataset else "")
    return {
        "example": json.dumps(json.loads(example_record(fields, sample)), indent=2, ensure_ascii=False),
        "snippets": snippets(base_url(request), dataset.pk if dataset else "DATASET_ID", fields, sample=sample),
        "without_example": without_example(fields, sample),
        "project": dataset and dataset.project_id,
        "is_archived": dataset and dataset.is_archived,
    }


def _history(versions: Sequence[SchemaVersion]) -> list[dict[str, Any]]:
    """Return each version, latest first, with what it changed."""
    before = [*(version.field_list() for version in versions[1:]), []]
    later = [None, *versions]
    return [
        {
            "version": version,
            "changes": list(
                differences(earlier, version.field_list(), with_grace=grace.is_running(version, successor))
            ),
            "previous_valid_until": grace.ended(version, successor),
        }
        for version, earlier, successor in zip(versions, before, later, strict=False)  # the other lists may be longer
    ]
