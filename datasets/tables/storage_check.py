"""Tell a storage that is not mounted, or another one, from a storage in which no table was made yet."""

from datasets.models import Dataset
from datasets.tables.storage import ForeignTable, TableGone
from datasets.tables.table import DatasetTable

# Number of newest tables that are tried. One that is there is enough.
_TRIED_TABLES = 10


def check_storage(seconds: float | None = None) -> None:
    """Check that the storage has one of the tables that were made last, or that no table was made yet.

    Args:
        seconds: How long to wait for each request to an object store. Default: STORAGE_TIMEOUT_SECONDS.

    Raises:
        TableGone: None of the tables is there.
        ForeignTable: Each table that is there was made for another dataset.
    """
    foreign = False
    made = Dataset.objects.filter(has_table=True).order_by("-pk")[:_TRIED_TABLES]
    for dataset in made:
        table = DatasetTable.of(dataset)
        if table.is_there(seconds):
            if table.is_ours(seconds):
                return
            foreign = True
    if foreign:
        raise ForeignTable("the tables belong to other datasets: is this the right database, and the right storage?")
    if made:
        raise TableGone("none of the tables that were made is there: is the storage mounted?")
