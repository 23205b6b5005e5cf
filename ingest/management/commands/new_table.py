"""`manage.py new_table`."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from config.common.commands import ServiceCommand
from datasets.models import Dataset
from ingest.storing.new_table import NewTableRefused, start_new_table, take_over


class Command(ServiceCommand):
    """Create a new table for a dataset that has lost its own."""

    help = (
        "Create an empty table for a dataset after its table was deleted on purpose. Without this command, the "
        "dataset's records stay queued, because a missing table may mean that the storage is not mounted. After this "
        "command, the queued records are stored in the new table."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("id", type=int, help="ID of the dataset")
        parser.add_argument(
            "--take-over",
            action="store_true",
            help="use the table at the dataset's path, although that table was made for another dataset. Do this only "
            "if the database was restored from a backup, and if you know that the table belongs to this dataset",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        dataset = Dataset.objects.filter(pk=options["id"]).first()
        if dataset is None:
            raise CommandError(f"There is no dataset {options['id']}.")
        try:
            take_over(dataset) if options["take_over"] else start_new_table(dataset)
        except NewTableRefused as reason:
            raise CommandError(f"Nothing was changed: {reason}.") from reason
        what = "uses the table at its path" if options["take_over"] else "has a new table, which is empty"
        self.stdout.write(f"Dataset {dataset.pk} now {what}.")
