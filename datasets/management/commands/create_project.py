"""`manage.py create_project`."""

from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction

from config.common.commands import ServiceCommand
from datasets import services


class Command(ServiceCommand):
    """Makes a project."""

    help = "Make a project. Its records count against its owner's monthly quota. Prints the project's id."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("slug", help="short name for commands: letters, digits, - and _")
        parser.add_argument("--owner", required=True, metavar="USERNAME", help="made, without a password, if unknown")
        parser.add_argument("--name", default="", help="name for people (default: the slug)")

    def handle(self, *args: Any, **options: Any) -> None:
        with transaction.atomic():
            owner = User.objects.filter(username=options["owner"]).first()
            made = owner is None
            if owner is None:
                owner = User(username=options["owner"], is_staff=True)  # to see the project in the admin
                owner.set_unusable_password()
                owner.full_clean()
                owner.save()
            project = services.create_project(slug=options["slug"], owner=owner, name=options["name"])
        if made:
            self.stderr.write(
                f"Made the user {owner}, who cannot log in yet: manage.py changepassword {owner} gives a password."
            )
        self.stdout.write(str(project.pk))
