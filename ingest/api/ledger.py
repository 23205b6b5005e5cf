"""`GET /api/ledger/<project>`: for each dataset, how many records were accepted, and where they are."""

from typing import Any, ClassVar

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import ModelSerializer

from config.lazy import deltalake
from datasets.api.base import ManagementView, Pages
from datasets.models import Dataset
from datasets.tables.storage import unreadable
from ingest.storing import ledger


class LedgerPages(Pages):
    """A page has few rows, because the service reads a table for each row."""

    page_size = 20
    max_page_size = 100


class BalanceSerializer(ModelSerializer[Dataset]):
    """The ledger of a dataset."""

    class Meta:
        model = Dataset
        fields = ("id", "slug")

    def to_representation(self, instance: Dataset) -> dict[str, Any]:
        """Return the figures, or null with a `detail` if the table cannot be read."""
        return super().to_representation(instance) | _figures(instance)


def _figures(dataset: Dataset) -> dict[str, Any]:
    try:
        found = ledger.balance(dataset).as_json()
    except ledger.TableTooBusy as busy:
        found = {"detail": str(busy)}
    except (deltalake.exceptions.DeltaError, OSError) as failure:
        found = {"detail": unreadable(failure)}
    names = ("accepted", "stored", "queued", "quarantined", "adds_up")
    detail = {"detail": found["detail"]} if "detail" in found else {}
    return {name: found.get(name) for name in names} | detail


class LedgerView(ManagementView):
    """Show the ledger of each dataset of a project."""

    serializer_class = BalanceSerializer
    pagination_class = LedgerPages
    plural = "datasets"
    answers: ClassVar[dict[str, str]] = {"GET": "Balance"}

    def get(self, request: Request, project_slug: str) -> Response:
        """Show accepted, stored, queued and quarantined records of each dataset."""
        return self.page_of(self.project.datasets.all())
