"""`python -m tests.benchmarks.baseline.prepare`: create the tables, a project with dataset 1, and a key."""

import hashlib
import os

import django
from django.apps import apps
from django.core.management import call_command

FIELDS = {"country": "string", "plan": "string", "amount": "number", "active": "boolean", "signup_at": "timestamp"}


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.benchmarks.baseline.settings")
    django.setup()
    call_command("migrate", run_syncdb=True, verbosity=0)
    projects, keys, datasets = (
        apps.get_model("baseline", name)._default_manager for name in ("Project", "ApiKey", "Dataset")
    )
    project = projects.create(name="benchmark")
    digest = hashlib.sha256(os.environ["BASELINE_KEY"].encode()).hexdigest()
    keys.create(project=project, digest=digest)
    datasets.create(project=project, name="benchmark", fields=FIELDS)


if __name__ == "__main__":
    main()
