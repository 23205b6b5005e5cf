from django.apps import AppConfig


class DatasetsConfig(AppConfig):
    """What a dataset is: projects, datasets, schema versions, API keys, and the tables they are stored in."""

    name = "datasets"
    verbose_name = "Define"  # as in the admin's sidebar
