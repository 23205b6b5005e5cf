"""Create as many datasets, keys and rows in bulk as a service has after years."""

import time
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
from django.db import transaction

from config.common.cluster.key_tags import NO_TAG
from datasets.contracts.keys import issue_token
from datasets.contracts.revisions import changing
from datasets.models import ApiKey, Dataset, SchemaVersion
from datasets.tables.table import DatasetTable
from ingest.queue import generations, stream
from tests.benchmarks.load import Target
from tests.benchmarks.measurements.end_to_end import measure_drain
from tests.benchmarks.payloads import FIELDS
from tests.benchmarks.systems.product import Product

# Rows per commit. A larger commit would need much memory. With smaller commits, 50 million rows would need too many
# files.
_COMMIT_ROWS = 1_000_000


def make_datasets(product: Product, count: int) -> list[Dataset]:
    """Create datasets, each with a schema and an empty table."""
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
    """Create keys, and return their tokens."""
    keys = [ApiKey(project=product.project, name=f"grown {number}") for number in range(count)]
    with transaction.atomic():
        ApiKey.objects.bulk_create(keys, batch_size=500)
    return [issue_token(key) for key in keys]


def sample(product: Product, count: int) -> pa.Table:
    """Return `count` rows that the product has written, but not more than one commit has. Workers must be ready."""
    count = min(count, _COMMIT_ROWS)
    product.new_dataset()
    product.fill(count)
    measure_drain(product)
    product.stored()
    rows = product.table.delta.to_pyarrow_table()
    product.drop_table()
    return rows.slice(0, count)


def make_table(product: Product, rows: pa.Table, count: int) -> Dataset:
    """Create a dataset whose table has `count` rows: copies of the sample `rows` with new IDs."""
    dataset = product.new_dataset()
    product.table.create(FIELDS)
    generation, now = generations.current(NO_TAG) or "", int(time.time() * 1000)
    written = 0
    while written < count:
        part = rows.slice(0, min(rows.num_rows, count - written))
        ids = pc.binary_replace_slice(part["id"], 0, 3, f"{written // rows.num_rows:03}")
        part = part.set_column(part.column_names.index("id"), "id", ids)
        written += part.num_rows
        product.table.refresh()
        # These positions are before those of all entries that are accepted from now on.
        position = stream.position_of(f"{now}-{written // rows.num_rows}")
        product.table.append(part, generation=generation, watermark=position, stored=written)
    return dataset


def targets_of(product: Product, datasets: Sequence[Dataset]) -> list[Target]:
    return [Target(f"/datasets/{dataset.pk}", product.token) for dataset in datasets]
