"""`manage.py ledger`."""

import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError
from rich.table import Table

from config.common.commands import ServiceCommand, TableConsole, cell
from config.common.text import visible
from config.lazy import deltalake
from datasets.models import Dataset
from ingest.storing.ledger import Balance, TableTooBusy, balance


class Command(ServiceCommand):
    """Show the ledger."""

    help = (
        "Show for each dataset how many records were accepted, and how many of them are stored, queued and "
        "quarantined. Exit with 1 if the numbers do not add up or cannot be read. Counts begin when Redis is set up."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dataset", type=int, metavar="ID", help="show only this dataset")
        parser.add_argument("--json", action="store_true", help="print JSON: an array with an object for each dataset")

    def handle(self, *args: Any, **options: Any) -> None:
        datasets = Dataset.objects.select_related("project").order_by("pk")
        if options["dataset"] is not None:
            datasets = datasets.filter(pk=options["dataset"])
            if not datasets:
                raise CommandError(f"There is no dataset {options['dataset']}.")
        balances = []
        failed = False
        for dataset in datasets:
            try:
                balances.append((dataset, balance(dataset)))
            except (deltalake.exceptions.DeltaError, OSError, TableTooBusy) as reason:
                self.stderr.write(f"dataset {dataset.pk}: {visible(str(reason))}")
                failed = True
        if options["json"]:
            self.stdout.write(json.dumps([each.as_json() for _, each in balances]))
        else:
            self._table(balances)
        if failed or not all(each.adds_up for _, each in balances):
            sys.exit(1)

    def _table(self, balances: list[tuple[Dataset, Balance]]) -> None:
        table = Table("dataset", "name")
        for name in ("accepted", "stored", "queued", "quarantined"):
            table.add_column(name, justify="right")
        table.add_column("adds up")
        for dataset, each in balances:
            figures = (each.accepted, each.stored, each.queued, each.quarantined)
            verdict = "yes" if each.adds_up else "NO"
            name = f"{dataset.project} / {dataset}"
            table.add_row(str(dataset.pk), cell(name), *(f"{n:,}" for n in figures), verdict)
        TableConsole(file=sys.stdout).print(table)
