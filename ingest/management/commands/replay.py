"""`manage.py replay`."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from config.common.commands import ServiceCommand
from config.common.text import counted
from ingest.models import QuarantinedEntry
from ingest.storing.quarantine import replay


class Command(ServiceCommand):
    """Replays a quarantined entry."""

    help = "Put a quarantined entry back into its dataset's queue. Calling it again does not queue it again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("id", type=int, help="of the entry, as the admin's quarantine lists it")

    def handle(self, *args: Any, **options: Any) -> None:
        entry = QuarantinedEntry.objects.filter(pk=options["id"]).first()
        if entry is None:
            raise CommandError(f"There is no quarantined entry {options['id']}.")
        if replay(entry):
            verb = "is" if entry.count == 1 else "are"
            self.stdout.write(f"{counted(entry.count)} {verb} in the queue of dataset {entry.dataset_id} again.")
        else:
            self.stdout.write("Nothing was done: it was replayed before, or it is still in the queue.")
