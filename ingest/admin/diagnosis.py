"""The page “Why does nothing arrive?”: what is wrong with a project, with links to the pages that solve it."""

from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from redis.exceptions import RedisError

from datasets.access import projects_of
from datasets.admin.pages import page
from datasets.models import Project
from ingest.monitoring import diagnosis
from ingest.monitoring.diagnosis import Finding


def diagnosis_view(request: HttpRequest, project_id: int) -> HttpResponse:
    """Show the findings of the diagnosis of one project."""
    project = projects_of(request.user).select_related("owner").filter(pk=project_id).first()
    if project is None:
        raise Http404
    try:
        findings = diagnosis.findings(project)
    except (RedisError, OSError):
        findings = [Finding(True, "Redis does not answer, so the service accepts no records.", "Start Redis again.")]
    places = _places(project, request.user.is_superuser)
    return page(
        request,
        "admin/ingest/diagnosis.html",
        title=f"Why does nothing arrive in {project}?",
        project=project,
        findings=[(finding, places.get(finding.place)) for finding in findings],
        something_is_wrong=any(finding.wrong for finding in findings),
        places=places,
    )


def _places(project: Project, is_superuser: bool) -> dict[str, tuple[str, str]]:
    """Return the label and the address of each page to open next, by the `place` of a finding."""
    of_project, datasets = f"?project__id__exact={project.pk}", list(project.datasets.values_list("pk", flat=True)[:2])
    places = {
        "project": ("The project", reverse("admin:datasets_project_change", args=(project.pk,))),
        "datasets": ("Datasets of the project", reverse("admin:datasets_dataset_changelist") + of_project),
        "keys": ("API keys of the project", reverse("admin:datasets_apikey_changelist") + of_project),
        "key": ("Create an API key", reverse("admin:datasets_apikey_add") + f"?project={project.pk}"),
        "try": ("Choose a dataset to try it", reverse("admin:ingest_datasetrecords_changelist") + of_project),
        "refused": ("Refused requests", reverse("admin:ingest_refusals") + f"?project={project.pk}"),
        "ledger": ("Ledger of the project", reverse("admin:ingest_ledger") + f"?project={project.pk}"),
        "quarantine": (
            "Quarantine of the project",
            reverse("admin:ingest_quarantinedentry_changelist")
            + f"?state__exact=held&dataset__project__id__exact={project.pk}",
        ),
    }
    if not datasets:
        places["datasets"] = ("Add a dataset", reverse("admin:datasets_dataset_add") + f"?project={project.pk}")
    if len(datasets) == 1:
        places["datasets"] = ("The dataset", reverse("admin:datasets_dataset_change", args=datasets))
        places["try"] = ("Try it", reverse("admin:ingest_datasetrecords_try", args=datasets))
    if is_superuser:
        places["quota"] = (
            "Quota limit of the owner",
            reverse("admin:quotas_quotalimit_changelist") + f"?q={project.owner}",
        )
    return places
