"""The command `manage.py create_pat`."""

from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import CommandError

from config.common.commands import ServiceCommand, moment
from datasets import personal_tokens
from datasets.models import PersonalAccessToken


class Command(ServiceCommand):
    """Create a personal access token."""

    help = (
        "Create a personal access token, with which a program manages the user's projects at /api/. Prints only the "
        "token. It is not stored, so copy it now."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username", metavar="USERNAME", help="the user whose projects the token may manage")
        parser.add_argument("--name", required=True, help="who or what uses the token")
        parser.add_argument(
            "--expires",
            type=moment,
            metavar="ISO",
            help="when the token expires: 2027-01-31 or 2027-01-31T12:00:00Z. A time without an offset is in UTC",
        )
        parser.add_argument("--read-only", action="store_true", help="the token cannot change anything")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["username"]).first()
        if user is None:
            raise CommandError(f"There is no user “{options['username']}”.")
        scopes = PersonalAccessToken.Scope
        _, secret = personal_tokens.create(
            user=user,
            name=options["name"],
            scope=scopes.READ if options["read_only"] else scopes.WRITE,
            expires_at=options["expires"],
        )
        self.stdout.write(secret)
