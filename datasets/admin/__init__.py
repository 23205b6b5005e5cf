"""Projects, datasets, API keys and the change log in the admin. All changes go through `datasets.services`."""

from datasets.admin import datasets, keys, log, projects

__all__ = ["datasets", "keys", "log", "projects"]
