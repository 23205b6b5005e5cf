"""`manage.py migrate_queue`."""

from typing import Any

from config.common.commands import ServiceCommand
from ingest.queue.upgrades import upgrade


class Command(ServiceCommand):
    """Upgrades the data in Redis."""

    help = (
        "Bring what an earlier release has left in Redis to the shape that this release reads. Run it once per "
        "release, after `migrate`, while no process of the service runs. `up` does both by itself."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        before, now = upgrade()
        if options["verbosity"]:
            done = f"upgraded from version {before} to {now}" if before < now else f"of version {now} already"
            self.stdout.write(f"The data in Redis is {done}.")
