"""The ingest app's configuration."""

from django.apps import AppConfig


class IngestConfig(AppConfig):
    """The way of a record: request, validation, admission to the queue, drain into the table."""

    name = "ingest"
    verbose_name = "Data"  # as in the admin's sidebar
