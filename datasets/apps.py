"""Django's description of the datasets app."""

from django.apps import AppConfig


class DatasetsConfig(AppConfig):
    """Projects, datasets and API keys, and their section in the admin's sidebar."""

    name = "datasets"
    verbose_name = "Define"
