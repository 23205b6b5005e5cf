"""The Django app `config`, and the admin site."""

from typing import Any

from django.apps import AppConfig
from django.contrib.admin.apps import SimpleAdminConfig
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created


class ConfigConfig(AppConfig):
    """The shared code of all apps. It is an app so that Django finds the `up` command and the system checks."""

    name = "config"
    default = True

    def ready(self) -> None:
        connection_created.connect(_write_dates_in_iso)
        from config import checks  # noqa: F401, PLC0415  # this import registers the checks, and needs loaded models


class AdminConfig(SimpleAdminConfig):
    """Django's admin with our site. `config.urls` discovers the model admins."""

    # The sidebar lists this app's only page, the log of changes, under this name.
    verbose_name = "Data"
    default_site = "config.site.admin_site.AdminSite"


def _write_dates_in_iso(connection: BaseDatabaseWrapper, **_: Any) -> None:
    """Make PostgreSQL write dates in the format that psycopg reads. The server or role may have another DateStyle."""
    if connection.vendor == "postgresql" and not _date_style(connection).startswith(b"ISO"):
        with connection.cursor() as cursor:
            cursor.execute("SET DateStyle TO ISO")


def _date_style(connection: Any) -> bytes:
    """Return the DateStyle that the server reported when this connection was opened."""
    return connection.connection.pgconn.parameter_status(b"DateStyle") or b""
