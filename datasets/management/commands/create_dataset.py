"""The command `manage.py create_dataset`."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from config.common.commands import ServiceCommand
from datasets import services
from datasets.schemas.declarations import read_schema_file
from datasets.services import find_project


class Command(ServiceCommand):
    """Create a dataset."""

    help = (
        "Create a dataset in a project, and publish its schema if a file is given. Prints only the dataset's ID. "
        'The file holds {"fields": {"country": "string", "amount": "number", "active": "boolean", '
        '"signup_at": "timestamp"}}. Until a schema is published, the dataset accepts no records.'
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("project", metavar="PROJECT_SLUG", help="slug of the dataset's project")
        parser.add_argument("name", help="name, unique in the project")
        parser.add_argument("--schema", type=Path, metavar="FILE.json", help="file with the fields, as above")

    def handle(self, *args: Any, **options: Any) -> None:
        project = find_project(options["project"])
        fields = read_schema_file(options["schema"]) if options["schema"] else None
        dataset = services.create_dataset(project=project, name=options["name"], fields=fields)
        self.stdout.write(str(dataset.pk))
