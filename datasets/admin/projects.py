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
from unfold.widgets import UnfoldBooleanSwitchWidget

from datasets import services
from datasets.access import may_create_projects
from datasets.admin.edits import edited
from datasets.admin.pages import AuditedAdmin, continues
from datasets.admin.tenancy import ITSELF, scope
from datasets.models import Dataset, Project

_FIELDS = ("name", "slug", "owner", "member_names", "leave_confirmed", "is_active", "default_dataset")


class ProjectForm(forms.ModelForm[Project]):
    """A project. Members are typed by name, because staff must not see a list of all users."""

    request: HttpRequest  # set by GuardedAdmin

    member_names = forms.CharField(
        label="Members",
        required=False,
        widget=forms.TextInput(attrs={"class": "ours-input", "autocomplete": "off", "spellcheck": "false"}),
        help_text="Usernames, separated by commas. Members see and change the project like its owner.",
    )
    leave_confirmed = forms.BooleanField(
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        label="Yes, remove me from this project",
        help_text="You will not see the project any more. Its owner can add you again.",
    )

    class Meta:
        model = Project
        fields = ("name", "slug", "owner", "is_active", "default_dataset")
        # Django's message would say that another project has the slug. The user may not see that project, so do not
        # give the reason.
        error_messages: ClassVar[dict[str, Any]] = {"slug": {"unique": "This slug cannot be used. Choose another one."}}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk and "member_names" in self.fields:
            names = self.instance.members.order_by("username").values_list("username", flat=True)
            self.fields["member_names"].initial = ", ".join(names)

    def clean_member_names(self) -> list[User]:
        """Return the members. Raises ValidationError for an unknown name."""
        names = _split(self.cleaned_data["member_names"])
        found = list(User.objects.filter(username__in=names))
        unknown = names - {user.username for user in found}
        if unknown:
            # The form refuses each name that no user has, and accepts each name that a user has. So a member can find
            # out whether a username exists, but gets no list of users.
            what, whose = ("This name", "its") if len(unknown) == 1 else ("These names", "their")
            listed = ", ".join(sorted(unknown))
            raise ValidationError(
                f"{what} cannot be {'a member' if len(unknown) == 1 else 'members'}: {listed}. Check {whose} spelling."
            )
        return found

    def clean_leave_confirmed(self) -> bool:
        """Ask before a member removes themselves, because they cannot undo it."""
        confirmed: bool = self.cleaned_data["leave_confirmed"]
        if not confirmed and _leaves(self.request, self.instance):
            raise ValidationError("Nothing was saved. You are removing yourself from this project: confirm it here.")
        return confirmed

    def describe_member_names(self) -> str:
        """Return the change of the members for the log."""
        names = ", ".join(sorted(user.username for user in self.cleaned_data["member_names"]))
        return f"Members: “{self.fields['member_names'].initial or ''}” → “{names}”."


def _split(names: str) -> set[str]:
    return {name.strip() for name in names.split(",") if name.strip()}


def _leaves(request: HttpRequest, project: Project) -> bool:
    """Return whether the posted list of members would remove the user who posts it from the project."""
    user = request.user
    if request.method != "POST" or project.pk is None or user.is_superuser or user.pk == project.owner_id:
        return False
    name = user.get_username()
    is_member = project.members.filter(username=name).exists()
    return is_member and name not in _split(request.POST.get("member_names", ""))


@admin.register(Project)
class ProjectAdmin(AuditedAdmin[Project]):
    """A project's name, owner, members and default dataset, and whether its keys are accepted."""

    tenant_path = ITSELF
    nothing = (
        "No project yet. Create a project if you have permission, or ask the owner of a project to add you. Datasets "
        "and API keys belong to a project."
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
        return may_create_projects(request.user)

    def get_prepopulated_fields(self, request: HttpRequest, obj: Project | None = None) -> dict[str, Any]:
        return {} if obj else {"slug": ("name",)}

    def get_fields(self, request: HttpRequest, obj: Project | None = None) -> tuple[str, ...]:
        hidden = set() if obj else {"default_dataset"}
        if obj is None or not _leaves(request, obj):
            hidden.add("leave_confirmed")
        if obj is None and not request.user.is_superuser:
            hidden.add("owner")  # `save_model` makes this user the owner
        return tuple(name for name in _FIELDS if name not in hidden)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"owner": request.user.pk, **super().get_changeform_initial_data(request)}

    def get_readonly_fields(self, request: HttpRequest, obj: Project | None = None) -> tuple[str, ...]:
        # The records count against the owner's quota, so only a superuser may change the owner.
        return () if request.user.is_superuser or obj is None else ("owner",)

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "default_dataset":
            project_id = request.resolver_match and request.resolver_match.kwargs.get("object_id")
            offered = scope(Dataset.objects.all(), request.user)
            kwargs["queryset"] = offered.filter(project_id=project_id) if project_id else offered.none()
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def response_add(self, request: HttpRequest, obj: Project, post_url_continue: str | None = None) -> HttpResponse:
        """Continue to the form of the project's first dataset if the user pressed Save, and not another button."""
        response = super().response_add(request, obj, post_url_continue)
        if not continues(request):
            return response
        return HttpResponseRedirect(reverse("admin:datasets_dataset_add") + f"?project={obj.pk}")

    def response_change(self, request: HttpRequest, obj: Project) -> HttpResponse:
        """Go back to the list if the user has just left the project."""
        response = super().response_change(request, obj)
        if self.has_view_permission(request, obj):
            return response
        return HttpResponseRedirect(reverse("admin:datasets_project_changelist"))

    def save_model(self, request: HttpRequest, obj: Project, form: forms.ModelForm[Project], change: bool) -> None:
        if not change and not request.user.is_superuser:
            obj.owner = request.user  # type: ignore[assignment]
        services.save_project(obj, changed=edited(form))
        services.set_members(obj, form.cleaned_data["member_names"])
