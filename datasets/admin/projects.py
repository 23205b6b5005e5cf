"""Projects in the admin."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from datasets import services
from datasets.admin.edits import edited
from datasets.admin.pages import AuditedAdmin
from datasets.admin.tenancy import ITSELF, scope
from datasets.models import Dataset, Project

_FIELDS = ("name", "slug", "owner", "member_names", "is_active", "default_dataset")


class ProjectForm(forms.ModelForm[Project]):
    """A project, with its members by name: nobody is shown a list of all people."""

    member_names = forms.CharField(
        label="Members",
        required=False,
        widget=forms.TextInput(attrs={"class": "ours-input", "autocomplete": "off", "spellcheck": "false"}),
        help_text="Usernames, separated by commas. Members see and change the project as its owner does.",
    )

    class Meta:
        model = Project
        fields = ("name", "slug", "owner", "is_active", "default_dataset")
        # Not that another project has it, whose staff do not see each other.
        error_messages: ClassVar[dict[str, Any]] = {"slug": {"unique": "This slug cannot be used. Choose another one."}}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk and "member_names" in self.fields:
            names = self.instance.members.order_by("username").values_list("username", flat=True)
            self.fields["member_names"].initial = ", ".join(names)

    def clean_member_names(self) -> list[User]:
        names = {name.strip() for name in self.cleaned_data["member_names"].split(",") if name.strip()}
        found = list(User.objects.filter(username__in=names))
        unknown = names - {user.username for user in found}
        if unknown:
            # Not whether there is such a user: that is not for everybody to know.
            raise ValidationError(f"This name cannot be a member: {', '.join(sorted(unknown))}. Check its spelling.")
        return found

    def describe_member_names(self) -> str:
        """For the log."""
        names = ", ".join(sorted(user.username for user in self.cleaned_data["member_names"]))
        return f"Members: “{self.fields['member_names'].initial or ''}” → “{names}”."


@admin.register(Project)
class ProjectAdmin(AuditedAdmin[Project]):
    """A project's name, owner and members; whether its keys are taken; where records without a dataset id go."""

    tenant_path = ITSELF
    nothing = (
        "No project yet. Datasets and keys belong to one: it is made by who has the right, or shared by its owner."
    )
    form = ProjectForm
    list_display = ("name", "slug", "owner", "dataset_count", "is_active", "created_at")
    list_filter = ("is_active",)
    list_select_related = ("owner",)
    search_fields = ("name", "slug", "owner__username")
    autocomplete_fields = ("owner",)
    fields = _FIELDS

    def get_queryset(self, request: HttpRequest) -> QuerySet[Project]:
        datasets = Dataset.objects.filter(project=OuterRef("pk")).order_by().values("project")
        counted = Subquery(datasets.annotate(count=Count("pk")).values("count"))
        return super().get_queryset(request).annotate(datasets_in=Coalesce(counted, 0))

    @admin.display(description="datasets", ordering="datasets_in")
    def dataset_count(self, project: Any) -> int:
        return int(project.datasets_in)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return super().has_add_permission(request) and request.user.has_perm("datasets.add_project")

    def get_prepopulated_fields(self, request: HttpRequest, obj: Project | None = None) -> dict[str, Any]:
        return {} if obj else {"slug": ("name",)}

    def get_fields(self, request: HttpRequest, obj: Project | None = None) -> tuple[str, ...]:
        hidden = set() if obj else {"default_dataset"}
        if obj is None and not request.user.is_superuser:
            hidden.add("owner")  # who makes it owns it
        return tuple(name for name in _FIELDS if name not in hidden)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"owner": request.user.pk, **super().get_changeform_initial_data(request)}

    def get_readonly_fields(self, request: HttpRequest, obj: Project | None = None) -> tuple[str, ...]:
        # Its records count against the owner's quota: to give a project away is not for members, nor for owners.
        return () if request.user.is_superuser or obj is None else ("owner",)

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "default_dataset":
            project_id = request.resolver_match and request.resolver_match.kwargs.get("object_id")
            offered = scope(Dataset.objects.all(), request.user)
            kwargs["queryset"] = offered.filter(project_id=project_id) if project_id else offered.none()
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def response_add(self, request: HttpRequest, obj: Project, post_url_continue: str | None = None) -> HttpResponse:
        """On to its first dataset, unless another button was pressed than Save."""
        response = super().response_add(request, obj, post_url_continue)
        if "_save" not in request.POST:
            return response
        return HttpResponseRedirect(reverse("admin:datasets_dataset_add") + f"?project={obj.pk}")

    def save_model(self, request: HttpRequest, obj: Project, form: forms.ModelForm[Project], change: bool) -> None:
        if not change and not request.user.is_superuser:
            obj.owner = request.user  # type: ignore[assignment]
        services.save_project(obj, changed=edited(form))
        services.set_members(obj, form.cleaned_data["member_names"])
