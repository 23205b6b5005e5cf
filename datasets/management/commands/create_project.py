"""`manage.py create_project`."""

from argparse import ArgumentParser
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from datasets import services


class Command(BaseCommand):
    """Makes a project."""

    help = "Make a project. Its records count against its owner's monthly quota. Prints the project's id."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("slug", help="short name for commands: letters, digits, - and _")
        parser.add_argument("--owner", required=True, metavar="USERNAME", help="made, without a password, if unknown")
        parser.add_argument("--name", default="", help="name for people (default: the slug)")

    def handle(self, *args: Any, **options: Any) -> None:
        owner, created = get_user_model().objects.get_or_create(username=options["owner"])
        if created:
            owner.set_unusable_password()
            owner.save()
            self.stderr.write(
                f"Made the user {owner}, who cannot log in yet: manage.py changepassword {owner} gives a password."
            )
        try:
            project = services.create_project(slug=options["slug"], owner=owner, name=options["name"])
        except ValidationError as error:
            raise CommandError("; ".join(error.messages)) from error
        self.stdout.write(str(project.pk))
