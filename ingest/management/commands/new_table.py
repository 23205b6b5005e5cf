"""`manage.py new_table`."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from config.common.commands import ServiceCommand
from datasets.models import Dataset
from ingest.storing.new_table import NotGone, begin_anew, take_over


class Command(ServiceCommand):
    """Begins a table anew."""

    help = (
        "Begin a dataset's table anew, empty, after it was deleted on purpose. Until then its records stay queued: "
        "a table that is gone is taken for a storage that is not mounted. What is queued will be in the new table."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("id", type=int, help="of the dataset")
        parser.add_argument(
            "--take-over",
            action="store_true",
            help="keep the table that is in its place, which was made for another dataset: only if the database was "
            "restored from a backup, and you know that the table is this dataset's",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        dataset = Dataset.objects.filter(pk=options["id"]).first()
        if dataset is None:
            raise CommandError(f"There is no dataset {options['id']}.")
        try:
            take_over(dataset) if options["take_over"] else begin_anew(dataset)
        except NotGone as reason:
            raise CommandError(f"Nothing was done: {reason}.") from reason
        what = "the table that is in its place" if options["take_over"] else "a new table, empty"
        self.stdout.write(f"Dataset {dataset.pk} has {what}.")
