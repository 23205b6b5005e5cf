"""The ingest app's configuration."""

from django.apps import AppConfig


class IngestConfig(AppConfig):
    """The app that validates the records of requests, queues them, and stores them in tables."""

    name = "ingest"
    verbose_name = "Data"  # as in the admin's sidebar
