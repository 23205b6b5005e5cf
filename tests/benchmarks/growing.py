"""More of everything: datasets, keys, rows in a table. Made in bulk, as they would be after years."""

import time
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
from django.db import transaction

from datasets.contracts.keys import issue_token
from datasets.contracts.revisions import changing
from datasets.models import ApiKey, Dataset, SchemaVersion
from datasets.tables.table import DatasetTable
from ingest.queue import generations, stream
from tests.benchmarks.end_to_end import measure_drain
from tests.benchmarks.load import Target
from tests.benchmarks.payloads import FIELDS
from tests.benchmarks.product import Product

# Rows of a commit: small enough to be built in memory, large enough that 50 million are not 50,000 files.
_COMMIT_ROWS = 1_000_000


def make_datasets(product: Product, count: int) -> list[Dataset]:
    """New datasets, each with its schema and its table, empty."""
    first = Dataset.objects.count() + 1
    made = [
        Dataset(project=product.project, name=f"grown {number}", slug=f"grown-{number}")
        for number in range(first, first + count)
    ]
    with changing(product.project.pk):
        Dataset.objects.bulk_create(made, batch_size=500)
        fields = [field.as_json() for field in FIELDS]
        versions = (SchemaVersion(dataset=dataset, number=1, fields=fields) for dataset in made)
        SchemaVersion.objects.bulk_create(versions, batch_size=500)
    for dataset in made:
        DatasetTable.of(dataset).create(FIELDS)
    return made


def make_keys(product: Product, count: int) -> list[str]:
    """The tokens of new keys."""
    keys = [ApiKey(project=product.project, name=f"grown {number}") for number in range(count)]
    with transaction.atomic():
        ApiKey.objects.bulk_create(keys, batch_size=500)
    return [issue_token(key) for key in keys]


def sample(product: Product, count: int) -> pa.Table:
    """So many rows, but not more than a commit's worth, as the product itself writes them. Workers must stand by."""
    count = min(count, _COMMIT_ROWS)
    product.new_dataset()
    product.fill(count)
    measure_drain(product)
    product.stored()
    rows = product.table.delta.to_pyarrow_table()
    product.drop_table()
    return rows.slice(0, count)


def make_table(product: Product, rows: pa.Table, count: int) -> Dataset:
    """A dataset whose table holds so many rows: copies of the sample's, with ids of their own."""
    dataset = product.new_dataset()
    product.table.create(FIELDS)
    generation, now = generations.current() or "", int(time.time() * 1000)
    written = 0
    while written < count:
        part = rows.slice(0, min(rows.num_rows, count - written))
        ids = pc.binary_replace_slice(part["id"], 0, 3, f"{written // rows.num_rows:03}")
        part = part.set_column(part.column_names.index("id"), "id", ids)
        written += part.num_rows
        product.table.refresh()
        # Positions before those of anything that is accepted from now on.
        position = stream.position_of(f"{now}-{written // rows.num_rows}")
        product.table.append(part, generation=generation, position=position, stored=written)
    return dataset


def targets_of(product: Product, datasets: Sequence[Dataset]) -> list[Target]:
    return [Target(f"/datasets/{dataset.pk}", product.token) for dataset in datasets]
