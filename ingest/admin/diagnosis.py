"""Why do records of a project not arrive? A page that says what is wrong and links to where an admin mends it."""

from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from redis.exceptions import RedisError

from datasets.admin.pages import page
from datasets.admin.tenancy import projects_of
from datasets.models import Project
from ingest.monitoring import diagnosis
from ingest.monitoring.diagnosis import Finding


def diagnosis_view(request: HttpRequest, project_id: int) -> HttpResponse:
    """Why records of a project do not arrive, and where to mend it."""
    project = projects_of(request.user).select_related("owner").filter(pk=project_id).first()
    if project is None:
        raise Http404
    try:
        findings = diagnosis.findings(project)
    except (RedisError, OSError):
        findings = [Finding(True, "Redis does not answer: nothing is accepted until it does.", "Start it again.")]
    places = _places(project, request.user.is_superuser)
    return page(
        request,
        "admin/ingest/diagnosis.html",
        title=f"Why records of {project} do not arrive",
        project=project,
        findings=[(finding, places.get(finding.place)) for finding in findings],
        something_is_wrong=any(finding.wrong for finding in findings),
        places=places,
    )


def _places(project: Project, everything: bool) -> dict[str, tuple[str, str]]:
    """What to open next: word -> label, address."""
    of_project, datasets = f"?project__id__exact={project.pk}", list(project.datasets.values_list("pk", flat=True)[:2])
    places = {
        "project": ("The project", reverse("admin:datasets_project_change", args=(project.pk,))),
        "datasets": ("Its datasets", reverse("admin:datasets_dataset_changelist") + of_project),
        "keys": ("Its keys", reverse("admin:datasets_apikey_changelist") + of_project),
        "key": ("Issue a key", reverse("admin:datasets_apikey_add") + f"?project={project.pk}"),
        "try": ("Try it: choose a dataset", reverse("admin:ingest_datasetrecords_changelist") + of_project),
        "refused": ("What was refused", reverse("admin:ingest_refusals") + f"?project={project.pk}"),
        "ledger": ("Its ledger", reverse("admin:ingest_ledger") + f"?project={project.pk}"),
        "quarantine": (
            "Its quarantine",
            reverse("admin:ingest_quarantinedentry_changelist")
            + f"?state__exact=held&dataset__project__id__exact={project.pk}",
        ),
    }
    if not datasets:
        places["datasets"] = ("Define a dataset", reverse("admin:datasets_dataset_add") + f"?project={project.pk}")
    if len(datasets) == 1:
        places["datasets"] = ("The dataset", reverse("admin:datasets_dataset_change", args=datasets))
        places["try"] = ("Try it", reverse("admin:ingest_datasetrecords_try", args=datasets))
    if everything:
        places["quota"] = ("Quotas", reverse("admin:quotas_quotalimit_changelist") + f"?q={project.owner}")
    return places
