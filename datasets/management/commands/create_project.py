"""The command `manage.py create_project`."""

from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction

from config.common.commands import ServiceCommand
from datasets import services


class Command(ServiceCommand):
    """Create a project."""

    help = "Create a project. Its records count against its owner's monthly quota. Prints the project's ID."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("slug", help="short name for commands: letters, digits, - and _")
        parser.add_argument(
            "--owner",
            required=True,
            metavar="USERNAME",
            help="the owner; an unknown user is created, without a password",
        )
        parser.add_argument("--name", default="", help="name (default: the slug)")

    def handle(self, *args: Any, **options: Any) -> None:
        with transaction.atomic():
            owner = User.objects.filter(username=options["owner"]).first()
            is_new_user = owner is None
            if owner is None:
                owner = User(username=options["owner"], is_staff=True)  # staff can see the project in the admin
                owner.set_unusable_password()
                owner.full_clean()
                owner.save()
            project = services.create_project(slug=options["slug"], owner=owner, name=options["name"])
        if is_new_user:
            self.stderr.write(
                f"Created the user {owner}, who has no password yet. Set one with: manage.py changepassword {owner}"
            )
        self.stdout.write(str(project.pk))
