"""`manage.py new_table`."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from config.commands import ServiceCommand
from datasets.models import Dataset
from ingest.new_table import NotGone, begin_anew


class Command(ServiceCommand):
    """Begins a table anew."""

    help = (
        "Begin a dataset's table anew, empty, after it was deleted on purpose. Until then its records stay queued: "
        "a table that is gone is taken for a storage that is not mounted. What is queued will be in the new table."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("id", type=int, help="of the dataset")

    def handle(self, *args: Any, **options: Any) -> None:
        dataset = Dataset.objects.filter(pk=options["id"]).first()
        if dataset is None:
            raise CommandError(f"There is no dataset {options['id']}.")
        try:
            begin_anew(dataset)
        except NotGone as reason:
            raise CommandError(f"Nothing was done: {reason}.") from reason
        self.stdout.write(f"Dataset {dataset.pk} has a new table, empty.")
