"""`manage.py create_key`."""

from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from datasets import services
from datasets.keys import issue_token
from datasets.models import Project
from datasets.revisions import ChangeRefused


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class Command(BaseCommand):
    """Issues an API key."""

    help = "Issue an API key of a project. Prints the token, alone; it is not kept and cannot be shown again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("project", metavar="PROJECT_SLUG")
        parser.add_argument("--name", default="command line", help="who or what uses it (default: %(default)s)")
        parser.add_argument(
            "--expires", type=_moment, metavar="ISO", help="2027-01-31 or 2027-01-31T12:00:00Z; UTC if no offset"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            project = Project.objects.get(slug=options["project"])
            key = services.create_key(project=project, name=options["name"], expires_at=options["expires"])
        except Project.DoesNotExist:
            raise CommandError(f"There is no project “{options['project']}”.") from None
        except ChangeRefused as error:
            raise CommandError(str(error)) from error
        self.stdout.write(issue_token(key))
