"""`manage.py move_to_cluster`."""

import time
from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError

from config.common.commands import ServiceCommand
from config.common.text import counted, visible
from ingest.moving.copying import Copied
from ingest.moving.move import client_of, move

_PROGRESS_SECONDS = 2.0


class Command(ServiceCommand):
    """Move the data of one Redis server to the cluster of REDIS_URL."""

    help = (
        "Move the data of one Redis server, or of a server behind Sentinel, to the cluster that REDIS_URL names. Stop "
        "all processes of the service first, and start them with the new REDIS_URL when this command has ended. The "
        "command only reads the old server: until the service starts on the cluster, you can also start the service on "
        "the old server again. If this command dies, run it again. Until it has ended, the service does not work on "
        "the cluster."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--from",
            dest="old",
            required=True,
            metavar="URL",
            help="the REDIS_URL with which the service has run so far, such as redis://:password@host:6379/0",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            old = client_of(options["old"])
        except (ValueError, ImproperlyConfigured) as wrong:
            raise CommandError(f"--from: {wrong}") from wrong
        self._total, self._noted = old.dbsize(), time.monotonic()
        copied = move(old, self._note)
        if not options["verbosity"]:
            return
        if copied.foreign:
            self.stdout.write(
                f"{counted(copied.foreign, 'key')} of other programs stayed on the old server. One is "
                f"{visible(copied.example.decode(errors='replace'))}."
            )
        if copied.keys:  # if not, an earlier run has copied all keys
            self.stdout.write(
                f"Copied {counted(copied.keys, 'key')}, among them {counted(copied.requests, 'queued request')} and "
                f"{counted(copied.idempotency_keys, 'Idempotency-Key')}."
            )
        self.stdout.write("The data is in the cluster. Start the service with the present REDIS_URL.")

    def _note(self, copied: Copied) -> None:
        if time.monotonic() - self._noted > _PROGRESS_SECONDS:
            self._noted = time.monotonic()
            self.stdout.write(f"{copied.keys:,} of about {self._total:,} keys")
            self.stdout.flush()
