"""`python -m tests.support.admin.nasty_on_sqlite`: send the requests of `nasty` with the environment's database."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402

from tests.ingest.admin.test_tenancy import Tenant  # noqa: E402
from tests.support.admin.nasty import failures  # noqa: E402

if __name__ == "__main__":
    assert connection.vendor == "sqlite"
    call_command("migrate", verbosity=0)
    tenant = Tenant("zebra")
    for user in (User.objects.create_superuser("root"), tenant.user):
        print("\n".join(failures(user, tenant, step=9)))
