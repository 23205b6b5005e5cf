"""`manage.py create_dataset`."""

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from datasets import services
from datasets.models import Project
from datasets.revisions import ChangeRefused
from datasets.schema import parse_fields


class Command(BaseCommand):
    """Makes a dataset."""

    help = (
        "Make a dataset in a project, and publish its schema if a file is given. Prints the dataset's id, alone. "
        'The file holds {"fields": {"country": "string", "amount": "number", "active": "boolean", '
        '"signup_at": "timestamp"}}. Without a schema the dataset accepts nothing until one is published.'
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("project", metavar="PROJECT_SLUG")
        parser.add_argument("name")
        parser.add_argument("--schema", type=Path, metavar="FILE.json")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            project = Project.objects.get(slug=options["project"])
            given = options["schema"] and json.loads(options["schema"].read_text())
            fields = parse_fields(given) if options["schema"] else None
            dataset = services.create_dataset(project=project, name=options["name"], fields=fields)
        except Project.DoesNotExist:
            raise CommandError(f"There is no project “{options['project']}”.") from None
        except (ValidationError, ChangeRefused, OSError, ValueError) as error:
            raise CommandError("; ".join(getattr(error, "messages", [str(error)]))) from error
        self.stdout.write(str(dataset.pk))
