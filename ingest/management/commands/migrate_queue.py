"""`manage.py migrate_queue`."""

import sys
from argparse import ArgumentParser
from typing import Any

from config.common.commands import ServiceCommand
from ingest.queue.upgrades import check_version, upgrade


class Command(ServiceCommand):
    """Upgrade the data in Redis."""

    help = (
        "Upgrade the data that an earlier release left in Redis. Run this once for each release, after `migrate`, "
        "while no process of the service runs. `up` runs both commands by itself."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--check",
            action="store_true",
            help="exit with 1 if there is something to upgrade, and change nothing. Processes of the service may run",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["check"]:
            found, needed = check_version()
            if found < needed:
                self.stderr.write(f"The data in Redis has version {found}, and this release needs version {needed}.")
                sys.exit(1)
            return
        before, now = upgrade()
        if options["verbosity"]:
            done = f"was upgraded from version {before} to {now}" if before < now else f"already has version {now}"
            self.stdout.write(f"The data in Redis {done}.")
