"""The command `manage.py create_key`."""

from argparse import ArgumentParser, ArgumentTypeError
from datetime import UTC, datetime
from typing import Any

from config.common.commands import ServiceCommand
from datasets import services
from datasets.contracts.keys import issue_token
from datasets.services import find_project


def _moment(text: str) -> datetime:
    """Return an ISO 8601 date or time as a UTC time. Raise ArgumentTypeError if it is not a time."""
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ArgumentTypeError(f"“{text}” is not a time. Write 2027-01-31 or 2027-01-31T12:00:00Z.") from None


class Command(ServiceCommand):
    """Issue an API key."""

    help = "Issue an API key of a project. Prints only the token. It is not stored, so copy it now."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("project", metavar="PROJECT_SLUG", help="slug of the project")
        parser.add_argument("--name", default="command line", help="who or what uses it (default: %(default)s)")
        parser.add_argument(
            "--expires", type=_moment, metavar="ISO", help="2027-01-31 or 2027-01-31T12:00:00Z; UTC if no offset"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        project = find_project(options["project"])
        key = services.create_key(project=project, name=options["name"], expires_at=options["expires"])
        self.stdout.write(issue_token(key))
