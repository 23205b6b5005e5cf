"""The ledger page. For each dataset, accepted must equal stored + queued + quarantined."""

from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from config.lazy import deltalake
from datasets.admin.pages import number, page
from datasets.admin.tenancy import scope
from datasets.models import Dataset
from datasets.tables.storage import unreadable
from ingest.storing import ledger

_ROWS = 15  # rows on one page; the service reads a table for each row


def ledger_view(request: HttpRequest) -> HttpResponse:
    """Show the ledger of each dataset that this user sees."""
    datasets: QuerySet[Dataset] = scope(
        Dataset.objects.select_related("project").order_by("project__name", "name"), request.user
    )
    project_id = request.GET.get("project", "")
    if project_id:
        datasets = datasets.filter(project_id=number(project_id))
    shown = Paginator(datasets, _ROWS).get_page(request.GET.get("page"))
    balances = [(dataset, _balance(dataset)) for dataset in shown]
    return page(
        request,
        "admin/ingest/ledger.html",
        title="Ledger",
        balances=balances,
        page=shown,
        project=project_id,
    )


def _balance(dataset: Dataset) -> ledger.Balance | str:
    """Return the ledger of a dataset, or a text that says why it cannot be read."""
    try:
        return ledger.balance(dataset)
    except ledger.TableTooBusy:
        return "This dataset receives too many records to count them now. Reload this page."
    except (deltalake.exceptions.DeltaError, OSError) as reason:
        return unreadable(reason)
