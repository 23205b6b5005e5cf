"""The command `manage.py create_key`."""

from argparse import ArgumentParser
from typing import Any

from config.common.commands import ServiceCommand, moment
from datasets import services
from datasets.contracts.keys import issue_token
from datasets.models import ApiKey
from datasets.origins import unencrypted
from datasets.services import find_project


class Command(ServiceCommand):
    """Issue an API key."""

    help = "Issue an API key of a project. Prints only the token. It is not stored, so copy it now."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("project", metavar="PROJECT_SLUG", help="slug of the project")
        parser.add_argument("--name", default="command line", help="who or what uses it (default: %(default)s)")
        parser.add_argument(
            "--expires",
            type=moment,
            metavar="ISO",
            help="when the key expires: 2027-01-31 or 2027-01-31T12:00:00Z. A time without an offset is in UTC",
        )
        parser.add_argument(
            "--origin",
            action="append",
            default=[],
            metavar="URL",
            help="make a browser key for pages of this origin, like https://shop.example.com; may be repeated",
        )
        parser.add_argument(
            "--records-per-minute",
            type=int,
            metavar="N",
            help=f"limit of a browser key (default: {ApiKey.DEFAULT_RECORDS_PER_MINUTE})",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        project = find_project(options["project"])
        key = services.create_key(
            project=project,
            name=options["name"],
            expires_at=options["expires"],
            origins=options["origin"],
            records_per_minute=options["records_per_minute"],
        )
        for origin in unencrypted(key.origins):
            self.stderr.write(f"{origin} is not encrypted: others on the network can change its pages. Use https://.")
        self.stdout.write(issue_token(key))
