"""The command `manage.py create_demo`, which `up` runs on the first start."""

import os
import secrets
import shlex
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import transaction

from config.common.commands import ServiceCommand
from config.common.env import BASE_DIR
from datasets import services
from datasets.contracts.keys import issue_token
from datasets.models import Dataset, Project
from datasets.schemas.fields import Field

SLUG = "demo"
FIELDS = [
    Field("country", "string", "ISO 3166 code"),
    Field("plan", "string", "free or pro"),
    Field("amount", "number", "in EUR"),
    Field("active", "boolean"),
    Field("signup_at", "timestamp"),
]
_RECORD = (
    '{"timestamp":"2026-06-10T10:58:00Z","context":{"source":"billing-service"},"country":"RO",'
    '"plan":"pro","amount":42.5,"active":true,"signup_at":"2026-06-01T08:00:00Z"}'
)


class Command(ServiceCommand):
    """Create the demo project once."""

    help = "Create the demo project with an admin, a dataset and a key, unless it exists. --show prints how to use it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--show", action="store_true", help="print the admin's login and a curl command")
        parser.add_argument("--hint", action="store_true", help="print the admin's address, and the command for --show")
        parser.add_argument("--host", default="localhost", help="host in the addresses (default: %(default)s)")
        parser.add_argument("--port", type=int, default=8000, help="port in the addresses (default: %(default)s)")

    def handle(self, *args: Any, **options: Any) -> None:
        password_file = settings.DATA_DIR / "demo-admin-password"
        if not Project.objects.filter(slug=SLUG).exists():
            self._create(password_file)
        address = f"http://{options['host']}:{options['port']}"
        if options["show"]:
            self._show(password_file, address)
        elif options["hint"]:
            again = f"create_demo --show --host {shlex.quote(options['host'])} --port {options['port']}"
            self.stdout.write(
                f"Admin     {address}/admin/\n\nThe demo's login and curl line:\n\n{_command()} {again}\n"
            )

    @transaction.atomic  # all or nothing: the next start creates nothing if the project exists
    def _create(self, password_file: Path) -> None:
        password = secrets.token_urlsafe(9)
        users = get_user_model().objects
        admin = users.filter(username="admin").first()
        if admin is None:
            admin = users.create_superuser("admin", password=password)
            descriptor = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(password)
        project = services.create_project(slug=SLUG, owner=admin, name="Demo")
        dataset = services.create_dataset(project=project, name="Signups", fields=FIELDS)
        services.create_key(project=project, name="demo")
        project.default_dataset = dataset
        services.save_project(project, changed=["default_dataset"])

    def _show(self, password_file: Path, address: str) -> None:
        dataset = Dataset.objects.filter(project__slug=SLUG, is_archived=False).order_by("pk").first()
        key = dataset and dataset.project.keys.filter(name="demo", revoked_at=None).first()
        self.stdout.write(f"Admin     {address}/admin/")
        if password_file.exists():
            self.stdout.write(f"Login     admin / {password_file.read_text()}  (until you change it)")
        if dataset and key:
            self.stdout.write(
                f"\nSend a record:\n\ncurl -X POST {address}/datasets/{dataset.pk} \\\n"
                f"  -H 'Authorization: Bearer {issue_token(key)}' \\\n"
                f"  -H 'Content-Type: application/json' \\\n  --data '{_RECORD}'\n\n"
                f"Read it back a second later:\n\n{_command()} records {dataset.pk}\n"
            )


def _command() -> str:
    """Return how a line for the shell begins: the part before the name of the management command.

    It works in the current directory.
    """
    python = Path(sys.executable)
    if python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    elsewhere = settings.DATA_DIR != BASE_DIR / "var"
    where = [f"DATA_DIR={shlex.quote(str(settings.DATA_DIR))}"] if elsewhere else []
    return " ".join([*where, shlex.quote(str(python)), sys.argv[0]])
