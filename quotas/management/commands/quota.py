"""`manage.py quota`."""

from argparse import ArgumentParser
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import CommandError

from config.common.commands import ServiceCommand
from config.common.text import visible
from quotas import services
from quotas.models import UNLIMITED


class Command(ServiceCommand):
    """Show or set a user's quota."""

    help = "Show a user's monthly quota and usage. --limit sets the quota, from the next request on."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username", help="owner of the projects that the quota limits")
        parser.add_argument(
            "--limit", type=int, metavar="N", help="records per month; -1 is unlimited, 0 blocks all records"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        user = get_user_model().objects.filter(username=options["username"]).first()
        if user is None:
            raise CommandError(f"There is no user “{options['username']}”.")
        if options["limit"] is not None:
            services.set_limit(user, options["limit"])
        quota = services.current(user.pk)
        limit = "unlimited" if quota.limit == UNLIMITED else f"{quota.limit}"
        self.stdout.write(f"{visible(str(user))}: {quota.used} of {limit} records in {quota.period}")
