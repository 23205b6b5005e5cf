"""`/api/datasets/<project>` and `/api/datasets/<project>/<dataset>`: the datasets of a project."""

from typing import Any, ClassVar

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from datasets import services
from datasets.api.base import ManagementView
from datasets.api.changes import answer_with_etag, check_precondition, described, etag_of, log_addition, log_change
from datasets.api.errors import DatasetMissing
from datasets.api.idempotency import once
from datasets.api.serializers import DatasetChanges, DatasetSerializer, NewDataset
from datasets.contracts.contract import read_dataset_id
from datasets.models import Dataset, Project, SchemaVersion


def datasets_of(project: Project) -> QuerySet[Any]:
    """Return a project's datasets, with the annotation that `DatasetSerializer` needs."""
    return project.datasets.annotate(has_schema=Exists(SchemaVersion.objects.filter(dataset=OuterRef("pk"))))


class OneDatasetView(ManagementView):
    """A view of one dataset: the one that the path names, or the project's default dataset."""

    def dataset(self, dataset_id: str | None, *, lock: bool = False) -> Any:
        """Return the dataset. Raises InvalidDatasetId or DatasetMissing.

        Args:
            dataset_id: The ID in the path. None means the default dataset.
            lock: Whether to prevent other changes of the dataset until this transaction ends.
        """
        wanted = self.project.default_dataset_id if dataset_id is None else read_dataset_id(dataset_id)
        if wanted is None:
            raise DatasetMissing({"detail": "The project has no default dataset."})
        if lock:
            Dataset.objects.select_for_update(no_key=True).filter(pk=wanted).first()
        found = datasets_of(self.project).filter(pk=wanted).first()
        if found is None:
            raise DatasetMissing
        return found


class DatasetsView(ManagementView):
    """List a project's datasets, and create one."""

    serializer_class = DatasetSerializer
    plural = "datasets"
    post_has_etag = True
    takes: ClassVar[dict[str, Any]] = {"POST": NewDataset}

    def get(self, request: Request, project_slug: str) -> Response:
        """List datasets, archived ones too."""
        return self.page_of(datasets_of(self.project))

    @once
    def post(self, request: Request, project_slug: str) -> Response:
        """Create a dataset. It takes records as soon as it has a schema."""
        created = services.create_dataset(project=self.project, **self.validated(NewDataset))
        log_addition(self, created)
        shown = self.serialized(datasets_of(self.project).get(pk=created.pk))
        return Response(shown, status=201, headers={"ETag": etag_of(shown)})


class DatasetView(OneDatasetView):
    """Show, change and archive a dataset."""

    serializer_class = DatasetSerializer
    takes: ClassVar[dict[str, Any]] = {"PATCH": DatasetChanges}
    has_etag = True

    def get(self, request: Request, project_slug: str, dataset_id: str) -> Any:
        """Show a dataset."""
        return answer_with_etag(request, self.serialized(self.dataset(dataset_id)))

    @transaction.atomic
    def patch(self, request: Request, project_slug: str, dataset_id: str) -> Response:
        """Change a dataset."""
        dataset = self.dataset(dataset_id, lock=True)
        before = self.serialized(dataset)
        check_precondition(request, etag_of(before))
        given = self.validated(DatasetChanges)
        is_default = given.pop("is_default", before["is_default"])
        if "archived" in given:
            given["is_archived"] = given.pop("archived")
        for name, value in given.items():
            setattr(dataset, name, value)
        dataset.full_clean()
        services.save_dataset(dataset, changed=list(given))
        if is_default != before["is_default"]:
            self.project.default_dataset = dataset if is_default else None
            services.save_project(self.project, changed=["default_dataset"])
        after = self.serialized(datasets_of(self.project).get(pk=dataset.pk))
        if after != before:
            log_change(self, dataset, described(before, after))
        return Response(after, headers={"ETag": etag_of(after)})

    @transaction.atomic
    def delete(self, request: Request, project_slug: str, dataset_id: str) -> Response:
        """Archive a dataset: it takes no more records, and its table stays."""
        dataset = self.dataset(dataset_id, lock=True)
        before = self.serialized(dataset)
        check_precondition(request, etag_of(before))
        if not dataset.is_archived:
            dataset.is_archived = True
            services.save_dataset(dataset, changed=["is_archived"])
            log_change(self, dataset, described(before, self.serialized(dataset)))
        return Response(status=204)
