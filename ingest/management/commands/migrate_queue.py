"""`manage.py migrate_queue`."""

from typing import Any

from config.common.commands import ServiceCommand
from ingest.queue.upgrades import upgrade


class Command(ServiceCommand):
    """Upgrade the data in Redis."""

    help = (
        "Upgrade the data that an earlier release left in Redis. Run this once for each release, after `migrate`, "
        "while no process of the service runs. `up` runs both commands by itself."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        before, now = upgrade()
        if options["verbosity"]:
            done = f"was upgraded from version {before} to {now}" if before < now else f"already has version {now}"
            self.stdout.write(f"The data in Redis {done}.")
