"""`manage.py replay`."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from config.common.commands import ServiceCommand
from config.common.text import counted
from ingest.models import QuarantinedEntry
from ingest.storing.quarantine import replay


class Command(ServiceCommand):
    """Replay a quarantined entry."""

    help = (
        "Put a quarantined entry back into its dataset's queue. If you run this command twice, the entry is queued "
        "only once."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("id", type=int, help="ID of the entry, as the admin shows it under Quarantine")

    def handle(self, *args: Any, **options: Any) -> None:
        entry = QuarantinedEntry.objects.filter(pk=options["id"]).first()
        if entry is None:
            raise CommandError(f"There is no quarantined entry {options['id']}.")
        if replay(entry):
            verb = "is" if entry.count == 1 else "are"
            self.stdout.write(f"{counted(entry.count)} {verb} in the queue of dataset {entry.dataset_id} again.")
        else:
            self.stdout.write(
                "Nothing was changed: the entry was replayed or discarded before, or it is still in the queue."
            )
